"""kill -9 of the egress reader and writer at random moments, while they are at work: no activity missing, none twice.

The moments are the same each time; `BRIDGE_SEED=<number>` chooses others.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

from bridge.settings import KafkaSettings
from tests.e2e.stack import Stack, running

ROUNDS, MAILS = 20, 120
REDELIVERED = (4, 11)  # rounds in which everything so far comes again
LONGEST_S = 0.6  # about as long as what came with a round takes
SEED = int(os.environ.get("BRIDGE_SEED", "20260301"))
KINDS = {"events": dict.fromkeys(("send", "open", "click", "bounce"), True)}
TABLES = {"Sent": "adobe_emailsend", "Opened": "adobe_emailopen", "Clicked": "adobe_emailurlclick", "Bounced": "adobe_emailbounce"}
CAMPAIGN = "https://ns.adobe.com/experience/campaign/"


def written(stack: Stack) -> Counter[tuple[str, str]]:
    """Activities by contact and table."""
    return Counter((row["regardingobjectid"], table) for table in TABLES.values() for row in stack.dynamics.rows(table))


def pages(stack: Stack) -> int:
    """Pages of the journal asked for so far."""
    return sum(number for name, number in stack.campaign.ledger.requests.items() if name.startswith("GET"))


def wanted(stack: Stack) -> Counter[tuple[str, str]]:
    """The same, by what the journal holds: each occurrence once, however often it was delivered."""
    occurrences = set()
    for entry in stack.campaign.journal():
        event, data = entry["event"], entry["event"]["data"]
        table = TABLES.get(event["type"].removeprefix("directMarketing.email"))
        real = not any(value for name, value in data[f"{CAMPAIGN}message"].items() if name.endswith("Member"))
        if table and real:
            occurrences.add((data["acs"]["externalId"], table, data["acs"]["trackingLogId"] or data["acs"]["broadLogId"]))
    return Counter((contact, table) for contact, table, _ in occurrences)


async def kill_at_work(stack: Stack, role: str, rng: random.Random) -> None:
    """Some time after both have begun (again): a page was read, something was written, and plenty is left to do."""
    before, asked = written(stack).total(), pages(stack)

    async def at_work() -> bool:
        return written(stack).total() > before and pages(stack) > asked

    await stack.until(at_work, "they are at work again")
    await asyncio.sleep(rng.random() * LONGEST_S)
    stack.processes[f"{role}-1"].kill()
    stack.service(role)


async def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    print(f"BRIDGE_SEED={SEED}")
    rng = random.Random(SEED)
    async with running(
        kafka_settings, tmp_path, workflow="egress", DYNAMICS_BATCH_MAX="20", DYNAMICS_CONCURRENCY="2", CAMPAIGN_JOURNAL_PAGE_SIZE="20"
    ) as stack:
        people = [stack.dynamics.upsert("contact", {"lastname": "Lovelace"}) for _ in range(30)]
        stack.dynamics.settings.change({"click_follow_up": False, "bounce_follow_up": False, "operation_cost_ms": 5.0})
        stack.campaign.settings.change({"journal_retry_after_s": 0.1, "journal_duplicates": 0.1, "journal_shuffle": True})
        await stack.save(KINDS)
        for role in ("reader", "writer"):
            stack.service(role)
        await stack.start()
        expected = 0
        for number in range(ROUNDS):
            expected += sum(stack.campaign.traffic(seed=SEED + number, mails=MAILS, keys=people)["expected"].values())
            if number in REDELIVERED:
                stack.campaign.redeliver(seed=number)
            await kill_at_work(stack, rng.choice(("reader", "writer")), rng)
        await stack.until_status("RUNNING")

        async def all_there() -> bool:
            return written(stack).total() >= expected

        await stack.until(all_there, f"{expected} activities (BRIDGE_SEED={SEED})", 120)
        await stack.until_caught_up(120)

        assert wanted(stack).total() == expected, "the test itself miscounts"
        assert written(stack) == wanted(stack)
        assert (await stack.get("/workflows/egress/dead-letters"))["dead_letters"] == []
