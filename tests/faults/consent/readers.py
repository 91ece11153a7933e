"""Readers of the simulation: they publish what contracts and architecture say that ours publish, each page together with its cursor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bridge.model.events import ChangeEvent, Lane, OptStatusObserved, Record, event_headers
from tests.faults.consent.dynamics import COLUMNS, US, Contact, Dynamics, Fact
from tests.faults.consent.kafka import START, Clock, Kafka, Life

CHANGES, REPLAY, OBSERVATIONS = "ingress.changes.contact", "ingress.replay.contact", "optin.observations"


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a session has read: the last change, with which columns, and when. `highest`, `latest`: version and time of change seen."""

    sequence: int
    columns: tuple[str, ...]
    epoch: int
    looked: int  # true time
    highest: int
    latest: int


@dataclass(slots=True)
class TableReader:
    """Contacts as change events (services/ingress/feed.py). `published`: epoch and version of each contact, as our topics hold them.

    `seen`: flags as this reader saw them last. `turned`: when a flag went from TRUE to FALSE, where both sides were read, the second live;
    `waiting`: the second was read otherwise so far. `again`: where it lies that it was TRUE once more after that.
    """

    dynamics: Dynamics
    kafka: Kafka
    clock: Clock
    columns: tuple[str, ...]
    cursor: Cursor | None = None
    epoch: int = 0
    published: dict[str, tuple[int, int]] = field(default_factory=dict)
    seen: dict[tuple[str, str], Fact] = field(default_factory=dict)
    turned: dict[tuple[str, str], int] = field(default_factory=dict)
    waiting: dict[tuple[str, str], int] = field(default_factory=dict)
    again: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)

    def poll(self, life: Life) -> None:
        """One whole answer, then its cursor; both or neither."""
        cursor = self.cursor
        life.step()
        self.epoch += versions_went_back(self.dynamics, cursor, self.epoch)
        highest = max(self._highest(), cursor.highest if cursor and cursor.epoch == self.epoch else 0)
        if cursor is None or cursor.columns != self.columns or cursor.epoch != self.epoch:
            self._load("initial" if cursor is None else "resync", highest)
        else:
            for contact in changed_since(self.dynamics, cursor.sequence):
                self._publish(contact, "live")
            gone = [key for key, at in self.dynamics.tombstones.items() if at > cursor.sequence]
            self._gone(gone, "live", highest)
        latest = latest_change(self.dynamics, cursor, self.epoch)
        self.cursor = Cursor(self.dynamics.sequence, self.columns, self.epoch, self.clock.time.now, highest, latest)

    def replay(self, keys: Sequence[str]) -> None:
        """Rows that somebody has asked for once more."""
        for key in keys:
            if key in self.dynamics.contacts:
                self._publish(self.dynamics.contacts[key], "replay")

    def _load(self, lane: Lane, highest: int) -> None:
        for contact in self.dynamics.contacts.values():
            self._publish(contact, lane)
        self._gone(sorted(self.published.keys() - self.dynamics.contacts.keys()), "live" if lane == "initial" else lane, highest)

    def _gone(self, keys: Sequence[str], lane: Lane, highest: int) -> None:
        """`highest` that was read, or that our topics hold of the contact."""
        read = [name for name in self.columns if self.cursor is None or name in self.cursor.columns]
        for key in keys:
            epoch, version = self.published.pop(key, (0, 0))
            seen = max(highest, version if epoch == self.epoch else 0)
            event = ChangeEvent("contact", key, "delete", lane, seen, None, self.clock.now(), {}, {}, self.epoch)
            self.kafka.publish(CHANGES, key, event, event_headers(lane, str(seen), "ingress-reader/sim"))
            for number, name in enumerate(COLUMNS):
                if name not in read:  # nothing will show again what was said while it was mapped
                    self.dynamics.book.never_shown((key, number), "ingress")

    def _publish(self, contact: Contact, lane: Lane) -> None:
        row = {**contact.fields, **{name: fact.value for name, fact in contact.flags.items()}}
        fields = {name: row[name] for name in self.columns}
        at = modified_at(contact)
        event = ChangeEvent("contact", contact.key, "upsert", lane, contact.version, at, self.clock.now(), fields, {}, self.epoch)
        topic = CHANGES if lane == "live" else REPLAY
        headers = event_headers(lane, str(contact.version), "ingress-reader/sim")
        if ahead := measured(self.dynamics.clock, self.clock):
            headers.append(("source-ahead-ms", str(ahead).encode()))
        if contact.by == US:
            headers.append(("changed-by-us", b"1"))
        record = self.kafka.publish(topic, contact.key, event, headers)
        stale = self.published.get(contact.key, (0, 0)) > (self.epoch, contact.version)  # the writers drop it, but for its TRUE
        self.published[contact.key] = (self.epoch, contact.version)
        for name in COLUMNS:
            if name in self.columns and not (stale and not contact.flags[name].value):
                self._hear((contact.key, name), contact.flags[name], record, lane)

    def turn(self, place: tuple[str, str]) -> int | None:
        """When the flag went to FALSE, unless the writer has dealt with a TRUE that was read after it."""
        again = self.again.get(place)
        overtaken = again is not None and self.kafka.committed[again[0]] > again[1]
        return None if overtaken else self.turned.get(place)

    def _hear(self, place: tuple[str, str], fact: Fact, record: Record, lane: Lane) -> None:
        fact.hear("ingress")
        before, self.seen[place] = self.seen.get(place), fact
        if fact.value:
            self.waiting.pop(place, None)
            if place in self.turned:
                self.again.setdefault(place, (record.topic, record.offset))
            if before is not None and before.value and fact.word is not None and before.word is not None:
                fact.word.since = before.word.since  # to this reader it has been so all along
        elif before is not None and before.value and _turned(before, fact, lane):
            self.waiting[place] = (fact.stamp or 0) if fact.word is None else fact.word.at
        if lane == "live" and place in self.waiting:
            self.turned[place] = self.waiting.pop(place)
            self.again.pop(place, None)

    def _highest(self) -> int:
        return max((each.version for each in self.dynamics.contacts.values()), default=0)


@dataclass(slots=True)
class ContactReader:
    """Contacts as observations (services/optin/contact_feed.py)."""

    dynamics: Dynamics
    kafka: Kafka
    clock: Clock
    columns: tuple[str, ...]
    cursor: Cursor | None = None
    epoch: int = 0
    seen: dict[tuple[str, str], bool] = field(default_factory=dict)

    def poll(self, life: Life) -> None:
        cursor = self.cursor
        life.step()
        self.epoch += versions_went_back(self.dynamics, cursor, self.epoch)
        if cursor is None or cursor.columns != self.columns or cursor.epoch != self.epoch:
            lane: Lane = "initial" if cursor is None else "resync"
            for contact in self.dynamics.contacts.values():
                self._publish(contact, lane, None)
        else:
            for contact in changed_since(self.dynamics, cursor.sequence):
                self._publish(contact, "live", cursor.looked)
            highest = str(max(cursor.highest, self._highest()))
            for key in [key for key, at in self.dynamics.tombstones.items() if at > cursor.sequence]:
                event = OptStatusObserved(key, "dynamics", {}, None, self.clock.now(), gone=True, epoch=self.epoch)
                self.kafka.publish(OBSERVATIONS, key, event, event_headers("live", highest, "optin-reader/sim"))
                for name in COLUMNS:
                    self.seen.pop((key, name), None)  # what a restore brings back did not turn since
        highest_now = max(self._highest(), cursor.highest if cursor and cursor.epoch == self.epoch else 0)
        latest = latest_change(self.dynamics, cursor, self.epoch)
        self.cursor = Cursor(self.dynamics.sequence, self.columns, self.epoch, self.clock.time.now, highest_now, latest)

    def _publish(self, contact: Contact, lane: Lane, looked: int | None) -> None:
        flags = {name: {"value": contact.flags[name].value, "changed_at": None} for name in self.columns if name in COLUMNS}
        ahead = measured(self.dynamics.clock, self.clock)
        event = OptStatusObserved(
            contact.key,
            "dynamics",
            flags,
            modified_at(contact),
            self.clock.now(),
            ours=contact.by == US,
            looked_at=None if looked is None else START + timedelta(milliseconds=looked + self.clock.ahead_ms + ahead),
            merged_into=contact.merged_into,
            ahead_ms=ahead,
            epoch=self.epoch,
            origin=f"version {contact.version}",
        )
        self.kafka.publish(OBSERVATIONS, contact.key, event, event_headers(lane, str(contact.version), "optin-reader/sim"))
        for name in flags:
            self._hear((contact.key, name), contact.flags[name], looked)

    def _hear(self, place: tuple[str, str], fact: Fact, looked: int | None) -> None:
        """TRUE that has come since the last look is not older than that look (rule 3). FALSE that has come since then, in a record that
        somebody has changed, was chosen with that change, if nothing shows that it is of a backup."""
        word = fact.word
        if word is not None and looked is not None and not word.value and (self.seen.get(place) or self._wrote_after(place, word.since)):
            word.since = max(word.since, word.at)
        if word is not None and looked is not None and word.value and self.seen.get(place) is False and "optin" not in word.heard:
            word.at = max(word.at, looked)
        fact.hear("optin")
        self.seen[place] = fact.value

    def _wrote_after(self, place: tuple[str, str], since: int) -> bool:
        return since < self.dynamics.our_true.get(place, since)

    def _highest(self) -> int:
        return max((each.version for each in self.dynamics.contacts.values()), default=0)


def _turned(before: Fact, fact: Fact, lane: Lane) -> bool:
    """Whether FALSE has come after that TRUE, as far as a reader can see: chosen later, or in a record that somebody has changed later, of
    which nothing shows that it is of a backup."""
    later = [fact.stamp] if fact.word is None or lane != "live" else [fact.stamp, fact.word.at]
    return any(each is not None and each >= (before.stamp or 0) for each in later)


def changed_since(dynamics: Dynamics, sequence: int) -> list[Contact]:
    return sorted((each for each in dynamics.contacts.values() if each.sequence > sequence), key=lambda each: each.sequence)


def versions_went_back(dynamics: Dynamics, cursor: Cursor | None, epoch: int) -> bool:
    """Whether the next answer shows that Dynamics was restored: its newest version lies below the highest seen, and was changed later than
    all that was seen. The workflow halts then and is started at once, which reads everything again."""
    rows = [] if cursor is None or cursor.epoch != epoch else changed_since(dynamics, cursor.sequence)
    if cursor is None or not rows:
        return False
    return max(each.version for each in rows) < cursor.highest and max(each.modified for each in rows) > cursor.latest


def latest_change(dynamics: Dynamics, cursor: Cursor | None, epoch: int) -> int:
    known = cursor.latest if cursor is not None and cursor.epoch == epoch else 0
    return max([known, *(each.modified for each in dynamics.contacts.values())])


def modified_at(contact: Contact) -> datetime:
    return START + timedelta(milliseconds=contact.modified)


def measured(theirs: Clock, ours: Clock) -> int:
    """By how many milliseconds their clock is ahead, where that can be told from a slow answer."""
    ahead = theirs.ahead_ms - ours.ahead_ms
    return ahead if abs(ahead) > 2000 else 0
