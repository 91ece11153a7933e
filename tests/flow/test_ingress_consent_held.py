"""What the guard holds at ingress: it stays held until it is released or made void, and a release looks once more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from bridge.model.errors import RetryError
from bridge.model.events import Lane
from sandbox.web import Fault
from tests.flow.consenting import (
    DELETING,
    EMAIL,
    PHONE,
    bodies,
    consent_rig,
    flag,
    let_go,
    minute,
    proofs,
    row,
    says_no,
    stored,
)
from tests.flow.handling import PERSON, Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with consent_rig() as made:
        yield made


async def lower_held(rig: Rig) -> None:
    await rig.apply(row(rig, donotemail=True))
    minute(rig)
    rig.limit = 0
    await rig.apply(row(rig))
    rig.limit = 100
    minute(rig)
    assert flag(rig)
    assert len(proofs(rig, guard="held", kind="release")) == 1


async def delete_held(rig: Rig) -> None:
    await rig.apply(row(rig))
    minute(rig)
    rig.limit = 0
    await rig.apply(row(rig, op="delete"))
    rig.limit = 100
    minute(rig)
    assert there(rig)
    assert len(proofs(rig, guard="held", kind="delete")) == 1


def there(rig: Rig) -> bool:
    return rig.sandbox.get("profile", PERSON) is not None


@pytest.mark.parametrize("lane", ["live", "replay", "resync"])
@pytest.mark.parametrize("firstname", ["Ann", "Anna"])
async def test_a_held_lower_is_not_let_go_by_time(rig: Rig, lane: Lane, firstname: str) -> None:
    await lower_held(rig)

    for _ in range(3):
        minute(rig, 61)
        await rig.apply(row(rig, lane=lane, firstname=firstname))

    assert (flag(rig), stored(rig)["firstName"]) == (True, firstname)


async def test_a_held_lower_is_not_let_go_by_lost_state(rig: Rig) -> None:
    await lower_held(rig)
    minute(rig, 61)
    rig.known.clear()

    await rig.apply(row(rig))

    assert flag(rig)


async def test_a_release_does_what_was_held(rig: Rig) -> None:
    await lower_held(rig)
    writes = len(rig.sandbox.writes())

    await let_go(rig)

    assert not flag(rig)
    assert bodies(rig, writes) == [("PATCH", {EMAIL: False})]
    ((decision, headers),) = proofs(rig, outcome="executed")
    assert (decision.contact_key, dict(decision.flags), headers["status"]) == (PERSON, {EMAIL: False}, "200")
    assert "guard" not in headers


async def test_a_release_goes_though_the_hour_is_full(rig: Rig) -> None:
    await lower_held(rig)
    rig.limit = 0

    await let_go(rig)

    assert not flag(rig)


async def test_a_release_does_it_once(rig: Rig) -> None:
    await lower_held(rig)
    await let_go(rig)
    minute(rig)
    says_no(rig)
    minute(rig)

    await let_go(rig)

    assert flag(rig)


async def test_a_release_of_what_is_not_held_does_nothing(rig: Rig) -> None:
    await rig.apply(row(rig, donotemail=True))
    minute(rig)

    for kind in ("release", "delete"):
        await let_go(rig, kind)

    assert flag(rig)


async def test_a_release_of_one_kind_is_none_of_the_other(rig: Rig) -> None:
    await lower_held(rig)

    await let_go(rig, "delete")

    assert (there(rig), flag(rig)) == (True, True)


async def test_a_release_does_not_take_back_what_was_said_in_campaign_since(rig: Rig) -> None:
    await lower_held(rig)
    says_no(rig)
    minute(rig)

    await let_go(rig)

    assert flag(rig)


async def test_what_is_released_is_as_old_as_its_word_though_the_contact_was_edited_since(rig: Rig) -> None:
    await lower_held(rig)
    says_no(rig)
    minute(rig)
    await rig.apply(row(rig, firstname="Bea"))
    minute(rig)

    await let_go(rig)

    assert flag(rig)


async def test_what_is_released_is_dated_by_our_clock(rig: Rig) -> None:
    """Dynamics' is ahead."""
    await rig.apply(row(rig, donotemail=True))
    minute(rig)
    rig.limit = 0
    await rig.write(rig.handler.change(row(rig, at=rig.clock.now() + timedelta(minutes=10)), ahead_ms=600_000))
    minute(rig)
    says_no(rig)
    minute(rig)

    await let_go(rig)

    assert flag(rig)


async def test_a_release_looks_before_it_writes(rig: Rig) -> None:
    await lower_held(rig)
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "/profile", 503, times=1))

    with pytest.raises(RetryError):
        await let_go(rig)
    assert flag(rig)

    await let_go(rig)
    assert not flag(rig)


async def test_a_release_says_nothing_of_the_row(rig: Rig) -> None:
    await lower_held(rig)
    before = stored(rig)

    await let_go(rig)

    after = stored(rig)
    assert [after[name] for name in ("firstName", "gender", "email", PHONE)] == [
        before[name] for name in ("firstName", "gender", "email", PHONE)
    ]
    assert (await rig.apply(row(rig, firstname="Anna"))).outcome == "updated"


@pytest.mark.parametrize("lane", ["live", "replay", "resync", "initial"])
async def test_a_new_opt_out_makes_the_held_lower_void(rig: Rig, lane: Lane) -> None:
    await lower_held(rig)

    await rig.apply(row(rig, lane=lane, donotemail=True))

    ((decision, headers),) = proofs(rig, voids="release")
    assert (decision.contact_key, headers["flags"]) == (PERSON, EMAIL)
    assert "guard" not in headers
    assert (await let_go(rig)).outcome == "stale"
    assert flag(rig)


async def test_a_held_lower_that_was_made_void_may_be_held_again(rig: Rig) -> None:
    await lower_held(rig)
    await rig.apply(row(rig, donotemail=True))
    minute(rig)
    rig.limit = 0

    await rig.apply(row(rig))

    assert len(proofs(rig, guard="held")) == 2
    await let_go(rig)
    assert not flag(rig)


async def test_an_opt_out_of_another_flag_leaves_the_held_lower(rig: Rig) -> None:
    await lower_held(rig)

    await rig.apply(row(rig, donotphone=True))

    assert (flag(rig), flag(rig, PHONE)) == (True, True)
    await let_go(rig)
    assert (flag(rig), flag(rig, PHONE)) == (False, True)


@pytest.mark.parametrize("event", ["delete", "again"])
async def test_a_held_delete_is_not_let_go_by_time(rig: Rig, event: str) -> None:
    await delete_held(rig)
    minute(rig, 61)
    again = row(rig, op="delete", version=None if event == "delete" else rig.known[PERSON].version)

    await rig.apply(again)

    assert there(rig)


async def test_a_held_delete_of_a_filter_stays_held_while_the_row_changes() -> None:
    async with consent_rig(DELETING) as rig:
        await rig.apply(row(rig))
        rig.limit = 0
        await rig.apply(row(rig, address1_city="Bergen"))
        rig.limit = 100
        minute(rig, 61)

        await rig.apply(row(rig, address1_city="Bergen", firstname="Anna"))
        assert there(rig)

        await let_go(rig, "delete")
        assert not there(rig)


async def test_a_release_of_a_delete_deletes(rig: Rig) -> None:
    await delete_held(rig)
    rig.optin.names = frozenset({EMAIL})
    rig.limit = 0

    await let_go(rig, "delete")

    assert not there(rig)
    ((decision, _),) = proofs(rig, outcome="executed")
    assert (decision.contact_key, dict(decision.flags)) == (PERSON, {})
    assert rig.told_optin[-1].gone


async def test_a_profile_whose_held_delete_was_released_comes_back_with_its_opt_outs(rig: Rig) -> None:
    await delete_held(rig)
    says_no(rig)
    minute(rig)
    await let_go(rig, "delete")
    assert not there(rig)

    await rig.apply(row(rig))

    assert flag(rig)


@pytest.mark.parametrize("lane", ["live", "replay"])
async def test_a_record_that_returns_makes_the_held_delete_void(rig: Rig, lane: Lane) -> None:
    await delete_held(rig)

    await rig.apply(row(rig, lane=lane, firstname="Anna"))

    ((decision, headers),) = proofs(rig, voids="delete")
    assert (decision.contact_key, "guard" in headers) == (PERSON, False)
    assert stored(rig)["firstName"] == "Anna"
    assert (await let_go(rig, "delete")).outcome == "stale"
    assert there(rig)


async def test_a_row_that_returns_into_the_filter_makes_the_held_delete_void() -> None:
    async with consent_rig(DELETING) as rig:
        await rig.apply(row(rig))
        rig.limit = 0
        await rig.apply(row(rig, address1_city="Bergen"))
        minute(rig)

        await rig.apply(row(rig))

        assert len(proofs(rig, voids="delete")) == 1
        await let_go(rig, "delete")
        assert there(rig)


async def test_an_opt_out_in_campaign_goes_on_while_a_delete_is_held(rig: Rig) -> None:
    await delete_held(rig)
    says_no(rig)
    minute(rig)

    await rig.apply(row(rig))

    assert flag(rig)
