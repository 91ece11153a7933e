"""What is judged: each TRUE that the product takes back when it does, and all that is there when everything has come to rest."""

from __future__ import annotations

from collections.abc import Callable

from tests.faults.consent.campaign import Campaign
from tests.faults.consent.dynamics import COLUMNS, Dynamics, Fact
from tests.faults.consent.kafka import Kafka
from tests.faults.consent.readers import TableReader
from tests.faults.consent.setup import HOURS, Setup
from tests.faults.consent.truth import Book

WRITES = 300  # no history needs so many calls that change something


class Judge:
    """`problems`: sentences of the contract that did not hold. `lowers`: so many TRUE were taken back. `released`: contacts whose held
    items an admin has released; what concerns them is not counted against the limits any more."""

    def __init__(
        self, setup: Setup, book: Book, dynamics: Dynamics, campaign: Campaign, reader: TableReader, tell: Callable[[str], None]
    ) -> None:
        self._setup, self._book, self._dynamics, self._campaign, self._reader, self._tell = setup, book, dynamics, campaign, reader, tell
        self.problems: list[str] = []
        self.lowers = 0
        self.released: set[str] = set()
        self._unreleased: dict[str, set[str]] = {}
        dynamics.lowered, campaign.lowered, campaign.deleted = self._lowered_dynamics, self._lowered_campaign, self._deleted

    def problem(self, what: str) -> None:
        if what not in self.problems:
            self.problems.append(what)
            self._tell(f"** {what}")

    @property
    def changes(self) -> int:
        return self._dynamics.writes + self._campaign.writes

    def at_rest(self, keys: tuple[str, ...], restored: int | None) -> None:
        """Nobody is mailable whose last word is no. `restored`: when Dynamics was, and nobody has told the product: then nothing is read
        again, but what is said of a record from then on counts all the same (rule 6)."""
        for key in keys:
            for number, column in enumerate(COLUMNS):
                place, flag = (key, number), self._setup.flags[number]
                contact, profile = self._dynamics.contacts.get(key), self._campaign.profiles.get(key)
                last = self._book.last(place, "dynamics")
                if restored is not None and (
                    last is None or not last.value or last.at <= restored or last in self._book.carried.get(place, ())
                ):
                    continue
                if contact is not None and not contact.flags[column].value and self._book.must_be_true(place, "dynamics"):
                    self.problem(f"{column} of {key[0]} is FALSE in Dynamics, and the last word is no")
                if profile is not None and self._silent(profile.flags[flag]):
                    continue
                if profile is not None and not profile.flags[flag].value and self._book.must_be_true(place, "campaign"):
                    self.problem(f"{flag} of {key[0]} is FALSE in Campaign, and the last word is no")
        if self.changes > WRITES:
            self.problem("calls without end")

    def _silent(self, fact: Fact) -> bool:
        """Whether somebody has said yes in Campaign, and no export told of it: nobody knows that Campaign has to be told again."""
        word = fact.word
        return self._setup.optin_runs and word is not None and not word.value and "optin" not in word.heard

    def given_up(self, kafka: Kafka, begun: int, target: str) -> None:
        """Rule 1: what goes to the dead letters holds every flag that waited. `begun`: decisions up to there were made before
        `target` stopped to answer."""
        waiting = kafka.topics["optin.decisions"][kafka.committed["optin.decisions"] :]  # some of them for the second time
        letters = {(record.key, record.value) for record in [*(record for record, _ in kafka.letters), *waiting]}
        for record in kafka.topics["optin.decisions"][begun : kafka.committed["optin.decisions"]]:
            if record.header("target") != target.encode() or record.header("guard") == b"held" or (record.key, record.value) in letters:
                continue
            event = kafka.event(record)
            lost = [name for name, value in event.flags.items() if value and not self._holds(target, event.contact_key, name)]
            if lost:
                self.problem(f"{lost[0]} of {event.contact_key[0]} was given up in silence")

    def _holds(self, target: str, key: str, name: str) -> bool:
        """Whether a system shows TRUE, or has nobody to show."""
        record = self._campaign.profiles.get(key) if target == "campaign" else self._dynamics.contacts.get(key)
        return record is None or record.flags[name].value

    def _lowered_dynamics(self, key: str, column: str, fact: Fact) -> None:
        self.lowers += 1
        if not self._book.may_lower_dynamics((key, COLUMNS.index(column)), fact.word):
            self.problem(f"{column} of {key[0]} was lowered in Dynamics without a later word FALSE")
        self._counted("lower", key, self._setup.lower_limit)

    def _lowered_campaign(self, key: str, flag: str, fact: Fact) -> None:
        self.lowers += 1
        number = self._setup.flags.index(flag)
        turned = self._reader.turn((key, COLUMNS[number]))
        if not self._book.may_lower_campaign((key, number), fact.word, turned):
            self.problem(f"{flag} of {key[0]} was lowered in Campaign without a later word FALSE")
        self._counted("lower", key, self._setup.lower_limit)

    def _deleted(self, key: str) -> None:
        self._counted("delete", key, self._setup.delete_limit)

    def _counted(self, what: str, key: str, limit: int | None) -> None:
        """Against the limit of an hour. A contact counts once: for the same word it may be lowered again without being asked for again."""
        now = self._dynamics.clock.time.now
        if limit is None or key in self.released:
            return
        self._unreleased.setdefault(what, set()).add(key)
        if len(self._unreleased[what]) > limit * (now // HOURS + 1):
            self.problem(f"more {what}s than the limit lets pass in an hour")
