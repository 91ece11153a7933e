"""Where is this record? What the topics know of one key: read, waiting, settled, dead-lettered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime

from bridge.kafka.avro import Decoder, load_schema
from bridge.kafka.client import Names
from bridge.kafka.lag import GroupLag
from bridge.kafka.partitioner import partition_for
from bridge.kafka.published import Published
from bridge.kafka.reader import TopicReader
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import egress_topics, optin_topics
from bridge.model.desired import WORKFLOWS, Workflow
from bridge.model.errors import RejectError
from bridge.model.events import ChangeEvent
from bridge.model.state import Known
from services.control.models.data_json import HopOut, RecordOut
from services.control.topics.archive import Archive

MOST_READ = 200_000  # waiting records of one partition that are looked through
LANES = ("changes", "replay")


class Traces:
    """One search at a time: it reads a partition of the state topic from end to end. Raises RetryError or HaltError."""

    def __init__(self, settings: KafkaSettings, archive: Archive) -> None:
        self._settings, self._names, self._archive = settings, Names(settings), archive
        self._decoder = Decoder(HttpRegistry(settings, patience_s=0), load_schema("ChangeEvent"), ChangeEvent)
        self._published = {workflow: Published(settings, workflow, self._decoder) for workflow in WORKFLOWS}
        self._one = asyncio.Lock()

    async def ingress(self, table: str, key: str, partitions: int, groups: list[GroupLag]) -> RecordOut | None:
        """`partitions` of `ingress.state`, `groups` the lag there is now. None: nothing is known of this record."""
        topics = [f"ingress.{lane}.{table}" for lane in LANES]
        return await self._record("ingress", table, key, f"{table}/{key}", topics, partitions, groups)

    async def egress(self, key: str, partitions: int, groups: list[GroupLag]) -> RecordOut | None:
        """The last event of a contact, and those that wait. `partitions` of `egress.state`."""
        return await self._record("egress", "contact", key, key, [topic.name for topic in egress_topics()], partitions, groups)

    async def optin(self, key: str, partitions: int, groups: list[GroupLag]) -> RecordOut | None:
        """What was last seen of a contact's flags, what waits, and what became of the last decision for each system."""
        found = await self._record("optin", "contact", key, key, [topic.name for topic in optin_topics()], partitions, groups)
        states = await self.written(key, partitions)
        told = [hop for known in states.values() for hop in _settled(known)]
        if found is None or not told:
            return found
        last = max(states.values(), key=lambda each: each.settled_at)
        hops = sorted([*found.hops, *told], key=lambda hop: hop.at or datetime.min.replace(tzinfo=UTC))
        about = {"outcome": last.outcome, "target_status": last.status, "attempts": last.attempts, "settled_at": _moment(last.settled_at)}
        return found.model_copy(update={"hops": hops, **about})

    async def written(self, key: str, partitions: int) -> dict[str, Known]:
        """What the writer of Opt In/Out notes of a contact, by `<contact>/<system>`."""
        keys = {f"{key}/{target}": key for target in ("dynamics", "campaign")}
        async with self._one:
            return await asyncio.to_thread(self._published["optin"].states, keys, partitions)

    async def _record(
        self, workflow: Workflow, table: str, key: str, state_key: str, topics: Sequence[str], partitions: int, groups: list[GroupLag]
    ) -> RecordOut | None:
        async with self._one:
            known = (await asyncio.to_thread(self._published[workflow].states, {state_key: key}, partitions)).get(state_key)
            waiting = await asyncio.to_thread(lambda: list(self._waiting(topics, key, partitions, groups)))
        hops = [*(_settled(known) if known else ()), *self._dead(table, key, workflow), *waiting]
        if not hops:
            return None
        hops.sort(key=lambda hop: hop.at or datetime.min.replace(tzinfo=UTC))
        return RecordOut(
            key=key,
            table=table,
            version=known.version if known else next((hop.version for hop in reversed(waiting)), None),
            outcome=known.outcome or None if known else None,
            target_status=known.status if known else None,
            attempts=known.attempts if known else None,
            read_at=_moment(known.read_at) if known else None,
            settled_at=_moment(known.settled_at) if known else None,
            hops=hops,
        )

    def _waiting(self, topics: Sequence[str], key: str, partitions: int, groups: list[GroupLag]) -> Iterator[HopOut]:
        number = partition_for(key.encode(), partitions)
        for topic in topics:
            for each in (each for group in groups for each in group.topics.get(topic, ()) if each.partition == number and each.lag):
                with closing(TopicReader(self._settings)) as reader:
                    low, _ = reader.range(self._names.topic(topic), number)
                    start = max(low, each.end - each.lag)
                    for message in reader.read(self._names.topic(topic), number, start, min(each.end, start + MOST_READ)):
                        if message.key() == key.encode():
                            version = self._version(message.value())
                            at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
                            yield _hop("waiting", topic, number, message.offset() or 0, version=version, at=at)

    def _version(self, value: bytes | None) -> int | None:
        try:
            return asyncio.run(self._decoder.decode(value)).version
        except RejectError:
            return None

    def _dead(self, table: str, key: str, workflow: Workflow) -> Iterator[HopOut]:
        for row in self._archive.of_key(workflow, key):
            if row["table_name"] in (table, None):
                yield _hop(
                    "dead_lettered",
                    f"{workflow}.dead-letters",
                    row["part"],
                    row["at"],
                    outcome=row["code"] if row["state"] == "open" else row["state"],
                    status=row["status"],
                    attempts=row["attempts"],
                    at=datetime.fromisoformat(row["failed_at"]),
                )


def _settled(known: Known) -> Iterator[HopOut]:
    yield _hop("read", known.topic, known.partition, known.offset, version=known.version, at=_moment(known.read_at))
    yield _hop(
        "settled",
        known.topic,
        known.partition,
        known.offset,
        version=known.version,
        outcome=known.outcome,
        status=known.status,
        attempts=known.attempts,
        at=_moment(known.settled_at),
    )


def _hop(
    hop: str,
    topic: str,
    partition: int,
    offset: int,
    *,
    version: int | None = None,
    outcome: str | None = None,
    status: int | None = None,
    attempts: int | None = None,
    at: datetime | None = None,
) -> HopOut:
    facts = {"version": version, "outcome": outcome, "status": status, "attempts": attempts, "at": at}
    return HopOut.model_validate({"hop": hop, "topic": topic, "partition": partition, "offset": offset, **facts})


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
