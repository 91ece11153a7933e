"""How long one change takes, through an idle system and beside a replay, and how soon after Start the first record is written.

*Beyond the poll*: from the arrival of the first poll after the change, at Dynamics' stand-in, to the arrival of the call at Campaign's;
what comes before it is the wait for the poll, which the interval decides. *Kafka to call*: from before the record is handed to Kafka to the
arrival of its call. *Beside a replay*: from the change to the call, the wait for the poll included, since a replay holds up polls as well;
Dynamics' stand-in is a process of its own there, so that its large pages hold up nothing else. The poll interval is 0.5 s, a tenth of the
default: a longer one would flatter the ratio. Replays follow each other, so that one is always under way.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from benchmarks.feeding import Feeder, fed, keys
from benchmarks.measure import Arrivals, Figure, arrivals, on_own_kafka, percentile
from benchmarks.standins import Source, source
from bridge.kafka.settings import KafkaSettings
from tests.e2e.helpers import eventually
from tests.e2e.stack import Stack, contacts, running

SAMPLES, STARTS = 100, 5
BESIDE, ROWS = 40, 30_000
NAMES = contacts(fields={"lastname": "lastName"})


def run() -> list[Figure]:
    return on_own_kafka(_measured)


async def _measured(settings: KafkaSettings, home: Path) -> list[Figure]:
    beside = settings.model_copy(update={"topic_prefix": "beside."})
    return [*await _idle(settings, home), *await _beside_replay(beside, home)]


async def _idle(settings: KafkaSettings, home: Path) -> list[Figure]:
    async with running(settings, home) as stack:
        polls = arrivals(stack.dynamics.ledger, "deltatoken")
        calls = arrivals(stack.campaign.ledger, "/profile/", "PATCH")
        people = [stack.dynamics.upsert("contact", {"lastname": "Lovelace"}) for _ in range(50)]
        await stack.configure(NAMES)
        stack.service("reader")
        stack.service("writer")
        await stack.start()
        await eventually(stack, lambda: len(stack.campaign.rows("profile")) == len(people), "all are there")
        beyond = await _changes(stack, people, polls, calls)
        from_kafka = await _from_kafka(stack, settings, calls)
        starts = [await _start(stack, people[number], calls) for number in range(STARTS)]
    return [
        Figure("one change, beyond the poll, p50", percentile(beyond, 0.5), "ms", ("<=", 100)),
        Figure("one change, beyond the poll, p99", percentile(beyond, 0.99), "ms", ("<=", 250)),
        Figure("Kafka to call, idle, p50", percentile(from_kafka, 0.5), "ms", ("<=", 8)),
        Figure("Kafka to call, idle, p99", percentile(from_kafka, 0.99), "ms"),
        Figure(f"Start to first write, worst of {STARTS}", max(starts) / 1000, "s", ("<=", 3)),
    ]


async def _changes(stack: Stack, people: list[str], polls: Arrivals, calls: Arrivals) -> list[float]:
    """Milliseconds from the poll that sees a change to its call, each."""
    took = []
    for number in range(SAMPLES):
        await asyncio.sleep(random.uniform(0.1, 0.6))  # at any moment between two polls
        key, began = people[number % len(people)], time.monotonic()
        stack.dynamics.upsert("contact", {"contactid": key, "lastname": f"Byron {number}"})
        call = await _call(calls, began, key)
        poll = polls.first(began)
        assert poll is not None
        took.append((call - poll.at) * 1000)
    return took


async def _from_kafka(stack: Stack, settings: KafkaSettings, calls: Arrivals) -> list[float]:
    """Milliseconds from Kafka to the call, of contacts that only Kafka knows."""
    feeder, people, took = await asyncio.to_thread(Feeder, settings), keys(20), []
    await fed(feeder, people, 1)
    await stack.until_caught_up()
    for number in range(SAMPLES):
        await asyncio.sleep(random.uniform(0.1, 0.3))
        key, began = people[number % len(people)], time.monotonic()
        await fed(feeder, [key], number + 2)
        took.append((await _call(calls, began, key) - began) * 1000)
    return took


async def _start(stack: Stack, key: str, calls: Arrivals) -> float:
    """Milliseconds from the answer to Start to the call for a change that was made while everything stood still."""
    await stack.stop()
    stack.dynamics.upsert("contact", {"contactid": key, "lastname": "Babbage"})
    await stack.start(wait=False)
    began = time.monotonic()
    return (await _call(calls, began, key) - began) * 1000


async def _call(calls: Arrivals, after: float, key: str) -> float:
    """When the call about `key` came; looked for seldom enough to take no time from those who make it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if (found := calls.first(after, key)) is not None:
            return found.at
        await asyncio.sleep(0.02)
    raise AssertionError(f"no call for {key}")


async def _beside_replay(settings: KafkaSettings, home: Path) -> list[Figure]:
    async with source(home) as dynamics, running(settings, home, **dynamics.environment) as stack:
        calls = arrivals(stack.campaign.ledger, "/profile/", "PATCH")
        await dynamics.admin("POST", "load", {"contacts": ROWS})
        people = [row["contactid"] for row in (await dynamics.admin("GET", "tables/contact/rows"))["rows"][: 2 * BESIDE]]
        await stack.configure(NAMES)
        stack.service("reader")
        stack.service("writer")
        await stack.start()
        await eventually(stack, lambda: len(stack.campaign.database.tables["profile"].rows) == ROWS, "all are there", 300)
        await stack.until_caught_up(60)
        idle = await _through(dynamics, people[:BESIDE], calls)
        replaying = asyncio.create_task(_replays(stack))
        await stack.until(lambda: _backlog(stack), "the replay waits in Kafka", 60)
        busy = await _through(dynamics, people[BESIDE:], calls)
        under_way = await _backlog(stack)
        replaying.cancel()
        await asyncio.gather(replaying, return_exceptions=True)
    return [
        Figure("change to call, poll included, idle, p50", percentile(idle, 0.5), "ms"),
        Figure("the same beside a replay, p50", percentile(busy, 0.5), "ms"),
        Figure("the same beside a replay ÷ idle", percentile(busy, 0.5) / percentile(idle, 0.5), "×", ("<=", 1.5)),
        Figure("the replay's records that still wait then", under_way, "", (">=", 1)),
    ]


async def _backlog(stack: Stack) -> int:
    return (await stack.workflow())["backlog"]["records"] or 0


async def _replays(stack: Stack) -> None:
    """One after the other; while one is under way the next is refused or takes its place, and so the lane stays full."""
    while True:
        if await _backlog(stack) < ROWS // 4:
            answer = await stack.http.post("/api/v1/workflows/ingress/tables/contact/replay", json={"when": "now"})
            assert answer.status_code in (202, 409), answer.text
        await asyncio.sleep(0.5)


async def _through(dynamics: Source, people: list[str], calls: Arrivals) -> list[float]:
    """Milliseconds from a change to its call, each."""
    took = []
    for number, key in enumerate(people):
        await asyncio.sleep(random.uniform(0.5, 1.0))
        began = time.monotonic()
        await dynamics.upsert(key, lastname=f"Byron {number}")
        took.append((await _call(calls, began, key) - began) * 1000)
    return took
