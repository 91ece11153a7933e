"""What several unit tests stand on: a clock that jumps instead of waiting, and builders of plain data."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from bridge.dynamics.changes import TrackedTable
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.metadata import read_table
from bridge.model.events import ChangeEvent, Lane, Op, Record, Value

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


class FakeClock:
    """Time stands still until everyone sleeps; then it jumps to the end of the shortest sleep."""

    def __init__(self) -> None:
        self.at = 0.0
        self.slept: list[float] = []
        self._ends: list[float] = []

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.at)

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        end = self.at + seconds
        self._ends.append(end)
        try:
            await asyncio.sleep(0)
            while self.at < end:
                for _ in range(20):  # whoever still has something to do goes first
                    await asyncio.sleep(0)
                if end <= min(self._ends):
                    self.at = max(self.at, end)
        finally:
            self._ends.remove(end)


def an_event(
    fields: Mapping[str, Value] | None = None,
    *,
    key: str = "c-1",
    op: Op = "upsert",
    lane: Lane = "live",
    version: int | None = 1,
    labels: Mapping[str, str] | None = None,
    table: str = "contact",
    exact: Sequence[str] = (),
    days: Mapping[str, str] | None = None,
) -> ChangeEvent:
    return ChangeEvent(table, key, op, lane, version, None, NOON, dict(fields or {}), dict(labels or {}), 0, list(exact), dict(days or {}))


def a_record(offset: int = 0, *, partition: int = 0, topic: str = "ingress.changes.contact", key: str = "c-1") -> Record:
    return Record(topic, partition, offset, 1000 + offset, key.encode(), b"")


async def tracked(client: DynamicsClient, table: str, *columns: str, page_size: int = 5000) -> TrackedTable:
    return TrackedTable(client, await read_table(client, table, list(columns)), page_size)
