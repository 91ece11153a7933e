"""bridge.flow.offsets: never commit past a record that is not settled (decision D2)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.flow.offsets import OffsetLedger

HERE = ("ingress.changes.contact", 0)
THERE = ("ingress.changes.contact", 1)


@dataclass
class Model:
    """One partition, as simply as can be."""

    start: int
    read: list[int] = field(default_factory=list)
    settled: set[int] = field(default_factory=set)
    end: int = 0
    committed: int | None = None

    def waiting(self) -> list[int]:
        return [offset for offset in self.read if offset not in self.settled]

    def commitable(self) -> int | None:
        """The lowest unsettled offset, else the position; None when there is nothing new to commit."""
        position = max([self.start, self.end, *(offset + 1 for offset in self.read)])
        target = min(self.waiting(), default=position)
        return target if target > (self.start if self.committed is None else self.committed) else None


class LedgerAgainstModel(RuleBasedStateMachine):
    """Reads with gaps (transaction markers), settling in any order, ends of partition, commits that may come late or never."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = OffsetLedger()
        self.model = Model(start=0)
        self.ledger.own(HERE, 0)

    @rule(gap=st.integers(0, 3))
    def read(self, gap: int) -> None:
        offset = max([self.model.start, self.model.end, *(each + 1 for each in self.model.read)]) + gap
        self.ledger.read(HERE, offset, 1000 + offset)
        self.model.read.append(offset)

    @precondition(lambda self: self.model.waiting())
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(self.model.waiting()))
        self.ledger.settle(HERE, offset)
        self.model.settled.add(offset)

    @precondition(lambda self: self.model.read)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(self.model.read))
        if offset in self.model.settled:
            self.ledger.settle(HERE, offset)

    @rule(ahead=st.integers(0, 2))
    def reach_end(self, ahead: int) -> None:
        end = max([self.model.start, self.model.end, *(each + 1 for each in self.model.read)]) + ahead
        self.ledger.reached_end(HERE, end)
        self.model.end = end

    @rule()
    def commit(self) -> None:
        offsets = self.ledger.commitable()
        self.ledger.committed(offsets)
        self.model.committed = offsets.get(HERE, self.model.committed)

    @rule(committed=st.integers(0, 50))
    def lose_and_own_again(self, committed: int) -> None:
        self.ledger.disown(HERE)
        self.ledger.own(HERE, committed)
        self.model = Model(start=committed)

    @invariant()
    def commitable_is_the_lowest_unsettled_offset(self) -> None:
        assert self.ledger.commitable().get(HERE) == self.model.commitable()

    @invariant()
    def what_waits_is_counted_and_its_oldest_time_known(self) -> None:
        waiting = self.model.waiting()

        assert self.ledger.waiting() == len(waiting)
        assert self.ledger.oldest_ms() == min((1000 + offset for offset in waiting), default=None)


TestLedgerAgainstModel = LedgerAgainstModel.TestCase


@given(st.permutations(range(8)))
def test_whatever_the_order_of_settling_nothing_unsettled_is_passed(order: list[int]) -> None:
    ledger = OffsetLedger()
    ledger.own(HERE, 0)
    for offset in range(8):
        ledger.read(HERE, offset)

    for number, offset in enumerate(order):
        ledger.settle(HERE, offset)
        open_offsets = order[number + 1 :]
        assert ledger.commitable().get(HERE, 0) == min(open_offsets, default=8)


def test_an_idle_partition_commits_its_position_past_transaction_markers() -> None:
    ledger = OffsetLedger()
    ledger.own(HERE, 5)

    ledger.reached_end(HERE, 7)

    assert ledger.commitable() == {HERE: 7}


def test_the_end_of_the_partition_does_not_pass_a_record_in_hand() -> None:
    ledger = OffsetLedger()
    ledger.own(HERE, 5)
    ledger.read(HERE, 5)

    ledger.reached_end(HERE, 7)

    assert ledger.commitable() == {}


def test_a_group_that_never_committed_commits_even_offset_zero_plus_one() -> None:
    ledger = OffsetLedger()
    ledger.own(HERE, None)
    ledger.read(HERE, 0)

    ledger.settle(HERE, 0)

    assert ledger.commitable() == {HERE: 1}


def test_a_commit_that_has_succeeded_is_not_offered_again() -> None:
    ledger = OffsetLedger()
    ledger.own(HERE, 0)
    ledger.read(HERE, 0)
    ledger.settle(HERE, 0)

    ledger.committed(ledger.commitable())

    assert ledger.commitable() == {}


def test_partitions_do_not_hold_each_other_back() -> None:
    ledger = OffsetLedger()
    for position in (HERE, THERE):
        ledger.own(position, 0)
        ledger.read(position, 0)

    ledger.settle(THERE, 0)

    assert ledger.commitable() == {THERE: 1}


@pytest.mark.parametrize("late", ["read", "settle", "reached_end", "committed"])
def test_news_of_a_partition_that_is_not_ours_any_more_is_ignored(late: str) -> None:
    ledger = OffsetLedger()
    ledger.own(HERE, 0)
    ledger.read(HERE, 0)
    ledger.disown(HERE)

    ledger.committed({HERE: 3}) if late == "committed" else getattr(ledger, late)(HERE, 3)

    assert not ledger.owns(HERE)
    assert (ledger.commitable(), ledger.waiting(), ledger.oldest_ms()) == ({}, 0, None)


def test_owning_again_forgets_what_was_in_hand() -> None:
    ledger = OffsetLedger()
    ledger.own(HERE, 0)
    ledger.read(HERE, 0)

    ledger.own(HERE, 0)
    ledger.settle(HERE, 0)

    assert (ledger.commitable(), ledger.waiting()) == ({}, 0)


def test_settled_records_behind_an_open_one_are_counted() -> None:
    ledger = OffsetLedger()
    ledger.own(HERE, 0)
    for offset in range(10):
        ledger.read(HERE, offset)

    for offset in (1, 2, 5):
        ledger.settle(HERE, offset)

    assert ledger.settled_behind(HERE, 0) == 3
    assert ledger.settled_behind(THERE, 0) == 0
