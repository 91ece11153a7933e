"""What the ingress reader takes for a row, and how many requests it makes: a delta of many pages of 5,000 rows, and the first load before.

CPU seconds are the reader process's own, user and system, so the stand-in that renders the pages (in this process, over HTTP) may take what
it likes. Requests of the delta: every one for the table from the poll that finds the changes to the first one that finds nothing more.
"""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

from benchmarks.measure import Arrivals, Figure, arrivals, cpu_s, on_own_kafka
from bridge.kafka.settings import KafkaSettings
from bridge.model.config import CONTACT_FIELDS
from tests.e2e.stack import Stack, contacts, running

ROWS, PAGE = 102_000, 5_000
SET, POLL = r"/contacts\?", "deltatoken"


def run() -> list[Figure]:
    return on_own_kafka(_measured)


async def _measured(settings: KafkaSettings, home: Path) -> list[Figure]:
    """The writer is not there: what it takes is not the reader's."""
    async with running(settings, home, CONTROL_START_DEADLINE_S="3600", DYNAMICS_POLL_INTERVAL_S="2") as stack:
        await stack.configure(contacts(fields=CONTACT_FIELDS))
        requests = arrivals(stack.dynamics.ledger, SET)
        pid = stack.service("reader").popen.pid
        stack.dynamics.load(contacts=ROWS, seed=1)
        await asyncio.sleep(3)
        idle = cpu_s(pid)
        await stack.start(wait=False)
        await _polls(stack, requests, 1)
        first = cpu_s(pid) - idle
        await asyncio.sleep(3)
        requests.seen.clear()
        idle = cpu_s(pid)
        stack.dynamics.load(contacts=ROWS, seed=2)
        await _polls(stack, requests, 2)
        delta = cpu_s(pid) - idle
        made = _up_to_poll(requests, 2)
        await stack.until(lambda: _read(stack), "all rows are in Kafka", 30)
        return [
            Figure("rows per CPU second, delta of 5,000-row pages", ROWS / delta, "/s", (">=", 20_000)),
            Figure("rows per CPU second, first load, compared afterwards", ROWS / first, "/s"),
            Figure("requests for the delta's changes", made, "", ("<=", math.ceil(ROWS / PAGE) + 1)),
        ]


async def _polls(stack: Stack, requests: Arrivals, number: int) -> None:
    """Until so many polls have come: each but the first shows that the pages before it are published."""

    async def come() -> bool:
        return sum(POLL in each.path for each in requests.seen) >= number

    await stack.until(come, f"poll {number}", 180)


def _up_to_poll(requests: Arrivals, number: int) -> int:
    places = [place for place, each in enumerate(requests.seen) if POLL in each.path]
    return places[number - 1] + 1


async def _read(stack: Stack) -> bool:
    return bool((await stack.workflow())["counters"]["read"] == 2 * ROWS)
