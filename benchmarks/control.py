"""How fast control answers while the pipeline is busy, and what two hundred listeners cost it."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import httpx

from benchmarks.measure import Figure, cpu_s, on_own_kafka, percentile
from bridge.kafka.settings import KafkaSettings
from tests.e2e.stack import Stack, contacts, running, vehicles

CONTACTS, VEHICLES = 20_000, 2_000
LEAST, MORE = 5_000, 10_000  # with fewer waiting records more are made
REQUESTS, LISTENERS, WATCHED_S = 500, 200, 20.0


def run() -> list[Figure]:
    return on_own_kafka(_measured)


async def _measured(settings: KafkaSettings, home: Path) -> list[Figure]:
    async with running(settings, home) as stack:
        stack.dynamics.load(contacts=CONTACTS, vehicles=VEHICLES, seed=1)
        await stack.configure(contacts(), vehicles())
        stack.service("reader")
        stack.service("writer")
        await stack.start()
        figures = await _answers(stack)
        await stack.until_equal(600)
        await stack.until_caught_up()
        return figures + await _listeners(stack)


async def _answers(stack: Stack) -> list[Figure]:
    """While records wait all the time. `/healthz` is what the web server itself takes on the same busy machine."""
    alone: list[float] = []
    workflows: list[float] = []
    backlogs: list[int] = []
    await stack.until(lambda: _waiting(stack), "records wait")
    for number in range(REQUESTS):
        for path, times in (("/healthz", alone), ("/api/v1/workflows", workflows)):
            began = time.perf_counter()
            answer = await stack.http.get(path)
            times.append((time.perf_counter() - began) * 1000)
        backlogs.append(answer.json()["workflows"][0]["backlog"]["records"] or 0)
        if backlogs[-1] < LEAST and number % 25 == 0:
            stack.dynamics.load(contacts=MORE, seed=2 + number)
        await asyncio.sleep(0.01)
    return [
        Figure("records waiting meanwhile, least", min(backlogs), "", (">=", 1)),
        Figure("records waiting meanwhile, median", percentile(backlogs, 0.5), ""),
        Figure("GET /workflows, p50", percentile(workflows, 0.5), "ms"),
        Figure("GET /workflows, p99", percentile(workflows, 0.99), "ms", ("<=", 50)),
        Figure("GET /workflows ÷ GET /healthz, p99", percentile(workflows, 0.99) / percentile(alone, 0.99), "×"),
    ]


async def _waiting(stack: Stack) -> bool:
    return ((await stack.workflow())["backlog"]["records"] or 0) >= LEAST


async def _listeners(stack: Stack) -> list[Figure]:
    """Records keep changing meanwhile, so that there is something to tell every second."""
    pid = stack.processes["control-1"].popen.pid
    churning = asyncio.create_task(_churn(stack))
    without = await _watched(pid)
    limits = httpx.Limits(max_connections=LISTENERS)
    async with httpx.AsyncClient(base_url=stack.http.base_url, limits=limits, timeout=None, trust_env=False) as http:
        heard = [0] * LISTENERS
        tasks = [asyncio.create_task(_listen(http, heard, number)) for number in range(LISTENERS)]
        while not all(heard):
            await asyncio.sleep(0.1)
        before = sum(heard)
        with_all = await _watched(pid)
        events = (sum(heard) - before) / LISTENERS / WATCHED_S
        for task in [*tasks, churning]:
            task.cancel()
        await asyncio.gather(*tasks, churning, return_exceptions=True)
    return [
        Figure("events heard by each listener", events, "/s"),
        Figure("control's CPU without listeners", without * 100, "% of a core"),
        Figure("what 200 listeners add", (with_all - without) * 100, "% of a core", ("<=", 5)),
    ]


async def _watched(pid: int) -> float:
    """The part of a core the process takes."""
    before = cpu_s(pid)
    await asyncio.sleep(WATCHED_S)
    return (cpu_s(pid) - before) / WATCHED_S


async def _listen(http: httpx.AsyncClient, heard: list[int], number: int) -> None:
    with suppress(httpx.HTTPError):
        async with http.stream("GET", "/api/v1/events") as answer:
            async for chunk in answer.aiter_bytes():
                heard[number] += chunk.count(b"event: workflow")


async def _churn(stack: Stack) -> None:
    seed = 0
    while True:
        seed += 1
        stack.dynamics.churn(seed=seed, updates=5)
        await asyncio.sleep(0.5)
