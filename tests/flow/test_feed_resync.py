"""A table's feed when its position is of no use any more: expired tracking, changed columns, refused links."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.model.errors import HaltError, RetryError
from sandbox.dynamics.tables import Column
from sandbox.web import Fault
from tests.flow.feeding import CHANGES, REPLAY, Rig, keys, serving_rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with serving_rig(tmp_path) as made:
        yield made


@pytest.mark.parametrize("status", [400, 410])
async def test_expired_tracking_reads_all_again_and_deletes_what_has_vanished(rig: Rig, status: int) -> None:
    rig.sandbox.settings.expired_status = status  # type: ignore[assignment]
    people = rig.people(5)
    await rig.loaded()
    rig.sandbox.delete("contact", people[2])
    rig.sandbox.expire_tokens()

    await rig.until("live")

    left = [person for person in people if person != people[2]]
    assert keys(rig.log.of(REPLAY)) == left
    assert {each.event.lane for each in rig.log.of(REPLAY)} == {"resync"}
    assert keys(rig.log.of(CHANGES), "delete") == [people[2]]
    assert keys(rig.log.of(CHANGES)) == []


async def test_a_row_that_the_writer_had_not_written_yet_is_deleted_too(rig: Rig) -> None:
    """Its event waits in the backlog when tracking expires; the writer will create the row afterwards."""
    people = rig.people(2)
    await rig.loaded()
    born = rig.sandbox.upsert("contact", {"lastname": "born"})
    await rig.poll()  # published, but the writer lags: not in the state
    rig.sandbox.delete("contact", born)
    rig.sandbox.expire_tokens()

    await rig.until("live")

    assert rig.image() == {person: rig.truth()[person] for person in people}


async def test_a_row_that_is_gone_after_its_cursor_was_deleted_is_not_taken_for_stale_by_the_writer(rig: Rig) -> None:
    """It was the newest row of all: those that are left do not tell how far the reader had come."""
    people = rig.people(3)
    await rig.loaded()
    newest = max(rig.sandbox.rows("contact"), key=lambda row: row["versionnumber"])["contactid"]
    _, written, _ = rig.published.state[newest]
    rig.sandbox.delete("contact", newest)
    rig.log.cursors.clear()  # POST …/cursors/…/reset, or the topic was lost

    await rig.start()
    await rig.until("live")

    (delete,) = [each.event for each in rig.log.events if each.event.op == "delete"]
    assert (delete.key, delete.version) == (newest, written)
    assert rig.cursor is not None
    assert rig.cursor["version_seen"] == written
    assert set(keys(rig.log.of(REPLAY))) == set(people) - {newest}


async def test_tracking_that_expires_during_the_first_read_begins_it_again_in_its_lane(rig: Rig) -> None:
    people = rig.people(5)
    await rig.start()
    await rig.step()
    await rig.step()
    rig.sandbox.expire_tokens()
    rig.refuse("skiptoken", times=1)

    await rig.until("live")

    assert {each.event.lane for each in rig.log.events} == {"initial"}
    assert set(keys(rig.log.of(REPLAY))) == set(people)
    assert rig.image() == rig.truth()


async def test_a_new_column_in_the_mapping_reads_all_rows_again(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()

    await rig.start(["firstname", "lastname"])
    await rig.until("live")

    assert keys(rig.log.of(REPLAY)) == people
    assert all(set(each.event.fields) == {"firstname", "lastname"} for each in rig.log.of(REPLAY))
    assert {each.event.lane for each in rig.log.of(REPLAY)} == {"resync"}


async def test_before_the_rows_are_read_again_the_deletes_of_the_old_session_are_fetched(rig: Rig) -> None:
    people = rig.people(5)
    await rig.loaded()
    for person in people[:3]:
        rig.sandbox.delete("contact", person)
    rig.rename(people[3], "changed")

    await rig.start(["firstname", "lastname"])
    await rig.until("drain")
    await rig.until("load")
    drained = list(rig.log.events)
    await rig.until("live")

    assert keys(drained, "delete") == people[:3]
    assert keys(drained) == []  # the changed row comes with all its columns
    assert rig.log.events[3].event.fields["lastname"] == "changed"
    assert keys(rig.log.of(REPLAY)) == people[3:]


async def test_a_restart_in_the_middle_of_the_drain_goes_on_there(rig: Rig) -> None:
    people = rig.people(5)
    await rig.loaded()
    for person in people[:4]:
        rig.sandbox.delete("contact", person)
    await rig.start(["firstname", "lastname"])
    await rig.until("drain")
    await rig.step()

    await rig.start()
    await rig.until("live")

    assert set(keys(rig.log.events, "delete")) == set(people[:4])
    assert keys(rig.log.of(REPLAY)) == people[4:]


async def test_a_column_removed_in_dynamics_and_the_mapping_expires_the_drain_and_vanished_rows_are_deleted(rig: Rig) -> None:
    rig.sandbox.add_column("contact", Column("new_extra", "String", length=10))
    rig.columns = ["lastname", "new_extra"]
    people = rig.people(3)
    await rig.loaded()
    rig.sandbox.delete("contact", people[0])
    rig.sandbox.remove_column("contact", "new_extra")

    await rig.start(["lastname"])
    await rig.until("live")

    assert keys(rig.log.of(REPLAY)) == people[1:]
    assert keys(rig.log.of(CHANGES), "delete") == [people[0]]


async def test_columns_that_change_during_a_read_begin_it_again(rig: Rig) -> None:
    people = rig.people(5)
    await rig.start()
    await rig.step()
    await rig.step()

    await rig.start(["firstname", "lastname"])
    await rig.until("live")

    assert [set(each.event.fields) for each in rig.log.of(REPLAY)] == [{"lastname"}] * 2 + [{"firstname", "lastname"}] * 5
    assert keys(rig.log.of(REPLAY))[2:] == people


async def test_a_refused_page_link_begins_the_read_again(rig: Rig) -> None:
    people = rig.people(5)
    rig.refuse("skiptoken.*istracking%3D%22True", times=2, skip=1)
    await rig.start()

    await rig.until("live")

    assert keys(rig.log.of(REPLAY)) == [*people[:4], *people]
    assert rig.image() == rig.truth()


async def test_a_read_is_begun_again_three_times_at_most(rig: Rig) -> None:
    people = rig.people(5)
    rig.refuse("skiptoken")
    await rig.start()

    with pytest.raises(HaltError) as caught:
        await rig.until("live")

    assert caught.value.code == "source_query_refused"
    assert keys(rig.log.of(REPLAY)) == people[:2] * 4


async def test_a_first_page_that_is_refused_is_asked_for_once_more_then_halts(rig: Rig) -> None:
    rig.people(1)
    await rig.start()
    await rig.step()
    rig.refuse("contacts[?]")

    waited = (await rig.step()).wait_s
    with pytest.raises(HaltError):
        await rig.step()

    assert 3 <= waited <= 10  # dataverse.md §6.3


async def test_a_first_page_of_a_table_that_was_just_published_comes_at_the_second_try(rig: Rig) -> None:
    people = rig.people(1)
    await rig.start()
    await rig.step()
    rig.refuse("contacts[?]", times=1)

    await rig.until("live")

    assert keys(rig.log.of(REPLAY)) == people


async def test_a_refused_page_link_of_a_delta_begins_that_delta_again(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()
    for person in people:
        rig.rename(person, "changed")
    rig.refuse("skiptoken", times=2)

    await rig.poll()
    await rig.poll()

    assert keys(rig.log.of(CHANGES)) == [*people[:2], *people]
    assert rig.log.of(REPLAY) == []


async def test_refused_page_links_of_runs_that_ended_well_do_not_add_up(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()

    for day in range(5):
        for person in people:
            rig.rename(person, f"day {day}")
        rig.refuse("skiptoken", times=2)
        await rig.poll()
        await rig.poll()

    assert rig.image() == rig.truth()


async def test_a_refused_delta_link_reads_all_again(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()
    rig.refuse("deltatoken", times=2)

    await rig.until("live")
    await rig.until("load")
    await rig.until("live")

    assert keys(rig.log.of(REPLAY)) == people
    assert {each.event.lane for each in rig.log.of(REPLAY)} == {"resync"}


@pytest.mark.parametrize("link", ["deltatoken", "skiptoken"])
async def test_a_link_that_is_refused_once_is_asked_for_again(rig: Rig, link: str) -> None:
    people = rig.people(4)
    await rig.loaded()
    for person in people:
        rig.rename(person, "changed")
    rig.refuse(link, times=1)

    for _ in range(4):
        await rig.step()

    assert keys(rig.log.of(CHANGES)) == people
    assert rig.log.of(REPLAY) == []


@pytest.mark.parametrize("link", ["deltatoken", "contacts"])
@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 405, 407, 410, 413])
async def test_the_page_of_a_gateway_says_nothing_of_a_link(rig: Rig, status: int, link: str) -> None:
    """Neither is the link dropped, nor does a full read begin, nor does anything halt."""
    people = rig.people(2)
    await rig.loaded()
    rig.rename(people[0], "changed")
    page = Fault("status", "GET", link, status, "<html>proxy</html>", "text/html", times=5)
    rig.sandbox.ledger.faults.append(page)

    for _ in range(5):
        with pytest.raises(RetryError) as caught:
            await rig.step()
        assert caught.value.code == "bad_answer"

    assert [event.key for event in await rig.poll()] == [people[0]]
    assert rig.log.of(REPLAY) == []


async def test_a_column_that_is_gone_in_dynamics_halts_by_name(rig: Rig) -> None:
    rig.sandbox.add_column("contact", Column("new_extra", "String", length=10))
    rig.columns = ["lastname", "new_extra"]
    rig.people(2)
    await rig.loaded()

    rig.sandbox.remove_column("contact", "new_extra")

    with pytest.raises(HaltError) as caught:
        await rig.until("live")
    assert caught.value.code == "source_column_missing"
    assert "new_extra" in str(caught.value)
