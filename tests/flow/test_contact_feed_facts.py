"""What the feed of contacts tells beside the flags: who changed them, when was looked before, merges, clocks, source epochs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from bridge.model.errors import HaltError, RetryError
from sandbox.dynamics.restoring import Backup
from sandbox.web import Fault
from services.optin.contact_feed import CURSOR
from tests.flow.observing import FLAGS, TABLE, Rig, serving_contacts

ANOTHER = "22222222-0000-4000-8000-00000000000a"
SECOND = timedelta(seconds=1)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with serving_contacts() as made:
        yield made


async def by_us(rig: Rig, key: str, **flags: bool) -> None:
    """As the writer of Opt In/Out does, with the same application user."""
    await rig.client.patch(f"contacts({key})", flags, "*")


def same_clock(rig: Rig) -> None:
    """Ours shows what Dynamics' shows, to the second."""
    rig.clock.advance((rig.sandbox.store.now() - rig.clock.now()).total_seconds())


def lanes(rig: Rig) -> set[tuple[str, int]]:
    return {(dict(each.headers)["origin-lane"].decode(), each.event.epoch) for each in rig.log.events}


# -- who, when, whose -------------------------------------------------------------------------------------------------------------


async def test_what_our_own_application_user_changed_last_is_ours_in_every_phase(rig: Rig) -> None:
    people = rig.people(4)
    await by_us(rig, people[0], donotemail=True)
    await rig.start()
    await rig.until("live")
    loaded = {each.key: each.event.ours for each in rig.log.events}
    await by_us(rig, people[1], donotemail=True)
    rig.tick(people[0])

    polled = {each.contact_key: each.ours for each in await rig.poll()}

    assert loaded == {people[0]: True, people[1]: False, people[2]: False, people[3]: False}
    assert polled == {people[0]: False, people[1]: True}


async def test_what_changed_behind_the_load_is_told_with_who_changed_it(rig: Rig) -> None:
    people = rig.people(4)
    rig.happens[1] = lambda: rig.sandbox.store.put(TABLE, people[0], {"donotemail": True}, "11111111-0000-4000-8000-000000000001")
    await rig.start()
    await rig.until("live")

    (again,) = [each.event for each in rig.log.events[4:] if each.key == people[0]]

    assert (again.ours, again.looked_at) == (True, None)


async def test_who_we_are_is_waited_for(rig: Rig) -> None:
    people = rig.people(1)
    await rig.start()
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "WhoAmI", 503, times=1))

    with pytest.raises(RetryError):
        await rig.until("live")
    await rig.until("live")

    assert rig.keys() == people


async def test_a_merged_contact_names_its_master_in_lower_case(rig: Rig) -> None:
    loser, master = rig.people(2)
    await rig.loaded()
    rig.tick(loser)
    rig.sandbox.merge(loser, master)
    await rig.poll()

    (event,) = [each.event for each in rig.log.events if each.key == loser]

    assert (event.merged_into, event.flags["donotemail"]["value"]) == (master, True)
    assert {each.event.merged_into for each in rig.log.events if each.key != loser} <= {None}


async def test_an_upper_case_master_is_the_same_contact(rig: Rig) -> None:
    loser, master = rig.people(2)
    await rig.loaded()
    rig.sandbox.merge(loser, master)
    rig.sandbox.store.data[TABLE].rows[loser]["masterid"] = master.upper()

    (event,) = await rig.poll()

    assert event.merged_into == master


async def test_a_master_without_merged_is_no_merge(rig: Rig) -> None:
    """What is left when a merge is undone by hand."""
    loser, master = rig.people(2)
    await rig.loaded()
    rig.sandbox.merge(loser, master)
    rig.sandbox.upsert(TABLE, {"contactid": loser, "merged": False})

    (event,) = await rig.poll()

    assert event.merged_into is None


async def test_a_table_without_these_columns_is_read_all_the_same(rig: Rig) -> None:
    for name in ("merged", "masterid"):
        rig.sandbox.remove_column(TABLE, name)
    people = rig.people(2)
    await rig.loaded()
    rig.tick(people[0])

    (event,) = await rig.poll()

    assert (event.merged_into, event.flags["donotemail"]["value"]) == (None, True)
    assert not any("masterid" in str(request.url) for request in rig.asked)


async def test_the_origin_is_the_version_of_the_row(rig: Rig) -> None:
    (person,) = rig.people(1)
    await rig.loaded()
    rig.tick(person)

    (event,) = await rig.poll()

    assert event.origin == f"version {rig.row(person)['versionnumber']}"


async def test_a_mapped_flag_called_merged_is_still_a_flag(rig: Rig) -> None:
    people = rig.people(1)
    await rig.start([*FLAGS, "merged"])
    await rig.until("live")

    assert set(rig.log.events[0].event.flags) == {*FLAGS, "merged"}
    assert rig.keys() == people


async def test_a_cursor_of_an_earlier_version_reads_all_once_more_with_the_new_columns(rig: Rig) -> None:
    """Its delta link asks for the old ones, and those who changed a contact would not be told."""
    people = rig.people(3)
    await rig.loaded()
    new = ("epoch", "restored", "organisation", "newest_seen", "modified_seen", "mark", "version_seen", "looked_at", "asked_at")
    old = {name: value for name, value in (rig.cursor or {}).items() if name not in new} | {"columns": sorted(FLAGS)}
    rig.log.cursors[CURSOR] = old
    rig.tick(people[1])

    await rig.start()
    await rig.until("live")
    await rig.poll()

    assert rig.keys()[:3] == people
    assert lanes(rig) == {("resync", 0)}


# -- when was looked before -------------------------------------------------------------------------------------------------------


async def test_a_live_row_tells_when_was_looked_before_and_a_load_does_not(rig: Rig) -> None:
    people = rig.people(2)
    same_clock(rig)
    await rig.start()
    await rig.until("live")
    assert {each.event.looked_at for each in rig.log.events} == {None}
    await rig.poll()
    looked = rig.clock.now()
    await rig.poll()
    rig.clock.advance(1)
    rig.tick(people[0])

    (event,) = await rig.poll()

    assert event.looked_at is not None
    assert abs(event.looked_at - looked) <= SECOND


async def test_the_first_poll_after_a_load_tells_when_its_last_page_was_asked_for(rig: Rig) -> None:
    people = rig.people(3)
    same_clock(rig)
    await rig.start()
    await rig.until("again")
    looked = rig.clock.now()
    rig.clock.advance(1)
    await rig.until("live")
    rig.tick(people[0])

    (event,) = await rig.poll()

    assert event.looked_at == looked


async def test_all_pages_of_a_run_tell_the_look_before_the_run(rig: Rig) -> None:
    """What changes while a run is paged belongs to the next one, which was looked at when the first page of this one was."""
    people = rig.people(5)
    same_clock(rig)
    await rig.loaded()
    await rig.poll()
    for person in people:
        rig.tick(person)
    first_page = rig.clock.now()
    seen = []
    for _ in range(3):
        seen += [each.event.looked_at for each in (await rig.step()).events]
        rig.clock.advance(30)
    rig.tick(people[0], donotphone=True)

    (event,) = await rig.poll()

    assert len(set(seen)) == 1
    assert event.looked_at == first_page


async def test_a_run_that_begins_again_tells_the_look_of_the_link_it_goes_back_to(rig: Rig) -> None:
    people = rig.people(4)
    same_clock(rig)
    await rig.loaded()
    await rig.poll()
    looked = (rig.cursor or {})["looked_at"]
    rig.clock.advance(30)
    for person in people:
        rig.tick(person)
    rig.refuse("skiptoken", times=1)

    events = await rig.poll()

    assert {each.looked_at for each in events} == {datetime.fromisoformat(looked)}


@pytest.mark.parametrize("ahead_s", [7200.0, -7200.0, 90.0])
async def test_the_look_before_is_told_by_dynamics_clock_and_its_difference_as_well(rig: Rig, ahead_s: float) -> None:
    people = rig.people(1)
    same_clock(rig)
    rig.sandbox.settings.clock_ahead_s = ahead_s
    await rig.loaded()
    await rig.poll()
    theirs = rig.sandbox.store.now()
    rig.clock.advance(1)
    rig.tick(people[0])

    (event,) = await rig.poll()

    assert event.ahead_ms is not None and abs(event.ahead_ms / 1000 - ahead_s) <= 4
    assert event.looked_at is not None and abs(event.looked_at - theirs) <= 4 * SECOND


async def test_clocks_that_differ_by_whole_seconds_and_the_way_only_are_one(rig: Rig) -> None:
    people = rig.people(1)
    same_clock(rig)
    rig.sandbox.settings.clock_ahead_s = 1
    await rig.loaded()
    rig.tick(people[0])

    (event,) = await rig.poll()

    assert event.ahead_ms == 0


async def test_an_answer_that_takes_long_shows_no_difference_of_clocks(rig: Rig) -> None:
    people = rig.people(1)
    same_clock(rig)
    await rig.loaded()
    send = rig.client._session._http.send

    async def slow(request: httpx.Request, **more: Any) -> httpx.Response:
        response = await send(request, **more)
        rig.clock.advance(30)
        return response

    rig.client._session._http.send = slow  # type: ignore[method-assign]
    rig.tick(people[0])

    (event,) = await rig.poll()

    assert event.ahead_ms == 0


async def test_an_import_that_sets_the_time_back_is_told_with_the_look_before_it(rig: Rig) -> None:
    """K15: the flag turned TRUE after that look, whatever the record says."""
    people = rig.people(1)
    same_clock(rig)
    await rig.loaded()
    await rig.poll()
    rig.sandbox.upsert(TABLE, {"contactid": people[0], "donotemail": True}, "2020-01-01T00:00:00Z")

    (event,) = await rig.poll()

    assert event.record_changed_at is not None and event.record_changed_at.year == 2020
    assert event.looked_at is not None and event.looked_at.year > 2020


# -- source epochs ----------------------------------------------------------------------------------------------------------------


async def after_a_backup(rig: Rig) -> tuple[list[str], Backup]:
    people = rig.people(3)
    await rig.loaded()
    state = rig.sandbox.backup()
    for _ in range(2):
        rig.sandbox.advance(60)
        rig.tick(people[0])
        await rig.poll()
    rig.log.events.clear()
    return people, state


async def halts(rig: Rig) -> HaltError:
    with pytest.raises(HaltError) as caught:
        await rig.until("never")
    return caught.value


async def test_said_restored_contacts_are_observed_again_in_the_next_epoch(rig: Rig) -> None:
    people, state = await after_a_backup(rig)
    highest = (rig.cursor or {})["version_seen"]
    rig.sandbox.settings.future_token = "empty"
    rig.sandbox.restore(state)
    rig.restored = 1
    await rig.until("live")
    again = rig.keys()
    rig.tick(people[1])

    (event,) = await rig.poll()

    assert (again[:3], set(again)) == (people, set(people))
    assert lanes(rig) == {("resync", 1), ("live", 1)}
    assert event.epoch == 1
    assert 0 < rig.row(people[1])["versionnumber"] < highest
    assert event.origin == f"version {rig.row(people[1])['versionnumber']}"


async def test_a_contact_that_goes_after_the_restore_has_a_version_of_the_new_epoch(rig: Rig) -> None:
    people, state = await after_a_backup(rig)
    highest = (rig.cursor or {})["version_seen"]
    rig.sandbox.restore(state)
    rig.restored = 1
    await rig.until("live")
    rig.sandbox.delete(TABLE, people[2])

    (gone,) = await rig.poll()

    assert (gone.gone, gone.epoch) == (True, 1)
    assert int(dict(rig.log.events[-1].headers)["source-version"]) < highest


async def test_said_restored_while_contacts_are_loaded_begins_again(rig: Rig) -> None:
    people = rig.people(5)
    await rig.start()
    await rig.step()
    await rig.step()

    rig.restored = 1
    await rig.until("live")
    await rig.start()
    assert await rig.poll() == []

    assert rig.keys()[:7] == [*people[:2], *people]
    assert lanes(rig) == {("initial", 0), ("resync", 1)}


@pytest.mark.parametrize("token", ["taken", "empty", "refused", "expired"])
async def test_unsaid_it_shows_halts_and_goes_on_with_the_next_start(rig: Rig, token: Any) -> None:
    people, state = await after_a_backup(rig)
    rig.sandbox.settings.future_token = token
    rig.sandbox.restore(state)
    await rig.poll() if token == "empty" else None
    rig.sandbox.advance(60)
    rig.tick(people[1])

    error = await halts(rig)
    before = rig.log.cursors[CURSOR]["epoch"]
    await rig.start()
    again = await halts(rig)
    early = rig.keys().count(people[1])
    rig.log.events.clear()
    rig.generation += 1
    await rig.start()
    await rig.until("live")
    await rig.poll()

    assert error.code == again.code == "versions_went_back"
    assert (before, early) == (1, 0)
    assert rig.keys()[:3] == people
    assert lanes(rig) == {("resync", 1)}
    assert rig.image() == rig.truth()


async def test_another_organisation_halts_and_nothing_of_it_is_observed(rig: Rig) -> None:
    rig.people(2)
    await rig.loaded()
    rig.sandbox.settings.organization = ANOTHER
    rig.people(1)
    await rig.start()

    error = await halts(rig)

    assert (error.code, ANOTHER in str(error)) == ("versions_went_back", False)
    assert rig.log.events == []


async def test_what_a_resync_could_not_see_carries_its_lane(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()
    rig.sandbox.expire_tokens()
    pages = sum("track-changes" in each.headers["prefer"] for each in rig.asked)
    rig.happens[pages + 2] = lambda: rig.tick(people[0])

    await rig.until("live")

    assert people[0] in rig.keys()[4:]
    assert lanes(rig) == {("resync", 0)}


@pytest.mark.parametrize("switch", [{"repeats": 4}, {"shuffle": True}])
async def test_repeats_in_any_order_are_no_alarm(rig: Rig, switch: dict[str, Any]) -> None:
    people = rig.people(5)
    await rig.loaded()
    rig.sandbox.settings.change(switch)

    for turn in range(12):
        rig.sandbox.advance(turn % 3)
        for person in people[turn % 3 :: 2]:
            rig.tick(person, donotemail=turn % 2 == 0)
        await rig.poll()

    assert (rig.cursor or {})["epoch"] == 0
    assert rig.truth().items() >= rig.image().items()
