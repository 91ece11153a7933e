"""Egress end to end: what happened to an e-mail is on the contact's timeline (F158–F174)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.settings import KafkaSettings
from tests.e2e.stack import Stack, running

ALL = {"events": {"send": True, "open": True, "click": True, "bounce": True}}


def contact(stack: Stack, **fields: Any) -> str:
    return stack.dynamics.upsert("contact", {"lastname": "Lovelace", "emailaddress1": "ada@example.com", **fields})


@pytest.fixture
async def stack(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Stack]:
    async with running(kafka_settings, tmp_path, workflow="egress") as stack:
        stack.campaign.settings.change({"journal_retry_after_s": 0.2})
        stack.service("reader")
        stack.service("writer")
        yield stack


async def until_written(stack: Stack, number: int, within_s: float = 60) -> None:
    async def there() -> bool:
        return sum(stack.dynamics.activities().values()) >= number

    await stack.until(there, f"{number} activities", within_s)


async def test_a_day_of_events(stack: Stack) -> None:
    people = [contact(stack) for _ in range(20)]
    stack.dynamics.settings.change({"click_follow_up": False, "bounce_follow_up": False})
    made = stack.campaign.traffic(seed=1, mails=200, keys=people)
    await stack.save(ALL)
    await stack.start()
    await until_written(stack, sum(made["expected"].values()))
    await stack.until_caught_up()
    print(made, stack.dynamics.activities(), await stack.workflow(), stack.dynamics.timeline(people[0])[:2])
    assert sum(stack.dynamics.activities().values()) == sum(made["expected"].values())
