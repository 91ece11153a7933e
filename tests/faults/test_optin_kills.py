"""kill -9 of the services of Opt In/Out at random moments, while people opt out and in on both sides: nobody's word is lost."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

from bridge.settings import KafkaSettings
from tests.e2e.consent import ROLES, config, consenting, in_campaign, in_dynamics, person
from tests.e2e.stack import Stack

ROUNDS, PEOPLE, CLICKS = 20, 30, 25
SEED = int(os.environ.get("BRIDGE_SEED", "20261128"))


class Crowd:
    """People who opt out and in. `no`: those whose last word was no, whichever system heard it."""

    def __init__(self, stack: Stack, rng: random.Random) -> None:
        self._stack, self._rng = stack, rng
        self.people = [person(stack) for _ in range(PEOPLE)]
        self.no: set[str] = set()

    def click(self) -> None:
        who, value = self._rng.choice(self.people), self._rng.random() < 0.6
        if self._rng.random() < 0.5:
            self._stack.campaign.opt_out(who, "blackListEmail", value)
        else:
            self._stack.dynamics.upsert("contact", {"contactid": who, "donotemail": value})
        (self.no.add if value else self.no.discard)(who)

    def differing(self) -> list[str]:
        """Who is not told the same by both systems, or is opted in although the last word was no."""
        wrong = [who for who in self.people if in_dynamics(self._stack, who) != in_campaign(self._stack, who)]
        return wrong + [f"{who} said no" for who in sorted(self.no) if not in_campaign(self._stack, who)]


async def test_kills_at_random_moments_lose_no_opt_out_and_both_systems_end_equal(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    print(f"seed {SEED} (BRIDGE_SEED)")
    rng = random.Random(SEED)
    async with consenting(kafka_settings, tmp_path, OPTIN_RELEASE_LIMIT="100000", DYNAMICS_POLL_INTERVAL_S="0.3") as stack:
        crowd = Crowd(stack, rng)
        await stack.save(config())
        await stack.start()
        for number in range(ROUNDS):
            role = ROLES[number % len(ROLES)]
            before = len(stack.dynamics.writes()) + len(stack.campaign.writes())
            for _ in range(CLICKS):
                crowd.click()
            stack.campaign.exports.run()

            async def busy(before: int = before) -> bool:
                return len(stack.dynamics.writes()) + len(stack.campaign.writes()) > before

            await stack.until(busy, f"round {number}: something is written (seed {SEED})", 60)
            await asyncio.sleep(rng.random() * 0.5)
            stack.processes[f"{role}-1"].kill()
            stack.service(role)
        await stack.until_status("RUNNING")
        stack.campaign.exports.run()

        async def settled() -> bool:
            stack.campaign.exports.run()  # the nightly one
            return not crowd.differing()

        await stack.until(settled, f"both systems agree (seed {SEED})", 90)
        await stack.until_caught_up(90)
        assert crowd.differing() == []
        assert (await stack.get("/workflows/optin/dead-letters"))["dead_letters"] == []
