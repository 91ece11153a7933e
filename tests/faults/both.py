"""Ingress and Opt In/Out at work together, on one Kafka, and processes that are killed in the middle of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from bridge.kafka.settings import KafkaSettings
from tests.e2e.consent import config
from tests.e2e.stack import Stack, contacts, running

FIELDS = {"lastname": "lastName"}
FLAGS = {"lastname": "lastName", "donotemail": "blackListEmail"}
INGRESS, OPTIN = ("reader", "writer"), ("reader", "resolver", "writer")


class Both:
    """`optin`: with Opt In/Out both ways. Processes are called `<workflow>-<role>`."""

    def __init__(self, stack: Stack, rng: random.Random, optin: bool) -> None:
        self.stack, self.rng, self.optin = stack, rng, optin

    @contextmanager
    def looking_at(self, workflow: str) -> Iterator[Stack]:
        before, self.stack.id = self.stack.id, workflow
        try:
            yield self.stack
        finally:
            self.stack.id = before

    def roles(self) -> list[tuple[str, str]]:
        return [("ingress", role) for role in INGRESS] + [("optin", role) for role in OPTIN if self.optin]

    def start(self, workflow: str, role: str) -> None:
        with self.looking_at(workflow) as stack:
            stack.service(role, f"{workflow}-{role}")

    async def begin(self, **mapping: Any) -> None:
        """Everything configured and RUNNING."""
        for workflow, role in self.roles():
            self.start(workflow, role)
        await self.stack.configure(contacts(**mapping))
        if self.optin:
            with self.looking_at("optin") as stack:
                await stack.save(config())
                await stack.start()
        await self.stack.start()

    async def kill_each(self, every_s: float) -> None:
        """kill -9 of one role after the other, in any order, each started again a moment later."""
        roles = self.roles()
        self.rng.shuffle(roles)
        for workflow, role in roles:
            await asyncio.sleep(every_s * (0.5 + self.rng.random()))
            self.stack.processes[f"{workflow}-{role}"].kill()
            await asyncio.sleep(self.rng.random())
            self.start(workflow, role)

    def contact(self, **fields: Any) -> str:
        return self.stack.dynamics.upsert("contact", {"lastname": "Canarybird", **fields})

    def profiles(self) -> dict[str, dict[str, Any]]:
        return {row["externalId"]: row for row in self.stack.campaign.rows("profile")}

    def out(self, keys: Sequence[str]) -> list[str]:
        """Which of these are opted out in Campaign."""
        profiles = self.profiles()
        return [key for key in keys if profiles.get(key, {}).get("blackListEmail")]

    async def held(self, workflow: str = "ingress") -> int:
        with self.looking_at(workflow) as stack:
            return int((await stack.workflow())["backlog"]["held"])

    async def quiet(self, within_s: float = 120) -> None:
        """Both workflows have caught up."""
        for workflow in ("ingress", *(["optin"] if self.optin else [])):
            with self.looking_at(workflow) as stack:
                await stack.until_status("RUNNING", 60)
                await stack.until_caught_up(within_s)


@asynccontextmanager
async def both_of(
    kafka: KafkaSettings, folder: Path, rng: random.Random, *, optin: bool = False, **environment: str
) -> AsyncIterator[Both]:
    common = {"DYNAMICS_POLL_INTERVAL_S": "0.5", "CAMPAIGN_SFTP_POLL_INTERVAL_S": "0.5"}
    async with running(kafka, folder, True, "ingress", **common | environment) as stack:
        if not optin:
            yield Both(stack, rng, optin)
            return
        async with stack.campaign.sftp_serving(folder / "sftp", port=0, exports=True) as access:
            stack.environment |= access.environment()
            yield Both(stack, rng, optin)
