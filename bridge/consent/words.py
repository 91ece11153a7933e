"""What people said and what systems hold of one contact's opt-out flags. Pure data.

A *word* is what a person said about a flag in one system: value and time. A *fact* is what a system holds now, whoever put it there. Words
stay when facts go: a profile that is deleted and made again has lost its facts, and is told the words again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from bridge.model.events import OptStatusObserved, System

OLDEST = datetime.min.replace(tzinfo=UTC)
LOOKED = "profile"  # the origin of what Campaign's API has just shown


@dataclass(frozen=True, slots=True)
class Order:
    """Which of two observations of one system is the later one: by epoch and version where both have a version, else by times."""

    version: int | None
    record_at: datetime | None
    observed_at: datetime
    epoch: int = 0

    def before(self, other: Order) -> bool:
        if self.epoch != other.epoch:
            return self.epoch < other.epoch
        if self.version is not None and other.version is not None:
            return self.version < other.version
        return (self.record_at or OLDEST, self.observed_at) < (other.record_at or OLDEST, other.observed_at)


@dataclass(frozen=True, slots=True)
class Word:
    """`at`: when it was said, by that system's clock; of an opt-out not earlier than it was, of an opt-in not later. `origin`: where it was
    read, for whoever asks for proof."""

    value: bool
    at: datetime
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """What is known of one system.

    `order` is that of the latest observation. `facts`: what the flags are as far as we know; one that is missing is not known. `words`: the
    last word about each flag. `told`: what it was told and has not shown since; `held` of them wait for a person. `gone`: the record is not
    there. `ahead`: by how much that system's clock was ahead of ours.
    """

    order: Order | None = None
    facts: Mapping[str, bool] = field(default_factory=dict)
    words: Mapping[str, Word] = field(default_factory=dict)
    told: Mapping[str, bool] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    gone: bool = False
    ahead: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of one contact. `decided_at`: of the last decision. `merged_into`: the contact that this one was merged into."""

    campaign: Side = Side()
    dynamics: Side = Side()
    decided_at: datetime | None = None
    merged_into: str | None = None

    def side(self, system: System) -> Side:
        return self.campaign if system == "campaign" else self.dynamics

    def having(self, system: System, side: Side) -> Status:
        return replace(self, campaign=side) if system == "campaign" else replace(self, dynamics=side)


@dataclass(frozen=True, slots=True)
class Observation:
    """An event with what its record says besides.

    `version`: of the contact. `own`: the writer read it back from its own write. `live`: it came as a change, not from a load, a resync or
    a replay. `carried`: words of a contact that was merged into this one; it says nothing of what this one holds.
    """

    event: OptStatusObserved
    version: int | None = None
    own: bool = False
    live: bool = True
    carried: bool = False

    @property
    def order(self) -> Order:
        return Order(self.version, self.event.record_changed_at, self.event.observed_at, self.event.epoch)

    @property
    def ours(self) -> bool:
        """Whether the last change was our own: then its time is nobody's."""
        return self.own or self.event.ours

    @property
    def looked(self) -> bool:
        """Whether it is the profile itself, as it is now, and not a row of a file."""
        return self.event.origin == LOOKED


@dataclass(frozen=True, slots=True)
class Pair:
    """A flag under its two names."""

    dynamics: str
    campaign: str

    def name(self, system: System) -> str:
        return self.campaign if system == "campaign" else self.dynamics
