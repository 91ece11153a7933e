"""Opt In/Out end to end: what a person says in one system holds in the other (F177–F187)."""

from __future__ import annotations

from pathlib import Path

from bridge.settings import KafkaSettings
from tests.e2e.consent import config, consenting, in_campaign, in_dynamics, person, until_both


async def test_an_unsubscribe_reaches_dynamics_and_a_tick_reaches_campaign(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with consenting(kafka_settings, tmp_path) as stack:
        ada, bob = person(stack), person(stack)
        await stack.save(config())
        await stack.start()
        stack.campaign.opt_out(ada, "blackListEmail", True)
        stack.campaign.exports.run()
        await until_both(stack, ada, True)
        stack.dynamics.upsert("contact", {"contactid": bob, "donotemail": True})
        await until_both(stack, bob, True)
        await stack.until_caught_up()
        assert not in_dynamics(stack, person(stack))
        assert in_campaign(stack, bob)
        print(await stack.workflow())
        print(stack.logs(80))
