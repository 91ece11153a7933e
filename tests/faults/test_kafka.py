"""What happens to Kafka itself, on one of the test's own: stopped, killed, cut off from the services."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from bridge.kafka.settings import KafkaSettings
from sandbox.kafka import LocalKafka
from sandbox.kafka.local import free_port
from tests.faults.conftest import Begun
from tests.faults.proxy import proxying
from tests.faults.world import IN_FLIGHT
from tests.faults.worlds import WORLDS


def settings(kafka: LocalKafka, bootstrap: str = "") -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=bootstrap or kafka.bootstrap, registry_url=kafka.registry_url, partitions=3)


async def restarted(kafka: LocalKafka) -> None:
    await asyncio.to_thread(kafka.start_kafka)
    await asyncio.to_thread(kafka.wait_kafka)


def forget_page_cache() -> None:
    """The broker finds nothing in memory when it comes back (needs root; else what is cached stays so)."""
    os.sync()
    cache = Path("/proc/sys/vm/drop_caches")
    if os.access(cache, os.W_OK):
        cache.write_text("3")


@pytest.mark.takes(90)
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seconds", [3, 60])
@pytest.mark.parametrize("workflow", WORLDS)
async def test_stopped_for_a_while(begun: Begun, own_kafka: LocalKafka, workflow: str, seconds: int) -> None:
    await asyncio.to_thread(own_kafka.up)
    world = await begun(workflow, settings(own_kafka))
    async with world.pouring():
        await world.at_work()
        await asyncio.to_thread(own_kafka.stop, "kafka")
        world.may_repeat += IN_FLIGHT
        await asyncio.sleep(seconds)
        await restarted(own_kafka)
        await world.at_work(90)
    await world.settled()


@pytest.mark.takes(110)
@pytest.mark.timeout(400)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_killed_and_back_with_nothing_in_memory(begun: Begun, own_kafka: LocalKafka, workflow: str) -> None:
    await asyncio.to_thread(own_kafka.up)
    world = await begun(workflow, settings(own_kafka))
    async with world.pouring():
        for _ in range(3):
            await world.at_work(90)
            await world.a_while(2)
            await asyncio.to_thread(own_kafka.stop, "kafka", signal.SIGKILL)
            world.may_repeat += IN_FLIGHT
            await asyncio.to_thread(forget_page_cache)
            await restarted(own_kafka)
        await world.at_work(90)
    await world.settled()


@pytest.mark.takes(100)
@pytest.mark.timeout(400)
@pytest.mark.parametrize("how", ["reset", "cut", "silent"])
@pytest.mark.parametrize("workflow", WORLDS)
async def test_cut_off_from_the_services(begun: Begun, tmp_path: Path, workflow: str, how: str) -> None:
    """For longer than the session timeout, but for a reset; control is cut off with them."""
    port, through = free_port(), free_port()
    kafka = LocalKafka(tmp_path / "kafka", port, free_port(), properties=f"advertised.listeners=PLAINTEXT://127.0.0.1:{through}\n")
    async with proxying("127.0.0.1", port, through) as (proxy, _):
        try:
            await asyncio.to_thread(kafka.up)
            world = await begun(workflow, settings(kafka, f"127.0.0.1:{through}"))
            async with world.pouring():
                await world.at_work()
                world.may_repeat += IN_FLIGHT
                if how == "reset":
                    for _ in range(5):
                        proxy.reset()
                        world.may_repeat += IN_FLIGHT
                        await world.a_while(2)
                else:
                    proxy.cut() if how == "cut" else proxy.silence("down")
                    await asyncio.sleep(14)
                    proxy.heal()
                await world.at_work(90)
            await world.settled()
        finally:
            proxy.heal()
            await asyncio.to_thread(kafka.down)
