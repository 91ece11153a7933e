"""Since when a service is in trouble, and the two log lines that frame it."""

from __future__ import annotations

from datetime import datetime, timedelta

from bridge.model.clock import Clock
from bridge.model.desired import Reason
from bridge.observe.log import log

TOLD_AFTER_S = 15.0


class Lasting:
    """Is asked at every heartbeat. What is over within 15 s is not logged here: whoever met it has done that."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: datetime | None = None
        self._code = ""  # as logged; empty while nothing has been

    def since(self, reason: Reason | None, lasted_s: float = 0.0) -> datetime | None:
        """Since when there has been a reason, whichever, without a break; None while there is none. `lasted_s`: it is at least so old."""
        now = self._clock.now()
        if reason is None:
            if self._code and self._since is not None:
                log("trouble_over", code=self._code, seconds=round((now - self._since).total_seconds(), 1))
            self._since, self._code = None, ""
            return None
        began = now - timedelta(seconds=lasted_s)
        self._since = began if self._since is None else min(self._since, began)
        if not self._code and (now - self._since).total_seconds() >= TOLD_AFTER_S:
            self._code = reason.code
            log("trouble_lasts", "warning", code=reason.code, reason=reason.message, since=self._since.isoformat())
        return self._since
