"""A table's feed: the full read, what it could not see, and polling, against the Dynamics stand-in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.model.errors import HaltError
from bridge.model.events import OURS, SOURCE_AHEAD
from sandbox.dynamics.tables import APP_USER, OTHER_USER
from sandbox.web import Fault
from tests.flow.feeding import CHANGES, REPLAY, Rig, during, keys, serving_rig, under_a_limit


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with serving_rig(tmp_path) as made:
        yield made


async def test_the_first_read_brings_every_row_page_by_page_to_the_replay_topic(rig: Rig) -> None:
    people = rig.people(5)
    await rig.start()

    pages = [(await rig.step()).events for _ in range(4)]

    assert [keys(events) for events in pages] == [[], people[:2], people[2:4], people[4:]]
    assert keys(rig.log.of(REPLAY)) == people
    assert {each.event.lane for each in rig.log.events} == {"initial"}
    assert rig.cursor is not None
    assert (rig.cursor["phase"], rig.cursor["rows"], rig.cursor["total"]) == ("reconcile", 5, 5)


async def test_every_event_carries_the_headers_of_the_contract(rig: Rig) -> None:
    rig.people(1)
    await rig.start()
    await rig.until("live")

    (event,) = rig.log.events

    headers = dict(event.headers)
    assert headers["origin-lane"] == b"initial"
    assert headers["produced-by"] == b"ingress-reader/test"
    assert headers["source-version"] == str(event.event.version).encode()
    assert len(headers["traceparent"].split(b"-")) == 4


async def test_an_empty_table_is_read_and_polled(rig: Rig) -> None:
    await rig.loaded()

    assert await rig.poll() == []
    (person,) = rig.people(1)
    assert [event.key for event in await rig.poll()] == [person]


async def test_a_restart_goes_on_in_the_middle_of_a_read(rig: Rig) -> None:
    people = rig.people(7)
    await rig.start()
    for _ in range(3):
        await rig.step()

    await rig.start()
    await rig.until("live")

    assert keys(rig.log.of(REPLAY)) == people


async def test_a_restart_goes_on_in_the_middle_of_a_delta(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()
    for person in people:
        rig.rename(person, "new")
    await rig.step()

    await rig.start()
    await rig.poll()

    assert keys(rig.log.of(CHANGES)) == people


async def test_after_the_read_changes_and_deletes_go_to_the_live_topic(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()
    rig.rename(people[0], "changed")
    rig.sandbox.delete("contact", people[1])
    born = rig.sandbox.upsert("contact", {"lastname": "born"})

    events = await rig.poll()

    assert {(event.op, event.key) for event in events} == {("upsert", people[0]), ("upsert", born), ("delete", people[1])}
    assert {event.lane for event in events} == {"live"}
    assert {each.topic for each in rig.log.events} == {CHANGES}


async def test_a_delete_carries_the_highest_version_seen(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()
    highest = max(row["versionnumber"] for row in rig.sandbox.rows("contact"))
    rig.sandbox.delete("contact", people[0])

    (event,) = await rig.poll()

    assert (event.op, event.version) == ("delete", highest)


async def test_an_upper_case_delete_has_the_key_of_its_row(rig: Rig) -> None:
    (person,) = rig.people(1)
    await rig.loaded()
    rig.sandbox.delete("contact", person)
    collection = rig.client.collection

    async def shouting(path: str, prefer: str) -> Any:
        answer = await collection(path, prefer)
        for item in answer["value"]:
            item["id"] = item["id"].upper()
        return answer

    rig.client.collection = shouting  # type: ignore[method-assign]

    (event,) = await rig.poll()

    assert event.key == person


async def test_many_deletes_after_a_restart_are_looked_up_under_a_small_request_limit(rig: Rig) -> None:
    rig.page_size = 200
    people = rig.people(130)
    await rig.loaded()
    for person in people[:120]:
        rig.sandbox.delete("contact", person)
    await rig.start()
    rig.cursor = {**(rig.cursor or {}), "page_link": (rig.cursor or {})["delta_link"]}  # as in the middle of a chain of pages

    await under_a_limit(rig)

    assert set(keys(rig.log.events, "delete")) == set(people[:120])


async def test_a_row_created_again_with_its_guid_is_no_delete(rig: Rig) -> None:
    rig.sandbox.settings.same_guid = "both"
    people = rig.people(2)
    await rig.loaded()
    rig.sandbox.delete("contact", people[0])
    rig.sandbox.upsert("contact", {"contactid": people[0], "lastname": "again"})

    events = await rig.poll()

    assert {event.op for event in events} == {"upsert"}
    assert events[-1].fields["lastname"] == "again"


async def test_a_row_that_was_looked_up_counts_among_the_versions_seen(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()
    for person in people:
        rig.sandbox.delete("contact", person)
    await rig.step()
    await rig.start()  # what came earlier in the run is not known any more: deletes are looked up
    during(rig, 1, lambda: rig.rename(people[2], "again"))

    events = await rig.poll()

    (again,) = [row["versionnumber"] for row in rig.sandbox.rows("contact")]
    assert [(event.op, event.key, event.version) for event in events] == [("upsert", people[2], again), ("delete", people[3], again)]


async def test_a_row_changed_and_deleted_in_one_run_is_a_delete(rig: Rig) -> None:
    rig.page_size = 1
    people = rig.people(3)
    await rig.loaded()
    rig.rename(people[0], "changed")
    rig.rename(people[1], "changed")
    during(rig, 1, lambda: rig.sandbox.delete("contact", people[1]))

    first = await rig.poll()
    second = await rig.poll()

    assert [(event.op, event.key) for event in [*first, *second]][-1] == ("delete", people[1])


@pytest.mark.parametrize("body", ["{}", ""])
async def test_an_empty_answer_is_no_change_and_the_delta_link_stays(rig: Rig, body: str) -> None:
    people = rig.people(2)
    await rig.loaded()
    before = (rig.cursor or {})["delta_link"]
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "deltatoken", 200, body, "application/json", times=1))

    assert await rig.poll() == []
    assert (rig.cursor or {})["delta_link"] == before
    rig.rename(people[0], "changed")
    assert [event.key for event in await rig.poll()] == [people[0]]


async def test_polls_come_soon_after_changes_and_then_up_to_the_interval(rig: Rig) -> None:
    people = rig.people(1)
    await rig.loaded()
    rig.waits.clear()
    rig.rename(people[0], "changed")

    for _ in range(6):
        await rig.step()

    assert rig.waits == pytest.approx([1, 1.5, 2.25, 3.375, 5, 5])


async def test_pages_of_a_run_follow_each_other_without_a_wait(rig: Rig) -> None:
    people = rig.people(5)
    await rig.loaded()
    rig.waits.clear()
    for person in people:
        rig.rename(person, "changed")

    await rig.poll()

    assert rig.waits == [0, 0, 1]


async def test_many_tables_share_a_quarter_of_the_request_limit(rig: Rig) -> None:
    rig.tables = 50
    people = rig.people(1)
    await rig.loaded()
    rig.rename(people[0], "changed")

    await rig.poll()

    assert rig.waits[-1] == 10  # 5 requests a second for 50 tables


async def test_a_table_without_change_tracking_halts_when_its_last_page_has_no_link(rig: Rig) -> None:
    rig.people(1)
    await rig.start()
    await rig.step()
    rig.sandbox.settings.not_enabled = "missing_link"
    rig.sandbox.store.tables["contact"].tracked = False

    with pytest.raises(HaltError) as caught:
        await rig.until("live")

    assert caught.value.code == "change_tracking_off"
    assert rig.cursor is not None
    assert rig.cursor["phase"] == "load"


async def test_an_event_says_how_far_dynamics_clock_is_from_ours(rig: Rig) -> None:
    """Its times are compared with Campaign's when an opt-out is to be lowered; the rig's clock stands in spring."""
    (person,) = rig.people(1)
    await rig.loaded()
    rig.rename(person, "changed")
    await rig.poll()

    (event,) = rig.log.of(CHANGES)

    assert rig.client.ahead_s is not None
    assert abs(int(dict(event.headers)[SOURCE_AHEAD]) + rig.client.ahead_s * 1000) < 60_000


@pytest.mark.parametrize("by", [APP_USER, OTHER_USER])
async def test_an_event_says_whether_our_own_user_changed_the_row(rig: Rig, by: str) -> None:
    (person,) = rig.people(1)
    rig.also = ("modifiedby",)
    await rig.start()
    await rig.loaded()
    rig.sandbox.store.put("contact", person, {"lastname": "changed"}, by)
    await rig.poll()

    (event,) = rig.log.of(CHANGES)

    assert (OURS in dict(event.headers)) is (by == APP_USER)
