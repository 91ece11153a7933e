"""The change events in Kafka, read with nothing of ours: framing, schema, keys, partitions, headers (kafka.md)."""

from __future__ import annotations

import io
import json
import re
import struct
import urllib.request
from typing import Any

import fastavro
from confluent_kafka import Message

from tests.e2e.helpers import eventually, headers_of, run_through, until_messages
from tests.e2e.stack import Stack, contacts, vehicles


class Decoding:
    """Values by the schema that the registry gives for their id."""

    def __init__(self, registry_url: str) -> None:
        self._url = registry_url
        self._schemas: dict[int, Any] = {}

    def event(self, message: Message) -> dict[str, Any]:
        value = message.value() or b""
        magic, number = struct.unpack(">bI", value[:5])
        assert magic == 0
        if number not in self._schemas:
            with urllib.request.urlopen(f"{self._url}/schemas/ids/{number}", timeout=10) as answer:
                self._schemas[number] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        stream = io.BytesIO(value[5:])
        event: Any = fastavro.schemaless_reader(stream, self._schemas[number], None)
        assert stream.read() == b""
        found: dict[str, Any] = event
        return found


def murmur2(data: bytes) -> int:
    """Of Kafka's Java clients, written from its description: 32 bits, little-endian blocks of four."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    h = 0x9747B28C ^ len(data)
    blocks = len(data) // 4
    for number in range(blocks):
        k = struct.unpack_from("<I", data, number * 4)[0] * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    rest = data[blocks * 4 :]
    for at, byte in enumerate(rest):
        h ^= byte << (8 * at)
    if rest:
        h = h * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


async def test_every_event_is_avro_of_the_registry_under_its_key_with_its_headers(stack: Stack) -> None:
    stack.campaign.settings.cardinality = {"cusVehicle.cusOwner": "0or1"}
    stack.dynamics.load(contacts=60, vehicles=30, seed=3)
    await run_through(stack, contacts(apply_deletes=True), vehicles(apply_deletes=True))
    done = stack.dynamics.churn(seed=5, updates=30, inserts=5, deletes=5)["ids"]
    await stack.until_equal()
    decoding = Decoding(stack.kafka.registry_url)
    topics = ("ingress.replay.contact", "ingress.replay.new_vehicle", "ingress.changes.contact", "ingress.changes.new_vehicle")

    lanes, deleted = set(), set()
    for topic in topics:
        for message in await until_messages(stack, topic, 1):
            event, headers, key = decoding.event(message), headers_of(message), (message.key() or b"").decode()
            assert (event["key"], event["table"]) == (key, topic.rpartition(".")[2])
            assert message.partition() == (murmur2(key.encode()) & 0x7FFFFFFF) % 3
            assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", headers["traceparent"])
            assert headers["origin-lane"] == event["lane"]
            assert event["lane"] in (("initial",) if ".replay." in topic else ("live",))
            assert headers["source-version"] == str(event["version"])
            assert headers["produced-by"] == "ingress-reader/reader-1"
            assert (event["fields"] == {}) == (event["op"] == "delete")
            lanes.add(event["lane"])
            deleted |= {key} if event["op"] == "delete" else set()
    assert lanes == {"initial", "live"}
    assert deleted == {key for keys in done["deleted"].values() for key in keys}


async def test_fields_carry_logical_names_exact_decimals_and_utc_times(stack: Stack) -> None:
    stack.campaign.settings.cardinality = {"cusVehicle.cusOwner": "0or1"}
    owner = stack.dynamics.upsert("contact", {"lastname": "Meyer"})
    row = {"new_price": 1234.1, "new_mileage": 5, "new_active": True, "new_servicedue": "2025-03-01T08:30:00Z", "new_name": "Leaf"}
    car = stack.dynamics.upsert("new_vehicle", {**row, "new_fueltype": 100_000_002, "new_contactid": owner, "new_color": None})

    await run_through(stack, contacts(), vehicles())
    await eventually(stack, lambda: stack.campaign.get("cusVehicle", car), "the vehicle arrives")

    (message,) = await until_messages(stack, "ingress.replay.new_vehicle", 1)
    event = Decoding(stack.kafka.registry_url).event(message)
    fields = event["fields"]
    assert (fields["new_contactid"], "_new_contactid_value" in fields) == (owner, False)
    assert isinstance(fields["new_price"], str) and float(fields["new_price"]) == 1234.1
    assert (fields["new_mileage"], fields["new_active"], fields["new_color"]) == (5, True, None)
    assert re.fullmatch(r"2025-03-01T08:30:00(\.0+)?(Z|\+00:00)", fields["new_servicedue"])
    assert (fields["new_fueltype"], event["labels"]) == (100_000_002, {"new_fueltype": "Electric"})
    assert event["changed_at"].tzinfo is not None and event["observed_at"] >= event["changed_at"]
    assert event["version"] == stack.dynamics.rows("new_vehicle")[0]["versionnumber"]
