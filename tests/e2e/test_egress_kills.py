"""kill -9 of the egress reader and writer at random moments, while the journal delivers: no activity missing, none twice."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from bridge.settings import KafkaSettings
from tests.e2e.stack import running

ROUNDS, MAILS = 20, 150
KINDS = {"events": dict.fromkeys(("send", "open", "click", "bounce"), True)}


async def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    async with running(kafka_settings, tmp_path, workflow="egress", DYNAMICS_BATCH_MAX="20") as stack:
        people = [stack.dynamics.upsert("contact", {"lastname": "Lovelace"}) for _ in range(30)]
        stack.dynamics.settings.change({"click_follow_up": False, "bounce_follow_up": False, "operation_cost_ms": 2.0})
        stack.campaign.settings.change(
            {"journal_retry_after_s": 0.1, "journal_page": 50, "journal_duplicates": 0.1, "journal_shuffle": True}
        )
        await stack.save(KINDS)
        for role in ("reader", "writer"):
            stack.service(role)
        await stack.start()
        expected = 0
        for number in range(ROUNDS):
            expected += sum(stack.campaign.traffic(seed=seed + number, mails=MAILS, keys=people)["expected"].values())
            if rng.random() < 0.2:
                stack.campaign.redeliver(seed=number)
            await asyncio.sleep(rng.random() * 1.5)
            role = rng.choice(("reader", "writer"))
            stack.processes[f"{role}-1"].kill()
            stack.service(role)
        await stack.until_status("RUNNING")

        async def all_there() -> bool:
            return sum(stack.dynamics.activities().values()) >= expected

        await stack.until(all_there, f"{expected} activities (seed {seed})", 120)
        await stack.until_caught_up(120)

        assert sum(stack.dynamics.activities().values()) == expected
        assert (await stack.workflow())["counters"]["dead_lettered"] == 0
