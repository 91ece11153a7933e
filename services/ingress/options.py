"""Options that are added to a picklist while its table is read: their labels are used from the first row that holds one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from bridge.dynamics.changes import Row, TrackedTable, UnknownOption
from bridge.model.clock import Clock
from bridge.model.errors import HaltError
from bridge.observe.log import log

BETWEEN_S = 60.0  # after a question in vain no other is asked for so long
AGAIN_S = 600.0  # an option that was not there then may be published meanwhile


class NewOptions:
    """For one table. An option that Dynamics itself does not tell, such as a deleted one in an old row, goes out as its number."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._in_vain: dict[UnknownOption, float] = {}  # monotonic: when it was asked for
        self._next = 0.0

    async def learned(self, tracked: TrackedTable, rows: Sequence[Row]) -> TrackedTable:
        """The table with what Dynamics tells of options in these rows that it did not know. Raises RetryError: their page waits."""
        now = self._clock.monotonic()
        self._in_vain = {option: at for option, at in self._in_vain.items() if now - at < AGAIN_S}
        unknown = tracked.unknown_options(rows) - self._in_vain.keys()
        if not unknown:
            return tracked
        if now >= self._next:
            with suppress(HaltError):  # metadata that are refused: a label is not worth a stop
                tracked = await tracked.with_options()
            unknown = tracked.unknown_options(rows) - self._in_vain.keys()
            if unknown:
                self._next = now + BETWEEN_S
                self._in_vain |= dict.fromkeys(unknown, now)
        if unknown:
            columns = sorted({column for column, _ in unknown})
            log("option_unknown", "warning", table=tracked.table.name, columns=columns, options=len(unknown))
        return tracked
