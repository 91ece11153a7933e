"""What `kill -9` of a writer costs, with all its calls under way; and whether a wait that Campaign asks for is kept.

Time to the next record: from the kill to the first call, answered, for a record of the partitions that the killed writer had, either by the
same instance, started again at once, or by another one that was running beside it. Calls that were on the wire do not count: they are over
within `OVER_S`. Repeats: records with more than one writing call; each has one change only. The 429 come from the stand-in's own
limit of calls a second; every call counts that arrives more than 50 ms after such an answer and before the end of the wait it asks for.
What comes sooner was on the wire: of 18 calls inside a wait on a machine at load 6 none came later than 6 ms.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.feeding import Feeder, fed, keys
from benchmarks.measure import Figure, on_own_kafka
from bridge.kafka.client import SESSION_TIMEOUT_MS
from bridge.kafka.partitioner import partition_for
from bridge.kafka.settings import KafkaSettings
from sandbox.web import Fault
from tests.e2e.helpers import eventually
from tests.e2e.stack import Process, Stack, running

AT_ONCE, LATENCY_S = 52, 0.1
KILLS, RECORDS, PARTITIONS = 2, 4_000, 6  # kills of each of both kinds
WITHIN_S = SESSION_TIMEOUT_MS / 1000 + 2
LIMIT, REFUSED = 100, 2_500  # calls a second, and records against that limit
WIRE_MS = 50.0
OVER_S = 1.0  # after a kill its calls on the wire have been answered, on a busy machine, too; a process does not start faster


def run() -> list[Figure]:
    return on_own_kafka(_measured)


async def _measured(settings: KafkaSettings, home: Path) -> list[Figure]:
    async with running(settings, home, CONTROL_START_DEADLINE_S="3600", CAMPAIGN_CONCURRENCY=str(AT_ONCE)) as stack:
        feeder = await asyncio.to_thread(Feeder, settings)
        stack.campaign.ledger.faults.append(Fault("latency", path="/profile", seconds=LATENCY_S))
        await stack.start(wait=False)
        again = [await _killed(stack, feeder, number, another=False) for number in range(KILLS)]
        other = [await _killed(stack, feeder, KILLS + number, another=True) for number in range(KILLS)]
        early = await _refused(stack, feeder)
        return [
            Figure("kill -9 to next record, started again, worst", max(took for took, _ in again), "s", ("<=", WITHIN_S)),
            Figure("kill -9 to next record, another takes over, worst", max(took for took, _ in other), "s", ("<=", WITHIN_S)),
            Figure("records repeated after a kill, worst", max(repeats for _, repeats in again + other), "", ("<=", AT_ONCE)),
            *early,
        ]


async def _killed(stack: Stack, feeder: Feeder, number: int, another: bool) -> tuple[float, int]:
    """Seconds from the kill to the next record of the partitions that were the killed writer's, and how many records were repeated."""
    people, start = keys(RECORDS, seed=number), len(_written(stack))
    writers = [stack.service("writer", f"writer-{each}") for each in ((1, 2) if another else (1,))]
    await eventually(stack, lambda: _shared_out(writers), "every writer has its partitions", 40)
    mine = _partitions(writers[0])
    await fed(feeder, people, 1)
    await eventually(stack, lambda: len(_written(stack)) >= start + RECORDS // 4, "a quarter is written", 60)
    await eventually(stack, lambda: stack.campaign.ledger.in_flight >= AT_ONCE * len(writers) * 0.9, "all calls are under way")
    writers[0].kill()
    killed_at = time.time()
    if not another:
        writers[0] = stack.service("writer", "writer-1")
    waiting = {key for key in people if partition_for(key.encode(), PARTITIONS) in mine}
    over = killed_at + OVER_S

    def next_record() -> float | None:
        return next((each["time"] for each in _written(stack)[start:] if each["time"] > over and each["key"] in waiting), None)

    took = await eventually(stack, next_record, "the next record", 60) - killed_at
    await eventually(stack, lambda: len({each["key"] for each in _written(stack)[start:]}) == RECORDS, "all are written", 120)
    await stack.until_caught_up()
    for writer in writers:
        if writer.popen.poll() is None:
            await writer.terminate()
    calls = Counter(each["key"] for each in _written(stack)[start:])
    return took, sum(made > 1 for made in calls.values())


def _written(stack: Stack) -> list[dict[str, Any]]:
    """Every writing call so far, with the time of its answer."""
    return list(stack.campaign.accounting.written)


def _shared_out(writers: Sequence[Process]) -> bool:
    """Whoever comes first has all of them for a moment: then the other one would be killed with nothing."""
    owned = [_partitions(writer) for writer in writers]
    return all(owned) and sum(map(len, owned)) == PARTITIONS


def _partitions(writer: Process) -> set[int]:
    """Those it was given last."""
    lines = (json.loads(line) for line in writer.log.read_text().splitlines() if line.startswith("{"))
    given = [line["partitions"] for line in lines if line["event"] in ("partitions_assigned", "partitions_revoked")]
    return set(given[-1]) if given else set()


async def _refused(stack: Stack, feeder: Feeder) -> list[Figure]:
    """A writer that could make five times the calls that Campaign takes."""
    before = dict(stack.campaign.counts()["statuses"])
    people, start = keys(REFUSED, seed=99), len(_written(stack))
    await fed(feeder, people, 1)
    stack.campaign.settings.change({"calls_per_second": LIMIT, "retry_after_s": 1, "early_grace_ms": WIRE_MS})
    stack.service("writer", "writer-1")
    await eventually(stack, lambda: len({each["key"] for each in _written(stack)[start:]}) == REFUSED, "all are written", 180)
    refused = stack.campaign.counts()["statuses"].get("429", 0) - before.get("429", 0)
    return [
        Figure("429 that were answered", refused, "", (">=", 5)),
        Figure("calls inside a Retry-After window", stack.campaign.gateway.early_calls, "", ("<=", 0)),
    ]
