"""A member of the writers' group with a listener that settles what it is told to: what the tests of KafkaRecords are built on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from bridge.flow.offsets import OffsetLedger, Position
from bridge.kafka.lag import LagReader
from bridge.kafka.lease import Lease
from bridge.kafka.publisher import TransactionalPublisher
from bridge.kafka.records import KafkaRecords
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import BridgeError
from bridge.model.events import Record

LIVE, REPLAY = "ingress.changes.contact", "ingress.replay.contact"
TOPICS = (LIVE, REPLAY)
START = datetime(2026, 3, 1, tzinfo=UTC)


class Member:
    """One instance: see bridge.kafka.records.RecordListener. Settles each record at once unless `holds` names its topic."""

    def __init__(self, settings: KafkaSettings, instance: str) -> None:
        self.ledger = OffsetLedger()
        self.taken: list[Record] = []
        self.held: list[Record] = []
        self.holds: set[str] = set()
        self.full_topics: set[str] = set()
        self.gained: list[list[int]] = []
        self.released: list[set[int]] = []
        self.owned: set[int] = set()
        self.lease = Lease()
        self.records = KafkaRecords(settings, "ingress", instance, TOPICS, self, self.ledger, self.lease)

    def offer(self, records: Sequence[Record]) -> None:
        self.taken += records
        for record in records:
            if record.topic in self.holds:
                self.held.append(record)
            else:
                self.settle(record)

    def settle(self, *records: Record) -> None:
        for record in records:
            self.ledger.settle(record.position, record.offset)

    def full(self, topic: str) -> bool:
        return topic in self.full_topics

    async def gain(self, partitions: Sequence[int]) -> None:
        self.gained.append(list(partitions))
        self.owned = set(partitions)

    async def release(self, positions: Sequence[Position]) -> None:
        self.released.append({partition for _, partition in positions})
        self.owned = set()

    def values(self, topic: str | None = None) -> list[str]:
        """What was taken, as text; of one topic or of all."""
        return [(record.value or b"").decode() for record in self.taken if topic in (None, record.topic)]


@asynccontextmanager
async def consuming(settings: KafkaSettings, instance: str = "w1") -> AsyncIterator[tuple[Member, asyncio.Task[None]]]:
    """A member that runs; its task ends with the error the member ended with. Leaves in good order."""
    member = Member(settings, instance)
    run = asyncio.create_task(member.records.run())
    try:
        yield member, run
    finally:
        await member.records.close()
        run.cancel()
        with suppress(asyncio.CancelledError, BridgeError, LookupError):
            await run


async def publish(settings: KafkaSettings, topic: str, *keys: str) -> None:
    """One transaction with these records (their keys as values), as the reader does."""
    publisher = TransactionalPublisher(settings, "ingress", 0)
    await asyncio.to_thread(publisher.start)
    await publisher.publish([(topic, key.encode(), key.encode(), ()) for key in keys], "dynamics:contact", {})


def lag(settings: KafkaSettings) -> list[tuple[str, int, int | None, int]]:
    """Topic, partition, committed offset and lag of every partition."""
    told = LagReader(settings).group("ingress", TOPICS)
    return [(topic, each.partition, each.committed, each.lag) for topic, parts in told.topics.items() for each in parts]


async def caught_up(settings: KafkaSettings, within_s: float = 15) -> bool:
    """Whether every partition comes to be committed with lag 0."""
    for _ in range(int(within_s / 0.25)):
        if all(committed is not None and behind == 0 for _, _, committed, behind in await asyncio.to_thread(lag, settings)):
            return True
        await asyncio.sleep(0.25)
    return False
