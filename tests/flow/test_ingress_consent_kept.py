"""consent.md rule 2 at ingress: what is no live change TRUE → FALSE, seen on both sides, takes no opt-out back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from bridge.model.events import Lane
from bridge.model.state import Digests
from tests.clock import START
from tests.flow import handling
from tests.flow.consenting import (
    EMAIL,
    MAPPING,
    PHONE,
    WITHOUT_FLAGS,
    another,
    consent_rig,
    flag,
    minute,
    row,
    says_no,
    stored,
)
from tests.flow.handling import PERSON, Rig

LANES: tuple[Lane, ...] = ("live", "initial", "replay", "resync")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with consent_rig() as made:
        yield made


async def opted_out_in_both(rig: Rig) -> None:
    """TRUE came from Dynamics, live."""
    await rig.apply(row(rig))
    minute(rig)
    await rig.apply(row(rig, donotemail=True))
    assert flag(rig)
    minute(rig)


async def opted_out_in_campaign(rig: Rig) -> None:
    """Dynamics has FALSE, as it always had."""
    await rig.apply(row(rig))
    minute(rig)
    says_no(rig)
    minute(rig)


async def follow_up(rig: Rig) -> None:
    """Later live changes of other columns, the flags as they are."""
    for name in ("Anna", "Annabel"):
        minute(rig)
        await rig.apply(row(rig, firstname=name))
        assert stored(rig)["firstName"] == name


def never_lowered(rig: Rig) -> bool:
    """Campaign has the opt-out, and nobody has tried to take one back."""
    bodies = [each["fields"] or {} for each in rig.sandbox.writes() if each["method"] == "PATCH"]
    return flag(rig) and not any(body.get(name) is False for body in bodies for name in (EMAIL, PHONE))


@pytest.mark.parametrize("lane", LANES)
async def test_a_profile_that_was_there_keeps_its_opt_out(rig: Rig, lane: Lane) -> None:
    rig.sandbox.put("profile", {"externalId": PERSON, "firstName": "Old", EMAIL: True})
    minute(rig)

    result = await rig.apply(row(rig, lane=lane))

    assert stored(rig)["firstName"] == "Ann"
    assert result.more.get("optout_kept") == 1
    await follow_up(rig)
    assert never_lowered(rig)


@pytest.mark.parametrize("lane", LANES)
async def test_what_a_person_said_in_campaign_is_kept(rig: Rig, lane: Lane) -> None:
    await opted_out_in_campaign(rig)

    await rig.apply(row(rig, lane=lane, firstname="Anne"))

    await follow_up(rig)
    assert never_lowered(rig)


@pytest.mark.parametrize("lane", LANES[1:])
async def test_a_false_of_a_load_a_replay_or_a_resync_is_none_though_true_was_seen(rig: Rig, lane: Lane) -> None:
    await opted_out_in_both(rig)

    result = await rig.apply(row(rig, lane=lane))

    assert result.more.get("optout_kept") == 1
    await follow_up(rig)
    assert never_lowered(rig)


@pytest.mark.parametrize("lane", LANES)
async def test_lost_state_takes_nothing_back(rig: Rig, lane: Lane) -> None:
    await opted_out_in_both(rig)
    rig.known.clear()

    await rig.apply(row(rig, lane=lane))

    await follow_up(rig)
    assert never_lowered(rig)


@pytest.mark.parametrize("lane", LANES)
async def test_another_key_of_the_digests_takes_nothing_back(rig: Rig, lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    await opted_out_in_campaign(rig)
    monkeypatch.setattr(handling, "Digests", lambda _: Digests("another"))
    await rig.build(MAPPING)

    await rig.apply(row(rig, lane=lane))

    await follow_up(rig)
    assert never_lowered(rig)


@pytest.mark.parametrize("lane", LANES)
async def test_a_flag_that_is_mapped_later_takes_nothing_back(lane: Lane) -> None:
    async with consent_rig(WITHOUT_FLAGS) as rig:
        await rig.apply(row(rig))
        says_no(rig)
        minute(rig)
        await rig.build(MAPPING)

        await rig.apply(row(rig, lane=lane))

        await follow_up(rig)
        assert never_lowered(rig)


async def test_a_flag_mapped_again_after_a_time_without_takes_nothing_back(rig: Rig) -> None:
    """What was seen before the mapping went is no other side of a change that came after."""
    await opted_out_in_both(rig)
    await rig.build(WITHOUT_FLAGS)
    await rig.apply(row(rig, firstname="Anne"))
    minute(rig)
    await rig.build(MAPPING)

    await rig.apply(row(rig, lane="resync"))

    await follow_up(rig)
    assert never_lowered(rig)


async def test_an_event_that_comes_again_takes_nothing_back(rig: Rig) -> None:
    event = row(rig)
    await rig.apply(event)
    minute(rig)
    says_no(rig)

    await rig.apply(event)
    rig.known.clear()
    await rig.apply(event)

    assert never_lowered(rig)


async def test_a_change_that_comes_again_after_a_crash_does_not_take_back_what_was_said_since(rig: Rig) -> None:
    await opted_out_in_both(rig)
    before, event = rig.known[PERSON], row(rig)
    await rig.apply(event)
    assert not flag(rig)
    minute(rig)
    says_no(rig)
    minute(rig)
    rig.known[PERSON] = before

    await rig.apply(event)

    assert flag(rig)
    await follow_up(rig)
    assert flag(rig)


async def test_another_instance_without_the_state_takes_nothing_back(rig: Rig) -> None:
    await opted_out_in_both(rig)
    other = await another(rig)

    await other.apply(row(rig))

    assert never_lowered(rig)


@pytest.mark.parametrize("lane", LANES)
async def test_an_empty_column_is_no_false(rig: Rig, lane: Lane) -> None:
    await opted_out_in_both(rig)

    await rig.apply(row(rig, lane=lane, donotemail=None))

    assert never_lowered(rig)


async def test_true_then_empty_then_false_is_no_word(rig: Rig) -> None:
    await opted_out_in_both(rig)
    await rig.apply(row(rig, donotemail=None))
    minute(rig)

    await rig.apply(row(rig))

    await follow_up(rig)
    assert never_lowered(rig)


async def test_true_then_unreadable_then_false_is_no_word(rig: Rig) -> None:
    await opted_out_in_both(rig)
    await rig.apply(row(rig, donotemail="perhaps", firstname="Anne"))
    minute(rig)

    await rig.apply(row(rig))

    assert never_lowered(rig)


async def test_a_true_of_a_replay_is_a_side_of_the_change_as_well(rig: Rig) -> None:
    """It is written whatever brings it; the live FALSE after it is a change seen on both sides."""
    await rig.apply(row(rig))
    minute(rig)
    await rig.apply(row(rig, lane="replay", donotemail=True))
    assert flag(rig)
    minute(rig)

    await rig.apply(row(rig))

    assert not flag(rig)


async def test_an_older_event_takes_nothing_back(rig: Rig) -> None:
    await rig.apply(row(rig, version=400))
    minute(rig)
    await rig.apply(row(rig, version=500, donotemail=True))
    minute(rig)

    result = await rig.apply(row(rig, version=499))

    assert (result.outcome, never_lowered(rig)) == ("stale", True)


async def test_an_event_of_the_same_version_takes_nothing_back_and_may_still_say_no(rig: Rig) -> None:
    await rig.apply(row(rig, version=500, donotemail=True))
    minute(rig)

    await rig.apply(row(rig, version=500, at=START))
    await rig.apply(row(rig, version=500, at=START, donotemail=True, donotphone=True))

    assert (never_lowered(rig), flag(rig, PHONE)) == (True, True)


async def test_a_filtered_row_takes_nothing_back_when_it_returns() -> None:
    filtered = {**MAPPING, "filter": {"conditions": [{"field": "address1_city", "operator": "eq", "value": "Oslo"}]}}
    async with consent_rig(filtered) as rig:
        rig.sandbox.put("profile", {"externalId": PERSON, EMAIL: True})
        minute(rig)
        for city in ("Bergen", "Oslo", "Bergen", "Oslo"):
            await rig.apply(row(rig, address1_city=city))
            minute(rig)

        assert never_lowered(rig)


async def test_an_event_without_a_version_takes_nothing_back_where_it_is_older_by_time(rig: Rig) -> None:
    """consent.md rule 2: the word FALSE has to be later than the word TRUE it takes back."""
    before = replace(row(rig), version=None)
    minute(rig)
    await opted_out_in_both(rig)

    await rig.apply(before)

    assert never_lowered(rig)


async def test_a_contact_that_was_gone_takes_nothing_back_when_it_returns() -> None:
    """It may be restored with what it once held."""
    async with consent_rig({**MAPPING, "apply_deletes": False}) as rig:
        await rig.apply(row(rig, donotemail=True))
        minute(rig)
        await rig.apply(row(rig, op="delete"))
        minute(rig)

        await rig.apply(row(rig))

        assert flag(rig)


async def test_a_row_whose_time_has_gone_back_takes_nothing_back(rig: Rig) -> None:
    """It was imported, or restored: the version is new, the time is not."""
    before = rig.clock.now()
    minute(rig)
    await rig.apply(row(rig, donotemail=True))
    minute(rig)

    await rig.apply(row(rig, at=before))

    assert flag(rig)
