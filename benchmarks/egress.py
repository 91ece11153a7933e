"""How many calls email events cost on their way to the timeline, and how much of what Dynamics' limits allow is used."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from benchmarks.measure import Figure, on_own_kafka
from bridge.kafka.settings import KafkaSettings
from tests.e2e.stack import Stack, running

EVENTS, BATCH = 40_000, 100
LIMITED, REQUESTS, WINDOW_S = 24_000, 50, 10.0  # fifty requests in ten seconds: 500 events/s in batches of 100
KINDS = {"events": dict.fromkeys(("send", "open", "click", "bounce"), True)}


def run() -> list[Figure]:
    return on_own_kafka(_measured)


async def _measured(settings: KafkaSettings, home: Path) -> list[Figure]:
    async with running(settings, home, workflow="egress") as stack:
        stack.campaign.settings.change({"journal_retry_after_s": 0.2, "journal_page": 1000})
        stack.dynamics.settings.change({"retry_after_growth_s": 0.0})
        people = [stack.dynamics.upsert("contact", {"lastname": "Lovelace"}) for _ in range(500)]
        await stack.save(KINDS)
        stack.service("reader")
        await stack.start(wait=False)
        await _journal(stack, people, EVENTS)
        before = _requests(stack)
        stack.service("writer")
        return [*await _calls(stack, before), *await _limited(stack, people)]


async def _journal(stack: Stack, people: list[str], events: int) -> None:
    """So many sends, all of them in Kafka."""
    before = await _waiting(stack)
    stack.campaign.emit([{"kind": "send", "external_id": people[number % len(people)]} for number in range(events)])

    async def read() -> bool:
        return await _waiting(stack) >= before + events

    await stack.until(read, "all events are in Kafka", 120)


async def _waiting(stack: Stack) -> int:
    return int((await stack.workflow())["counters"]["read"])


def _requests(stack: Stack) -> int:
    return int(stack.dynamics.ledger.summary()["total"])


async def _calls(stack: Stack, before: int) -> list[Figure]:
    """All calls of the writer count: its token and the metadata it asks for at its start, too."""
    await _until_written(stack, EVENTS)
    calls, batches = _requests(stack) - before, stack.dynamics.ledger.requests["POST $batch"]
    return [
        Figure("calls per 1,000 waiting events", calls * 1000 / EVENTS, "", ("<=", 1.1 * 1000 / BATCH)),
        Figure("of them batches", batches * 1000 / EVENTS, ""),
    ]


async def _limited(stack: Stack, people: list[str]) -> list[Figure]:
    """Events wait in Kafka while the writer is stopped; then it has to live with the limit."""
    await stack.processes["writer-1"].terminate()
    await _journal(stack, people, LIMITED)
    await asyncio.sleep(WINDOW_S)
    stack.service("writer")
    stack.dynamics.settings.change({"throttle": True, "limit_requests": REQUESTS, "window_s": WINDOW_S})
    await _until_written(stack, EVENTS + LIMITED // 6)
    began, first = time.monotonic(), stack.dynamics.activities()["adobe_emailsend"]
    await _until_written(stack, EVENTS + LIMITED)
    rate = (EVENTS + LIMITED - first) / (time.monotonic() - began)
    allowed = REQUESTS / WINDOW_S * BATCH
    return [
        Figure("events/s", rate, "/s"),
        Figure("events/s ÷ what the limiter allows", rate / allowed, "", (">=", 0.9)),
        Figure("refusals", stack.dynamics.ledger.statuses[429], "", (">=", 1)),
        Figure("calls inside Retry-After windows", stack.dynamics.limits.came_early, "", ("<=", 0)),
    ]


async def _until_written(stack: Stack, number: int) -> None:
    async def there() -> bool:
        return stack.dynamics.activities()["adobe_emailsend"] >= number

    await stack.until(there, f"{number} activities", 300)
