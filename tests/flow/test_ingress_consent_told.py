"""What ingress leaves behind of opt-outs: proof (rule 8), and what Opt In/Out has to hear (rule 4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from bridge.model.errors import RejectError, RetryError
from sandbox.web import Fault
from tests.flow.consenting import DELETING, EMAIL, MAPPING, PHONE, bodies, consent_rig, minute, proofs, row, says_no, stored
from tests.flow.handling import PERSON, VEHICLES, Rig

OF_THE_ROW: dict[str, Any] = {"firstname": "Xanthippe", "emailaddress1": "xanthippe@example.com"}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with consent_rig() as made:
        made.optin.names = frozenset({EMAIL, PHONE})
        yield made


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_a_profile_that_is_made_is_told_with_flags_that_have_no_time(rig: Rig) -> None:
    await rig.apply(row(rig, donotphone=True))

    (event,) = rig.told_optin
    assert (event.contact_key, event.system, event.gone) == (PERSON, "campaign", False)
    assert {name: (each["value"], each["changed_at"]) for name, each in event.flags.items()} == {EMAIL: (False, None), PHONE: (True, None)}


async def test_a_flag_that_ingress_does_not_map_is_told_as_well(rig: Rig) -> None:
    rig.optin.names = frozenset({"blackListFax"})

    await rig.apply(row(rig))

    (event,) = rig.told_optin
    assert dict(event.flags) == {"blackListFax": {"value": False, "changed_at": None}}


async def test_a_profile_that_was_there_is_told_with_the_times_of_its_flags(rig: Rig) -> None:
    rig.sandbox.put("profile", {"externalId": PERSON, EMAIL: True})
    minute(rig)

    await rig.apply(row(rig))

    (event,) = rig.told_optin
    assert event.flags[EMAIL] == {"value": True, "changed_at": at(stored(rig)["blackListEmailLastModified"])}
    assert event.flags[PHONE]["value"] is False


async def test_a_profile_that_is_made_again_is_told_again(rig: Rig) -> None:
    await rig.apply(row(rig))
    rig.sandbox.remove("profile", PERSON)
    rig.told_optin.clear()

    await rig.apply(row(rig, firstname="Anna"))

    assert [(event.gone, event.flags[EMAIL]["value"], event.flags[EMAIL]["changed_at"]) for event in rig.told_optin][-1] == (
        False,
        False,
        None,
    )


async def test_a_profile_that_is_made_again_without_an_answer_is_told_all_the_same(rig: Rig) -> None:
    """The next try finds it there; a process that was killed in between is another try."""
    await rig.apply(row(rig))
    rig.sandbox.remove("profile", PERSON)
    rig.told_optin.clear()
    rig.sandbox.ledger.faults.append(Fault("cut_after", "POST", times=1))
    event = row(rig, firstname="Anna")
    with pytest.raises(RetryError):
        await rig.apply(event)
    assert (rig.told_optin, stored(rig)["firstName"]) == ([], "Anna")

    await rig.apply(event)
    await rig.apply(row(rig, firstname="Bea"))

    assert [(each.gone, each.flags[EMAIL]["value"]) for each in rig.told_optin] == [(False, False)]


async def test_a_profile_whose_creation_was_not_answered_is_told_all_the_same(rig: Rig) -> None:
    rig.sandbox.ledger.faults.append(Fault("cut_after", "POST", times=1))
    event = row(rig)

    with pytest.raises(RetryError):
        await rig.apply(event)
    await rig.apply(event)

    assert {name: each["value"] for name, each in rig.told_optin[-1].flags.items()} == {EMAIL: False, PHONE: False}


@pytest.mark.parametrize("way", ["deleted", "left the filter"])
async def test_a_profile_that_is_deleted_is_told_gone(way: str) -> None:
    async with consent_rig(DELETING) as rig:
        rig.optin.names = frozenset({EMAIL})
        await rig.apply(row(rig))
        rig.told_optin.clear()

        await rig.apply(row(rig, op="delete") if way == "deleted" else row(rig, address1_city="Bergen"))

        event = rig.told_optin[-1]  # what it had is told just before
        assert (event.contact_key, event.system, event.gone) == (PERSON, "campaign", True)


async def test_a_profile_whose_delete_is_held_is_not_told_gone(rig: Rig) -> None:
    await rig.apply(row(rig))
    rig.limit = 0

    await rig.apply(row(rig, op="delete"))

    assert not any(event.gone for event in rig.told_optin)


async def test_nothing_is_told_where_nobody_looks_after_flags(rig: Rig) -> None:
    rig.optin.names = frozenset()

    await rig.apply(row(rig))
    await rig.apply(row(rig, op="delete"))

    assert rig.told_optin == []


async def test_nothing_is_told_of_other_resources() -> None:
    async with consent_rig(MAPPING, VEHICLES) as rig:
        rig.sandbox.put("profile", {"externalId": PERSON})
        rig.optin.names = frozenset({EMAIL})

        await rig.apply(rig.vehicle())
        await rig.apply(rig.vehicle(op="delete"))

        assert (rig.sandbox.rows("cusVehicle"), rig.told_optin) == ([], [])


async def test_each_decision_has_a_proof(rig: Rig) -> None:
    """Raised, lowered, raised, held, in one life."""
    await rig.apply(row(rig, version=100))
    for version, said in ((101, True), (102, False), (103, True)):
        minute(rig)
        await rig.apply(row(rig, version=version, donotemail=said))
    minute(rig)
    rig.limit = 0
    await rig.apply(row(rig, version=104))

    found = [(headers["origin"], headers["outcome"], headers["status"], decision.flags[EMAIL]) for decision, headers in rig.proofs]
    assert [each[:2] for each in found] == [
        ("version 101", "written"),
        ("version 102", "written"),
        ("version 103", "written"),
        ("version 104", "held"),
    ]
    assert [each[2:] for each in found[:3]] == [("200", True), ("200", False), ("200", True)]
    for decision, headers in rig.proofs:
        assert (headers["table"], headers["flags"], decision.target, decision.contact_key) == ("contact", EMAIL, "campaign", PERSON)
        assert decision.rule
        assert decision.decided_at <= rig.clock.now()


async def test_the_proof_of_a_lower_names_both_sides(rig: Rig) -> None:
    await rig.apply(row(rig))
    minute(rig)
    says_no(rig)
    stamp = at(stored(rig)["blackListEmailLastModified"])
    await rig.apply(row(rig, donotemail=True))
    minute(rig)
    change = row(rig, version=900)

    await rig.apply(change)

    decision, headers = next((each, h) for each, h in rig.proofs if each.flags == {EMAIL: False})
    inputs = decision.inputs[EMAIL]
    assert (inputs["campaign"], inputs["campaign_changed_at"]) == (True, stamp)
    assert (inputs["dynamics"], inputs["dynamics_changed_at"]) == (False, change.changed_at)
    assert "900" in (inputs["dynamics_from"] or "")
    assert (headers["outcome"], headers["status"]) == ("written", "200")


async def test_the_proof_of_what_is_kept_names_both_sides(rig: Rig) -> None:
    rig.sandbox.put("profile", {"externalId": PERSON, EMAIL: True})
    minute(rig)

    await rig.apply(row(rig))

    ((decision, headers),) = proofs(rig, outcome="kept")
    inputs = decision.inputs[EMAIL]
    assert (inputs["campaign"], inputs["campaign_changed_at"]) == (True, at(stored(rig)["blackListEmailLastModified"]))
    assert inputs["dynamics"] is False
    assert headers["flags"] == EMAIL


async def test_an_opt_out_that_was_made_with_its_profile_has_a_proof(rig: Rig) -> None:
    await rig.apply(row(rig, donotemail=True))

    ((decision, headers),) = proofs(rig, outcome="written")
    assert (dict(decision.flags), headers["status"]) == ({EMAIL: True}, "201")


async def test_an_opt_out_whose_record_was_refused_has_a_proof(rig: Rig) -> None:
    await rig.apply(row(rig))
    minute(rig)

    with pytest.raises(RejectError):
        await rig.apply(row(rig, donotemail=True, gendercode=3))

    assert [dict(decision.flags) for decision, _ in proofs(rig, outcome="written")] == [{EMAIL: True}]


async def test_no_proof_and_nothing_told_holds_a_value_of_the_row(rig: Rig) -> None:
    rig.sandbox.put("profile", {"externalId": PERSON, PHONE: True})
    for said in (False, True, False):
        minute(rig)
        await rig.apply(row(rig, donotemail=said, **OF_THE_ROW))
    rig.limit = 0
    await rig.apply(row(rig, op="delete"))

    assert len(rig.proofs) >= 4
    text = " ".join(f"{decision} {headers}" for decision, headers in rig.proofs) + str(rig.told_optin)
    assert not any(value in text for value in (*OF_THE_ROW.values(), "Oslo", "Smith", "female"))


async def test_a_proof_is_there_before_the_hour_is_over(rig: Rig) -> None:
    """The decision's time is when it was made, to the second."""
    await rig.apply(row(rig, donotemail=True))

    ((decision, _),) = proofs(rig, outcome="written")
    assert abs(decision.decided_at - rig.clock.now()) < timedelta(seconds=5)
    assert ("POST", 201) in rig.calls()
    assert bodies(rig)[0][1][EMAIL] is True
