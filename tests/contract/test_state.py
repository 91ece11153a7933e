"""The state store: the twin in memory and the one in Kafka with its local copy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.kafka.producer import KafkaProducer
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.state import LATE_S, OWNER, KafkaState
from bridge.kafka.topics import workflow_topics
from bridge.memory import MemoryState
from bridge.model.errors import RetryError
from bridge.model.events import Headers
from bridge.model.state import Known
from tests.clock import FakeClock
from tests.contract.broker import content, drop, eventually, make, producing

Store = MemoryState | KafkaState
Owners = Callable[..., Awaitable[KafkaState]]
FULL = Known(
    version=915244,
    exists=True,
    gone=False,
    visible=True,
    outcome="updated",
    digests={"firstName": "c0ffee"},
    topic="ingress.changes.contact",
    partition=1,
    offset=120,
    status=200,
    attempts=2,
    read_at="2026-03-01T12:00:00+00:00",
    settled_at="2026-03-01T12:00:01+00:00",
)


@pytest.fixture
async def producer(kafka_settings: KafkaSettings) -> AsyncIterator[KafkaProducer]:
    make(kafka_settings, *workflow_topics("ingress"))
    async with producing(kafka_settings) as producer:
        yield producer


class StateContract:
    """What every state store does. `state` owns partitions 0, 1 and 2."""

    async def test_what_was_never_seen_is_not_known(self, state: Store) -> None:
        assert state.get(0, "contact/1") is None

    async def test_what_was_put_is_known(self, state: Store) -> None:
        await state.put(1, "contact/1", FULL)

        assert state.get(1, "contact/1") == FULL

    async def test_the_last_word_counts(self, state: Store) -> None:
        for version in range(5):
            await state.put(0, "contact/1", Known(version=version))

        assert state.get(0, "contact/1") == Known(version=4)

    async def test_partitions_do_not_mix(self, state: Store) -> None:
        await state.put(0, "contact/1", Known(version=1))
        await state.put(1, "contact/1", Known(version=2))

        assert state.get(0, "contact/1") == Known(version=1)
        assert state.get(1, "contact/1") == Known(version=2)
        assert state.get(2, "contact/1") is None

    async def test_a_partition_that_was_lost_is_not_answered_for(self, state: Store) -> None:
        await state.put(0, "contact/1", FULL)
        state.lose(0)

        with pytest.raises(RetryError):
            state.get(0, "contact/1")
        with pytest.raises(RetryError):
            await state.put(0, "contact/1", FULL)
        assert state.get(1, "contact/1") is None

    async def test_a_partition_that_comes_back_is_known_as_before(self, state: Store) -> None:
        await state.put(0, "contact/1", FULL)

        state.lose(0)
        await state.gain([0])

        assert state.get(0, "contact/1") == FULL


class TestMemoryState(StateContract):
    @pytest.fixture
    def state(self) -> MemoryState:
        return MemoryState()


class TestKafkaState(StateContract):
    @pytest.fixture
    async def state(self, kafka_settings: KafkaSettings, producer: KafkaProducer, tmp_path: Path) -> AsyncIterator[KafkaState]:
        state = KafkaState(kafka_settings, "ingress", tmp_path, producer)
        await state.gain([0, 1, 2])
        yield state
        state.close()

    def again(self, settings: KafkaSettings, producer: KafkaProducer, folder: Path) -> KafkaState:
        """As after a restart, or on another machine."""
        return KafkaState(settings, "ingress", folder, producer)

    async def test_the_topic_has_it_in_the_partition_of_its_event(self, state: KafkaState, kafka_settings: KafkaSettings) -> None:
        await state.put(2, "contact/1", FULL)

        (message,) = content(kafka_settings, "ingress.state")
        assert (message.partition(), message.key()) == (2, b"contact/1")
        assert Known.from_json(message.value() or b"") == FULL

    async def test_it_is_rebuilt_where_there_is_no_local_file(
        self, state: KafkaState, kafka_settings: KafkaSettings, producer: KafkaProducer, tmp_path: Path
    ) -> None:
        await asyncio.gather(*(state.put(0, f"contact/{n}", Known(version=n)) for n in range(50)))
        state.close()
        emptied(tmp_path)

        fresh = self.again(kafka_settings, producer, tmp_path)
        await fresh.gain([0])

        assert [fresh.get(0, f"contact/{n}") for n in range(50)] == [Known(version=n) for n in range(50)]
        fresh.close()

    async def test_what_another_instance_wrote_meanwhile_is_caught_up_with(
        self, state: KafkaState, kafka_settings: KafkaSettings, producer: KafkaProducer, tmp_path: Path
    ) -> None:
        await state.put(0, "contact/1", Known(version=1))
        await state.put(0, "contact/2", Known(version=1))
        state.lose(0)
        other = self.again(kafka_settings, producer, tmp_path / "other")
        await other.gain([0])
        await other.put(0, "contact/1", Known(version=2))
        other.close()

        await state.gain([0])

        assert (state.get(0, "contact/1"), state.get(0, "contact/2")) == (Known(version=2), Known(version=1))

    async def test_a_topic_deleted_and_made_again_is_noticed(
        self, state: KafkaState, kafka_settings: KafkaSettings, producer: KafkaProducer, tmp_path: Path
    ) -> None:
        for version in range(3):
            await state.put(0, "contact/old", Known(version=version))
        state.close()
        drop(kafka_settings, "ingress.state")
        make(kafka_settings, *workflow_topics("ingress"))

        async with producing(kafka_settings) as fresh_producer:
            fresh = self.again(kafka_settings, fresh_producer, tmp_path)
            await fresh.gain([0])
            for version in range(5):
                await fresh.put(0, "contact/new", Known(version=version))

            assert fresh.get(0, "contact/old") is None
            assert fresh.get(0, "contact/new") == Known(version=4)
            fresh.close()

    @pytest.mark.parametrize("damage", ["no database", "cut", "holes"])
    async def test_a_damaged_local_file_is_rebuilt(
        self, state: KafkaState, kafka_settings: KafkaSettings, producer: KafkaProducer, tmp_path: Path, damage: str
    ) -> None:
        await asyncio.gather(*(state.put(0, f"contact/{n:04}", Known(version=n)) for n in range(500)))
        state.close()
        path = tmp_path / f"{kafka_settings.topic_prefix}ingress.state-0.sqlite"
        whole = path.read_bytes()
        damaged = {
            "no database": b"x" * 5000,
            "cut": whole[: len(whole) // 2],
            "holes": whole[:8192] + b"\xff" * (len(whole) - 8192),
        }
        path.write_bytes(damaged[damage])

        fresh = self.again(kafka_settings, producer, tmp_path)
        await fresh.gain([0])

        assert [fresh.get(0, f"contact/{n:04}") for n in range(500)] == [Known(version=n) for n in range(500)]
        fresh.close()

    async def test_what_a_stranger_wrote_counts_as_never_seen(
        self, state: KafkaState, kafka_settings: KafkaSettings, producer: KafkaProducer, tmp_path: Path
    ) -> None:
        topic = f"{kafka_settings.topic_prefix}ingress.state"
        for key, value in ((b"contact/1", b"no json"), (b"contact/2", b"[]"), (b"\xff\xfe", b"{}")):
            await producer.send(topic, key, value, partition=0)
        await producer.send(topic, b"contact/3", Known(version=3).to_json(), partition=0)
        state.close()

        fresh = self.again(kafka_settings, producer, tmp_path)
        await fresh.gain([0])

        assert [fresh.get(0, f"contact/{number}") for number in (1, 2, 3)] == [None, None, Known(version=3)]
        fresh.close()

    async def test_a_tombstone_forgets_the_record(self, state: KafkaState, kafka_settings: KafkaSettings, producer: KafkaProducer) -> None:
        await state.put(0, "contact/1", FULL)
        state.lose(0)
        await producer.send(f"{kafka_settings.topic_prefix}ingress.state", b"contact/1", None, (), 0)

        await state.gain([0])

        assert state.get(0, "contact/1") is None


def emptied(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


class Waiting(FakeClock):
    """Sleeps until it is told that it is over."""

    def __init__(self) -> None:
        super().__init__()
        self.over = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.over.wait()


def owned_by(number: int) -> Headers:
    return [(OWNER, f"writer {number}".encode())]


class TestFormerOwners:
    """What a former owner's producer still held arrives behind what the new owner has written."""

    @pytest.fixture
    async def owners(self, kafka_settings: KafkaSettings, producer: KafkaProducer, tmp_path: Path) -> AsyncIterator[Owners]:
        made: list[KafkaState] = []

        async def next_one(role: str = "writer") -> KafkaState:
            folder = tmp_path / str(len(made))
            made.append(KafkaState(kafka_settings, "ingress", folder, producer, role))
            await made[-1].gain([0])
            return made[-1]

        yield next_one
        for each in made:
            each.close()

    async def late(self, settings: KafkaSettings, producer: KafkaProducer, key: str, version: int) -> None:
        """The last record of the first owner."""
        headers: Any = content(settings, "ingress.state")[0].headers()
        topic = f"{settings.topic_prefix}ingress.state"
        await producer.send(topic, key.encode(), Known(version=version).to_json(), headers, 0)

    async def test_a_late_record_does_not_win(self, owners: Owners, kafka_settings: KafkaSettings, producer: KafkaProducer) -> None:
        await (await owners()).put(0, "contact/1", Known(version=1))
        await (await owners()).put(0, "contact/1", Known(version=3))
        await self.late(kafka_settings, producer, "contact/1", 2)

        third = await owners()

        assert third.get(0, "contact/1") == Known(version=3)

    async def test_it_does_not_when_the_topic_was_compacted_either(
        self, owners: Owners, kafka_settings: KafkaSettings, producer: KafkaProducer
    ) -> None:
        """Compaction leaves the last record of each key: the owner that finds a late one says what it knows once more."""
        await (await owners()).put(0, "contact/1", Known(version=1))
        await (await owners()).put(0, "contact/1", Known(version=3))
        await self.late(kafka_settings, producer, "contact/1", 2)

        await owners()

        assert Known.from_json(content(kafka_settings, "ingress.state")[-1].value() or b"") == Known(version=3)

    async def test_an_owner_looks_for_them_some_time_after_it_has_begun(
        self, owners: Owners, kafka_settings: KafkaSettings, producer: KafkaProducer
    ) -> None:
        await (await owners()).put(0, "contact/1", Known(version=1))
        second = await owners()
        start = len(content(kafka_settings, "ingress.state"))
        await second.put(0, "contact/1", Known(version=3))
        await self.late(kafka_settings, producer, "contact/1", 2)
        await self.late(kafka_settings, producer, "contact/never-seen-by-the-second", 2)

        await second.look_for_late(0, start)
        await second.look_for_late(0, len(content(kafka_settings, "ingress.state")))

        *_, last = content(kafka_settings, "ingress.state")
        assert (last.key(), Known.from_json(last.value() or b"")) == (b"contact/1", Known(version=3))
        assert len(content(kafka_settings, "ingress.state")) == 5

    async def test_an_owner_whose_clock_is_behind_the_former_ones_is_not_the_late_one(
        self, owners: Owners, kafka_settings: KafkaSettings, producer: KafkaProducer
    ) -> None:
        """All that the former owner wrote was still with its producer when the partition changed hands."""
        second = await owners()
        await second.put(0, "contact/1", Known(version=3))
        await second.put(0, "contact/2", Known(version=3))
        topic, ahead = f"{kafka_settings.topic_prefix}ingress.state", owned_by(4_000_000_000_000)
        await producer.send(topic, b"contact/1", Known(version=2).to_json(), ahead, 0)
        await second.put(0, "contact/1", Known(version=4))

        await second.look_for_late(0, 0)
        third = await owners()

        assert [third.get(0, f"contact/{number}") for number in (1, 2)] == [Known(version=4), Known(version=3)]

    async def test_it_does_so_by_itself(self, kafka_settings: KafkaSettings, producer: KafkaProducer, tmp_path: Path) -> None:
        clock, topic = Waiting(), f"{kafka_settings.topic_prefix}ingress.state"
        state = KafkaState(kafka_settings, "ingress", tmp_path, producer, clock=clock)
        await state.gain([0])
        await state.put(0, "contact/1", Known(version=3))
        await producer.send(topic, b"contact/1", Known(version=2).to_json(), owned_by(7), 0)

        clock.over.set()
        await eventually(lambda: len(content(kafka_settings, "ingress.state")) == 3)
        assert clock.slept == [LATE_S]

        assert Known.from_json(content(kafka_settings, "ingress.state")[-1].value() or b"") == Known(version=3)
        state.close()

    async def test_services_that_share_the_topic_are_no_former_owners_of_each_other(
        self, owners: Owners, kafka_settings: KafkaSettings
    ) -> None:
        resolver = await owners("resolver")
        writer = await owners()
        await writer.put(0, "c-1/campaign", Known(version=1))
        await resolver.put(0, "c-1", Known(version=1))
        await resolver.put(0, "c-1", Known(version=2))

        for role in ("writer", "resolver"):
            later = await owners(role)
            assert (later.get(0, "c-1"), later.get(0, "c-1/campaign")) == (Known(version=2), Known(version=1))
        assert len(content(kafka_settings, "ingress.state")) == 3

    async def test_a_record_that_does_not_say_whose_it_is_counts_as_ever(
        self, owners: Owners, kafka_settings: KafkaSettings, producer: KafkaProducer
    ) -> None:
        topic = f"{kafka_settings.topic_prefix}ingress.state"
        await (await owners()).put(0, "contact/1", Known(version=1))
        every: list[Headers] = [(), [(OWNER, b"writer x")], [(OWNER, b"")]]
        for headers in every:
            await producer.send(topic, b"contact/1", Known(version=2).to_json(), headers, 0)

        assert (await owners()).get(0, "contact/1") == Known(version=2)
