"""The feed of contacts' opt-out flags against the Dynamics stand-in: a full read, what it missed, then changes (dataverse.md §4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.model.errors import HaltError, RetryError
from bridge.model.events import OptStatusObserved
from sandbox.dynamics.tables import Column
from sandbox.web import Fault
from services.optin.contact_feed import RESTARTS, TOPIC
from tests.flow.observing import FLAGS, PAGE, TABLE, Rig, serving_contacts


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with serving_contacts() as made:
        yield made


async def test_the_first_read_brings_every_contact_page_by_page(rig: Rig) -> None:
    people = rig.people(5)
    await rig.start()

    pages = [[each.key for each in (await rig.step()).events] for _ in range(4)]

    assert pages == [[], people[:2], people[2:4], people[4:]]
    assert set(rig.lanes()) == {"initial"}
    assert rig.cursor is not None
    assert (rig.cursor["phase"], rig.cursor["rows"], rig.cursor["total"]) == ("again", 5, 5)


async def test_an_observation_has_the_flags_and_the_time_of_the_record(rig: Rig) -> None:
    (person,) = rig.people(1)
    rig.tick(person, donotphone=True)
    await rig.start()
    await rig.until("again")

    (out,) = rig.log.events

    row = rig.row(person)
    flags = {"donotemail": {"value": False, "changed_at": None}, "donotphone": {"value": True, "changed_at": None}}
    assert (out.topic, out.key) == (TOPIC, person)
    expected = OptStatusObserved(person, "dynamics", flags, datetime.fromisoformat(row["modifiedon"]), rig.clock.now())
    assert out.event == replace(expected, origin=f"version {row['versionnumber']}", ahead_ms=out.event.ahead_ms)


async def test_every_event_carries_the_headers_of_the_contract(rig: Rig) -> None:
    (person,) = rig.people(1)
    await rig.start()
    await rig.until("again")

    (out,) = rig.log.events

    headers = dict(out.headers)
    assert headers["source-version"] == str(rig.row(person)["versionnumber"]).encode()
    assert (headers["origin-lane"], headers["produced-by"]) == (b"initial", b"optin-reader/test")
    assert len(headers["traceparent"].split(b"-")) == 4


async def test_an_empty_flag_is_left_out(rig: Rig) -> None:
    people = rig.people(2)
    rig.sandbox.add_column(TABLE, Column("new_optout", "Boolean"))  # rows that were there before have nothing in it
    rig.tick(people[1], new_optout=True)
    await rig.start([*FLAGS, "new_optout"])
    await rig.until("again")

    flags = {each.key: each.event.flags for each in rig.log.events}

    assert set(flags[people[0]]) == set(FLAGS)
    assert flags[people[1]]["new_optout"] == {"value": True, "changed_at": None}


async def test_nothing_is_asked_for_but_the_mapped_columns_the_time_who_changed_it_and_the_merge(rig: Rig) -> None:
    """No name, no address: the key comes by itself, the version for what is read outside of tracking."""
    rig.people(3)
    await rig.loaded()
    await rig.poll()

    for request in rig.asked:
        (asked,) = parse_qs(urlsplit(str(request.url)).query)["$select"]
        more = set() if "track-changes" in request.headers["prefer"] else {"versionnumber"}
        assert set(asked.split(",")) == {*FLAGS, "modifiedon", "_modifiedby_value", "merged", "_masterid_value"} | more
    assert all(f"odata.maxpagesize={PAGE}" in request.headers["prefer"] for request in rig.asked)


async def test_after_the_read_come_changes_and_new_contacts_live(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()
    rig.tick(people[0])
    (born,) = rig.people(1)

    events = await rig.poll()

    assert {each.contact_key: each.flags["donotemail"]["value"] for each in events} == {people[0]: True, born: False}
    assert set(rig.lanes()) == {"live"}


async def test_a_run_of_many_changes_comes_in_pages_without_a_wait(rig: Rig) -> None:
    people = rig.people(5)
    await rig.loaded()
    for person in people:
        rig.tick(person)

    steps = [await rig.step() for _ in range(4)]

    assert [len(step.events) for step in steps] == [2, 2, 1, 0]
    assert [step.wait_s for step in steps] == [0, 0, 1, 1.5]


async def test_a_contact_that_is_deleted_is_observed_as_gone_with_the_highest_version_seen(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()
    rig.sandbox.delete(TABLE, people[0])
    rig.tick(people[1])

    changed, gone = await rig.poll()

    assert (changed.contact_key, changed.gone) == (people[1], False)
    assert (gone.contact_key, gone.gone, gone.flags, gone.record_changed_at) == (people[0], True, {}, None)
    assert dict(rig.log.events[-1].headers)["source-version"] == str(rig.row(people[1])["versionnumber"]).encode()
    assert gone.origin == f"version {rig.row(people[1])['versionnumber']}"


async def test_a_contact_that_comes_back_is_gone_then_observed(rig: Rig) -> None:
    """As Dynamics restores one: with what it holds then, whatever it held before."""
    people = rig.people(2)
    await rig.loaded()
    rig.tick(people[0])
    await rig.poll()
    rig.sandbox.delete(TABLE, people[0])
    gone = await rig.poll()
    rig.sandbox.upsert(TABLE, {"contactid": people[0], "lastname": "back"})

    back = await rig.poll()

    assert [(each.contact_key, each.gone) for each in gone] == [(people[0], True)]
    assert [(each.contact_key, each.gone, each.flags["donotemail"]["value"]) for each in back] == [(people[0], False, False)]


async def test_a_tombstone_from_before_the_same_contact_was_made_again_is_not_believed(rig: Rig) -> None:
    rig.sandbox.settings.same_guid = "both"
    people = rig.people(2)
    await rig.loaded()
    rig.sandbox.delete(TABLE, people[0])
    rig.sandbox.upsert(TABLE, {"contactid": people[0], "donotemail": True})

    events = await rig.poll()

    assert {(each.contact_key, each.gone, each.flags["donotemail"]["value"]) for each in events} == {(people[0], False, True)}


async def test_a_contact_that_goes_during_the_read_is_no_trouble(rig: Rig) -> None:
    people = rig.people(4)

    def change() -> None:
        rig.sandbox.delete(TABLE, people[0])
        rig.sandbox.delete(TABLE, people[3])

    rig.happens[1] = change
    await rig.start()

    await rig.until("live")
    await rig.poll()

    assert rig.keys()[:3] == people[:3]
    assert {people[3]}.isdisjoint(each.key for each in rig.log.events if not each.event.gone)


async def test_an_empty_table_is_read_and_polled(rig: Rig) -> None:
    await rig.loaded()

    assert await rig.poll() == []
    (person,) = rig.people(1)
    assert [each.contact_key for each in await rig.poll()] == [person]


@pytest.mark.parametrize("page", [1, 2, 3])
async def test_what_changes_behind_the_read_is_observed_afterwards(rig: Rig, page: int) -> None:
    """Dynamics' first token reflects the last page: an opt-out of a contact read before it would be lost."""
    rig.sandbox.settings.first_load_gap = "lost"
    people = rig.people(6)
    born = "00000000-0000-4000-8000-000000000000"

    def change() -> None:
        rig.tick(people[0])
        rig.sandbox.upsert(TABLE, {"contactid": born, "donotemail": True})

    rig.happens[page] = change
    await rig.start()

    await rig.until("live")
    await rig.poll()

    assert rig.image() == rig.truth()
    assert rig.image()[people[0]] is rig.image()[born] is True


async def test_the_second_look_passes_over_what_the_first_page_has_shown_as_it_is(rig: Rig) -> None:
    people = rig.people(2)
    rig.happens[1] = lambda: rig.tick(people[1])
    await rig.start()

    await rig.until("live")

    assert list(zip(rig.keys(), rig.lanes(), strict=True)) == [(people[0], "initial"), (people[1], "initial"), (people[1], "live")]


async def test_what_changes_during_the_second_look_comes_with_the_first_poll(rig: Rig) -> None:
    people = rig.people(4)
    await rig.start()
    await rig.until("again")
    await rig.step()
    rig.tick(people[0])

    await rig.until("live")
    await rig.poll()

    assert rig.image() == rig.truth()


@pytest.mark.parametrize("steps", range(1, 8))
async def test_a_restart_goes_on_where_it_was(rig: Rig, steps: int) -> None:
    people = rig.people(5)
    rig.happens[1] = lambda: rig.tick(people[0])
    await rig.start()
    for _ in range(steps):
        await rig.step()

    await rig.start()
    while (rig.cursor or {})["phase"] != "live":
        await rig.step()
    await rig.poll()

    assert rig.keys()[:5] == people
    assert rig.image() == rig.truth()


@pytest.mark.parametrize("status", [400, 410])
async def test_expired_tracking_reads_all_again_as_a_resync(rig: Rig, status: int) -> None:
    rig.sandbox.settings.expired_status = status  # type: ignore[assignment]
    people = rig.people(3)
    await rig.loaded()
    rig.tick(people[0])
    rig.sandbox.expire_tokens()

    await rig.until("again")

    assert (rig.keys(), set(rig.lanes())) == (people, {"resync"})
    await rig.until("live")
    assert rig.image() == rig.truth()


async def test_tracking_that_expires_during_the_first_read_begins_it_again_in_its_lane(rig: Rig) -> None:
    people = rig.people(5)
    await rig.start()
    await rig.step()
    await rig.step()
    body = '{"error": {"code": "0x80044352", "message": "Version stamp associated with the client has expired."}}'
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "skiptoken", 400, body, "application/json", times=1))

    await rig.until("again")

    assert (rig.keys(), set(rig.lanes())) == ([*people[:2], *people], {"initial"})


async def test_another_mapping_reads_all_again_as_a_resync(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()

    await rig.start(["donotemail", "donotfax"])
    await rig.until("again")

    assert (rig.keys(), set(rig.lanes())) == (people, {"resync"})
    assert all(set(each.event.flags) == {"donotemail", "donotfax"} for each in rig.log.events)


async def test_a_mapping_that_changes_during_the_read_begins_it_again(rig: Rig) -> None:
    people = rig.people(3)
    await rig.start()
    await rig.step()
    await rig.step()

    await rig.start(["donotfax"])
    await rig.until("again")

    assert rig.keys() == [*people[:2], *people]
    assert [set(each.event.flags) for each in rig.log.events] == [set(FLAGS)] * 2 + [{"donotfax"}] * 3


async def test_the_order_of_the_mapping_does_not_count(rig: Rig) -> None:
    rig.people(3)
    await rig.loaded()

    await rig.start(FLAGS[::-1])

    assert await rig.poll() == []


async def test_a_refused_page_link_of_a_run_goes_back_to_its_delta_link(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()
    for person in people:
        rig.tick(person)
    rig.refuse("skiptoken", times=1)

    await rig.poll()

    assert rig.keys() == [*people[:2], *people]
    assert set(rig.lanes()) == {"live"}


async def test_refused_page_links_of_runs_that_ended_well_do_not_add_up(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()

    for day in range(RESTARTS + 2):
        for person in people:
            rig.tick(person, donotemail=day % 2 == 0)
        rig.refuse("skiptoken", times=1)
        await rig.poll()

    assert rig.image() == rig.truth()


async def test_a_page_link_that_is_always_refused_halts(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()
    for person in people:
        rig.tick(person)
    rig.refuse("skiptoken")

    with pytest.raises(HaltError) as caught:
        await rig.poll()

    assert caught.value.code == "source_query_refused"


async def test_a_refused_page_link_of_the_read_begins_it_again_three_times_at_most(rig: Rig) -> None:
    people = rig.people(5)
    rig.refuse("skiptoken")
    await rig.start()

    with pytest.raises(HaltError):
        await rig.until("again")

    assert rig.keys() == people[:2] * (RESTARTS + 1)
    assert set(rig.lanes()) == {"initial"}


async def test_a_refused_link_of_the_second_look_begins_that_look_again(rig: Rig) -> None:
    people = rig.people(4)
    await rig.start()
    await rig.until("again")
    rig.refuse("skiptoken", times=1)

    await rig.until("live")

    assert (rig.keys()[:4], rig.lanes()[:4]) == (people, ["initial"] * 4)
    assert rig.image() == rig.truth()


async def test_a_refused_delta_link_reads_all_again_as_a_resync(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()
    rig.tick(people[0])
    rig.refuse("deltatoken", times=1)

    await rig.until("again")

    assert (rig.keys(), set(rig.lanes())) == (people, {"resync"})


async def test_a_column_that_is_gone_halts(rig: Rig) -> None:
    rig.sandbox.add_column(TABLE, Column("new_optout", "Boolean"))
    await rig.start([*FLAGS, "new_optout"])
    await rig.until("live")

    rig.sandbox.remove_column(TABLE, "new_optout")

    with pytest.raises(HaltError):
        await rig.until("again")


@pytest.mark.parametrize("body", ["{}", ""])
async def test_an_empty_answer_is_no_change_and_the_delta_link_stays(rig: Rig, body: str) -> None:
    people = rig.people(2)
    await rig.loaded()
    before = (rig.cursor or {})["delta_link"]
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "deltatoken", 200, body, "application/json", times=1))

    assert await rig.poll() == []
    assert (rig.cursor or {})["delta_link"] == before
    rig.tick(people[0])
    assert [each.contact_key for each in await rig.poll()] == [people[0]]


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 405, 407, 410, 413])
async def test_the_page_of_a_gateway_says_nothing_of_the_delta_link(rig: Rig, status: int) -> None:
    people = rig.people(2)
    await rig.loaded()
    rig.tick(people[0])
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "deltatoken", status, "<html>proxy</html>", "text/html", times=5))

    for _ in range(5):
        with pytest.raises(RetryError) as caught:
            await rig.step()
        assert caught.value.code == "bad_answer"

    assert [each.contact_key for each in await rig.poll()] == [people[0]]


async def test_dynamics_that_is_away_is_waited_for_and_nothing_is_lost(rig: Rig) -> None:
    people = rig.people(2)
    await rig.loaded()
    rig.tick(people[0])
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "deltatoken", 503, times=1))

    with pytest.raises(RetryError):
        await rig.step()

    assert [each.contact_key for each in await rig.poll()] == [people[0]]


async def test_a_table_without_change_tracking_halts_when_its_last_page_has_no_link(rig: Rig) -> None:
    rig.people(1)
    await rig.start()
    await rig.step()
    rig.sandbox.settings.not_enabled = "missing_link"
    rig.sandbox.store.tables[TABLE].tracked = False

    with pytest.raises(HaltError) as caught:
        await rig.until("again")

    assert caught.value.code == "change_tracking_off"
