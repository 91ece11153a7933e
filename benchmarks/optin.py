"""How long an opt-out takes, alone and beside a large replay of ingress; how fast observations are resolved; whether every crash is
recovered from. With 20,000 rows and four crashes; with BENCH_FULL=1 it takes 100,000 and twenty, and a quarter of an hour.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

from benchmarks.measure import Figure, on_own_kafka, percentile
from bridge.kafka.settings import KafkaSettings
from tests.e2e.consent import config, consenting, in_campaign
from tests.e2e.stack import Stack, contacts

ROWS, SAMPLES, ROUNDS = (100_000, 60, 20) if os.environ.get("BENCH_FULL") else (20_000, 30, 4)
CONFIG = config()


def run() -> list[Figure]:
    return on_own_kafka(_measured)


async def _measured(settings: KafkaSettings, home: Path) -> list[Figure]:
    async with consenting(settings, home, start=("reader",), CONTROL_START_DEADLINE_S="3600") as stack:
        stack.dynamics.load(contacts=ROWS, seed=1)
        await stack.save(CONFIG)
        await stack.start(wait=False)
        resolved = await _resolved(stack)
        stack.id = "ingress"
        for role in ("reader", "writer"):
            stack.service(role, f"ingress-{role}")
        await stack.configure(contacts(fields={"lastname": "lastName"}))
        await stack.start()
        await _until_written(stack, ROWS)
        stack.id = "optin"
        stack.service("writer", STATE_DIR=str(home / "state"))
        await stack.until_status("RUNNING")
        await stack.until_caught_up(600)
        people = [row["contactid"] for row in stack.dynamics.rows("contact") if not row["donotemail"]]
        idle = await _opt_outs(stack, people[:SAMPLES])
        replaying = asyncio.create_task(_replays(stack))
        busy = await _opt_outs(stack, people[SAMPLES : 2 * SAMPLES])
        replaying.cancel()
        ratio = percentile(busy, 0.99) / percentile(idle, 0.99)
        return [
            Figure("observations resolved", resolved, "/s"),
            Figure("opt-out, idle, p50", percentile(idle, 0.5) * 1000, "ms"),
            Figure("opt-out, idle, p99", percentile(idle, 0.99) * 1000, "ms"),
            Figure("opt-out beside a replay, p99", percentile(busy, 0.99) * 1000, "ms"),
            Figure("the same ÷ idle", ratio, "", ("<=", 2)),
            *await _crashes(stack, people[2 * SAMPLES :]),
        ]


async def _resolved(stack: Stack) -> float:
    """Observations a second, of a first load that waits."""

    async def read() -> bool:
        return bool((await stack.workflow())["counters"]["read"] >= ROWS)

    await stack.until(read, "all contacts are observed", 300)
    stack.service("resolver", STATE_DIR=str(stack.folder / "state"))
    began: float | None = None

    async def done() -> bool:
        nonlocal began
        groups = (await stack.workflow())["backlog"]["groups"]
        lag = next(sum(topic["lag"] for topic in group["topics"]) for group in groups if group["group"] == "optin-resolver")
        began = time.monotonic() if began is None and lag < ROWS else began
        return bool(lag == 0)

    await stack.until(done, "everything is resolved", 600)
    return ROWS / (time.monotonic() - (began or 0))


async def _until_written(stack: Stack, number: int) -> None:
    async def written() -> bool:
        return len(stack.campaign.database.tables["profile"].rows) >= number

    await stack.until(written, f"{number} profiles", 1500)


async def _opt_outs(stack: Stack, people: list[str]) -> list[float]:
    """Seconds from a tick in Dynamics to the flag in Campaign, each."""
    took = []
    for each in people:
        stack.dynamics.upsert("contact", {"contactid": each, "donotemail": True})
        began = time.monotonic()
        while not _said_no(stack, each):
            await asyncio.sleep(0.005)
        took.append(time.monotonic() - began)
        await asyncio.sleep(random.random() * 0.5)
    return took


def _said_no(stack: Stack, key: str) -> bool:
    row = stack.campaign.get("profile", key)
    return row is not None and bool(row["blackListEmail"])


async def _replays(stack: Stack) -> None:
    """One replay of all rows after the other."""
    while True:
        await stack.http.post("/api/v1/workflows/ingress/tables/contact/replay", json={"when": "now"})
        await asyncio.sleep(1)


async def _crashes(stack: Stack, people: list[str]) -> list[Figure]:
    """kill -9 of the resolver while observations come: seconds until everything has been told."""
    took = []
    for number in range(ROUNDS):
        some = people[number * 20 : number * 20 + 20]
        for each in some:
            stack.dynamics.upsert("contact", {"contactid": each, "donotemail": True})
        await asyncio.sleep(random.random())
        stack.processes["resolver-1"].kill()
        began = time.monotonic()
        stack.service("resolver", STATE_DIR=str(stack.folder / "state"))

        async def told(some: list[str] = some) -> bool:
            return all(in_campaign(stack, each) for each in some)

        await stack.until(told, f"round {number}: everybody's no is in Campaign", 120)
        await stack.until_caught_up(60)
        took.append(time.monotonic() - began)
    return [
        Figure(f"crashes of the resolver recovered from, of {ROUNDS}", len(took), "", (">=", ROUNDS)),
        Figure("until lag 0 after a crash, worst", max(took), "s"),
    ]
