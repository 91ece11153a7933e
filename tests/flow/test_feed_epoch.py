"""A table's feed when versions of Dynamics start over: restored, copied, moved (consent.md, *Versions that go back*)."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.flow.reader import Feed
from bridge.memory import MemoryPublisher
from bridge.model.errors import HaltError, RetryError
from bridge.model.events import ChangeEvent
from sandbox.dynamics.restoring import Backup
from sandbox.web import Fault
from tests.flow.feeding import CHANGES, KEY, REPLAY, Rig, during, keys, serving_rig

ANOTHER = "22222222-0000-4000-8000-00000000000a"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with serving_rig(tmp_path) as made:
        yield made


def cursor(rig: Rig) -> dict[str, Any]:
    assert rig.cursor is not None
    return dict(rig.cursor)


async def after_a_backup(rig: Rig) -> tuple[list[str], Backup]:
    """Three people are read, a backup is made, and one of them changes twice after it: versions above the backup's are seen."""
    people = rig.people(3)
    await rig.loaded()
    state = rig.sandbox.backup()
    for _ in range(2):
        rig.sandbox.advance(60)
        rig.rename(people[0], "after the backup")
        await rig.poll()
    rig.settled()
    return people, state


def restore_and_change(rig: Rig, state: Backup, key: str) -> None:
    """The restore, and an opt-out or another edit a minute later."""
    rig.sandbox.settings.future_token = "taken"
    rig.sandbox.restore(state)
    rig.sandbox.advance(60)
    rig.rename(key, "after the restore")


async def halts(rig: Rig) -> HaltError:
    with pytest.raises(HaltError) as caught:
        await rig.until("never")
    return caught.value


def lanes(events: list[Any]) -> set[tuple[str, int]]:
    return {(each.event.lane, each.event.epoch) for each in events}


async def test_said_restored_while_it_runs_everything_is_read_again_in_the_next_epoch(rig: Rig) -> None:
    people, state = await after_a_backup(rig)
    before = {key: version for key, (_, version, _) in rig.published.state.items()}
    restore_and_change(rig, state, people[1])

    rig.restored = 1
    await rig.until("live")

    events: list[ChangeEvent] = [each.event for each in rig.log.of(REPLAY)]
    assert [each.key for each in events] == people
    assert lanes(rig.log.events) == {("resync", 1)}
    (changed,) = [each for each in events if each.key == people[0]]
    assert changed.version is not None and changed.version < (before[people[0]] or 0)
    assert rig.image() == rig.truth()
    assert (cursor(rig)["epoch"], cursor(rig)["restored"]) == (1, 1)


async def test_after_a_restore_a_changed_row_has_a_lower_version_in_the_new_epoch(rig: Rig) -> None:
    """K5: its event used to be taken for an old one."""
    people, state = await after_a_backup(rig)
    highest = cursor(rig)["version_seen"]
    rig.sandbox.settings.future_token = "empty"
    rig.sandbox.restore(state)
    rig.restored = 1
    await rig.until("live")
    rig.rename(people[2], "changed again")

    (event,) = await rig.poll()

    assert (event.key, event.epoch, event.lane) == (people[2], 1, "live")
    assert event.version is not None and event.version < highest
    assert cursor(rig)["version_seen"] == event.version


async def test_a_row_that_the_restore_took_away_is_deleted_in_the_new_epoch(rig: Rig) -> None:
    rig.people(2)
    await rig.loaded()
    state = rig.sandbox.backup()
    born = rig.sandbox.upsert("contact", {"lastname": "born after the backup"})
    await rig.poll()
    rig.settled()
    rig.sandbox.restore(state)

    rig.restored = 1
    await rig.until("live")

    (gone,) = [each.event for each in rig.log.events if each.event.op == "delete"]
    assert (gone.key, gone.epoch, gone.lane) == (born, 1, "resync")
    highest = max(row["versionnumber"] for row in rig.sandbox.rows("contact"))
    assert gone.version == highest, "versions of the epoch before do not count"


async def test_a_row_that_is_made_again_behind_the_read_is_found_though_its_old_version_is_higher(rig: Rig) -> None:
    rig.people(5)
    await rig.loaded()
    state = rig.sandbox.backup()
    again = {"contactid": "00000000-0000-4000-8000-000000000000", "lastname": "made again"}
    for _ in range(9):
        rig.sandbox.upsert("contact", again)
    await rig.poll()
    rig.settled()
    rig.sandbox.restore(state)
    during(rig, 2, lambda: rig.sandbox.upsert("contact", again))

    rig.restored = 1
    await rig.until("live")

    (found,) = rig.log.of(CHANGES)
    assert (found.key, found.event.op, found.event.epoch) == (again["contactid"], "upsert", 1)


async def test_restored_is_noticed_by_one_that_starts_later_and_once_only(rig: Rig) -> None:
    people = rig.people(2)
    await rig.loaded()
    rig.restored = 1

    await rig.start()
    await rig.until("live")
    await rig.start()
    assert await rig.poll() == []

    assert keys(rig.log.of(REPLAY)) == people


async def test_restored_twice_is_two_epochs_and_once_while_it_loads_begins_the_load_again(rig: Rig) -> None:
    people = rig.people(5)
    await rig.loaded()
    rig.restored = 1
    await rig.step()
    await rig.step()
    first = list(rig.log.events)

    rig.restored = 2
    await rig.until("live")

    assert (keys(first), lanes(first)) == (people[:2], {("resync", 1)})
    assert keys(rig.log.of(REPLAY)) == [*people[:2], *people]
    assert lanes(rig.log.events[2:]) == {("resync", 2)}


async def test_a_first_load_begins_again_when_somebody_says_restored(rig: Rig) -> None:
    people = rig.people(5)
    await rig.start()
    await rig.step()
    await rig.step()

    rig.restored = 1
    await rig.until("live")

    assert keys(rig.log.of(REPLAY)) == [*people[:2], *people]
    assert lanes(rig.log.events[2:]) == {("resync", 1)}


@pytest.mark.parametrize("phase", ["reconcile", "drain"])
async def test_said_restored_in_any_phase_a_load_begins(rig: Rig, phase: str) -> None:
    people = rig.people(3)
    if phase == "reconcile":
        await rig.start()
        await rig.until("reconcile")
    else:
        await rig.loaded()
        await rig.start(["firstname", "lastname"])
        await rig.until("drain")
    before = len(rig.log.events)

    rig.restored = 1
    await rig.until("live")

    assert keys(rig.log.events[before:]) == people
    assert lanes(rig.log.events[before:]) == {("resync", 1)}
    assert rig.log.events[before:] == rig.log.of(REPLAY)[-3:], "what was read is not taken for missing"


async def test_a_table_that_is_mapped_later_begins_in_the_epoch_there_is(rig: Rig) -> None:
    rig.people(2)
    rig.restored = 3
    await rig.start()

    await rig.until("live")

    assert lanes(rig.log.events) == {("initial", 3)}
    assert await rig.poll() == []


@pytest.mark.parametrize("token", ["taken", "empty", "refused", "expired"])
async def test_unsaid_it_shows_when_a_row_that_was_changed_later_has_a_lower_version(rig: Rig, token: Any) -> None:
    """Whatever Dynamics makes of our link: a delta shows it, or the full read that comes after a link that is refused."""
    people, state = await after_a_backup(rig)
    rig.sandbox.settings.future_token = token
    rig.sandbox.restore(state)
    await rig.poll() if token == "empty" else None
    rig.sandbox.advance(60)
    rig.rename(people[1], "after the restore")

    error = await halts(rig)

    assert (error.code, error.origin) == ("versions_went_back", "source")
    assert "contact" in str(error)
    assert people[1] not in keys(rig.log.of(CHANGES)), "nothing of it goes out in the old epoch"
    assert rig.log.cursors[KEY]["epoch"] == 1, "committed before the halt"


async def test_the_next_start_reads_everything_in_the_new_epoch_and_does_not_halt_again(rig: Rig) -> None:
    people, state = await after_a_backup(rig)
    restore_and_change(rig, state, people[1])
    await halts(rig)

    rig.generation += 1
    await rig.start()
    await rig.until("live")
    await rig.poll()

    assert keys(rig.log.of(REPLAY)) == people
    assert lanes(rig.log.events) == {("resync", 1)}
    assert rig.image() == rig.truth()
    assert "went_back" not in cursor(rig)


async def test_a_process_that_dies_between_the_commit_and_the_halt_halts_when_it_is_back(rig: Rig) -> None:
    """Nobody has pressed Start: of another organisation nothing may be read. It rises once only."""
    people, state = await after_a_backup(rig)
    restore_and_change(rig, state, people[1])
    step = await rig.feed.step(rig.cursor)
    await rig.publisher.publish(step.events, KEY, step.cursor)

    for _ in range(2):
        await rig.start()
        assert (await halts(rig)).code == "versions_went_back"

    assert rig.log.cursors[KEY]["epoch"] == 1
    assert rig.log.events == []


async def test_the_loop_commits_the_risen_epoch_before_it_ends(rig: Rig) -> None:
    people, state = await after_a_backup(rig)
    restore_and_change(rig, state, people[1])
    loop = Feed(KEY, rig.feed, MemoryPublisher(rig.log), rig.cursor, rig.clock, random.Random(1))

    with pytest.raises(HaltError) as caught:
        await loop.run()

    assert caught.value.code == "versions_went_back"
    assert rig.log.cursors[KEY]["epoch"] == 1
    assert rig.log.events == []


async def test_said_restored_after_it_rose_by_itself_one_load_is_enough(rig: Rig) -> None:
    people, state = await after_a_backup(rig)
    restore_and_change(rig, state, people[1])
    await halts(rig)

    rig.restored, rig.generation = 1, 2
    await rig.start()
    await rig.until("live")
    await rig.poll()

    assert keys(rig.log.of(REPLAY)) == people
    assert lanes(rig.log.events) == {("resync", 1)}


async def test_said_restored_once_more_after_it_rose_by_itself_is_another_epoch(rig: Rig) -> None:
    people, state = await after_a_backup(rig)
    restore_and_change(rig, state, people[1])
    await halts(rig)
    rig.generation = 2
    await rig.start()
    await rig.until("live")

    rig.restored = 1
    await rig.until("live")

    assert cursor(rig)["epoch"] == 2


async def test_another_organisation_halts_before_anything_of_it_is_read(rig: Rig) -> None:
    rig.people(2)
    await rig.loaded()
    rig.sandbox.settings.organization = ANOTHER
    rig.people(1)
    await rig.start()

    error = await halts(rig)

    assert (error.code, "organisation" in str(error)) == ("versions_went_back", True)
    assert ANOTHER not in str(error)
    assert "DYNAMICS_URL" in error.hint
    assert rig.log.events == []
    assert rig.log.cursors[KEY]["epoch"] == 1


async def test_another_organisation_behind_the_same_address_is_noticed_while_it_runs(rig: Rig) -> None:
    rig.people(2)
    await rig.loaded()
    rig.sandbox.settings.organization = ANOTHER
    rig.clock.advance(601)

    assert (await halts(rig)).code == "versions_went_back"


async def test_another_organisation_is_noticed_when_it_refuses_the_links_of_the_one_before(rig: Rig) -> None:
    rig.people(2)
    await rig.loaded()
    rig.sandbox.settings.organization = ANOTHER
    rig.sandbox.expire_tokens()

    assert (await halts(rig)).code == "versions_went_back"
    assert rig.log.events == []


async def test_start_takes_the_other_organisation_for_meant(rig: Rig) -> None:
    people = rig.people(2)
    await rig.loaded()
    rig.sandbox.settings.organization = ANOTHER
    await rig.start()
    await halts(rig)

    rig.generation += 1
    await rig.start()
    await rig.until("live")
    assert await rig.poll() == []

    assert keys(rig.log.of(REPLAY)) == people
    assert lanes(rig.log.events) == {("resync", 1)}


async def test_back_at_the_right_organisation_it_does_not_halt_once_more(rig: Rig) -> None:
    people = rig.people(2)
    await rig.loaded()
    right = rig.sandbox.settings.organization
    rig.sandbox.settings.organization = ANOTHER
    await rig.start()
    await halts(rig)

    rig.sandbox.settings.organization = right
    rig.generation += 1
    await rig.start()
    await rig.until("live")

    assert keys(rig.log.of(REPLAY)) == people


async def test_who_says_restored_means_another_organisation_as_well(rig: Rig) -> None:
    people = rig.people(2)
    await rig.loaded()
    rig.sandbox.settings.organization, rig.restored = ANOTHER, 1
    await rig.start()

    await rig.until("live")

    assert keys(rig.log.of(REPLAY)) == people


async def test_the_same_organisation_at_another_address_goes_on_when_somebody_says_restored(rig: Rig) -> None:
    people = rig.people(2)
    await rig.loaded()
    elsewhere = {**cursor(rig), "delta_link": "https://old.example/api/data/v9.2/contacts?$deltatoken=1"}
    rig.log.cursors[KEY] = elsewhere
    await rig.start()
    assert (await halts(rig)).code == "foreign_link"

    rig.restored = 1
    await rig.start()
    await rig.until("live")

    assert keys(rig.log.of(REPLAY)) == people


async def test_dynamics_that_does_not_say_who_answers_is_waited_for(rig: Rig) -> None:
    people = rig.people(1)
    await rig.loaded()
    rig.rename(people[0], "changed")
    await rig.start()
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "WhoAmI", 200, "{}", "application/json", times=1))

    with pytest.raises(RetryError) as caught:
        await rig.step()

    assert caught.value.code == "bad_answer"
    assert [each.key for each in await rig.poll()] == people


@pytest.mark.parametrize("switch", [{"repeats": 3}, {"shuffle": True}, {"shuffle": True, "repeats": 5}, {"same_guid": "both"}])
async def test_repeats_any_order_and_rows_that_come_back_are_no_alarm(rig: Rig, switch: dict[str, Any]) -> None:
    people = rig.people(6)
    await rig.loaded()
    rng = random.Random(7)
    rig.sandbox.settings.change(switch)

    for _ in range(25):
        rig.sandbox.advance(rng.choice([0, 1, 30]))
        for key in rng.sample(people, 3):
            if rng.random() < 0.3:
                rig.sandbox.delete("contact", key)
            rig.rename(key, f"name {rng.random()}")
        await rig.poll()

    assert cursor(rig)["epoch"] == 0
    assert rig.truth().items() <= rig.image().items()


async def test_the_newest_row_that_is_deleted_is_no_alarm(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()
    rig.sandbox.advance(60)
    rig.rename(people[2], "the newest")
    await rig.poll()
    rig.sandbox.delete("contact", people[2])
    await rig.poll()
    rig.sandbox.advance(60)
    rig.rename(people[0], "later")

    assert [each.key for each in await rig.poll()] == [people[0]]


@pytest.mark.parametrize("modifiedon", ["1999-01-01T00:00:00Z", "2099-01-01T00:00:00Z"])
async def test_times_that_an_import_sets_are_no_alarm(rig: Rig, modifiedon: str) -> None:
    people = rig.people(3)
    await rig.loaded()
    rig.sandbox.upsert("contact", {"contactid": people[0], "lastname": "imported"}, modifiedon)
    await rig.poll()
    rig.sandbox.settings.repeats = 3

    for key in people:
        rig.sandbox.advance(60)
        rig.rename(key, "edited")
        await rig.poll()
    rig.sandbox.expire_tokens()
    await rig.until("live")

    assert cursor(rig)["epoch"] == 0


async def test_clocks_that_jump_are_no_alarm(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()

    for ahead, key in zip((7200, -7200, 0), people, strict=True):
        rig.sandbox.settings.clock_ahead_s = ahead
        rig.clock.advance(abs(ahead))
        rig.rename(key, f"by {ahead}")
        assert [each.key for each in await rig.poll()] == [key]


async def test_a_delta_behind_a_replay_that_has_read_ahead_is_no_alarm(rig: Rig) -> None:
    """What is read outside of the tracking session proves nothing against it."""
    people = rig.people(4)
    await rig.loaded()
    rig.rename(people[0], "read by the delta only")
    rig.sandbox.advance(5)
    rig.rename(people[1], "read ahead")
    rig.ask(keys=[people[1]])
    await rig.replayed()
    rig.sandbox.settings.repeats = 4

    await rig.poll()

    assert cursor(rig)["epoch"] == 0
    assert rig.image() | rig.truth() == rig.image()


async def test_a_full_read_after_tracking_expired_is_no_alarm(rig: Rig) -> None:
    people = rig.people(5)
    await rig.loaded()
    for key in people:
        rig.sandbox.advance(60)
        rig.rename(key, "while nobody looked")
    rig.sandbox.expire_tokens()

    await rig.until("live")

    assert (cursor(rig)["epoch"], lanes(rig.log.of(REPLAY))) == (0, {("resync", 0)})


async def test_a_cursor_of_an_earlier_version_begins_to_note_without_an_alarm(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()
    new = ("epoch", "restored", "organisation", "newest_seen", "modified_seen", "mark")
    rig.log.cursors[KEY] = {name: value for name, value in cursor(rig).items() if name not in new}
    rig.sandbox.settings.repeats = 3
    await rig.start()

    for key in people:
        rig.sandbox.advance(60)
        rig.rename(key, "changed")
        await rig.poll()

    assert rig.log.of(REPLAY) == []
    assert {each.event.epoch for each in rig.log.events} == {0}
    assert {"organisation", "newest_seen", "modified_seen", "mark"} <= cursor(rig).keys()


async def test_a_lost_cursor_does_not_fall_back_to_an_epoch_that_looks_old(rig: Rig) -> None:
    people = rig.people(2)
    await rig.loaded()
    rig.restored = 1
    await rig.until("live")
    rig.settled()
    rig.log.cursors.clear()
    rig.restored = 0  # raised by itself, or the desired state was lost as well

    await rig.start()
    await rig.until("live")
    await rig.until("load") if cursor(rig)["epoch"] < 2 else None
    rig.rename(people[0], "changed")
    events = await rig.poll()

    assert events[-1].epoch == 2
    assert rig.image() == rig.truth()


async def test_what_a_resync_could_not_see_carries_its_lane_and_goes_to_the_live_topic(rig: Rig) -> None:
    people = rig.people(6)
    await rig.loaded()
    rig.sandbox.expire_tokens()
    during(rig, 2, lambda: rig.rename(people[0], "changed behind the read"))

    await rig.until("live")

    (found,) = rig.log.of(CHANGES)
    assert (found.key, found.event.lane) == (people[0], "resync")
    assert dict(found.headers)["origin-lane"] == b"resync"


async def test_a_row_without_a_column_that_was_asked_for_is_waited_out_and_named(rig: Rig) -> None:
    people = rig.people(2)
    await rig.loaded()
    rig.rename(people[0], "changed")
    collection, lacking = rig.client.collection, True

    async def half(path: str, prefer: str) -> Any:
        answer = await collection(path, prefer)
        for row in answer["value"] if lacking else ():
            row.pop("lastname", None)
        return answer

    rig.client.collection = half  # type: ignore[method-assign]

    for _ in range(2):
        with pytest.raises(RetryError) as caught:
            await rig.step()
        assert caught.value.code == "bad_answer"
        assert "contact" in str(caught.value) and "lastname" in str(caught.value)
    lacking = False
    assert [each.fields["lastname"] for each in await rig.poll()] == ["changed"]
