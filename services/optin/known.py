"""What is known of a contact's opt-out flags in both systems, and what is heard of them. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from bridge.events import OptStatusObserved, System

OLDEST = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Order:
    """Which of two observations of one system is the later one: by version where both have one, else by times."""

    version: int | None
    record_at: datetime | None
    observed_at: datetime

    def before(self, other: Order) -> bool:
        if self.version is not None and other.version is not None:
            return self.version < other.version
        return (self.record_at or OLDEST, self.observed_at) < (other.record_at or OLDEST, other.observed_at)


@dataclass(frozen=True, slots=True)
class Seen:
    """A flag as a system showed it; `at`: when somebody changed it to this value, None for older than anything."""

    value: bool
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Told:
    """`heard_at`: when that was observed which first led to telling this value; the same when it has to be decided once more."""

    value: bool
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class Side:
    """What is known of one system.

    `order` is that of the latest observation. `told`: what it was last told to become, until the writer has read that back; `held` of them
    are not told yet, a person has to release them. `own`: flags as the writer read them back at `own_order`, later than `order`.
    """

    order: Order | None = None
    flags: Mapping[str, Seen] = field(default_factory=dict)
    told: Mapping[str, Told] = field(default_factory=dict)
    held: frozenset[str] = frozenset()
    own: Mapping[str, bool] = field(default_factory=dict)
    own_order: Order | None = None

    def flag(self, name: str) -> Seen | None:
        """The flag as it is by all we know."""
        return Seen(self.own[name], None) if name in self.own else self.flags.get(name)


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of one contact. `decided_at`: of the last decision."""

    campaign: Side = Side()
    dynamics: Side = Side()
    decided_at: datetime | None = None

    def side(self, system: System) -> Side:
        return self.campaign if system == "campaign" else self.dynamics

    def having(self, system: System, side: Side) -> Status:
        return replace(self, campaign=side) if system == "campaign" else replace(self, dynamics=side)


@dataclass(frozen=True, slots=True)
class Observation:
    """An event with what its record says besides. `version`: of the contact; `own`: the writer read it back from its own write."""

    event: OptStatusObserved
    version: int | None = None
    own: bool = False

    @property
    def order(self) -> Order:
        return Order(self.version, self.event.record_changed_at, self.event.observed_at)


@dataclass(frozen=True, slots=True)
class Pair:
    """A flag under its two names."""

    dynamics: str
    campaign: str

    def name(self, system: System) -> str:
        return self.campaign if system == "campaign" else self.dynamics


def since(record_at: datetime | None, heard_at: datetime | None) -> bool:
    """Whether a contact was changed after what led to a decision was heard, or may have been: Dynamics knows whole seconds only."""
    return (record_at or OLDEST) >= (heard_at or OLDEST).replace(microsecond=0)


def fresh(known: Order | None, heard: Order) -> bool:
    """Whether it is later than all that was heard of this system."""
    return known is None or known.before(heard)
