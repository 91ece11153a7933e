"""The handler of Opt In/Out: opt-outs go first, nothing that people said is hidden by our writes, and no opt-out is given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bridge.model.errors import ParkError, RejectError
from bridge.model.state import Known
from sandbox.web import Fault
from tests.flow.test_consent_writer import a_rig, decided


def version_of(rig: object) -> int:
    rows = rig.dynamics.rows("contact")  # type: ignore[attr-defined]
    return int(next(row["versionnumber"] for row in rows if row["contactid"] == rig.person))  # type: ignore[attr-defined]


async def test_an_opt_out_leaves_before_an_opt_in_of_the_same_decision() -> None:
    async with a_rig() as rig:
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True})
        decision = rig.decision("dynamics", donotemail=False, donotphone=True)

        result = await rig.handler.write(decided(decision, version_of(rig)), None)

        assert (result.outcome, rig.patches()) == ("updated", [{"donotphone": True}, {"donotemail": False}])


async def test_an_opt_out_goes_though_the_opt_in_beside_it_has_to_wait() -> None:
    async with a_rig() as rig:
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True})
        decision = rig.decision("dynamics", donotemail=False, donotphone=True)

        result = await rig.handler.write(decided(decision, version_of(rig) - 1), None)

        assert (result.outcome, rig.patches()) == ("updated", [{"donotphone": True}])


async def test_what_our_write_would_hide_is_observed_before_it() -> None:
    """A person's change that the reader has not seen yet: after our write it would be gone from the row's history."""
    async with a_rig() as rig:
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotphone": True})
        knew = version_of(rig) - 1

        await rig.handler.write(decided(rig.decision("dynamics", donotemail=True), knew), None)

        (seen, version), (read_back, _) = rig.observed
        assert (rig.own, version) == ([False, True], knew + 1)
        assert (seen.flags["donotphone"]["value"], seen.ours, read_back.ours) == (True, False, True)


async def test_two_of_our_own_writes_in_a_row_are_no_news() -> None:
    async with a_rig() as rig:
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True})
        knew = version_of(rig)
        first = await rig.handler.write(decided(rig.decision("dynamics", donotphone=True), knew), None)

        second = await rig.handler.write(decided(rig.decision("dynamics", donotemail=False), knew), first.known)

        assert (second.outcome, rig.own) == ("updated", [True, True])


async def test_a_repeated_opt_in_does_not_overwrite_an_opt_out_that_came_after_our_write() -> None:
    """The answer of the first write was lost with the process, and our clock does not matter (K14)."""
    async with a_rig() as rig:
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True})
        decision, knew = rig.decision("dynamics", at=datetime.now(UTC) + timedelta(hours=1), donotemail=False), version_of(rig)
        await rig.handler.write(decided(decision, knew), None)
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True})

        again = await rig.handler.write(decided(decision, knew), None)

        assert again.outcome == "observed_again"
        assert [row["donotemail"] for row in rig.dynamics.rows("contact")] == [True]


async def test_an_opt_out_is_not_given_up_after_a_few_tries() -> None:
    async with a_rig() as rig:
        rig.campaign.ledger.faults.append(
            Fault("status", method="PATCH", status=500, body="An error has occurred - please contact your administrator.")
        )

        with pytest.raises(ParkError) as waits:
            await rig.write("campaign", blackListEmail=True, blackListPhone=True)

        assert waits.value.opt_outs == 2
        assert waits.value.budget_s is not None and waits.value.budget_s > 86_400


async def test_an_opt_out_that_is_refused_says_how_many_wait() -> None:
    async with a_rig() as rig:
        rig.dynamics.remove_column("contact", "donotphone")

        with pytest.raises(RejectError) as refused:
            await rig.write("dynamics", donotphone=True)

        assert refused.value.opt_outs == 1


async def test_what_became_of_a_decision_is_noted_with_the_answer() -> None:
    async with a_rig() as rig:
        decision = replace(decided(rig.decision("dynamics", donotemail=True), version_of(rig)), places=("0-7", "0-9"))

        await rig.handler.write(decision, Known())

        assert rig.noted == [(rig.person, ("0-7", "0-9"), "updated", 200)]


async def test_a_profile_under_the_key_in_capitals_is_found() -> None:
    async with a_rig() as rig:
        other = rig.dynamics.upsert("contact", {"lastname": "Hopper"})
        rig.campaign.put("profile", {"externalId": other.upper(), "lastName": "Hopper"})

        outcome = await rig.write("campaign", contact=other, blackListEmail=True)

        assert outcome == "updated"
        assert rig.campaign.get("profile", other.upper())["blackListEmail"] is True  # type: ignore[index]


async def test_what_was_written_to_campaign_is_a_fact_and_nobodys_word() -> None:
    async with a_rig() as rig:
        await rig.write("campaign", blackListEmail=True)

        ((event, _),) = rig.observed
        assert (event.system, event.ours, event.flags) == ("campaign", True, {"blackListEmail": {"value": True, "changed_at": None}})
