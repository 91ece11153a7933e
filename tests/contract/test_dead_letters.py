"""The dead letters: the twin in memory and the topic, with what contracts/kafka.md says they carry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from bridge.flow.ports import DeadLetters
from bridge.kafka.dead_letters import KafkaDeadLetters
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import workflow_topics
from bridge.memory import MemoryDeadLetters
from bridge.model.errors import RejectError
from bridge.model.events import Headers, Record
from tests.contract.broker import content, make, producing

FIRST = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LAST = FIRST + timedelta(minutes=5)
HEADERS: Headers = (("traceparent", b"00-abc-def-01"), ("origin-lane", b"live"), ("odd", b"\x00\xff"))


def record(value: bytes | None = b"\x00\x00\x00\x00\x07\xff", headers: Headers = HEADERS, offset: int = 120) -> Record:
    return Record("ingress.changes.contact", 2, offset, 1_700_000_000_123, b"key-1", value, headers)


def refused(reason: str = "Campaign: POST /x -> 500 value_refused") -> RejectError:
    return RejectError(reason, code="value_refused", status=500)


@dataclass(frozen=True)
class Seen:
    """A letter as one finds it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]  # the original ones
    code: str
    stage: str
    status: str
    attempts: int
    fingerprint: str


@dataclass(frozen=True)
class Box:
    letters: DeadLetters
    look: Callable[[], list[Seen]]


async def put(box: Box, error: RejectError | None = None, each: Record | None = None, attempts: int = 3) -> None:
    await box.letters.put(each or record(), error or refused(), attempts=attempts, first_failed_at=FIRST, failed_at=LAST)


class DeadLettersContract:
    async def test_key_value_and_headers_are_kept_as_they_were(self, box: Box) -> None:
        await put(box)

        (letter,) = box.look()
        assert (letter.key, letter.value, letter.headers) == (b"key-1", record().value, tuple(HEADERS))

    async def test_a_record_without_value_is_kept_so(self, box: Box) -> None:
        await put(box, each=record(None, ()))

        (letter,) = box.look()
        assert (letter.value, letter.headers) == (None, ())

    async def test_the_cause_is_told(self, box: Box) -> None:
        await put(box, RejectError("no event", code="not_avro", stage="decode"), attempts=1)

        (letter,) = box.look()
        assert (letter.code, letter.stage, letter.status, letter.attempts) == ("not_avro", "decode", "", 1)

    async def test_letters_with_the_same_cause_have_the_same_fingerprint(self, box: Box) -> None:
        await put(box, refused("PATCH /profile/0c0ffee0-1111-4222-8333-444455556666 -> 500 field 12"))
        await put(box, refused("PATCH /profile/99999999-aaaa-4bbb-8ccc-ddddeeeeffff -> 500 field 345"))
        await put(box, refused("PATCH /cusVehicle/99999999-aaaa-4bbb-8ccc-ddddeeeeffff -> 500 field 345"))

        one, same, other = [letter.fingerprint for letter in box.look()]
        assert one == same != other
        assert one


class TestMemoryDeadLetters(DeadLettersContract):
    @pytest.fixture
    def box(self) -> Box:
        letters = MemoryDeadLetters()

        def look() -> list[Seen]:
            return [
                Seen(
                    each.record.key,
                    each.record.value,
                    tuple(each.record.headers),
                    each.error.code,
                    each.error.stage,
                    str(each.error.status or ""),
                    each.attempts,
                    each.fingerprint,
                )
                for each in letters.letters
            ]

        return Box(letters, look)


class TestKafkaDeadLetters(DeadLettersContract):
    @pytest.fixture
    async def box(self, kafka_settings: KafkaSettings) -> AsyncIterator[Box]:
        make(kafka_settings, *workflow_topics("ingress"))
        async with producing(kafka_settings) as producer:
            yield Box(KafkaDeadLetters(kafka_settings, "ingress", 7, producer), lambda: self.look(kafka_settings))

    def look(self, settings: KafkaSettings) -> list[Seen]:
        found = []
        for message in content(settings, "ingress.dead-letters"):
            headers = self.headers(message)
            told = {name: value.decode() for name, value in headers if name.startswith("dlq.")}
            found.append(
                Seen(
                    message.key(),
                    message.value(),
                    tuple((name, value) for name, value in headers if not name.startswith("dlq.")),
                    told["dlq.code"],
                    told["dlq.stage"],
                    told["dlq.target-status"],
                    int(told["dlq.attempts"]),
                    told["dlq.fingerprint"],
                )
            )
        return found

    def headers(self, message: object) -> list[tuple[str, bytes]]:
        raw = message.headers()  # type: ignore[attr-defined]
        return [(name, value or b"") for name, value in raw or []]

    async def test_every_header_of_the_contract_is_there(self, box: Box, kafka_settings: KafkaSettings) -> None:
        await put(box)

        (message,) = content(kafka_settings, "ingress.dead-letters")
        told = {name: value.decode() for name, value in self.headers(message) if name.startswith("dlq.")}
        assert told.pop("dlq.fingerprint")
        assert told == {
            "dlq.topic": f"{kafka_settings.topic_prefix}ingress.changes.contact",
            "dlq.partition": "2",
            "dlq.offset": "120",
            "dlq.timestamp": "1700000000123",
            "dlq.workflow": "ingress",
            "dlq.revision": "7",
            "dlq.stage": "write",
            "dlq.code": "value_refused",
            "dlq.reason": "Campaign: POST /x -> 500 value_refused",
            "dlq.target-status": "500",
            "dlq.attempts": "3",
            "dlq.first-failed-at": FIRST.isoformat(),
            "dlq.failed-at": LAST.isoformat(),
        }

    async def test_a_letter_that_comes_back_as_a_letter_has_each_header_once(self, box: Box, kafka_settings: KafkaSettings) -> None:
        """A redriven record that fails again: its old dlq headers are replaced, `dlq.redriven` stays."""
        old: Headers = (*HEADERS, ("dlq.code", b"old"), ("dlq.redriven", b"1"))

        await put(box, each=record(headers=old))

        (message,) = content(kafka_settings, "ingress.dead-letters")
        names = [name for name, _ in self.headers(message)]
        assert len(names) == len(set(names))
        assert dict(self.headers(message))["dlq.redriven"] == b"1"
        assert dict(self.headers(message))["dlq.code"] == b"value_refused"

    async def test_letters_of_one_key_keep_their_order(self, box: Box) -> None:
        for offset in range(5):
            await put(box, each=record(str(offset).encode(), offset=offset))

        assert [letter.value for letter in box.look()] == [str(offset).encode() for offset in range(5)]
