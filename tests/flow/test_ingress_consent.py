"""Opt-outs of the contact mapping (consent.md): a TRUE goes first and arrives, whatever is beside it; a profile that comes back has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bridge.model.errors import ParkError, RejectError, RetryError
from sandbox.web import Fault
from tests.flow.consenting import (
    BARE_500,
    DAY_S,
    DELETING,
    EMAIL,
    FILTERED,
    MAPPING,
    PHONE,
    bodies,
    consent_rig,
    flag,
    minute,
    row,
    says_no,
    stored,
)
from tests.flow.handling import PERSON, VEHICLES, Rig

BAD = {
    "an option that Campaign does not have": {"gendercode": 3},
    "a blank within the address": {"emailaddress1": "a @example.com"},
    "an address that is too long": {"emailaddress1": f"{'a' * 120}@example.com"},
    "a name that Campaign refuses": {"firstname": "Bad Ann"},
}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with consent_rig() as made:
        made.sandbox.settings.data_policies = {"profile.email": "email"}
        made.sandbox.settings.refuse = [{"resource": "profile", "field": "firstName", "contains": "Bad"}]
        yield made


def made_by_somebody(rig: Rig, **fields: Any) -> None:
    rig.sandbox.put("profile", {"externalId": PERSON, "firstName": "Old", **fields})
    minute(rig)


async def test_an_opt_out_leaves_before_everything_else_in_a_call_of_its_own(rig: Rig) -> None:
    await rig.apply(row(rig))
    minute(rig)

    result = await rig.apply(row(rig, firstname="Anna", donotemail=True, donotphone=True))

    assert result.outcome == "updated"
    assert bodies(rig, 1) == [("PATCH", {EMAIL: True, PHONE: True}), ("PATCH", {"firstName": "Anna"})]


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("known", [True, False], ids=["ours", "made by somebody else"])
async def test_an_opt_out_survives_a_bad_neighbour(rig: Rig, known: bool, bad: dict[str, Any]) -> None:
    if known:
        await rig.apply(row(rig))
        minute(rig)
    else:
        made_by_somebody(rig)
    before = stored(rig)

    with pytest.raises(RejectError):
        await rig.apply(row(rig, donotemail=True, **bad))

    after = stored(rig)
    assert (before[EMAIL], after[EMAIL]) == (False, True)
    assert {name: after[name] for name in ("firstName", "gender", "email")} == {
        name: before[name] for name in ("firstName", "gender", "email")
    }


@pytest.mark.parametrize(("status", "body"), [(400, '{"error_code":"400000","message":"no"}'), (500, "PGS-220000 value too long")])
async def test_an_opt_out_survives_whatever_campaign_answers_to_the_rest(rig: Rig, status: int, body: str) -> None:
    await rig.apply(row(rig))
    minute(rig)
    rig.sandbox.ledger.faults.append(Fault("status", "PATCH", "/profile/", status, body, skip=1))

    with pytest.raises(RejectError):
        await rig.apply(row(rig, firstname="Anna", donotemail=True))

    assert (flag(rig), stored(rig)["firstName"]) == (True, "Ann")


async def test_an_opt_out_that_arrived_before_its_record_was_refused_is_not_sent_again(rig: Rig) -> None:
    await rig.apply(row(rig))
    minute(rig)
    refused = rig.handler.change(row(rig, donotemail=True, gendercode=3))
    with pytest.raises(RejectError):
        await rig.write(refused)
    rig.known[PERSON] = rig.handler.rejected(refused, rig.known[PERSON])
    minute(rig)

    await rig.apply(row(rig, donotemail=True, gendercode=1))

    assert bodies(rig, 1) == [("PATCH", {EMAIL: True}), ("PATCH", {"gender": "male"})]


@pytest.mark.parametrize("known", [True, False], ids=["ours", "made by somebody else"])
async def test_an_opt_out_goes_though_its_record_is_filtered_out(known: bool) -> None:
    async with consent_rig(FILTERED) as rig:
        if known:
            await rig.apply(row(rig))
            minute(rig)
        else:
            made_by_somebody(rig)
        name = stored(rig)["firstName"]

        result = await rig.apply(row(rig, address1_city="Bergen", firstname="Anna", donotemail=True))

        assert (result.outcome, flag(rig), stored(rig)["firstName"]) == ("filtered", True, name)


async def test_an_opt_out_goes_though_its_record_is_to_be_deleted_and_that_is_held() -> None:
    async with consent_rig(DELETING) as rig:
        await rig.apply(row(rig))
        minute(rig)
        rig.limit = 0

        await rig.apply(row(rig, address1_city="Bergen", donotemail=True))

        assert flag(rig)


@pytest.mark.parametrize("then", ["filtered out", "deleted"])
async def test_an_opt_out_does_not_wait_for_the_children_that_its_delete_waits_for(then: str) -> None:
    """Rule 1: for as long as the profile is there."""
    async with consent_rig({**DELETING, "apply_deletes": True}, VEHICLES) as rig:
        await rig.apply(row(rig))
        minute(rig)
        rig.settled = datetime.min.replace(tzinfo=UTC)
        change = rig.handler.change(row(rig, address1_city="Bergen", donotemail=True))
        if then == "deleted":
            change, _ = rig.handler.merge(change, rig.handler.change(rig.contact(op="delete")))
        for _ in range(3):
            with pytest.raises(ParkError):
                await rig.write(change)
        assert flag(rig)
        assert [method for method, _ in rig.calls()][1:] == ["PATCH"], "once"

        rig.settled = datetime.max.replace(tzinfo=UTC)
        await rig.write(change)

        assert rig.sandbox.get("profile", PERSON) is None


@pytest.mark.parametrize("then", ["filtered out", "deleted"])
async def test_an_opt_out_that_went_to_the_dead_letters_leaves_with_the_next_event_whatever_it_is(then: str) -> None:
    """Its letter will be older than that."""
    async with consent_rig(FILTERED) as rig:
        rig.sandbox.put("profile", {"externalId": PERSON})
        away = rig.handler.change(row(rig, donotemail=True))
        rig.known[PERSON] = replace(rig.handler.rejected(away, None), outcome="dead_lettered")
        minute(rig)

        await rig.apply(row(rig, donotemail=True, address1_city="Bergen") if then == "filtered out" else row(rig, op="delete"))

        assert rig.sandbox.get("profile", PERSON) is None if then == "deleted" else flag(rig)  # an earlier integration had made it


async def test_an_opt_out_makes_no_profile_of_who_never_passed_the_filter() -> None:
    async with consent_rig(FILTERED) as rig:
        result = await rig.apply(row(rig, address1_city="Bergen", donotemail=True))

        assert (result.outcome, rig.sandbox.rows("profile")) == ("filtered", [])


@pytest.mark.parametrize("known", [True, False], ids=["ours", "made by somebody else"])
async def test_an_opt_out_that_campaign_holds_already_is_not_sent(rig: Rig, known: bool) -> None:
    if known:
        await rig.apply(row(rig))
    else:
        made_by_somebody(rig)
    says_no(rig)
    minute(rig)

    for _ in range(2):
        await rig.apply(row(rig, donotemail=True))

    assert flag(rig)
    assert rig.sandbox.accounting.unchanged_opt_out_writes == 0


async def test_an_opt_out_on_its_way_is_neither_sent_twice_nor_lost_after_a_crash(rig: Rig) -> None:
    await rig.apply(row(rig))
    minute(rig)
    before, event = rig.known[PERSON], row(rig, donotemail=True, firstname="Anna")
    await rig.apply(event)
    rig.known[PERSON] = before

    await rig.apply(event)

    assert flag(rig)
    assert rig.sandbox.accounting.unchanged_opt_out_writes == 0


@pytest.mark.parametrize("body", ["", BARE_500])
@pytest.mark.parametrize("method", ["PATCH", "GET", ""])
async def test_an_opt_out_is_not_given_up_after_hours_of_bare_500(rig: Rig, method: str, body: str) -> None:
    await rig.apply(row(rig))
    minute(rig)
    event = row(rig, donotemail=True, donotphone=True)
    rig.sandbox.ledger.faults.append(Fault("status", method, "/profile/", 500, body))
    if method == "GET":  # which is needed for a profile that is not known to be ours
        rig.known.clear()

    for _ in range(30):
        with pytest.raises(ParkError) as caught:
            await rig.apply(event)
        assert (caught.value.budget_s or 0) >= DAY_S
        assert (caught.value.attempts, caught.value.opt_outs) == (None, 2)
        minute(rig, 30)

    rig.sandbox.ledger.faults.clear()
    await rig.apply(event)
    assert (flag(rig), flag(rig, PHONE)) == (True, True)


async def test_a_creation_with_an_opt_out_is_not_given_up_after_hours_of_bare_500(rig: Rig) -> None:
    event = row(rig, donotemail=True)
    rig.sandbox.ledger.faults.append(Fault("status", "POST", "/profile", 500, BARE_500))

    for _ in range(30):
        with pytest.raises(ParkError) as caught:
            await rig.apply(event)
        assert (caught.value.budget_s or 0) >= DAY_S
        assert (caught.value.attempts, caught.value.opt_outs) == (None, 1)
        minute(rig, 30)

    rig.sandbox.ledger.faults.clear()
    await rig.apply(event)
    assert flag(rig)


async def test_a_flag_that_campaign_refuses_waits_and_is_not_given_up(rig: Rig) -> None:
    """consent.md rule 1: a raise that cannot be written waits with the budget of a day and more."""
    await rig.apply(row(rig))
    minute(rig)
    rig.sandbox.settings.refuse = [{"resource": "profile", "field": EMAIL, "contains": "True"}]

    with pytest.raises(ParkError) as caught:
        await rig.apply(row(rig, donotemail=True))

    assert (caught.value.budget_s or 0) >= DAY_S
    assert caught.value.opt_outs == 1


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("method", ["PATCH", "GET"])
@pytest.mark.parametrize("known", [True, False], ids=["ours", "made by somebody else"])
async def test_an_opt_out_waits_while_campaign_is_away(rig: Rig, known: bool, method: str, status: int) -> None:
    if known:
        await rig.apply(row(rig))
        minute(rig)
    else:
        made_by_somebody(rig)
    event = row(rig, donotemail=True)
    rig.sandbox.ledger.faults.append(Fault("status", method, "", status, times=12))

    for _ in range(12):
        with pytest.raises(RetryError) as caught:
            await rig.apply(event)
        assert caught.value.attempts is None
        assert caught.value.opt_outs == 1
        minute(rig)

    await rig.apply(event)
    assert flag(rig)


async def test_a_profile_is_made_with_its_opt_outs(rig: Rig) -> None:
    await rig.apply(row(rig, donotemail=True))

    ((method, body),) = bodies(rig)
    assert (method, body[EMAIL], body.get(PHONE, False)) == ("POST", True, False)


@pytest.mark.parametrize("way", ["left the filter", "deleted"])
@pytest.mark.parametrize("lane", ["live", "initial", "replay", "resync"])
async def test_a_profile_that_we_deleted_comes_back_with_what_its_person_said_in_campaign(way: str, lane: Any) -> None:
    async with consent_rig(DELETING) as rig:
        await rig.apply(row(rig))
        minute(rig)
        says_no(rig)
        minute(rig)
        await rig.apply(row(rig, address1_city="Bergen") if way == "left the filter" else row(rig, op="delete"))
        assert rig.sandbox.get("profile", PERSON) is None
        minute(rig)

        result = await rig.apply(row(rig, lane=lane))

        assert (result.outcome, flag(rig), flag(rig, PHONE)) == ("created", True, False)
        assert bodies(rig)[-1][1].get(EMAIL) is True  # with the creation: never a moment without


@pytest.mark.parametrize("now", [True, None])
async def test_a_profile_deleted_by_hand_comes_back_with_its_opt_outs(rig: Rig, now: bool | None) -> None:
    """`now`: what Dynamics has when it comes back; an empty column takes nothing back."""
    await rig.apply(row(rig, donotemail=True))
    minute(rig)
    await rig.apply(row(rig, donotemail=now))
    rig.sandbox.remove("profile", PERSON)
    minute(rig)

    result = await rig.apply(row(rig, donotemail=now, firstname="Anna"))

    assert (result.outcome, flag(rig)) == ("created", True)
    assert bodies(rig)[-1][1].get(EMAIL) is True


async def test_an_opt_out_and_a_profile_deleted_by_hand_meet(rig: Rig) -> None:
    await rig.apply(row(rig))
    rig.sandbox.remove("profile", PERSON)
    minute(rig)

    result = await rig.apply(row(rig, donotemail=True))

    assert (result.outcome, flag(rig), stored(rig)["firstName"]) == ("created", True, "Ann")


async def test_a_mapping_of_flags_alone_raises_as_well() -> None:
    async with consent_rig({**MAPPING, "fields": MAPPING["fields"][3:], "replacements": []}) as rig:
        rig.sandbox.put("profile", {"externalId": PERSON})

        await rig.apply(row(rig, donotemail=True))

        assert flag(rig)
