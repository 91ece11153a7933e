"""Dynamics with its contacts: a twin in memory of what the product calls, and what people and others do there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from bridge.model.errors import RetryError
from tests.faults.consent.kafka import START, Clock, Life
from tests.faults.consent.truth import Book, Hearer, Word

US, PERSON, OTHER = "00000000-0000-4000-8000-0000000000aa", "00000000-0000-4000-8000-0000000000bb", "00000000-0000-4000-8000-0000000000cc"
COLUMNS = ("donotemail", "donotphone")


@dataclass(frozen=True, slots=True)
class Fact:
    """A flag as a system holds it. `word`: what somebody said to make it so; None: a default, or we did. `stamp`: in Campaign the time of
    the flag by its clock; in Dynamics, where nobody sees it, when somebody else than us chose the value. `cause`: why we wrote TRUE."""

    value: bool
    word: Word | None = None
    stamp: int | None = None
    cause: Word | None = None

    def hear(self, hearer: Hearer) -> None:
        """A reader has read it."""
        for word in (self.word, self.cause):
            if word is not None:
                word.heard.add(hearer)


@dataclass(slots=True)
class Contact:
    key: str
    flags: dict[str, Fact]
    version: int
    modified: int  # milliseconds, by the clock of Dynamics
    by: str
    fields: dict[str, Any] = field(default_factory=lambda: {"firstname": "a", "address1_city": "Oslo", "new_gender": "1"})
    merged_into: str | None = None
    sequence: int = 0  # of its last change: what a tracking session goes by


class Dynamics:
    """`lowered` is asked about each TRUE that we take back."""

    def __init__(self, book: Book, clock: Clock) -> None:
        self.book, self.clock = book, clock
        self.contacts: dict[str, Contact] = {}
        self.tombstones: dict[str, int] = {}
        self.bin: dict[str, Contact] = {}
        self.version, self.sequence, self.writes = 1000, 0, 0
        self.down = 0  # so many calls fail
        self.down_until = 0  # until then all calls fail, without a reason
        self.before_call: Callable[[str], None] = lambda _: None
        self.tell: Callable[[str], None] = lambda _: None
        self.lowered: Callable[[str, str, Fact], None] = lambda *_: None
        self.raised = 0
        self.our_true: dict[tuple[str, str], int] = {}  # when we wrote TRUE last

    # what people and others do

    def create(self, key: str, opted_out: set[str], by: str = PERSON, **fields: Any) -> None:
        flags = {name: Fact(name in opted_out) for name in COLUMNS}
        contact = self.contacts[key] = Contact(key, flags, 0, 0, by)
        contact.fields.update(fields)
        self.tombstones.pop(key, None)
        self._touch(contact, by)
        for number, name in enumerate(COLUMNS):
            if name in opted_out:
                flags[name] = Fact(True, self.book.say((key, number), "dynamics", True, self._now), self._now)

    def say(self, key: str, column: str | None, value: bool = False, by: str = PERSON, **fields: Any) -> None:
        """Somebody changes the contact: a flag, or other fields. Whoever does says all its flags again (rule 3)."""
        contact = self.contacts[key]
        contact.fields.update(fields)
        self._touch(contact, by)
        for number, name in enumerate(COLUMNS):
            fact = contact.flags[name]
            chosen = value if name == column else fact.value
            since = self._now if chosen != fact.value or fact.word is None else fact.word.since
            contact.flags[name] = Fact(chosen, self.book.say((key, number), "dynamics", chosen, self._now, since), since)

    def set_back(self, key: str, column: str, value: bool, days: int) -> None:
        """An import changes a flag and sets `modifiedon` back. TRUE counts with the best time there is. FALSE is mostly older than what we
        have heard of it, and so a fact only; but where the flags are in the contact mapping the change itself is a word (rule 2)."""
        contact = self.contacts[key]
        if contact.flags[column].value == value:
            return
        self._touch(contact, OTHER)
        contact.modified -= days * 86_400_000
        at, place = contact.modified - self.clock.ahead_ms, (key, COLUMNS.index(column))
        last, word = self.book.last(place, "dynamics", self.book.hearer), None
        for number, name in enumerate(COLUMNS):
            fact = contact.flags[name]
            if name != column and fact.word is not None:
                contact.flags[name] = replace(fact, word=self.book.readable((key, number), fact.word, at))
            elif name != column and fact.value:  # ours until now: whoever changes the contact says it again, and nobody can tell any more
                contact.flags[name] = Fact(True, self.book.say((key, number), "dynamics", True, at), fact.stamp)
        if value or last is None or at > last.at:
            word = self.book.say(place, "dynamics", value, at, self._now)
        elif self.book.direction in ("dynamics-to-campaign", "both"):
            self.book.say(place, "dynamics", False, self._now)
        contact.flags[column] = Fact(value, word, self._now)

    def delete(self, key: str) -> None:
        self.sequence += 1
        self.bin[key] = self.contacts.pop(key)
        self.tombstones[key] = self.sequence

    def undelete(self, key: str) -> None:
        contact = self.contacts[key] = self.bin.pop(key)
        self.tombstones.pop(key, None)
        self.version += 1
        self.sequence += 1
        contact.version, contact.sequence = self.version, self.sequence

    def merge(self, loser: str, master: str) -> None:
        """Somebody makes one contact of two: what the loser says is said of the master from now on (systems-2026.md §4)."""
        self.contacts[loser].merged_into = master
        self.say(loser, None)
        for number, name in enumerate(COLUMNS):
            word = self.contacts[loser].flags[name].word
            if word is not None and word.value:
                self.book.carry(word, (master, number))

    def copy(self) -> tuple[dict[str, Contact], dict[str, Contact], int]:
        return copy_of(self.contacts), copy_of(self.bin), self.version

    def restore(self, backup: tuple[dict[str, Contact], dict[str, Contact], int]) -> None:
        """An earlier copy of the whole organisation: facts, versions and times of then."""
        contacts, binned, version = backup
        self.contacts, self.bin, self.version = copy_of(contacts), copy_of(binned), version
        self.tombstones = {}

    def written(self, contact: Contact, body: Mapping[str, Any]) -> None:
        """Our application user writes these flags."""
        self.writes += 1
        self.tell(f"  ours writes {dict(body)} of {contact.key[0]} to Dynamics")
        for name, value in body.items():
            fact = contact.flags[name]
            if fact.value and not value:
                self.lowered(contact.key, name, fact)
            self.raised += value and not fact.value
            if value:
                self.our_true[contact.key, name] = self._now
            if fact.value != value:
                place = (contact.key, COLUMNS.index(name))
                contact.flags[name] = Fact(value, cause=self.book.last_no(place) if value else None)
        self._touch(contact, US)

    @property
    def _now(self) -> int:
        return self.clock.time.now

    def _touch(self, contact: Contact, by: str) -> None:
        self.version += 1
        self.sequence += 1
        contact.version, contact.sequence, contact.by = self.version, self.sequence, by
        contact.modified = (self._now + self.clock.ahead_ms) // 1000 * 1000


class DynamicsCalls:
    """What a process calls (bridge.dynamics.client.DynamicsClient). `ours`: its clock."""

    def __init__(self, dynamics: Dynamics, life: Life, ours: Clock) -> None:
        self._dynamics, self._life, self._ours = dynamics, life, ours
        self.calls = 0

    @property
    def ahead_s(self) -> float:
        return (self._ours.ahead_ms - self._dynamics.clock.ahead_ms) / 1000

    async def row(self, path: str) -> dict[str, Any] | None:
        self._called("row")
        contact = self._dynamics.contacts.get(key_in(path))
        return None if contact is None else shown(contact)

    async def patch(self, path: str, body: dict[str, Any], etag: str) -> dict[str, Any] | None:
        self._called("patch")
        contact = self._dynamics.contacts.get(key_in(path))
        if contact is None:
            return None
        if etag not in ("*", f'W/"{contact.version}"'):
            raise RetryError("Dynamics: somebody was faster", code="changed_meanwhile", status=412)
        self._dynamics.written(contact, body)
        answer = shown(contact)
        self._life.step()
        return answer

    def _called(self, what: str) -> None:
        self._life.step()
        self.calls += 1
        if self._dynamics.clock.time.now < self._dynamics.down_until:
            raise RetryError("Dynamics: fault", code="target_error", status=500, attempts=20)
        if self._dynamics.down:
            self._dynamics.down -= 1
            raise RetryError("Dynamics: away", code="target_busy", status=503)
        self._dynamics.before_call(what)


def copy_of(contacts: dict[str, Contact]) -> dict[str, Contact]:
    return {key: replace(each, flags=dict(each.flags), fields=copy.copy(each.fields)) for key, each in contacts.items()}


def key_in(path: str) -> str:
    return path.partition("(")[2].partition(")")[0]


def moment(milliseconds: int) -> str:
    return (START + timedelta(milliseconds=milliseconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown(contact: Contact) -> dict[str, Any]:
    """The row as the Web API gives it."""
    return {
        "@odata.etag": f'W/"{contact.version}"',
        "contactid": contact.key,
        "versionnumber": contact.version,
        "modifiedon": moment(contact.modified),
        "_modifiedby_value": contact.by,
        "merged": contact.merged_into is not None,
        "_masterid_value": contact.merged_into,
        **{name: fact.value for name, fact in contact.flags.items()},
        **contact.fields,
    }
