"""A writer with a million known records: what it holds in memory, how fast it builds its local copy, and whether it grows under load.

The million goes into `ingress.state` by the product's own encoder, eleven fields each, as after a first load with the default mapping. The
writer starts without its state directory. Rebuild: from the assignment of its partitions to the moment it has them all, by its own log.
Then changes of known records come at a steady rate, 250 a second, and every call is answered at once. Growth: memory at the end of the
load ÷ memory after its first tenth, when caches and pools are filled. The load lasts three minutes, or BENCH_LOAD_S seconds (3600: the
hour); the figure's name says how long.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.feeding import Feeder, fed, keys, known, row
from benchmarks.measure import Figure, memory_mb, on_own_kafka
from benchmarks.standins import Target, target
from bridge.kafka.settings import KafkaSettings
from bridge.model.state import Digests, Known
from tests.e2e.stack import Process, running

KNOWN, RATE = 1_000_000, 250
LOAD_S = float(os.environ.get("BENCH_LOAD_S", "180"))
DIGESTS = Digests("sandbox@AdobeOrg|sandbox-campaign")  # as bridge.campaign.settings.CampaignSettings makes its secret
PARTITIONS, EVERY_S = 6, 2.0


def run() -> list[Figure]:
    return on_own_kafka(_measured)


async def _measured(settings: KafkaSettings, home: Path) -> list[Figure]:
    async with target(home) as campaign, running(settings, home, CONTROL_START_DEADLINE_S="3600", **campaign.environment) as stack:
        feeder, people = await asyncio.to_thread(Feeder, settings), keys(KNOWN)
        await asyncio.to_thread(feeder.states, _states(people))
        await campaign.answers("PATCH", 200)
        await stack.start(wait=False)
        began = time.monotonic()
        writer = stack.service("writer")
        rebuilt = await stack.until(lambda: _rebuilt(writer), "all parts are there", 300)
        ready = time.monotonic() - began
        holds = memory_mb(writer.popen.pid)
        first, last = await _under_load(feeder, people, writer, campaign)
        return [
            Figure("state rebuilt", KNOWN / rebuilt, "records/s", (">=", 50_000)),
            Figure("start of the process to all parts", ready, "s"),
            Figure(f"memory with {KNOWN:,} known records", holds, "MB", ("<=", 200)),
            Figure("the most so far, rebuild and load included", memory_mb(writer.popen.pid, "VmHWM"), "MB"),
            Figure("memory at the end of the load", last, "MB", ("<=", 200)),
            Figure(f"growth over {LOAD_S / 60:g} min of load", (last / first - 1) * 100, "%", ("<=", 5)),
        ]


def _states(people: list[str]) -> Iterator[tuple[str, Known]]:
    """A thousand different contacts, over and over."""
    states = [known("", 1, row(number), DIGESTS) for number in range(1000)]
    return ((key, states[number % 1000]) for number, key in enumerate(people))


async def _rebuilt(writer: Process) -> float | None:
    """Seconds from the assignment to the last part, once all are there; what was done on the way to it is the writer's own log."""
    lines = [json.loads(line) for line in writer.log.read_text().splitlines() if line.startswith("{")]
    loaded = [line for line in lines if line["event"] == "state_loaded"]
    if len(loaded) < PARTITIONS:
        return None
    assert sum(line["records"] for line in loaded) == KNOWN, loaded
    assigned = next(line for line in lines if line["event"] == "partitions_assigned")
    return (_at(loaded[-1]) - _at(assigned)).total_seconds()


def _at(line: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(line["timestamp"])


async def _under_load(feeder: Feeder, people: list[str], writer: Process, campaign: Target) -> tuple[float, float]:
    """Megabytes after a tenth of the time and at its end."""
    rng, began, first = random.Random(7), time.monotonic(), 0.0
    version = 1
    while (passed := time.monotonic() - began) < LOAD_S:
        version += 1
        await fed(feeder, rng.sample(people, int(RATE * EVERY_S)), version)
        if not first and passed >= LOAD_S / 10:
            first = memory_mb(writer.popen.pid)
        await asyncio.sleep(max(0.0, began + EVERY_S * (version - 1) - time.monotonic()))
    last = memory_mb(writer.popen.pid)
    made = await campaign.requests("PATCH")
    assert made >= 0.9 * RATE * LOAD_S, f"only {made} calls: this was not the load it should have been"
    return first, last
