"""How well the writer fills the calls it may have under way, and what a record costs in CPU.

The stand-in runs in a process of its own; what it takes by itself is told first: it has to be well above what the writer asks of it.
Calls/s ÷ (in flight ÷ latency): 1 would be a writer and a network that take no time at all. All records are distinct inserts: a record is a
call.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from benchmarks.feeding import Feeder, fed, keys
from benchmarks.measure import Figure, cpu_s, on_own_kafka
from benchmarks.standins import Target, target
from bridge.kafka.settings import KafkaSettings
from tests.e2e.stack import Stack, running

LATENCY_S, WINDOW_S, WARM = 0.1, 15.0, 300
RATED, MORE, FEW = 52, 64, 16  # calls at once
RECORDS = 10_000


def run() -> list[Figure]:
    return on_own_kafka(_measured)


async def _measured(settings: KafkaSettings, home: Path) -> list[Figure]:
    async with target(home) as campaign, running(settings, home, CONTROL_START_DEADLINE_S="3600", **campaign.environment) as stack:
        alone = await campaign.alone(MORE)
        await campaign.takes(LATENCY_S)
        feeder = await asyncio.to_thread(Feeder, settings)
        await stack.start(wait=False)
        in_all = await _in_all(stack, campaign)
        rated, _ = await _rate_and_cost(stack, campaign, feeder, RATED)
        _, many = await _rate_and_cost(stack, campaign, feeder, MORE)
        _, few = await _rate_and_cost(stack, campaign, feeder, FEW)
        possible = RATED / LATENCY_S
        return [
            Figure("what the stand-in takes by itself", alone, "calls/s", (">=", 1.5 * possible)),
            Figure("calls/s, 52 in flight, 100 ms", rated, "/s"),
            Figure("the same ÷ (in flight ÷ latency)", rated / possible, "", (">=", 0.95)),
            Figure("CPU per call, 64 in flight", many * 1000, "ms"),
            Figure("the same ÷ with 16 in flight", many / few, "", ("<=", 1.3)),
            *in_all,
        ]


async def _rate_and_cost(stack: Stack, campaign: Target, feeder: Feeder, at_once: int) -> tuple[float, float]:
    """Calls a second and CPU seconds per call of a writer that always has something to do."""
    people = keys(int(at_once / LATENCY_S * (WINDOW_S + 4)) + WARM, seed=at_once)
    await fed(feeder, people, at_once)
    before = await campaign.written()
    writer = stack.service("writer", CAMPAIGN_CONCURRENCY=str(at_once))
    await _until_written(stack, campaign, before + WARM)
    pid, calls, cpu, began = writer.popen.pid, await campaign.written(), cpu_s(writer.popen.pid), time.monotonic()
    await asyncio.sleep(WINDOW_S)
    done, used, took = await campaign.written() - calls, cpu_s(pid) - cpu, time.monotonic() - began
    await _until_written(stack, campaign, before + len(people))
    await writer.terminate()
    return done / took, used / done


async def _in_all(stack: Stack, campaign: Target) -> list[Figure]:
    """The first load of a table, from the start of both processes to the last call."""
    before = await campaign.written()
    stack.dynamics.load(contacts=RECORDS, seed=5)
    writer, reader = stack.service("writer", CAMPAIGN_CONCURRENCY=str(RATED)), stack.service("reader")
    await _until_written(stack, campaign, before + RECORDS)
    wrote, read = cpu_s(writer.popen.pid), cpu_s(reader.popen.pid)
    for each in (writer, reader):
        await each.terminate()
    return [
        Figure("CPU per 1,000 records, writer, its start included", wrote * 1000 / RECORDS, "s", ("<=", 1.2)),
        Figure("the same, reader and writer", (wrote + read) * 1000 / RECORDS, "s"),
    ]


async def _until_written(stack: Stack, campaign: Target, number: int) -> None:
    async def written() -> bool:
        return await campaign.written() >= number

    await stack.until(written, f"{number} calls", 300)
