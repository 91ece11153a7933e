"""What a full read could not see: found afterwards, in pages or row by row, while what changes goes on being read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.model.errors import HaltError, RetryError
from sandbox.web import Fault
from tests.flow.feeding import CHANGES, REPLAY, Rig, during, keys, serving_rig, under_a_limit


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with serving_rig(tmp_path) as made:
        made.sandbox.settings.first_load_gap = "lost"  # Dynamics' first token reflects the last page
        yield made


def no_row_by_itself(rig: Rig) -> None:
    """To ask for a single row ends the run."""
    rig.sandbox.ledger.faults.append(Fault("status", "GET", r"contacts\(", 403))


async def changed_behind(rig: Rig, number: int = 120, page_size: int = 20) -> list[str]:
    """A load of so many, all of which were changed before its last page, which is all that its token knows of."""
    rig.page_size = page_size
    people = rig.people(number)

    def change() -> None:
        for person in people:
            rig.rename(person, "changed behind")

    during(rig, number // page_size - 1, change)
    await rig.start()
    await rig.until("reconcile")
    assert rig.log.of(CHANGES) == [] == (await rig.step()).events, "the first poll"
    return people


async def walking(rig: Rig) -> None:
    """On to the middle of the pages."""
    while not rig.log.of(CHANGES):
        await rig.step()


@pytest.mark.parametrize("page", [1, 2])
async def test_what_changes_behind_the_read_is_found_afterwards(rig: Rig, page: int) -> None:
    people = rig.people(6)

    def change() -> None:
        rig.rename(people[0], "changed behind")
        rig.sandbox.delete("contact", people[1])
        rig.sandbox.upsert("contact", {"contactid": "00000000-0000-4000-8000-000000000000", "lastname": "born behind"})

    during(rig, page, change)
    await rig.start()

    await rig.until("live")

    assert rig.image() == rig.truth()
    assert {each.event.lane for each in rig.log.of(CHANGES)} == {"live"}


async def test_reconciliation_finds_nothing_where_nothing_changed(rig: Rig) -> None:
    rig.people(5)
    await rig.start()

    await rig.until("live")

    assert rig.log.of(CHANGES) == []
    assert list(rig.folder.iterdir()) == []


async def test_a_reconciliation_that_broke_off_goes_on_where_it_was(rig: Rig) -> None:
    people = rig.people(4)
    during(rig, 1, lambda: rig.rename(people[0], "changed behind"))
    await rig.start()
    rig.sandbox.ledger.faults.append(Fault("status", "GET", r"contacts\(", 503, times=1))

    with pytest.raises(RetryError):
        await rig.until("live")
    listed = rig.sandbox.ledger.requests["GET contacts"]
    await rig.until("live")

    assert rig.image() == rig.truth()
    assert rig.sandbox.ledger.requests["GET contacts"] == listed + 1  # the row


async def test_a_reconciliation_that_broke_off_is_forgotten_when_the_load_begins_again(rig: Rig) -> None:
    people = rig.people(4)
    during(rig, 1, lambda: rig.rename(people[0], "changed behind"))
    await rig.start()
    rig.sandbox.ledger.faults.append(Fault("status", "GET", r"contacts\(", 503, times=1))
    with pytest.raises(RetryError):
        await rig.until("live")
    rig.cursor = None  # somebody deleted it
    rig.rename(people[1], "changed before")

    await rig.until("live")

    assert rig.image() == rig.truth()


async def with_one_born_behind(rig: Rig, times: int | None = None) -> Fault:
    """A row that came behind the read, so that only the comparison finds it; asked for by itself it does not show, so many times: another
    server of Dynamics may be behind (dataverse.md §8.3)."""
    rig.people(4)
    await rig.start()
    await rig.step()
    await rig.step()
    late = rig.sandbox.upsert("contact", {"contactid": "00000000-0000-4000-8000-000000000000", "lastname": "born behind"})
    body = '{"error": {"code": "0x80040217", "message": "contact Does Not Exist"}}'
    fault = Fault("status", "GET", rf"contacts\({late}\)", 404, body, "application/json", times=times)
    rig.sandbox.ledger.faults.append(fault)
    return fault


@pytest.mark.parametrize("answers", [1, 2])
async def test_a_row_that_was_listed_and_does_not_show_yet_is_not_taken_for_deleted(rig: Rig, answers: int) -> None:
    fault = await with_one_born_behind(rig, answers)

    for _ in range(answers):
        with pytest.raises(RetryError) as waits:
            await rig.until("live")
        assert waits.value.retry_after_s == 3
    await rig.until("live")

    assert fault.struck == answers
    assert rig.image() == rig.truth()
    assert [each.event.op for each in rig.log.of(CHANGES)] == ["upsert"]


async def test_a_row_that_was_listed_and_stays_away_is_gone(rig: Rig) -> None:
    await with_one_born_behind(rig)

    for _ in range(2):
        with pytest.raises(RetryError):
            await rig.until("live")
    await rig.until("live")

    assert [each.event.op for each in rig.log.of(CHANGES)] == ["delete"]


async def test_after_a_bulk_change_pages_are_read_and_no_single_row(rig: Rig) -> None:
    await changed_behind(rig)
    no_row_by_itself(rig)
    before = rig.sandbox.ledger.requests["GET contacts"]

    await rig.until("live")

    assert rig.image() == rig.truth()
    assert rig.sandbox.ledger.requests["GET contacts"] - before <= 6 + 6 + 2, "keys, rows, polls"


async def test_after_a_bulk_delete_pages_are_read_and_no_single_row(rig: Rig) -> None:
    rig.page_size = 20
    people = rig.people(120)
    await rig.loaded()
    for person in people[:110]:
        rig.sandbox.delete("contact", person)
    rig.restored += 1  # a restore is declared: all is read again, without what is gone
    no_row_by_itself(rig)
    await rig.start()

    await rig.until("live")

    assert set(keys(rig.log.events, "delete")) == set(people[:110])
    assert rig.image() == rig.truth()


async def test_rows_that_we_may_not_see_any_more_are_not_taken_for_gone(rig: Rig) -> None:
    """Pages just lack them; a tracked read is refused (dataverse.md §4.7), so one comes before anything is deleted."""
    rig.page_size = 20
    people = rig.people(120)
    await rig.loaded()
    rig.restored += 1
    await rig.start()
    await rig.until("reconcile")
    await rig.step()
    held = rig.sandbox.store.data["contact"]
    for person in people[:110]:  # without a tombstone
        del held.rows[person]
        held.ids.remove(person)
    body = '{"error": {"code": "0x80040220", "message": "SecLib::CheckPrivilege failed. Required Depth: Global"}}'
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "contacts.*deltatoken", 403, body, "application/json"))

    with pytest.raises(HaltError):
        await rig.until("live")

    assert keys(rig.log.events, "delete") == []


async def test_what_changes_meanwhile_is_published_before_the_rest(rig: Rig) -> None:
    people = await changed_behind(rig)
    await walking(rig)
    rig.clock.advance(6)
    rig.rename(people[-25], "just now")
    rig.sandbox.delete("contact", people[-26])

    events = (await rig.step()).events

    assert [(each.event.op, each.event.lane) for each in events] == [("upsert", "live"), ("delete", "live")]
    assert rig.cursor is not None and rig.cursor["phase"] == "reconcile"
    await rig.until("live")
    assert rig.image() == rig.truth()
    assert [each.event.fields.get("lastname") for each in rig.log.of(CHANGES) if each.key == people[-25]] == ["just now"]


async def test_a_row_that_was_born_and_published_meanwhile_is_no_difference(rig: Rig) -> None:
    """Its key was not there when all were listed; a server that does not have it yet (§8.3) would say that it is gone."""
    await changed_behind(rig)
    for _ in range(6):
        await rig.step()  # all is listed
    born = rig.sandbox.upsert("contact", {"lastname": "born"})
    rig.clock.advance(6)
    assert keys((await rig.step()).events) == [born]

    await rig.until("live")

    assert keys(rig.log.events).count(born) == 1
    assert rig.image() == rig.truth()


async def test_pages_go_on_where_a_refusal_broke_them_off(rig: Rig) -> None:
    await changed_behind(rig)
    await walking(rig)
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "contacts.*skiptoken", 503, times=1))
    before = rig.sandbox.ledger.requests["GET contacts"]
    with pytest.raises(RetryError):
        await rig.until("live")

    await rig.until("live")

    assert rig.image() == rig.truth()
    assert rig.sandbox.ledger.requests["GET contacts"] - before == 5 + 1 + 1, "the pages, one of them twice, and a poll"


@pytest.mark.parametrize("skip", [2, 7], ids=["keys", "rows"])
async def test_pages_whose_link_is_refused_begin_again(rig: Rig, skip: int) -> None:
    await changed_behind(rig)
    rig.refuse("skiptoken", times=1, skip=skip)

    await rig.until("live")

    assert rig.image() == rig.truth()


async def test_pages_whose_links_are_refused_for_ever_halt(rig: Rig) -> None:
    await changed_behind(rig)
    rig.refuse("skiptoken")

    with pytest.raises(HaltError) as caught:
        await rig.until("live")

    assert caught.value.code == "source_query_refused"


async def test_a_page_of_a_poll_whose_link_is_refused_meanwhile_begins_that_poll_again(rig: Rig) -> None:
    people = await changed_behind(rig)
    await walking(rig)
    for person in people:
        rig.rename(person, "changed again")
    rig.clock.advance(6)
    rig.refuse("skiptoken", times=2)

    await rig.until("live")

    assert len(rig.log.of(REPLAY)) == len(people), "no second load"
    assert rig.image() == rig.truth()


async def test_a_restart_in_the_middle_of_the_pages_compares_again(rig: Rig) -> None:
    await changed_behind(rig)
    await walking(rig)
    await rig.start()

    await rig.until("live")

    assert rig.image() == rig.truth()
    assert list(rig.folder.iterdir()) == []


async def test_a_poll_that_finds_the_token_expired_meanwhile_reads_all_again(rig: Rig) -> None:
    await changed_behind(rig)
    await walking(rig)
    body = '{"error": {"code": "0x80044352", "message": "Version stamp associated with the client has expired."}}'
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "contacts.*deltatoken", 410, body, "application/json", times=1))
    rig.clock.advance(6)

    await rig.step()

    assert rig.cursor is not None and (rig.cursor["phase"], rig.cursor["lane"]) == ("load", "resync")
    await rig.until("live")
    assert rig.image() == rig.truth()


async def test_many_differences_are_dealt_with_under_a_small_request_limit(rig: Rig) -> None:
    await changed_behind(rig, page_size=2)

    await under_a_limit(rig)  # 60 pages of keys and 60 of rows

    assert rig.image() == rig.truth()


async def test_reading_of_our_own_records_that_breaks_off_begins_again(rig: Rig) -> None:
    """What it had not come to would be taken for never published, and its deletes be lost."""
    people = rig.people(5)
    await rig.loaded()
    for person in people[2:]:
        rig.sandbox.delete("contact", person)
    rig.restored += 1
    rig.published.breaks_off = 2
    await rig.start()
    for _ in range(2):
        with pytest.raises(RetryError):
            await rig.until("live")

    await rig.until("live")

    assert set(keys(rig.log.events, "delete")) == set(people[2:])


async def test_a_later_epoch_is_not_forgotten_when_dynamics_is_away_just_then(rig: Rig) -> None:
    people = rig.people(2)
    await rig.loaded()
    rig.restored = 1
    await rig.until("live")
    rig.settled()
    rig.log.cursors.clear()
    rig.restored = 0
    await rig.start()
    await rig.until("reconcile")
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "EntityDefinitions", 503, times=1))
    with pytest.raises(RetryError):
        await rig.until("live")

    await rig.until("live")
    rig.rename(people[0], "changed")
    events = await rig.poll()

    assert events[-1].epoch == 2
    assert rig.image() == rig.truth()


async def test_a_page_with_a_row_that_cannot_be_read_is_read_again(rig: Rig) -> None:
    await changed_behind(rig)
    collection, spoiled = rig.client.collection, 0

    async def spoiling(path: str, prefer: str) -> Any:
        nonlocal spoiled
        answer = await collection(path, prefer)
        if "track" not in prefer and spoiled == 0 and "lastname" in answer["value"][0]:
            spoiled += 1
            answer["value"][0] |= {"@odata.etag": "", "versionnumber": "no number"}
        return answer

    rig.client.collection = spoiling  # type: ignore[method-assign]
    with pytest.raises(RetryError):
        await rig.until("live")

    await rig.until("live")

    assert spoiled == 1
    assert rig.image() == rig.truth()


async def test_a_poll_that_is_refused_is_not_the_one_that_comes_before_deletes(rig: Rig) -> None:
    """With many tables the next one is not due before the deletes would be."""
    rig.page_size, rig.tables = 20, 60
    people = rig.people(120)
    await rig.loaded()
    rig.restored += 1
    await rig.start()
    await rig.until("reconcile")
    await rig.step()
    held = rig.sandbox.store.data["contact"]
    for person in people[:110]:
        del held.rows[person]
        held.ids.remove(person)
    rig.refuse("contacts.*deltatoken", times=1)
    body = '{"error": {"code": "0x80040220", "message": "SecLib::CheckPrivilege failed. Required Depth: Global"}}'
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "contacts.*deltatoken", 403, body, "application/json", skip=0))

    with pytest.raises(HaltError):
        await rig.until("live")

    assert keys(rig.log.events, "delete") == []


async def test_a_table_that_is_refused_in_the_middle_of_its_pages_halts(rig: Rig) -> None:
    await changed_behind(rig)
    await walking(rig)
    rig.refuse("contacts")

    with pytest.raises(HaltError) as caught:
        await rig.until("live")

    assert caught.value.code == "source_query_refused"
