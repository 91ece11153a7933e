"""The reader's publisher: the twin in memory and the transactions of Kafka."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Producer

from bridge.flow.reader import Publisher
from bridge.kafka import publisher as publisher_module
from bridge.kafka.avro import Decoder, Encoder, load_schema
from bridge.kafka.client import FencedError, headers_of
from bridge.kafka.encoding import Encoding
from bridge.kafka.publisher import TransactionalPublisher
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topics, ingress_topics, workflow_topics
from bridge.memory import MemoryLog, MemoryPublisher, MemoryRegistry
from bridge.model.clock import SystemClock
from bridge.model.errors import BridgeError
from bridge.model.events import ChangeEvent, Outgoing
from bridge.process.reading import EventPublisher
from sandbox.kafka import LocalKafka
from tests.contract.broker import content, frozen, latest, make

TOPIC, CURSOR = "ingress.changes.contact", "dynamics:contact"


def event(key: str, text: Any = "x", **more: Any) -> Outgoing:
    fields = {"lastname": "King", "jobtitle": text, **more}
    change = ChangeEvent("contact", key, "upsert", "live", 1, None, datetime(2026, 3, 1, tzinfo=UTC), fields)
    return Outgoing(TOPIC, key, change, (("origin-lane", b"live"),))


def only_flags(change: ChangeEvent) -> ChangeEvent | None:
    flags = {name: value for name, value in change.fields.items() if name.startswith("donot")}
    return replace(change, fields=flags) if flags else None


@dataclass(frozen=True)
class Place:
    """Where one partition of cursors is. `publisher`: a new one, ready to publish; `keys` and `cursors`: what others see."""

    publisher: Callable[[], Publisher]
    keys: Callable[[], list[str]]
    cursors: Callable[[], Mapping[str, Any]]


class PublisherContract:
    async def test_a_page_and_its_cursor_appear_together(self, place: Place) -> None:
        publisher = place.publisher()
        assert (place.keys(), place.cursors()) == ([], {})

        await publisher.publish([event("a"), event("b")], CURSOR, {"page": 1, "link": "ø"})

        assert sorted(place.keys()) == ["a", "b"]
        assert place.cursors() == {CURSOR: {"page": 1, "link": "ø"}}

    async def test_a_cursor_may_move_without_events(self, place: Place) -> None:
        publisher = place.publisher()

        await publisher.publish([event("a")], CURSOR, {"page": 1})
        await publisher.publish([], CURSOR, {"page": 2})

        assert (place.keys(), place.cursors()) == (["a"], {CURSOR: {"page": 2}})

    async def test_none_deletes_the_cursor_and_no_other(self, place: Place) -> None:
        publisher = place.publisher()
        await publisher.publish([], CURSOR, {"page": 1})
        await publisher.publish([], "dynamics:new_vehicle", {"page": 7})

        await publisher.publish([], CURSOR, None)

        assert place.cursors() == {"dynamics:new_vehicle": {"page": 7}}

    async def test_a_cursor_that_cannot_be_kept_takes_its_page_with_it(self, place: Place) -> None:
        publisher = place.publisher()

        with pytest.raises(TypeError):
            await publisher.publish([event("a")], CURSOR, {"page": object()})

        assert (place.keys(), place.cursors()) == ([], {})

    async def test_a_second_publisher_fences_the_first(self, place: Place) -> None:
        first = place.publisher()
        await first.publish([event("a")], CURSOR, {"page": 1})
        second = place.publisher()

        with pytest.raises(FencedError):
            await first.publish([event("late")], CURSOR, {"page": 99})
        await second.publish([event("b")], CURSOR, {"page": 2})

        assert sorted(place.keys()) == ["a", "b"]
        assert place.cursors() == {CURSOR: {"page": 2}}

    async def test_a_fenced_publisher_stays_fenced(self, place: Place) -> None:
        """The feeds of several tables share it: each has to hear that it is over."""
        first = place.publisher()
        place.publisher()

        for _ in range(2):
            with pytest.raises(FencedError):
                await first.publish([event("late")], CURSOR, {"page": 99})

        assert (place.keys(), place.cursors()) == ([], {})


class TestMemoryPublisher(PublisherContract):
    @pytest.fixture
    def place(self) -> Place:
        log = MemoryLog()
        return Place(lambda: MemoryPublisher(log), lambda: [each.key for each in log.events], lambda: log.cursors)


class TestTransactionalPublisher(PublisherContract):
    @pytest.fixture
    def place(self, kafka_settings: KafkaSettings) -> Place:
        make(kafka_settings, *ingress_topics(["contact"]), *workflow_topics("ingress"))
        encoder = Encoder(load_schema("ChangeEvent"), 1)

        def publisher() -> Publisher:
            made = TransactionalPublisher(kafka_settings, "ingress", 1)
            made.start()
            largest = Topics(kafka_settings).largest_message(ingress_topics(["contact"]))
            settings = {"workflow": "ingress", "prefix": kafka_settings.topic_prefix, "revision": 3}
            encoding = Encoding({TOPIC: encoder}, largest, SystemClock(), **settings, smaller=only_flags)  # type: ignore[arg-type]
            return EventPublisher(made, encoding, 3)

        def keys() -> list[str]:
            return [(message.key() or b"").decode() for message in content(kafka_settings, TOPIC)]

        def cursors() -> dict[str, Any]:
            """As they were given: the publisher adds the revision."""
            found = latest(kafka_settings, "ingress.cursors")
            assert {cursor.pop("revision") for cursor in found.values()} <= {3}
            return found

        return Place(publisher, keys, cursors)

    async def test_cursors_are_in_the_partition_that_is_owned(self, place: Place, kafka_settings: KafkaSettings) -> None:
        await place.publisher().publish([event("a")], CURSOR, {"page": 1})

        assert [message.partition() for message in content(kafka_settings, "ingress.cursors")] == [1]

    async def test_headers_go_with_the_event(self, place: Place, kafka_settings: KafkaSettings) -> None:
        await place.publisher().publish([event("a")], CURSOR, {"page": 1})

        (message,) = content(kafka_settings, TOPIC)
        assert message.headers() == [("origin-lane", b"live")]

    async def test_a_cursor_that_kafka_refuses_takes_its_page_with_it(self, place: Place) -> None:
        publisher = place.publisher()
        await publisher.publish([event("a")], CURSOR, {"page": 1})

        with pytest.raises(BridgeError):
            await publisher.publish([event("b")], CURSOR, {"page": "x" * 3_000_000})

        assert (place.keys(), place.cursors()) == (["a"], {CURSOR: {"page": 1}})
        await place.publisher().publish([event("b")], CURSOR, {"page": 2})  # that client may be of no use any more
        assert sorted(place.keys()) == ["a", "b"]

    async def test_what_an_earlier_owner_left_open_is_invisible_for_ever(self, place: Place, kafka_settings: KafkaSettings) -> None:
        await asyncio.to_thread(self.leave_open, kafka_settings)
        assert place.keys() == []

        publisher = place.publisher()
        await publisher.publish([event("b")], CURSOR, {"page": 1})

        assert place.keys() == ["b"]

    def leave_open(self, settings: KafkaSettings) -> None:
        """Half a page by a process that dies before its commit."""
        config = settings.client(transactional_id=f"{settings.topic_prefix}ingress-reader-1")
        dying = Producer(config)
        dying.init_transactions(10)
        dying.begin_transaction()
        dying.produce(settings.topic_prefix + TOPIC, b"half", b"a")
        dying.flush(10)

    async def test_a_page_that_kafka_did_not_take_is_published_once_when_it_is_back(
        self, place: Place, kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publisher = place.publisher()
        await publisher.publish([event("a")], CURSOR, {"page": 1})
        monkeypatch.setattr(publisher_module, "TIMEOUT_S", 0.5)
        with frozen(kafka):
            publishing = asyncio.create_task(publisher.publish([event("b"), event("c")], CURSOR, {"page": 2}))
            await asyncio.sleep(2)
            assert not publishing.done()

        await asyncio.wait_for(publishing, 30)

        assert sorted(place.keys()) == ["a", "b", "c"]
        assert place.cursors() == {CURSOR: {"page": 2}}

    async def test_an_outage_in_the_middle_of_a_commit_loses_and_doubles_nothing(
        self, place: Place, kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The records are with the broker already; only the commit gets no answer. It is asked for until there is one."""
        publisher = place.publisher()
        assert isinstance(publisher, EventPublisher)
        producer, outage, asked = publisher._publisher._producer, ExitStack(), list[float]()

        class Interrupted:
            def __getattr__(self, name: str) -> Any:
                return getattr(producer, name)

            def commit_transaction(self, timeout: float) -> None:
                producer.flush(10)
                if not asked:
                    outage.enter_context(frozen(kafka))
                asked.append(timeout)
                producer.commit_transaction(timeout)

        monkeypatch.setattr(publisher_module, "TIMEOUT_S", 0.5)
        monkeypatch.setattr(publisher._publisher, "_producer", Interrupted())
        publishing = asyncio.create_task(publisher.publish([event("b"), event("c")], CURSOR, {"page": 2}))
        with outage:
            await asyncio.sleep(3)
            assert not publishing.done()

        await asyncio.wait_for(publishing, 30)

        assert len(asked) > 1
        assert sorted(place.keys()) == ["b", "c"]
        assert place.cursors() == {CURSOR: {"page": 2}}

    @pytest.mark.parametrize(
        ("value", "code"),
        [("x" * 1_500_000, "event_too_large"), ("half an \ud83d", "not_storable"), (["a", "list"], "not_storable")],
        ids=["too large", "half a character", "no value"],
    )
    async def test_a_row_that_cannot_be_published_is_a_letter_and_the_page_goes_on(
        self, place: Place, kafka_settings: KafkaSettings, value: Any, code: str
    ) -> None:
        await place.publisher().publish([event("a"), event("bad", value, donotemail=True), event("c")], CURSOR, {"page": 1})

        assert (sorted(place.keys()), place.cursors()) == (["a", "bad", "c"], {CURSOR: {"page": 1}})
        (letter,) = content(kafka_settings, "ingress.dead-letters")
        told = {name: value or b"" for name, value in headers_of(letter)}
        assert (letter.key(), letter.value(), told["dlq.code"]) == (b"bad", None, code.encode())
        assert b"contact: " in told["dlq.reason"] and (code == "event_too_large" or b"jobtitle" in told["dlq.reason"])
        registry, schema = MemoryRegistry(), load_schema("ChangeEvent")
        assert registry.register(TOPIC, schema) == 1
        decoder = Decoder(registry, schema, ChangeEvent)
        rest = [await decoder.decode(each.value()) for each in content(kafka_settings, TOPIC) if each.key() == b"bad"]
        assert [each.fields for each in rest] == [{"donotemail": True}], "its opt-out arrives"

    async def test_an_opt_out_that_cannot_be_stored_itself_holds_up_nobody(self, place: Place, kafka_settings: KafkaSettings) -> None:
        await place.publisher().publish([event("bad", donotemail="\ud83d"), event("c")], CURSOR, {"page": 1})

        assert (place.keys(), place.cursors()) == (["c"], {CURSOR: {"page": 1}})
        (letter,) = content(kafka_settings, "ingress.dead-letters")
        assert b"donotemail" in {name: value or b"" for name, value in headers_of(letter)}["dlq.reason"]

    async def test_a_page_of_five_thousand_rows_goes_out_as_one(self, place: Place) -> None:
        rows = [event(f"key-{number:04}", json.dumps(list(range(50)))) for number in range(5000)]

        await place.publisher().publish(rows, CURSOR, {"page": 1})

        assert sorted(place.keys()) == [row.key for row in rows]
