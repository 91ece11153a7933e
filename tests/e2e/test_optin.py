"""Opt In/Out end to end: what a person says in one system holds in the other (F177–F188)."""

from __future__ import annotations

from pathlib import Path

import httpx

from bridge.kafka.settings import KafkaSettings
from tests.e2e.consent import EMAIL, PHONE, config, consenting, in_campaign, in_dynamics, person, until_both
from tests.e2e.stack import Stack

DECISIONS = "/api/v1/workflows/optin/decisions"


async def flag_writes(stack: Stack) -> int:
    """Calls that changed a flag, in both systems."""
    there = [each for each in stack.dynamics.writes("contact") if each["method"] == "PATCH"]
    here = [each for each in stack.campaign.writes("profile") if each["method"] == "PATCH"]
    return len(there) + len(here)


async def test_f180_f186_what_is_said_in_either_system_holds_in_both_and_nothing_is_written_twice(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    async with consenting(kafka_settings, tmp_path) as stack:
        ada, bob, eve = person(stack), person(stack), person(stack, donotphone=True)
        await stack.save(config(EMAIL, PHONE))
        await stack.start()
        await until_both(stack, eve, True, flags=PHONE)
        stack.campaign.opt_out(ada, "blackListEmail", True)
        stack.campaign.exports.run()
        await until_both(stack, ada, True)
        stack.dynamics.upsert("contact", {"contactid": bob, "donotemail": True})
        await until_both(stack, bob, True)
        stack.dynamics.upsert("contact", {"contactid": ada, "donotemail": False})  # only Campaign can opt a person in again
        await until_both(stack, ada, True)
        stack.campaign.opt_out(ada, "blackListEmail", False)
        stack.campaign.exports.run()
        await until_both(stack, ada, False)
        workflow = await stack.until_caught_up()

        assert await flag_writes(stack) == 5
        stack.campaign.exports.run(since="")  # everything once more, own writes among it
        stack.dynamics.upsert("contact", {"contactid": bob, "lastname": "Babbage"})
        await stack.until(lambda: reads(stack, workflow["counters"]["read"] + 4), "everything was read once more")
        await stack.until_caught_up()
        assert await flag_writes(stack) == 5
        assert (in_dynamics(stack, bob), in_campaign(stack, bob)) == (True, True)


async def reads(stack: Stack, number: int) -> bool:
    return bool((await stack.workflow())["counters"]["read"] >= number)


async def test_f179_one_way_dynamics_keeps_a_manual_change_until_campaign_changes(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with consenting(kafka_settings, tmp_path) as stack:
        ada, bob = person(stack), person(stack)
        await stack.save(config(direction="campaign-to-dynamics"))
        await stack.start()
        stack.campaign.opt_out(ada, "blackListEmail", True)
        stack.campaign.exports.run()
        await until_both(stack, ada, True)
        stack.dynamics.upsert("contact", {"contactid": ada, "donotemail": False})
        stack.dynamics.upsert("contact", {"contactid": bob, "donotemail": True})
        before = (await stack.workflow())["counters"]["read"]
        await stack.until(lambda: reads(stack, before + 2), "both edits are read")
        await stack.until_caught_up()

        assert (in_dynamics(stack, ada), in_campaign(stack, ada)) == (False, True)
        assert (in_dynamics(stack, bob), in_campaign(stack, bob)) == (True, False)
        stack.campaign.opt_out(ada, "blackListEmail", False)
        stack.campaign.exports.run()
        stack.campaign.opt_out(ada, "blackListEmail", True)
        stack.campaign.exports.run()
        await until_both(stack, ada, True)


async def test_more_releases_than_the_limit_are_held_until_a_person_says_so_and_opt_outs_go_on(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    async with consenting(kafka_settings, tmp_path, OPTIN_RELEASE_LIMIT="2") as stack:
        people = [person(stack) for _ in range(6)]
        await stack.save(config())
        await stack.start()
        for each in people[:5]:
            stack.campaign.opt_out(each, "blackListEmail", True)
        stack.campaign.exports.run()
        for each in people[:5]:
            await until_both(stack, each, True)
        for each in people[:5]:
            stack.campaign.opt_out(each, "blackListEmail", False)
        stack.campaign.exports.run()

        async def three_held() -> bool:
            return bool((await stack.workflow())["backlog"]["held"] == 3)

        await stack.until(three_held, "three are held")
        stack.campaign.opt_out(people[5], "blackListEmail", True)
        stack.campaign.exports.run()
        await until_both(stack, people[5], True)
        workflow = await stack.workflow()
        assert (workflow["status"], workflow["reason"]["code"]) == ("RUNNING", "releases_held")
        stack.processes["resolver-1"].kill()
        stack.service("resolver")
        await stack.until_status("RUNNING")

        held = (await stack.get("/workflows/optin/held"))["items"]
        kept = {each["key"] for each in held}
        assert sum(in_dynamics(stack, each) for each in people[:5]) == 3
        assert {(each["kind"], each["target"], each["rule"], *each["flags"]) for each in held} == {
            ("release", "dynamics", "campaign-is-later", "donotemail")
        }
        first, *others = sorted(kept)
        released = await settle(stack, "release", {"contacts": [first.upper()], "reason": "asked for by phone"})
        await until_both(stack, first, False)
        discarded = await settle(stack, "discard", {"all": True, "reason": "a wrong import"})
        again = await settle(stack, "release", {"all": True, "reason": "too late"})
        assert [each.json() for each in (released, discarded, again)] == [
            {"released": 1, "discarded": 0, "skipped": 0},
            {"released": 0, "discarded": 2, "skipped": 0},
            {"released": 0, "discarded": 0, "skipped": 0},
        ]
        await stack.until_caught_up()
        assert all(in_dynamics(stack, each) for each in others)
        told = await decided(stack, first)
        assert [each["outcome"] for each in told] == ["written", "released", "written"]


async def settle(stack: Stack, what: str, body: dict[str, object]) -> httpx.Response:
    answer = await stack.http.post(f"/api/v1/workflows/optin/held/{what}", json=body)
    assert answer.status_code == 202, answer.text
    return answer


async def decided(stack: Stack, contact: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = (await stack.get(f"/workflows/optin/decisions?contact={contact}"))["decisions"]
    return found


async def test_every_decision_can_be_proved_with_rule_and_inputs(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with consenting(kafka_settings, tmp_path) as stack:
        ada = person(stack)
        await stack.save(config())
        await stack.start()
        stack.dynamics.upsert("contact", {"contactid": ada, "donotemail": True})
        await until_both(stack, ada, True)
        await stack.until_caught_up()
        (decision,) = await decided(stack, ada)
        text = (await stack.http.get(DECISIONS, params={"contact": ada}, headers={"Accept": "text/csv"})).text
        traced = await stack.get(f"/workflows/optin/records/{ada}")

        assert (decision["target"], decision["flags"], decision["rule"]) == ("campaign", {"blackListEmail": True}, "opted-out-in-dynamics")
        assert decision["outcome"] == "written"
        inputs = decision["inputs"]
        assert isinstance(inputs, dict) and inputs["blackListEmail"]["dynamics"] is True
        lines = text.split("\r\n")
        assert lines[0].startswith("id,contact,target,flag,value,rule,") and f",{ada},campaign,blackListEmail,True," in lines[1]
        assert [hop["hop"] for hop in traced["hops"]].count("settled") == 2
        assert (traced["outcome"], traced["target_status"]) == ("updated", 200)
