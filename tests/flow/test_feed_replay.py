"""A replay beside the live changes: which rows come, that it goes on after a restart, and that nothing live waits for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.model.errors import HaltError, RetryError
from sandbox.web import Fault
from tests.flow.feeding import Rig, serving_rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with serving_rig(tmp_path) as made:
        yield made


async def test_every_row_comes_once_more_through_the_replay_lane(rig: Rig) -> None:
    people = rig.people(5)
    await rig.loaded()

    rig.ask()
    events = await rig.replayed()

    assert sorted(event.key for event in events) == people
    assert {each.topic for each in rig.log.events} == {"ingress.replay.contact"}
    assert rig.cursor is not None
    assert rig.cursor["replay"]["state"] == "done"
    assert (rig.cursor["replay"]["rows"], rig.cursor["replay"]["total"]) == (5, 5)


async def test_a_replay_is_done_once(rig: Rig) -> None:
    rig.people(3)
    await rig.loaded()
    rig.ask()
    await rig.replayed()
    rig.log.events.clear()

    await rig.start()  # the request is still there after a restart
    for _ in range(5):
        await rig.step()

    assert rig.log.events == []


async def test_a_second_request_is_a_second_replay(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()
    rig.ask("r1")
    await rig.replayed()

    rig.ask("r2")

    assert sorted(event.key for event in await rig.replayed()) == people


async def test_only_the_keys_asked_for_come_and_those_that_are_gone_are_left_out(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()
    rig.sandbox.delete("contact", people[1])

    rig.ask(keys=[people[3], people[1], people[0]])

    assert [event.key for event in await rig.replayed()] == [people[3], people[0]]


async def test_keys_that_were_fetched_before_a_refusal_are_not_fetched_again(rig: Rig) -> None:
    people = rig.people(30)
    await rig.loaded()
    rig.sandbox.ledger.faults.append(Fault("status", "GET", r"contacts\(", 503, skip=20, times=1))
    before = rig.sandbox.ledger.requests["GET contacts()"]
    rig.ask(keys=people)

    with pytest.raises(RetryError):
        await rig.replayed()
    events = await rig.replayed()

    assert [event.key for event in events] == people
    assert rig.sandbox.ledger.requests["GET contacts()"] - before < 45


async def test_only_rows_changed_since_a_time_come(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()
    rig.sandbox.advance(3600)
    since = datetime.now(UTC).timestamp() + 1800
    rig.rename(people[2], "changed")

    rig.ask(changed_since=datetime.fromtimestamp(since, UTC).isoformat())

    assert [event.key for event in await rig.replayed()] == [people[2]]


async def test_a_restart_goes_on_where_the_replay_was(rig: Rig) -> None:
    people = rig.people(7)
    await rig.loaded()
    rig.ask()
    while len(rig.log.events) < 4:
        await rig.step()

    await rig.start()
    await rig.replayed()

    assert sorted(each.key for each in rig.log.events) == people


async def test_live_changes_do_not_wait_for_a_replay(rig: Rig) -> None:
    people = rig.people(9)
    await rig.loaded()
    rig.ask()
    await rig.step()
    await rig.step()
    rig.rename(people[8], "now")

    rig.clock.advance(5)
    await rig.step()

    (live,) = [each.event for each in rig.log.events if each.event.lane == "live"]
    assert live.key == people[8]
    assert rig.cursor is not None
    assert rig.cursor["replay"]["state"] == "running"


async def test_a_replay_that_is_called_off_ends(rig: Rig) -> None:
    rig.people(9)
    await rig.loaded()
    rig.ask()
    for _ in range(3):
        await rig.step()
    rig.asked = None

    for _ in range(5):
        await rig.step()

    assert rig.cursor is not None
    assert rig.cursor["replay"]["state"] == "cancelled"
    assert 0 < len(rig.log.events) < 9


async def test_a_first_read_fulfils_a_replay_that_waited_for_the_start(rig: Rig) -> None:
    people = rig.people(3)
    rig.ask()
    await rig.start()
    await rig.until("live")
    for _ in range(5):
        await rig.step()

    assert sorted(each.key for each in rig.log.events) == people
    assert {each.event.lane for each in rig.log.events} == {"initial"}


async def test_a_page_link_that_dynamics_has_forgotten_begins_the_replay_again(rig: Rig) -> None:
    people = rig.people(5)
    await rig.loaded()
    rig.ask()
    while len(rig.log.events) < 2:
        await rig.step()
    rig.refuse("skiptoken", times=1)

    await rig.replayed()

    assert {each.key for each in rig.log.events} == set(people)


async def test_a_table_that_cannot_be_read_halts(rig: Rig) -> None:
    rig.people(3)
    await rig.loaded()
    rig.refuse("contacts[?].*orderby")  # not the poll, whose link carries its token
    rig.ask()

    with pytest.raises(HaltError) as told:
        await rig.replayed()

    assert told.value.code == "source_query_refused"
