"""When a replay is refused: too many records wait (F96), or the table is too large (F97)."""

from __future__ import annotations

import asyncio
import json

from confluent_kafka import Producer

from bridge.kafka.settings import KafkaSettings
from sandbox.web import Fault
from tests.e2e.helpers import run_through
from tests.e2e.stack import Stack, contacts

LIMIT = 2_000_000
REPLAY = "/api/v1/workflows/ingress/tables/contact/replay"


def fill(kafka: KafkaSettings, topic: str, number: int) -> None:
    """That many records, as small as they can be."""
    producer = Producer(
        kafka.client(linger_ms=50, queue_buffering_max_messages=200_000, batch_num_messages=100_000, compression_type="lz4")
    )
    name = kafka.topic_prefix + topic
    for made in range(number):
        while True:
            try:
                producer.produce(name, b"", partition=made % kafka.partitions)
                break
            except BufferError:
                producer.poll(0.1)
        if made % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0


async def test_f97_a_table_of_two_million_rows_is_not_replayed_at_the_next_start(stack: Stack) -> None:
    stack.dynamics.load(contacts=10, vehicles=0, seed=1)
    await run_through(stack, contacts())
    count = {"EntityRecordCountCollection": {"Count": 1, "IsReadOnly": False, "Keys": ["contact"], "Values": [LIMIT]}}
    fault = Fault("status", "GET", "RetrieveTotalRecordCount", 200, json.dumps(count), "application/json")
    stack.dynamics.ledger.faults.append(fault)

    refused = await stack.http.post(REPLAY, json={"when": "next-start"})
    taken = await stack.http.post(REPLAY, json={"when": "now", "changed_since": "2026-01-01T00:00:00Z"})

    assert (refused.status_code, refused.json()["code"]) == (409, "table_too_large")
    assert "changed_since" in refused.json()["detail"]
    assert taken.status_code == 202


async def test_f96_nothing_is_replayed_while_two_million_records_wait(stack: Stack) -> None:
    stack.dynamics.load(contacts=10, vehicles=0, seed=1)
    await run_through(stack, contacts())
    await stack.stop()
    await asyncio.to_thread(fill, stack.kafka, "ingress.changes.contact", LIMIT)

    async def all_wait() -> bool:
        return ((await stack.workflow())["backlog"]["records"] or 0) >= LIMIT

    await stack.until(all_wait, "the backlog shows what waits")
    for body in ({"when": "next-start"}, {"when": "now"}):
        refused = await stack.http.post(REPLAY, json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "backlog_too_large"), refused.text
