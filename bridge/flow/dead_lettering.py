"""Puts records aside as dead letters, for as long as it takes, and counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from bridge.flow.patience import Patience
from bridge.flow.ports import DeadLetters
from bridge.model.clock import Clock
from bridge.model.errors import RejectError
from bridge.model.events import Record
from bridge.observe.log import log


class DeadLettering:
    def __init__(self, dead_letters: DeadLetters, patience: Patience, clock: Clock, counters: Counter[str]) -> None:
        self._dead_letters, self._patience, self._clock, self._counters = dead_letters, patience, clock, counters

    async def put(
        self, record: Record, exc: RejectError, attempts: int, first_failed_at: datetime | None, still_ours: Callable[[], None]
    ) -> None:
        """`still_ours` is asked before each try. Raises what it raises."""
        now = self._clock.now()
        first_at = first_failed_at or now

        async def once() -> None:
            still_ours()
            await self._dead_letters.put(record, exc, attempts=attempts, first_failed_at=first_at, failed_at=now)

        await self._patience.until_done(once)
        self._counters["dead_lettered"] += 1
        position = f"{record.topic}-{record.partition}-{record.offset}"
        log("record_dead_lettered", "warning", position=position, code=exc.code, stage=exc.stage)
