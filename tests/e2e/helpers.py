"""What several end-to-end tests share: starting a run, waiting for plain conditions, and looking into Kafka from outside."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from bridge.kafka.settings import KafkaSettings
from tests.e2e.stack import Stack


async def eventually(stack: Stack, holds: Callable[[], Any], what: str, within_s: float = 30) -> Any:
    """Until a plain condition on the sandboxes or on files holds; gives what it gave."""

    async def asked() -> Any:
        return holds()

    return await stack.until(asked, what, within_s)


async def run(
    stack: Stack, *tables: Mapping[str, Any], reader: Mapping[str, str] | None = None, writer: Mapping[str, str] | None = None
) -> None:
    """Saves the tables, starts one reader and one writer (with these settings) and the workflow; returns when it is RUNNING."""
    await stack.configure(*tables)
    stack.service("reader", **(reader or {}))
    stack.service("writer", **(writer or {}))
    await stack.start()


async def run_through(stack: Stack, *tables: Mapping[str, Any], reader: Mapping[str, str] | None = None) -> None:
    """As `run`, then waits until everything loaded so far has been dealt with."""
    await run(stack, *tables, reader=reader)
    await everything_passed(stack)


async def everything_passed(stack: Stack, within_s: float = 30) -> str:
    """Writes a contact now and waits until it has arrived and nothing waits: what was changed before has been dealt with. Its key."""
    key = stack.dynamics.upsert("contact", {"lastname": "Sentinel", "statecode": 0})
    await eventually(stack, lambda: stack.campaign.get("profile", key), "a contact written last arrives", within_s)
    await stack.until_caught_up(within_s)
    return key


async def until_reason(stack: Stack, code: str, within_s: float = 40) -> dict[str, Any]:
    """Until the workflow is FAILED for this reason; the reason."""
    found: dict[str, Any] = (await stack.until_status("FAILED", within_s))["reason"]
    assert found["code"] == code, found
    return found


def new_key() -> str:
    return str(uuid.uuid4())


def names(stack: Stack, field: str = "lastName") -> set[str]:
    """That field of every profile but the sentinels."""
    return {row[field] for row in stack.campaign.rows("profile") if row["lastName"] != "Sentinel"}


def kept(stack: Stack, resource: str, key: str) -> list[dict[str, Any]]:
    """The API's writes of one record that Campaign took."""
    return [write for write in stack.campaign.writes(resource, key) if write["status"] < 400]


def calls_of(stack: Stack, resource: str) -> dict[str, int]:
    """Calls of the API about one resource, by method; metadata is read with GET, too."""
    found: dict[str, int] = stack.campaign.counts()["calls"].get(resource, {})
    return dict(found)


def service_logs(stack: Stack) -> str:
    return "\n".join(path.read_text(errors="replace") for path in sorted(stack.folder.glob("*.log")))


# -- Kafka from outside -----------------------------------------------------------------------------------------------------------


def messages(kafka: KafkaSettings, topic: str) -> list[Message]:
    """Every committed message of a topic (prefix added), in order within each partition; nothing for a topic that is not there."""
    consumer = Consumer(kafka.client(group_id=f"look-{uuid.uuid4().hex}", isolation_level="read_committed", enable_partition_eof=True))
    name, found = kafka.topic_prefix + topic, list[Message]()
    try:
        # No question for the end of a partition: the leader of a topic that has just been made refuses it; a fetch waits for the leader.
        waiting = set(consumer.list_topics(name, timeout=10).topics[name].partitions)
        consumer.assign([TopicPartition(name, number, OFFSET_BEGINNING) for number in waiting])
        deadline = time.monotonic() + 15
        while waiting and time.monotonic() < deadline:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                waiting.discard(message.partition() or 0)
            else:
                found.append(message)
        assert not waiting, f"{name} could not be read to its end"
        return found
    finally:
        consumer.close()


async def until_messages(stack: Stack, topic: str, number: int, within_s: float = 30) -> list[Message]:
    """Until a topic holds at least so many messages; all of them."""

    async def enough() -> list[Message] | None:
        found = await asyncio.to_thread(messages, stack.kafka, topic)
        return found if len(found) >= number else None

    found: list[Message] = await stack.until(enough, f"{number} messages in {topic}", within_s)
    return found


def headers_of(message: Message) -> dict[str, str]:
    raw: Any = message.headers() or []
    return {name: (value or b"").decode() for name, value in raw}


def latest(kafka: KafkaSettings, topic: str) -> dict[str, Any]:
    """The last JSON value of every key of a compacted topic; None where it was deleted."""
    found: dict[str, Any] = {}
    for message in messages(kafka, topic):
        value = message.value()
        found[(message.key() or b"").decode()] = None if value is None else json.loads(value)
    return found


def heartbeat(stack: Stack, role: str, instance: str | None = None) -> dict[str, Any]:
    """The last heartbeat of one instance; empty if it has said goodbye or was never there."""
    found: dict[str, Any] = latest(stack.kafka, "control.services").get(f"ingress/{role}/{instance or role + '-1'}") or {}
    return found


def group_state(kafka: KafkaSettings, group: str) -> tuple[str, int]:
    """The state of a consumer group as Kafka names it, and how many members it has."""
    name = kafka.topic_prefix + group
    admin = AdminClient(kafka.client())  # has to live until the answer is there
    described = admin.describe_consumer_groups([name], request_timeout=10)[name].result(15)
    return described.state.name, len(described.members)


def described_lag(printed: str) -> dict[tuple[str, int], tuple[int, int, int]]:
    """(topic, partition) → (committed, end, lag), from what `kafka-consumer-groups --describe` prints."""
    rows = [line.split() for line in printed.splitlines() if line.strip()]
    header = next((row for row in rows if row[:3] == ["GROUP", "TOPIC", "PARTITION"]), None)
    if header is None:
        return {}
    found = {}
    for row in rows[rows.index(header) + 1 :]:
        cells = dict(zip(header, row, strict=False))
        if cells["CURRENT-OFFSET"] != "-":
            numbers = (int(cells["CURRENT-OFFSET"]), int(cells["LOG-END-OFFSET"]), int(cells["LAG"]))
            found[cells["TOPIC"], int(cells["PARTITION"])] = numbers
    return found


def api_lag(stack: Stack, workflow: Mapping[str, Any]) -> dict[tuple[str, int], tuple[int, int, int]]:
    """The same from the API's answer, partitions that were never committed left out."""
    return {
        (stack.kafka.topic_prefix + topic["topic"], each["partition"]): (each["committed"], each["end"], each["lag"])
        for group in workflow["backlog"]["groups"]
        for topic in group["topics"]
        for each in topic["partitions"]
        if each["committed"] is not None
    }
