"""Kafka or the registry absent at the start, gone in the middle, back again: services wait and lose nothing."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

from bridge.kafka.settings import KafkaSettings
from sandbox.kafka import LocalKafka
from tests.e2e.helpers import eventually
from tests.e2e.stack import Process, Stack, contacts, running, vehicles


def settings(kafka: LocalKafka) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka.bootstrap, registry_url=kafka.registry_url, partitions=3)


def waits(process: Process) -> list[str]:
    """What a service says it waits for."""
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    return [line["what"] for line in lines if line["event"] == "waiting_for"]


async def run_until_equal(stack: Stack) -> None:
    await stack.until_equal(90)
    workflow = await stack.until_caught_up(60)
    assert workflow["status"] == "RUNNING"
    assert stack.differences() == []


async def test_services_started_before_kafka_wait_for_it_and_say_so(own_kafka: LocalKafka, tmp_path: Path) -> None:
    stack_ready = False
    async with running(settings(own_kafka), tmp_path, wait_for_control=False) as stack:
        stack.dynamics.load(contacts=50, vehicles=0, seed=1)
        reader, writer = stack.service("reader"), stack.service("writer")
        await stack.until(lambda: asyncio.to_thread(lambda: waits(reader) and waits(writer)), "both services wait", 30)
        assert (await stack.http.get("/readyz")).status_code == 503
        answer = await stack.http.get("/api/v1/workflows")
        assert (answer.status_code, answer.json()["code"]) == (503, "kafka_unavailable")

        await asyncio.to_thread(own_kafka.up)
        await stack.until_status("STOPPED", 30)
        await stack.configure(contacts())
        await stack.start()
        await run_until_equal(stack)
        stack_ready = True
    assert stack_ready
    assert set(waits(reader)) == {"Kafka"}


async def test_kafka_killed_and_restarted_in_the_middle_of_a_load(own_kafka: LocalKafka, tmp_path: Path) -> None:
    await asyncio.to_thread(own_kafka.up)
    async with running(settings(own_kafka), tmp_path, DYNAMICS_PAGE_SIZE="100") as stack:
        stack.dynamics.load(contacts=1500, vehicles=300, seed=2)
        await stack.configure(contacts(apply_deletes=True), vehicles(apply_deletes=True))
        stack.service("reader")
        stack.service("writer")
        await stack.start()
        await eventually(stack, lambda: len(stack.campaign.rows("profile")) > 100, "some are written")

        own_kafka.stop("kafka", signal.SIGKILL)
        await asyncio.sleep(3)
        stack.dynamics.churn(seed=3, updates=50, inserts=10, deletes=10)

        async def not_known() -> bool:
            backlog = (await stack.workflow())["backlog"]
            return backlog["records"] is None and backlog["verdict"] == "UNKNOWN"

        await stack.until(not_known, "the backlog is unknown while Kafka is away", 5)
        own_kafka.start_kafka()
        await asyncio.to_thread(own_kafka.wait_kafka)

        await run_until_equal(stack)


async def test_the_registry_gone_at_start_and_in_the_middle(own_kafka: LocalKafka, tmp_path: Path) -> None:
    await asyncio.to_thread(own_kafka.up)
    own_kafka.stop("registry", signal.SIGKILL)
    async with running(settings(own_kafka), tmp_path) as stack:
        stack.dynamics.load(contacts=100, vehicles=20, seed=5)
        await stack.configure(contacts(), vehicles())
        stack.service("reader")
        stack.service("writer")
        await stack.start(wait=False)

        async def waiting() -> bool:
            workflow = await stack.workflow()
            reasons = [service["reason"] for service in workflow["services"] if service["reason"]]
            return workflow["status"] == "STARTING" and "registry_unavailable" in [reason["code"] for reason in reasons]

        await stack.until(waiting, "STARTING, with the registry as reason", 30)
        await asyncio.to_thread(own_kafka.start_registry)
        await stack.until_status("RUNNING", 60)
        await run_until_equal(stack)

        own_kafka.stop("registry", signal.SIGKILL)
        stack.dynamics.churn(seed=6, updates=20, inserts=5, deletes=0)
        await run_until_equal(stack)
