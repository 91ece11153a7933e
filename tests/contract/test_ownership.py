"""bridge.kafka.ownership: a reader's part of the cursors, on a real broker; what goes wrong in its thread ends the run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.kafka.ownership import Ownership
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import workflow_topics
from bridge.model.errors import HaltError
from tests.contract.broker import eventually, make, producing

CURSORS = "ingress.cursors"


@pytest.fixture
def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    make(kafka_settings, *workflow_topics("ingress"))
    return kafka_settings


async def keep(settings: KafkaSettings, key: bytes, value: bytes) -> None:
    async with producing(settings) as producer:
        await producer.send(settings.topic_prefix + CURSORS, key, value, partition=0)


@asynccontextmanager
async def owning(
    settings: KafkaSettings, gained: Callable[..., None], lost: Callable[[int], Any] | None = None, instance: str = "r1"
) -> AsyncIterator[Any]:
    async def nothing(_: int) -> None: ...

    ownership = Ownership(settings, "ingress", instance, [0, 1, 2], gained, lost or nothing)
    run = asyncio.create_task(ownership.run())
    try:
        yield ownership, run
    finally:
        await ownership.close()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)


async def test_each_partition_comes_with_its_cursors(settings: KafkaSettings) -> None:
    await keep(settings, b"dynamics:contact", b'{"phase": "live"}')
    found: dict[int, Any] = {}

    async with owning(settings, lambda partition, cursors, _: found.update({partition: cursors})):
        await eventually(lambda: len(found) == 3)

    assert found == {0: {"dynamics:contact": {"phase": "live"}}, 1: {}, 2: {}}


@pytest.mark.parametrize("value", [b"no json", b"[]", b"\xff", b"5"])
async def test_a_cursor_that_a_stranger_wrote_is_named_and_nothing_is_read_again(settings: KafkaSettings, value: bytes) -> None:
    await keep(settings, b"dynamics:contact", value)

    async with owning(settings, lambda *_: None) as (_, run):
        with pytest.raises(HaltError, match="dynamics:contact") as caught:
            await asyncio.wait_for(run, 20)

    assert caught.value.code == "cursor_unreadable" and "bridge cursors delete" in caught.value.hint


async def test_a_key_that_is_no_text_disturbs_nobody(settings: KafkaSettings) -> None:
    await keep(settings, b"\xff\xfe", b"{}")
    found: list[int] = []

    async with owning(settings, lambda partition, *_: found.append(partition)) as (_, run):
        await eventually(lambda: len(found) == 3)
        assert not run.done()


@pytest.mark.parametrize("where", ["gained", "lost"])
async def test_a_fault_in_what_the_thread_calls_ends_the_run_with_it(settings: KafkaSettings, where: str) -> None:
    """Else it would say RUNNING and read nothing."""
    gained: list[int] = []

    def take(partition: int, *_: object) -> None:
        if where == "gained":
            raise LookupError("a fault of ours")
        gained.append(partition)

    async def give(_: int) -> None:
        raise LookupError("a fault of ours")

    async with owning(settings, take, give) as (ownership, run):
        if where == "lost":
            await eventually(lambda: len(gained) == 3)
            await ownership.close()
        with pytest.raises(LookupError):
            await asyncio.wait_for(run, 20)


async def test_so_does_one_while_another_instance_comes(settings: KafkaSettings) -> None:
    """Though to leave goes well then."""
    gained: list[int] = []
    faults = [LookupError("a fault of ours")]

    async def give(_: int) -> None:
        if faults:
            raise faults.pop()

    async with owning(settings, lambda partition, *_: gained.append(partition), give) as (_, run):
        await eventually(lambda: len(gained) == 3)
        async with owning(settings, lambda *_: None, instance="r2"):
            with pytest.raises(LookupError):
                await asyncio.wait_for(run, 30)
