"""What the writer loop needs from others: a workflow's Handler, dead letters, requeueing. The docstrings are the contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from bridge.model.errors import RejectError
from bridge.model.events import Headers, Record
from bridge.model.state import Known

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a record. `known` None leaves the state as it is; the loop fills in where, when and how often. `more`: what else is to
    be counted. `made`: the key of a record that is there now and was not before, for those that wait for it."""

    outcome: str
    known: Known | None = None
    more: Mapping[str, int] = field(default_factory=dict)
    made: str = ""


class Route(NamedTuple):
    """Where a record goes. `key`: what has one key is kept in order and merged while it waits. `state_key`: under which `.state` keeps what
    is known of it. `live`: whether it goes before those that are not."""

    key: str
    state_key: str
    live: bool


class Handler(Protocol[E]):
    """What is particular to a workflow. All of it runs in the event loop.

    `sums`: what is merged is the sum of its records, and each of them goes to the dead letters; else the newest stands for all.
    """

    sums: bool

    def route(self, record: Record) -> Route:
        """By key, headers and topic alone: nothing is decoded yet."""

    async def decode(self, record: Record) -> E:
        """Raises RejectError for what is no event of this workflow."""

    def merge(self, waiting: E, arrived: E) -> tuple[E, bool]:
        """What is left to do of two events of one key, and whether the one that arrived later is the newer one. Of a replay it may be the
        older one: then the record of the other is named in state and dead letters."""

    async def write(self, event: E, known: Known | None) -> Result:
        """Brings the target to this state. Raises RetryError, ParkError, RejectError or HaltError."""

    def rejected(self, event: E, known: Known | None) -> Known:
        """What is known of a record that goes to the dead letters."""


class DeadLetters(Protocol):
    async def put(self, record: Record, error: RejectError, *, attempts: int, first_failed_at: datetime, failed_at: datetime) -> None:
        """Returns when the letter is kept. Raises RetryError or HaltError, then the record must not be settled."""


class Requeue(Protocol):
    async def __call__(self, record: Record, headers: Headers) -> None:
        """Publishes the record again, with these headers, at the end of its own partition."""
