"""Opt-outs by the thousand on a real Kafka, with every role killed in the middle (shared contract *Opt-outs on every path*)."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from bridge.kafka.settings import KafkaSettings
from tests.faults.both import FIELDS, FLAGS, both_of

FILTER = {"conditions": [{"field": "statecode", "operator": "eq", "value": 0}], "delete_filtered_out": True}


@pytest.mark.takes(110)
async def test_people_who_leave_the_filter_and_return_are_opted_out_again(
    kafka_settings: KafkaSettings, tmp_path: Path, rng: random.Random
) -> None:
    """K1: the new profile has no opt-outs, and nobody would say them again."""
    async with both_of(kafka_settings, tmp_path, rng, optin=True) as both:
        people = [both.contact(donotemail=True) for _ in range(300)]
        others = [both.contact() for _ in range(100)]
        await both.begin(fields=FIELDS, filter=FILTER)

        async def all_out() -> bool:
            return len(both.out(people)) == 300

        await both.stack.until(all_out, "300 are opted out", 90)
        kills = asyncio.create_task(both.kill_each(2.0))
        for key in people:
            both.stack.dynamics.upsert("contact", {"contactid": key, "statecode": 1})

        async def left() -> bool:
            return not both.profiles().keys() & set(people)

        await both.stack.until(left, "300 have left", 90)
        for key in people:
            both.stack.dynamics.upsert("contact", {"contactid": key, "statecode": 0})
        await kills
        await both.stack.until(all_out, "300 are opted out again, without an export", 60)
        await both.quiet()

        assert both.out(others) == []
        assert len(both.profiles()) == 400


@pytest.mark.takes(100)
async def test_a_migration_lowers_nobody(kafka_settings: KafkaSettings, tmp_path: Path, rng: random.Random) -> None:
    """K2: profiles that exist, 500 of them unsubscribed, while Dynamics says FALSE of everybody."""
    async with both_of(kafka_settings, tmp_path, rng) as both:
        people = [both.contact() for _ in range(5000)]
        for key in people:
            both.stack.campaign.put("profile", {"externalId": key, "lastName": "Earlier"})
        no = rng.sample(people, 500)
        for key in no:
            both.stack.campaign.opt_out(key, "blackListEmail", True)
        await both.begin(fields=FLAGS)
        await both.kill_each(3.0)

        async def migrated() -> bool:
            await asyncio.sleep(0.5)
            return all(row["lastName"] == "Canarybird" for row in both.profiles().values())

        await both.stack.until(migrated, "all have arrived", 150)
        await both.quiet()
        for key in rng.sample(no, 50):  # an edit of another column is no word either
            both.stack.dynamics.upsert("contact", {"contactid": key, "lastname": "Edited"})
        await asyncio.sleep(2)
        await both.quiet()

        assert sorted(both.out(people)) == sorted(no)
        counters = (await both.stack.workflow())["counters"]
        assert counters["optout_kept"] > 0


@pytest.mark.takes(240)
async def test_opt_outs_flipped_by_an_import_are_held_beyond_the_limit_until_an_admin_releases_them(
    kafka_settings: KafkaSettings, tmp_path: Path, rng: random.Random
) -> None:
    """K3: 10,000 at once; the limit passes, counted over kills, and the rest waits with its evidence."""
    async with both_of(kafka_settings, tmp_path, rng) as both:
        people = [both.contact(donotemail=True) for _ in range(10_000)]
        await both.begin(fields=FLAGS)

        async def out(number: int) -> bool:
            await asyncio.sleep(0.5)
            return len(both.out(people)) == number

        await both.stack.until(lambda: out(10_000), "all are opted out", 120)
        await both.quiet()
        for key in people:
            both.stack.dynamics.upsert("contact", {"contactid": key, "donotemail": False})
        await both.kill_each(4.0)

        async def held() -> bool:
            await asyncio.sleep(0.5)
            return await both.held() == 9900

        await both.stack.until(held, "9,900 are held", 240)
        assert len(both.out(people)) == 9900
        answer = await both.stack.http.post(
            "/api/v1/workflows/ingress/held/release", json={"all": True, "reason": "the import was meant"}, timeout=120
        )
        assert answer.status_code == 202, answer.text
        await both.kill_each(4.0)
        await both.stack.until(lambda: out(0), "all are opted in", 240)
        await both.quiet()

        assert answer.json()["released"] == 9900
        assert await both.held() == 0


@pytest.mark.takes(120)
async def test_a_bulk_delete_is_held_beyond_the_limit(kafka_settings: KafkaSettings, tmp_path: Path, rng: random.Random) -> None:
    """K20: 2,000 contacts vanish; 500 profiles may go, the others wait for a person."""
    async with both_of(kafka_settings, tmp_path, rng) as both:
        people = [both.contact() for _ in range(2000)]
        await both.begin(fields=FIELDS, apply_deletes=True)

        async def there(number: int) -> bool:
            await asyncio.sleep(0.5)
            return len(both.profiles()) == number

        await both.stack.until(lambda: there(2000), "all have arrived", 60)
        await both.quiet()
        for key in people:
            both.stack.dynamics.delete("contact", key)
        await both.kill_each(2.0)

        async def held() -> bool:
            await asyncio.sleep(0.5)
            return await both.held() == 1500

        await both.stack.until(held, "1,500 are held", 120)
        await both.quiet()

        assert len(both.profiles()) == 1500
        items = (await both.stack.get("/workflows/ingress/held?limit=3"))["items"]
        assert {(each["kind"], each["table"], each["rule"]) for each in items} == {("delete", "contact", "deleted-in-dynamics")}
