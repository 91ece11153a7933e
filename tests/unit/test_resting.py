"""What waits in its topic, and which of two copies counts."""

from __future__ import annotations

from dataclasses import replace

from bridge.flow.failures import PARKED_FROM, PARKED_SINCE
from bridge.flow.offsets import Position
from bridge.flow.resting import PERIOD_S, Copies, Copy, Resting
from bridge.model.events import Record

HERE: Position = ("ingress.changes.contact", 0)
THERE: Position = ("ingress.changes.contact", 1)


def taken(resting: Resting, now_s: float, most: int = 100) -> tuple[Position, list[int]] | None:
    turn = resting.next(now_s, most)
    return None if turn is None else (turn.position, list(turn.offsets))


def test_nothing_is_due_before_its_time() -> None:
    resting = Resting()
    resting.add(HERE, 7, 100.0)

    assert taken(resting, 99.9) is None
    assert taken(resting, 100.0 + PERIOD_S) == (HERE, [7])
    assert taken(resting, 1e9) is None


def test_neighbours_come_together_in_order_some_at_a_time_and_the_oldest_first() -> None:
    resting = Resting()
    for offset in (9, 3, 7):
        resting.add(HERE, offset, 200.0)
    resting.add(THERE, 1, 100.0)

    assert [taken(resting, 1e9, 2) for _ in range(4)] == [(THERE, [1]), (HERE, [3, 7]), (HERE, [9]), None]


def test_those_whose_turn_it_is_are_counted_until_they_are_in_hand() -> None:
    resting = Resting()
    resting.add(HERE, 1, 0.0, opt_outs=2)
    resting.add(HERE, 2, 0.0)
    assert (len(resting), resting.opt_outs()) == (2, 2)

    turn = resting.next(0.0, 1)
    assert turn is not None and turn.offsets == {1: 2}
    assert (len(resting), resting.opt_outs()) == (2, 2)
    resting.taken()
    assert (len(resting), resting.opt_outs()) == (1, 0)


def test_partitions_that_are_not_ours_any_more_are_forgotten_in_the_turn_as_well() -> None:
    resting = Resting()
    for offset in range(5):
        resting.add(HERE, offset, 0.0, opt_outs=1)
        resting.add(THERE, offset, 500.0, opt_outs=1)
    turn = resting.next(0.0, 2)
    assert turn is not None

    resting.forget({0})

    assert turn.offsets == {}
    assert (len(resting), resting.opt_outs()) == (5, 5)
    assert taken(resting, 1e9) == (THERE, [0, 1, 2, 3, 4])


ORIGINAL = Record(*HERE, 100, 0, b"k", b"v", ())


def copy_at(offset: int) -> Record:
    return replace(ORIGINAL, offset=offset, headers=((PARKED_SINCE, b"1"), (PARKED_FROM, b"0-100")))


def test_what_was_noted_of_a_copy_is_told_once_when_it_is_read() -> None:
    copies = Copies()
    copies.published(ORIGINAL, noted := Copy(500, 3.0, 1))

    assert copies.read(replace(copy_at(500), key=b"another")) is None
    assert copies.read(copy_at(500)) == noted
    assert copies.read(copy_at(500)) is None
    assert not copies.is_void(copy_at(500))
    assert len(copies) == 0


def test_of_two_copies_the_earlier_counts() -> None:
    copies = Copies()
    copies.published(ORIGINAL, noted := Copy(500, 3.0, 1))

    assert copies.read(copy_at(300)) == noted
    assert copies.is_void(copy_at(500))
    assert not copies.is_void(copy_at(500))
    assert len(copies) == 0


def test_a_copy_of_a_copy_takes_its_place() -> None:
    copies = Copies()
    copies.published(ORIGINAL, Copy(500, 3.0, 0))
    copies.read(copy_at(300))
    copies.published(copy_at(300), later := Copy(700, 4.0, 0))

    assert copies.is_void(copy_at(500))
    assert copies.read(copy_at(700)) == later
    assert len(copies) == 0


def test_copies_of_partitions_that_are_not_ours_any_more_are_forgotten() -> None:
    copies = Copies()
    copies.published(ORIGINAL, Copy(500, 3.0, 0))
    copies.read(copy_at(300))
    copies.published(replace(ORIGINAL, partition=1), Copy(600, 3.0, 0))

    copies.forget({0})

    assert not copies.is_void(copy_at(500))
    assert len(copies) == 1
