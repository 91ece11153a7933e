"""The backlog as the API shows it, against what Kafka's own tool says (F75, F76)."""

from __future__ import annotations

import asyncio

from sandbox.kafka import LocalKafka
from tests.e2e.helpers import api_lag, described_lag, everything_passed, messages, run, until_messages
from tests.e2e.stack import Stack, contacts, vehicles

TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"


async def shown_by_kafka(stack: Stack, kafka: LocalKafka) -> dict[tuple[str, int], tuple[int, int, int]]:
    group = f"{stack.kafka.topic_prefix}ingress"
    arguments = ("--bootstrap-server", kafka.bootstrap, "--describe", "--group", group)
    return described_lag(await asyncio.to_thread(kafka.tool, TOOL, *arguments))


async def _published(stack: Stack, keys: dict[str, str]) -> bool:
    """Whether the topic of each table has an event of this key."""
    for table, key in keys.items():
        found = await asyncio.to_thread(messages, stack.kafka, f"ingress.changes.{table}")
        if key.encode() not in [message.key() for message in found]:
            return False
    return True


async def test_f75_before_the_writer_has_ever_run_everything_read_is_backlog(stack: Stack) -> None:
    stack.dynamics.load(contacts=120, seed=3)
    stack.service("reader")

    await stack.start(wait=False)
    await until_messages(stack, "ingress.replay.contact", 120)

    async def counted() -> bool:
        backlog = (await stack.workflow())["backlog"]
        return (backlog["records"] or 0) >= 120 and backlog["oldest_age_s"] is not None

    async def stalled() -> bool:
        return bool((await stack.workflow())["backlog"]["verdict"] == "STALLED")

    await stack.until(counted, "the backlog shows", 10)
    await stack.until(stalled, "the backlog is called STALLED", 30)
    assert stack.campaign.rows("profile") == []

    stack.service("writer")
    await stack.until_equal()
    assert (await stack.until_caught_up())["backlog"]["verdict"] == "IDLE"


async def test_f75_f76_the_backlog_agrees_with_kafkas_own_tool_and_ends_at_0_everywhere(stack: Stack, kafka: LocalKafka) -> None:
    stack.campaign.settings.cardinality = {"cusVehicle.cusOwner": "0or1"}
    stack.dynamics.load(contacts=60, vehicles=30, seed=3)
    await run(stack, contacts(apply_deletes=True), vehicles(apply_deletes=True))
    await everything_passed(stack)
    assert await stack.processes["writer-1"].terminate() == 0
    stack.dynamics.churn(seed=5, updates=60, inserts=20, deletes=10)
    last = {"contact": stack.dynamics.upsert("contact", {"lastname": "Last"})}
    last["new_vehicle"] = stack.dynamics.upsert("new_vehicle", {"new_name": "Last"})
    await stack.until(lambda: _published(stack, last), "all changes are read")

    printed = await shown_by_kafka(stack, kafka)

    async def agrees() -> bool:
        return api_lag(stack, await stack.workflow()) == printed

    await stack.until(agrees, f"the API agrees with {printed}", 10)
    assert sum(lag for _, _, lag in printed.values()) == (await stack.workflow())["backlog"]["records"] > 0
    stack.service("writer")
    await stack.until_equal()
    await stack.until_caught_up()

    printed = await shown_by_kafka(stack, kafka)
    assert {topic.removeprefix(stack.kafka.topic_prefix) for topic, _ in printed} == {
        f"ingress.{lane}.{table}" for lane in ("changes", "replay") for table in ("contact", "new_vehicle")
    }
    assert {lag for _, _, lag in printed.values()} == {0}
    assert api_lag(stack, await stack.workflow()) == printed


async def test_f76_a_stopped_workflow_shows_what_waits(stack: Stack) -> None:
    stack.dynamics.load(contacts=50, seed=3)
    stack.service("reader")
    await stack.start(wait=False)
    await until_messages(stack, "ingress.replay.contact", 50)

    await stack.stop()

    async def told() -> bool:
        backlog = (await stack.workflow())["backlog"]
        return bool(backlog["verdict"] == "STOPPED" and backlog["records"] >= 50)

    await stack.until(told, "the backlog waits", 10)
    (group,) = (await stack.workflow())["backlog"]["groups"]
    assert group["members"] == 0
