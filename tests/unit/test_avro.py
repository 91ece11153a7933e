"""bridge.kafka.avro: the registry's wire format, there and back, and bytes that are no event of ours (decision D11, kafka.md)."""

from __future__ import annotations

import copy
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.kafka.avro import Decoder, Encoder, load_schema
from bridge.model.errors import BridgeError, HaltError, RejectError, RetryError
from bridge.model.events import ChangeEvent
from tests.unit.fakes import NOON, an_event

CANARY = b"s3cret-value"
SCHEMA_ID = 258  # more than a byte, to see the order


class MemoryRegistry:
    """Ids and schemas in a dict; what is a BridgeError there is raised."""

    def __init__(self, **schemas: Any) -> None:
        self.schemas: dict[int, Any] = {SCHEMA_ID: load_schema("ChangeEvent")}
        self.asked = 0

    def register(self, subject: str, schema: dict[str, Any]) -> int:
        return SCHEMA_ID

    def schema(self, schema_id: int) -> Any:
        self.asked += 1
        found = self.schemas.get(schema_id, RejectError("nobody registered this id", code="unknown_schema", stage="decode"))
        if isinstance(found, BridgeError):
            raise found
        return copy.deepcopy(found)


def a_decoder(registry: MemoryRegistry | None = None) -> Decoder[ChangeEvent]:
    return Decoder(registry or MemoryRegistry(), load_schema("ChangeEvent"), ChangeEvent)


def encoded(event: ChangeEvent, schema: dict[str, Any] | None = None, schema_id: int = SCHEMA_ID) -> bytes:
    return Encoder(schema or load_schema("ChangeEvent"), schema_id).encode(event)


async def rejection(value: bytes | None, registry: MemoryRegistry | None = None) -> RejectError:
    with pytest.raises(RejectError) as caught:
        await a_decoder(registry).decode(value)
    assert caught.value.stage == "decode"
    assert CANARY.decode() not in str(caught.value)
    return caught.value


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
longs = st.integers(-(2**63), 2**63 - 1)
moments = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)).map(
    lambda naive: naive.replace(microsecond=naive.microsecond // 1000 * 1000, tzinfo=UTC)
)
events = st.builds(
    ChangeEvent,
    table=texts,
    key=texts,
    op=st.sampled_from(["upsert", "delete"]),
    lane=st.sampled_from(["live", "initial", "replay", "resync"]),
    version=st.none() | longs,
    changed_at=st.none() | moments,
    observed_at=moments,
    fields=st.dictionaries(texts, st.none() | st.booleans() | longs | st.floats(allow_nan=False) | texts, max_size=6),
    labels=st.dictionaries(texts, texts, max_size=3),
)


@given(events)
async def test_an_event_is_the_same_there_and_back(event: ChangeEvent) -> None:
    again = await a_decoder().decode(encoded(event))

    assert again == event
    assert [type(value) for value in again.fields.values()] == [type(value) for value in event.fields.values()]


def test_the_frame_is_a_zero_byte_and_the_schema_id_in_four_bytes() -> None:
    assert encoded(an_event())[:5] == b"\x00\x00\x00\x01\x02"


async def test_times_lose_what_is_below_a_millisecond_and_keep_their_moment() -> None:
    event = ChangeEvent("contact", "c-1", "upsert", "live", 1, NOON + timedelta(microseconds=1999), NOON)

    again = await a_decoder().decode(encoded(event))

    assert again.changed_at == NOON + timedelta(milliseconds=1)


async def test_a_schema_is_asked_for_once() -> None:
    registry = MemoryRegistry()
    decoder = a_decoder(registry)

    for _ in range(3):
        await decoder.decode(encoded(an_event()))

    assert registry.asked == 1


async def test_what_an_older_version_wrote_is_still_readable() -> None:
    older = load_schema("ChangeEvent")
    older["fields"] = [field for field in older["fields"] if field["name"] not in ("labels", "version", "changed_at")]
    registry = MemoryRegistry()
    registry.schemas[7] = older

    event = await a_decoder(registry).decode(encoded(an_event({"a": 1}), older, 7))

    assert (event.fields, event.labels, event.version, event.changed_at) == ({"a": 1}, {}, None, None)


async def test_what_a_newer_version_wrote_is_readable_too() -> None:
    newer = load_schema("ChangeEvent")
    newer["fields"] = [*newer["fields"], {"name": "invented_later", "type": "string", "default": ""}]
    registry = MemoryRegistry()
    registry.schemas[9] = newer

    written = Encoder({**newer}, 9)
    event = await a_decoder(registry).decode(written.encode(WithMore(an_event({"a": 1}))))

    assert event == an_event({"a": 1})


class WithMore:
    """An event of a later version of the product."""

    def __init__(self, event: ChangeEvent) -> None:
        self.invented_later = "x"
        self._event = event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._event, name)


@pytest.mark.parametrize("value", [None, b"", b"\x00", b"\x00\x00\x00\x01", b"\x01\x00\x00\x01\x02", b'{"json": "s3cret-value"}'])
async def test_what_is_not_framed_is_rejected(value: bytes | None) -> None:
    assert (await rejection(value)).code == "not_avro"


async def test_an_id_nobody_registered_is_rejected() -> None:
    assert (await rejection(struct.pack(">bI", 0, 99) + CANARY)).code == "unknown_schema"


@pytest.mark.parametrize(
    "foreign",
    [
        {"type": "record", "name": "Other", "namespace": "bridge", "fields": [{"name": "a", "type": "string"}]},
        {"type": "enum", "name": "Lane", "symbols": ["a"]},
        {"type": "string"},
        "string",
        ["null", "string"],
    ],
)
async def test_a_message_of_another_schema_of_the_registry_is_rejected(foreign: Any) -> None:
    registry = MemoryRegistry()
    registry.schemas[5] = foreign

    assert (await rejection(struct.pack(">bI", 0, 5) + CANARY, registry)).code == "other_schema"


async def test_a_schema_of_our_name_that_is_none_is_the_registrys_fault() -> None:
    registry = MemoryRegistry()
    registry.schemas[SCHEMA_ID] = {"type": "record", "name": "ChangeEvent"}

    with pytest.raises(RetryError) as caught:
        await a_decoder(registry).decode(struct.pack(">bI", 0, SCHEMA_ID) + CANARY)

    assert caught.value.code == "registry_unavailable"


async def test_a_schema_that_cannot_be_read_into_ours_is_rejected() -> None:
    other = load_schema("ChangeEvent")
    other["fields"] = [{"name": "table", "type": "long"}]
    registry = MemoryRegistry()
    registry.schemas[6] = other

    assert (await rejection(struct.pack(">bI", 0, 6) + b"\x02", registry)).code == "not_this_event"


@pytest.mark.parametrize("cut", [5, 6, 12, 30])
async def test_half_an_event_is_rejected(cut: int) -> None:
    assert (await rejection(encoded(an_event({"firstname": CANARY.decode()}))[:cut])).code == "not_this_event"


@given(st.binary(max_size=200))
async def test_poison_is_rejected_and_never_anything_worse(content: bytes) -> None:
    assert await outcome(struct.pack(">bI", 0, SCHEMA_ID) + content) in ("event", "decode")


@given(st.integers(5, 60), st.integers(0, 255))
async def test_one_wrong_byte_is_an_event_or_a_rejection(place: int, byte: int) -> None:
    value = bytearray(encoded(an_event({"firstname": "Ada", "donotemail": True, "n": 4, "x": 1.5, "none": None})))
    value[place] = byte

    assert await outcome(bytes(value)) in ("event", "decode")


async def outcome(value: bytes) -> str:
    """`event`, or the stage at which the bytes were rejected."""
    try:
        return "event" if await a_decoder().decode(value) else ""
    except RejectError as error:
        return error.stage


@pytest.mark.parametrize(
    "trouble",
    [
        RetryError("registry away", code="registry_unavailable"),
        HaltError("registry refused", code="registry_refused", hint="h", origin="registry"),
    ],
)
async def test_trouble_of_the_registry_is_not_blamed_on_the_message_nor_remembered(trouble: BridgeError) -> None:
    registry = MemoryRegistry()
    schema = registry.schemas[SCHEMA_ID]
    registry.schemas[SCHEMA_ID] = trouble
    decoder = a_decoder(registry)
    with pytest.raises(type(trouble)):
        await decoder.decode(encoded(an_event()))

    registry.schemas[SCHEMA_ID] = schema

    assert await decoder.decode(encoded(an_event())) == an_event()


def test_every_field_of_every_schema_says_what_it_is() -> None:
    schema = load_schema("ChangeEvent")

    assert schema["namespace"] == "bridge"
    assert all(field["doc"] for field in [schema, *schema["fields"]])
