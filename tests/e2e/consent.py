"""Opt In/Out with all its services and an SFTP server: what its end-to-end tests begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bridge.kafka.settings import KafkaSettings
from tests.e2e.stack import Stack, running

ROLES = ("reader", "resolver", "writer")
EMAIL = ("donotemail", "blackListEmail")
PHONE = ("donotphone", "blackListPhone")


def config(*pairs: tuple[str, str], direction: str = "bidirectional") -> dict[str, Any]:
    return {"direction": direction, "mappings": [{"source": source, "target": target} for source, target in pairs or (EMAIL,)]}


@asynccontextmanager
async def consenting(kafka: KafkaSettings, folder: Path, start: Sequence[str] = ROLES, **environment: str) -> AsyncIterator[Stack]:
    """The services of `start` are up, nothing is configured."""
    async with (
        running(kafka, folder, True, "optin", **{"CAMPAIGN_SFTP_POLL_INTERVAL_S": "0.3"} | environment) as stack,
        stack.campaign.sftp_serving(folder / "sftp", port=0, exports=True) as access,
    ):
        stack.environment |= access.environment()
        for role in start:
            stack.service(role, STATE_DIR=str(folder / "state"))  # one for all: each keeps to its own part
        yield stack


def person(stack: Stack, name: str = "Lovelace", **flags: bool) -> str:
    """A contact with its profile; its id."""
    key = stack.dynamics.upsert("contact", {"lastname": name, **flags})
    stack.campaign.put("profile", {"externalId": key, "lastName": name})
    return key


def in_dynamics(stack: Stack, key: str, flag: str = "donotemail") -> bool:
    return bool(next(row for row in stack.dynamics.rows("contact") if row["contactid"] == key)[flag])


def in_campaign(stack: Stack, key: str, flag: str = "blackListEmail") -> bool:
    return bool(next(row for row in stack.campaign.rows("profile") if row["externalId"] == key)[flag])


async def until_both(stack: Stack, key: str, value: bool, within_s: float = 40, flags: tuple[str, str] = EMAIL) -> None:
    async def equal() -> bool:
        return in_dynamics(stack, key, flags[0]) == in_campaign(stack, key, flags[1]) == value

    await stack.until(equal, f"both say {value}", within_s)
