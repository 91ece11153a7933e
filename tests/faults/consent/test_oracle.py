"""The oracle of the simulation by small histories written by hand, the table of campaign.md §10.4 among them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.consent import exports
from tests.faults.consent.campaign import Campaign
from tests.faults.consent.dynamics import Dynamics
from tests.faults.consent.history import History
from tests.faults.consent.kafka import Clock, Kafka, Life, Time
from tests.faults.consent.readers import CHANGES, ContactReader, TableReader
from tests.faults.consent.setup import KEYS
from tests.faults.consent.truth import Book, Direction, Word, by_rule

PLACE = (KEYS[0], 0)
EARLY, LATE = 1_000, 2_000
pytestmark = pytest.mark.takes(1, always=True)


def heard(book: Book, word: Word) -> Word:
    word.heard |= {"ingress", "optin"}
    return word


def said(direction: Direction, *words: tuple[str, bool, int]) -> Book:
    """A book in which `words` (system, value, when) were said and heard."""
    book = Book(direction)
    for system, value, at in words:
        heard(book, book.say(PLACE, system, value, at))  # type: ignore[arg-type]
    return book


@pytest.mark.parametrize(
    ("campaign", "dynamics", "later", "equal", "earlier"),
    [
        (True, True, True, True, True),
        (True, False, True, True, True),
        (False, True, False, True, True),
        (False, False, False, False, False),
    ],
)
def test_the_table_of_the_rule(campaign: bool, dynamics: bool, later: bool, equal: bool, earlier: bool) -> None:
    """Campaign later, at the same time, earlier."""
    times = ((LATE, EARLY), (EARLY, EARLY), (EARLY, LATE))

    found = [by_rule(Word(campaign, at, at), Word(dynamics, then, then)) for at, then in times]

    assert found == [later, equal, earlier]


def test_one_word_alone_is_the_last_one() -> None:
    assert by_rule(Word(True, EARLY, EARLY), None)
    assert by_rule(None, Word(True, EARLY, EARLY))
    assert not by_rule(Word(False, EARLY, EARLY), None)
    assert not by_rule(None, None)


def test_a_no_binds_both_systems_once_it_was_heard() -> None:
    book = Book("bidirectional")
    word = book.say(PLACE, "dynamics", True, EARLY)
    assert not book.must_be_true(PLACE, "campaign")

    heard(book, word)

    assert book.must_be_true(PLACE, "campaign") and book.must_be_true(PLACE, "dynamics")


def test_a_yes_that_nobody_heard_releases_from_it() -> None:
    book = said("bidirectional", ("campaign", True, EARLY))
    book.say(PLACE, "campaign", False, LATE)

    assert not book.must_be_true(PLACE, "dynamics")


def test_in_one_direction_only_its_target_is_judged() -> None:
    assert said("dynamics-to-campaign", ("dynamics", True, EARLY)).must_be_true(PLACE, "campaign")
    assert not said("dynamics-to-campaign", ("dynamics", True, EARLY)).must_be_true(PLACE, "dynamics")
    assert said("campaign-to-dynamics", ("campaign", True, EARLY)).must_be_true(PLACE, "dynamics")
    assert not said("campaign-to-dynamics", ("campaign", True, EARLY)).must_be_true(PLACE, "campaign")


def test_dynamics_is_lowered_for_a_later_word_of_campaign_only() -> None:
    mine = Word(True, EARLY, EARLY)
    assert said("bidirectional", ("campaign", False, LATE)).may_lower_dynamics(PLACE, mine)
    assert said("bidirectional", ("campaign", True, EARLY), ("campaign", False, LATE)).may_lower_dynamics(PLACE, None)

    assert not said("bidirectional", ("campaign", False, EARLY)).may_lower_dynamics(PLACE, Word(True, LATE, LATE))
    assert not said("bidirectional", ("campaign", False, EARLY), ("campaign", True, LATE)).may_lower_dynamics(PLACE, None)
    assert not said("bidirectional").may_lower_dynamics(PLACE, None)


def test_campaign_is_lowered_for_a_later_turn_in_dynamics_only() -> None:
    book = Book("dynamics-to-campaign")
    assert book.may_lower_campaign(PLACE, Word(True, EARLY, EARLY), LATE)
    assert book.may_lower_campaign(PLACE, None, LATE)

    assert not book.may_lower_campaign(PLACE, None, None)
    assert not book.may_lower_campaign(PLACE, Word(True, LATE + 1, LATE + 1), LATE)


def test_a_restore_takes_no_word_back_and_gives_none() -> None:
    """One way: FALSE was chosen by hand, then a backup brought an earlier FALSE, which an edit says again."""
    book = said("campaign-to-dynamics", ("campaign", True, EARLY), ("dynamics", False, LATE))
    book.say(PLACE, "dynamics", False, LATE + 1, EARLY - 1)
    assert not book.must_be_true(PLACE, "dynamics")

    heard(book, book.say(PLACE, "dynamics", True, LATE + 2))
    book.say(PLACE, "dynamics", False, LATE + 3, EARLY - 1)
    assert book.must_be_true(PLACE, "dynamics")


class Small:
    """Two systems and the readers of Dynamics, without a product."""

    def __init__(self, direction: Direction = "bidirectional") -> None:
        self.time, self.book = Time(), Book(direction)
        self.kafka, clock = Kafka(self.time), Clock(self.time)
        self.dynamics = Dynamics(self.book, clock)
        self.campaign = Campaign(("blackListEmail", "blackListPhone"), self.book, clock)
        self.contacts = ContactReader(self.dynamics, self.kafka, clock, ("donotemail", "donotphone"))
        self.table = TableReader(self.dynamics, self.kafka, clock, ("donotemail",))
        self.dynamics.create(KEYS[0], set())
        self.poll()

    def poll(self) -> None:
        self.contacts.poll(Life())
        self.table.poll(Life())
        self.time.pass_ms(10_000)


def test_any_later_change_of_the_contact_says_its_no_again() -> None:
    """K13: TRUE in Dynamics, FALSE in Campaign, then somebody edits the contact."""
    world = Small()
    world.campaign.make(KEYS[0], {})
    world.dynamics.say(KEYS[0], "donotemail", True)
    world.poll()
    heard(world.book, world.book.say(PLACE, "campaign", False, world.time.now))
    assert not world.book.must_be_true(PLACE, "dynamics")
    world.time.pass_ms(1_000)

    world.dynamics.say(KEYS[0], None, firstname="b")
    world.poll()

    assert world.book.must_be_true(PLACE, "dynamics")


def test_our_own_write_is_no_word() -> None:
    world = Small()
    contact = world.dynamics.contacts[KEYS[0]]

    world.dynamics.written(contact, {"donotemail": True})
    world.poll()

    assert contact.flags["donotemail"].value and not world.book.must_be_true(PLACE, "dynamics")


def test_an_import_that_is_set_back_is_as_late_as_the_look_before_it() -> None:
    """K15."""
    world = Small()
    looked = world.time.now - 10_000
    heard(world.book, world.book.say(PLACE, "campaign", False, looked - 1))

    world.dynamics.set_back(KEYS[0], "donotemail", True, days=30)
    world.poll()

    assert world.book.last(PLACE, "dynamics").at == looked  # type: ignore[union-attr]
    assert world.book.must_be_true(PLACE, "campaign")


def test_a_restored_copy_says_nothing() -> None:
    world = Small()
    backup = world.dynamics.copy()
    world.dynamics.say(KEYS[0], "donotemail", True)
    world.poll()

    world.dynamics.restore(backup)
    world.poll()

    assert not world.dynamics.contacts[KEYS[0]].flags["donotemail"].value
    assert world.book.must_be_true(PLACE, "campaign")
    assert (KEYS[0], "donotemail") not in world.table.turned


def test_a_turn_needs_both_sides_and_a_live_change() -> None:
    world = Small()
    world.dynamics.say(KEYS[0], "donotemail", True)
    world.poll()
    world.dynamics.say(KEYS[0], "donotemail", False)
    world.table.cursor = None
    world.poll()
    assert (KEYS[0], "donotemail") not in world.table.turned

    world.dynamics.say(KEYS[0], None, firstname="b")
    world.poll()

    assert world.table.turn((KEYS[0], "donotemail")) == 20_000
    world.dynamics.say(KEYS[0], "donotemail", True)
    world.poll()
    assert world.table.turn((KEYS[0], "donotemail")) == 20_000
    world.kafka.committed[CHANGES] = len(world.kafka.topics[CHANGES])
    assert world.table.turn((KEYS[0], "donotemail")) is None


def test_the_words_of_a_contact_that_is_merged_go_over() -> None:
    world = Small()
    world.dynamics.create(KEYS[1], {"donotemail"})
    world.poll()

    world.dynamics.merge(KEYS[1], KEYS[0])
    world.poll()

    assert world.book.must_be_true(PLACE, "dynamics")
    assert world.kafka.event(world.kafka.topics["optin.observations"][-1]).merged_into == KEYS[0]


def test_spoiled_cells_and_rows_are_not_heard() -> None:
    world = Small()
    for key in KEYS[:2]:
        world.campaign.make(key, {})
        world.campaign.say(key, "blackListEmail", True)
    flags = ("blackListEmail", "blackListPhone")

    def names(**how: str) -> list[str]:
        file = exports.made(1, 0, exports.Style(**how), world.campaign.profiles, KEYS[:2])  # type: ignore[arg-type]
        return [f"{key[0]} {flag[9:]}" for key, flag in file.heard(flags)]

    assert names() == ["1 Email", "1 Phone", "2 Email", "2 Phone"]
    assert names(bad_cell="flag") == ["1 Phone", "2 Email", "2 Phone"]
    assert names(bad_row="key") == ["2 Email", "2 Phone"]
    assert names(times="none") == ["1 Email", "2 Email"]


def test_what_was_said_before_a_flag_was_unmapped_dies_with_the_contact() -> None:
    world = Small("dynamics-to-campaign")
    world.dynamics.say(KEYS[0], "donotemail", True)
    world.poll()
    assert world.book.must_be_true(PLACE, "campaign")
    world.table.columns = ()
    world.poll()
    assert world.book.must_be_true(PLACE, "campaign")

    world.dynamics.delete(KEYS[0])
    world.poll()

    assert not world.book.must_be_true(PLACE, "campaign")


def test_a_false_of_an_unseen_backup_counts_with_the_edit_that_shows_it() -> None:
    """Nothing tells the reader of a restore; but a record that only lies there as it was is no change."""
    world = Small("dynamics-to-campaign")
    backup = world.dynamics.copy()
    world.dynamics.say(KEYS[0], "donotemail", True)
    world.poll()
    world.dynamics.restore(backup)
    world.poll()
    assert world.table.turn((KEYS[0], "donotemail")) is None
    world.dynamics.version += 10  # its versions are above those seen

    world.dynamics.say(KEYS[0], None, firstname="b")
    world.poll()

    assert world.table.turn((KEYS[0], "donotemail")) == world.time.now - 10_000


async def test_a_history_is_the_same_each_time(tmp_path: Path) -> None:
    told = []
    for _ in range(2):
        history = History(3, tmp_path)
        await history.live()
        told.append(history.told)

    assert told[0] == told[1] and len(told[0]) > 10
    assert (tmp_path / "export").exists() or not history.setup.optin_runs
    assert CHANGES in history.kafka.topics
