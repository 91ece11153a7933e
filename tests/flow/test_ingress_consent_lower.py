"""consent.md rules 2, 5 and 6 at ingress: what takes an opt-out back, and what Campaign's flag and its time say just before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from bridge.kafka.avro import Encoder, load_schema
from bridge.model.errors import RetryError
from bridge.model.events import OURS, Lane, Record
from sandbox.web import Fault
from tests.clock import START
from tests.flow.consenting import EMAIL, PHONE, bodies, consent_rig, flag, minute, row, says_no, stored
from tests.flow.handling import PERSON, Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with consent_rig() as made:
        yield made


async def opted_out(rig: Rig, **columns: Any) -> None:
    """TRUE came from Dynamics, live."""
    await rig.apply(row(rig))
    minute(rig)
    await rig.apply(row(rig, **(columns or {"donotemail": True})))
    minute(rig)


def gets(rig: Rig) -> int:
    return rig.sandbox.ledger.requests["GET profile"]


async def test_a_change_seen_on_both_sides_takes_it_back_after_a_look(rig: Rig) -> None:
    await opted_out(rig)
    looks, writes = gets(rig), len(rig.sandbox.writes())

    result = await rig.apply(row(rig, firstname="Anna"))

    assert (result.outcome, flag(rig), stored(rig)["firstName"]) == ("updated", False, "Anna")
    assert gets(rig) == looks + 1
    sent = [body for _, body in bodies(rig, writes)]
    assert {EMAIL: False} in sent or {EMAIL: False, "firstName": "Anna"} in sent


async def test_nothing_is_taken_back_unseen(rig: Rig) -> None:
    await opted_out(rig)
    event = row(rig)
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "/profile", 503, times=1))

    with pytest.raises(RetryError):
        await rig.apply(event)
    assert flag(rig)

    await rig.apply(event)
    assert not flag(rig)


async def test_a_raise_goes_before_a_lower(rig: Rig) -> None:
    await opted_out(rig)
    writes = len(rig.sandbox.writes())

    await rig.apply(row(rig, donotphone=True))

    sent = bodies(rig, writes)
    assert sent[0] == ("PATCH", {PHONE: True})
    assert (flag(rig), flag(rig, PHONE)) == (False, True)


async def test_a_raise_does_not_wait_for_the_look_before_a_lower(rig: Rig) -> None:
    await opted_out(rig)
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "/profile", 503, skip=1))  # the raise has a look of its own

    with pytest.raises(RetryError):
        await rig.apply(row(rig, donotphone=True))

    assert (flag(rig), flag(rig, PHONE)) == (True, True)


@pytest.mark.parametrize("seconds", [0, 0.4, 1, 30], ids=lambda seconds: f"{seconds} s later")
async def test_what_was_said_in_campaign_since_is_not_taken_back(rig: Rig, seconds: float) -> None:
    """Within the second of the change nobody knows which was first: in doubt TRUE."""
    await opted_out(rig)
    change = row(rig)
    assert change.changed_at is not None
    says_no(rig, change.changed_at + timedelta(seconds=seconds))
    minute(rig)

    await rig.apply(change)

    assert flag(rig)
    minute(rig)
    await rig.apply(row(rig, firstname="Anna"))
    assert (flag(rig), stored(rig)["firstName"]) == (True, "Anna")


async def test_what_was_said_in_campaign_before_is_taken_back(rig: Rig) -> None:
    await opted_out(rig)
    says_no(rig)
    minute(rig)

    await rig.apply(row(rig))

    assert not flag(rig)


async def test_an_opt_out_without_a_time_in_campaign_is_not_taken_back(rig: Rig) -> None:
    await opted_out(rig)
    says_no(rig)
    del rig.sandbox.database.tables["profile"].by_key[PERSON].values[f"{EMAIL}LastModified"]
    minute(rig)

    await rig.apply(row(rig))

    assert flag(rig)


async def test_our_own_write_of_a_moment_ago_is_no_word(rig: Rig) -> None:
    """Written a minute after it was said, and taken back in Dynamics meanwhile."""
    await rig.apply(row(rig))
    minute(rig)
    said = row(rig, donotemail=True)
    rig.clock.advance(20)
    taken_back = row(rig)
    rig.clock.advance(40)

    await rig.apply(said)
    assert flag(rig)
    rig.clock.advance(1)
    await rig.apply(taken_back)

    assert not flag(rig)


async def test_a_word_after_our_own_write_of_a_moment_ago_stands(rig: Rig) -> None:
    await rig.apply(row(rig))
    minute(rig)
    said = row(rig, donotemail=True)
    rig.clock.advance(20)
    taken_back = row(rig)
    rig.clock.advance(40)
    await rig.apply(said)
    rig.clock.advance(5)
    says_no(rig)
    rig.clock.advance(5)

    await rig.apply(taken_back)

    assert flag(rig)


async def test_a_clock_of_campaign_that_is_behind_takes_nothing_back(rig: Rig) -> None:
    rig.sandbox.advance(-300)
    await opted_out(rig)
    change = row(rig)
    minute(rig)
    says_no(rig)  # a minute after the change, and four before by Campaign's clock
    minute(rig)

    await rig.apply(change)

    assert flag(rig)


async def test_a_difference_of_clocks_too_small_to_be_measured_is_a_doubt(rig: Rig) -> None:
    """consent.md rule 5: in doubt TRUE. By the second of an answer's date, 1.5 s look like 1.6 s and may be none."""
    rig.sandbox.advance(-1.5)
    await opted_out(rig)
    change = row(rig)
    rig.clock.advance(1.2)
    says_no(rig)  # after the change, and before by Campaign's clock
    rig.clock.advance(59.4)

    await rig.apply(change)

    assert flag(rig)


async def test_what_campaign_does_not_hold_is_not_sent(rig: Rig) -> None:
    await opted_out(rig)
    rig.sandbox.opt_out(PERSON, EMAIL, False)
    minute(rig)

    await rig.apply(row(rig))

    assert not flag(rig)
    assert rig.sandbox.accounting.unchanged_opt_out_writes == 0


async def test_one_flag_is_taken_back_and_the_other_one_is_not(rig: Rig) -> None:
    await opted_out(rig, donotemail=True, donotphone=True)
    change = row(rig, donotemail=False, donotphone=False)
    minute(rig)
    says_no(rig, name=PHONE)
    minute(rig)

    await rig.apply(change)

    assert (flag(rig), flag(rig, PHONE)) == (False, True)


async def test_a_profile_that_is_gone_by_then_is_made_again_without_what_was_taken_back(rig: Rig) -> None:
    await opted_out(rig)
    rig.sandbox.remove("profile", PERSON)

    result = await rig.apply(row(rig, firstname="Anna"))

    assert (result.outcome, flag(rig)) == ("created", False)


async def test_versions_that_started_over_are_not_stale(rig: Rig) -> None:
    await rig.apply(row(rig, version=500))
    minute(rig)

    await rig.apply(row(rig, version=10, epoch=1, donotemail=True, firstname="Anna"))

    assert (flag(rig), stored(rig)["firstName"]) == (True, "Anna")
    late = await rig.apply(row(rig, version=600, firstname="Late"))
    assert (late.outcome, flag(rig), stored(rig)["firstName"]) == ("stale", True, "Anna")


async def test_a_false_after_versions_started_over_is_a_restore_and_no_word(rig: Rig) -> None:
    """TRUE was seen before the restore, FALSE after: nobody changed it. What changes from here on counts again."""
    await rig.apply(row(rig, version=400))
    minute(rig)
    await rig.apply(row(rig, version=500, donotemail=True))
    minute(rig)

    await rig.apply(row(rig, version=10, epoch=1))
    assert flag(rig)

    minute(rig)
    await rig.apply(row(rig, version=11, epoch=1, donotemail=True))
    minute(rig)
    await rig.apply(row(rig, version=12, epoch=1))
    assert not flag(rig)


@pytest.mark.parametrize("lane", ["live", "initial", "replay", "resync"])
async def test_an_opt_out_that_is_old_by_version_and_new_by_time_is_not_dropped(rig: Rig, lane: Lane) -> None:
    """consent.md rule 6; the rest of such a record is stale."""
    await rig.apply(row(rig, version=500))
    minute(rig)

    await rig.apply(row(rig, version=400, lane=lane, donotemail=True, firstname="Old"))

    assert (flag(rig), stored(rig)["firstName"]) == (True, "Ann")


async def test_an_opt_out_that_was_taken_back_does_not_return_with_an_old_event(rig: Rig) -> None:
    await rig.apply(row(rig))
    minute(rig)
    said = row(rig, donotemail=True)
    await rig.apply(said)
    minute(rig)
    await rig.apply(row(rig))
    assert not flag(rig)

    result = await rig.apply(said)

    assert (result.outcome, flag(rig)) == ("stale", False)


async def test_an_import_that_sets_the_time_back_says_no_all_the_same(rig: Rig) -> None:
    await rig.apply(row(rig))
    minute(rig)

    await rig.apply(row(rig, at=START - timedelta(days=300), donotemail=True))

    assert flag(rig)


@pytest.mark.parametrize("ours", [True, False])
async def test_what_opt_in_out_wrote_to_dynamics_is_nobodys_word(rig: Rig, ours: bool) -> None:
    """The same column may be mapped to one flag here and to another one there."""
    await opted_out(rig)
    schema = load_schema("ChangeEvent")
    value = Encoder(schema, rig.registry.register("ingress.changes.contact-value", schema)).encode(row(rig))
    headers = [(OURS, b"1")] if ours else []

    await rig.write(await rig.handler.decode(Record("ingress.changes.contact", 0, 0, 0, PERSON.encode(), value, headers)))

    assert flag(rig) is ours


async def test_what_was_said_in_campaign_just_after_our_write_is_not_taken_for_it(rig: Rig) -> None:
    await rig.apply(row(rig))
    minute(rig)
    await rig.apply(row(rig, donotemail=True))
    rig.clock.advance(1)
    says_no(rig)

    await rig.apply(row(rig))

    assert flag(rig)
