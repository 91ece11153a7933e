"""A profile whose key an older integration wrote in capital letters (K16, case F12) is the contact's profile: none is made beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from bridge.model.errors import RejectError
from bridge.model.events import Op
from tests.flow.consenting import EMAIL, FILTERED, MAPPING, PHONE, consent_rig, flag, minute, row, stored
from tests.flow.handling import Rig

LOWER_CASE = "11111111-2222-4333-8444-abcdabcdabcd"
CAPITALS = LOWER_CASE.upper()


@pytest.fixture
async def capitals() -> AsyncIterator[Rig]:
    async with consent_rig() as made:
        made.sandbox.put("profile", {"externalId": CAPITALS, "email": "ann@example.com", EMAIL: True})
        minute(made)
        await made.build(MAPPING)
        yield made


async def test_a_profile_with_its_key_in_capitals_is_adopted_and_keeps_its_opt_out(capitals: Rig) -> None:
    result = await capitals.apply(row(capitals, LOWER_CASE))

    (profile,) = capitals.sandbox.rows("profile")
    assert (result.outcome, profile["externalId"], profile["firstName"], profile[EMAIL]) == ("updated", CAPITALS, "Ann", True)


async def test_what_comes_later_goes_to_the_key_in_capitals(capitals: Rig) -> None:
    rig = capitals
    rig.optin.names = frozenset({EMAIL})
    await rig.apply(row(rig, LOWER_CASE))
    minute(rig)
    await rig.apply(row(rig, LOWER_CASE, firstname="Anna", donotphone=True))
    assert (stored(rig, CAPITALS)["firstName"], flag(rig, PHONE, CAPITALS)) == ("Anna", True)
    minute(rig)
    await rig.apply(row(rig, LOWER_CASE, firstname="Anna"))
    assert (flag(rig, EMAIL, CAPITALS), flag(rig, PHONE, CAPITALS)) == (True, False)

    result = await rig.apply(row(rig, LOWER_CASE, op="delete"))

    assert (result.outcome, rig.sandbox.rows("profile")) == ("deleted", [])
    assert {event.contact_key for event in rig.told_optin} == {LOWER_CASE}


@pytest.mark.parametrize("op", ["upsert", "delete"])
async def test_a_key_in_capitals_is_found_again_without_state(capitals: Rig, op: Op) -> None:
    await capitals.apply(row(capitals, LOWER_CASE))
    capitals.known.clear()

    event = row(capitals, LOWER_CASE, firstname="Anna")
    await capitals.apply(replace(event, op=op, fields=event.fields if op == "upsert" else {}))

    assert [each["firstName"] for each in capitals.sandbox.rows("profile")] == (["Anna"] if op == "upsert" else [])


async def test_an_opt_out_of_a_key_in_capitals_survives_a_bad_neighbour(capitals: Rig) -> None:
    with pytest.raises(RejectError):
        await capitals.apply(row(capitals, LOWER_CASE, donotphone=True, gendercode=3))

    assert (flag(capitals, PHONE, CAPITALS), len(capitals.sandbox.rows("profile"))) == (True, 1)


async def test_an_opt_out_of_a_key_in_capitals_goes_though_its_record_is_filtered_out(capitals: Rig) -> None:
    await capitals.build(FILTERED)

    await capitals.apply(row(capitals, LOWER_CASE, donotphone=True, address1_city="Bergen"))

    assert (flag(capitals, PHONE, CAPITALS), len(capitals.sandbox.rows("profile"))) == (True, 1)


async def test_one_key_in_capitals_behind_many_others_is_adopted_as_well() -> None:
    async with consent_rig() as rig:
        for number in range(501):
            rig.sandbox.put("profile", {"externalId": f"{number:08d}-2222-4333-8444-abcdabcdabcd"})
        rig.sandbox.put("profile", {"externalId": CAPITALS, EMAIL: True})
        minute(rig)
        await rig.build(MAPPING)

        await rig.apply(row(rig, LOWER_CASE))

        assert rig.sandbox.get("profile", LOWER_CASE) is None


async def test_a_profile_in_capitals_that_we_deleted_comes_back_opted_out(capitals: Rig) -> None:
    await capitals.apply(row(capitals, LOWER_CASE))
    await capitals.apply(row(capitals, LOWER_CASE, op="delete"))
    minute(capitals)

    await capitals.apply(row(capitals, LOWER_CASE))

    (profile,) = capitals.sandbox.rows("profile")
    assert profile[EMAIL] is True
