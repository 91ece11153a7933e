"""Campaign with its profiles: a twin in memory of what the product calls, and what people and others do there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from bridge.campaign.errors import Duplicate, NotFound
from bridge.model.errors import RejectError, RetryError
from tests.faults.consent.dynamics import Fact
from tests.faults.consent.kafka import START, Clock, Life
from tests.faults.consent.truth import Book

UNTIMED = "blackListPushnotification"
PAIRED = (("blackListEmail", "blackListPhone"), ("blackListEmail", UNTIMED))
"""The flags that have words, by their numbers: one of these two pairs in a history."""
FLAGS = (
    "blackListEmail",
    "blackListPhone",
    "blackList",
    "blackListFax",
    "blackListMobile",
    "blackListPostalMail",
    UNTIMED,
    "ccpaOptOut",
)
BAD = "?"  # a gender that Campaign does not know


@dataclass(slots=True)
class Profile:
    key: str
    flags: dict[str, Fact]
    fields: dict[str, Any]
    modified: int  # by the clock of Campaign, as the stamps of its flags


class Campaign:
    """`flags`: which have words, by their numbers. `lowered` is asked about each TRUE that we take back."""

    def __init__(self, flags: tuple[str, str], book: Book, clock: Clock) -> None:
        self.flags, self.book, self.clock = flags, book, clock
        self.profiles: dict[str, Profile] = {}
        self.writes, self.raised = 0, 0
        self.down: list[str] = []  # how the next calls fail: `busy`, `bare`, or `lost`: done, and the answer does not arrive
        self.down_until = 0  # until then all calls fail (`bare`)
        self.before_call: Callable[[str], None] = lambda _: None
        self.tell: Callable[[str], None] = lambda _: None
        self.lowered: Callable[[str, str, Fact], None] = lambda *_: None
        self.deleted: Callable[[str], None] = lambda _: None

    # what people and others do

    def say(self, key: str, flag: str, value: bool, always: bool = False) -> None:
        """Somebody clicks, or an import writes the flag, which stamps it whether it changes or not (`always`)."""
        fact = self.profiles[key].flags[flag]
        if fact.value == value and not always:
            return
        stamp = self.clock.time.now + self.clock.ahead_ms
        since = self.clock.time.now if fact.value != value or fact.word is None else fact.word.since
        word = self.book.say((key, self.flags.index(flag)), "campaign", value, self.clock.time.now, since)
        self._put(self.profiles[key], flag, Fact(value, word, stamp))

    def make(self, key: str, fields: Mapping[str, Any]) -> None:
        """A profile with defaults, as somebody makes it by hand."""
        self.profiles[key] = Profile(key, {flag: Fact(False) for flag in FLAGS}, dict(fields), self._stamp)

    def edit(self, key: str) -> None:
        self.profiles[key].modified = self._stamp

    def copy(self) -> dict[str, Profile]:
        return copy_of(self.profiles)

    def restore(self, backup: dict[str, Profile]) -> None:
        self.profiles = copy_of(backup)

    def written(self, profile: Profile, body: Mapping[str, Any]) -> None:
        """Our application writes these fields; stamps change with their flags only."""
        self.writes += 1
        self.tell(f"  ours writes {dict(body)} of {profile.key[0]} to Campaign")
        for name, value in body.items():
            if name not in FLAGS:
                profile.fields[name] = value
                continue
            fact = profile.flags[name]
            if fact.value and not value:
                self.lowered(profile.key, name, fact)
            self.raised += bool(value) and not fact.value
            if fact.value != bool(value):
                cause = self.book.last_no((profile.key, self.flags.index(name))) if value else None
                self._put(profile, name, Fact(bool(value), None, self._stamp, cause))
        profile.modified = self._stamp

    def _put(self, profile: Profile, flag: str, fact: Fact) -> None:
        profile.flags[flag] = fact
        profile.modified = self._stamp

    @property
    def _stamp(self) -> int:
        return self.clock.time.now + self.clock.ahead_ms


class CampaignCalls:
    """What a process calls (bridge.campaign.client.CampaignClient). `ours`: its clock."""

    def __init__(self, campaign: Campaign, life: Life, ours: Clock) -> None:
        self._campaign, self._life, self._ours = campaign, life, ours
        self.calls = 0

    @property
    def ahead_s(self) -> float:
        return (self._ours.ahead_ms - self._campaign.clock.ahead_ms) / 1000

    async def create(self, path: str, body: dict[str, Any]) -> int:
        lost, key = self._called("create", body), body["externalId"]
        if key in self._campaign.profiles:
            raise Duplicate("Campaign: duplicate key", code="duplicate_key", status=500)
        self._campaign.make(key, {})
        self._campaign.written(self._campaign.profiles[key], {name: value for name, value in body.items() if name != "externalId"})
        return self._answer(lost, 201)

    async def update(self, path: str, key: str, body: dict[str, Any]) -> int:
        lost = self._called("update", body)
        self._campaign.written(self._profile(key), body)
        return self._answer(lost, 200)

    async def delete(self, path: str, key: str) -> int:
        lost = self._called("delete", {})
        self._profile(key)
        self._campaign.writes += 1
        self._campaign.tell(f"  ours deletes {key[0]} in Campaign")
        self._campaign.deleted(key)
        del self._campaign.profiles[key]
        return self._answer(lost, 200)

    async def read(self, path: str, key: str) -> dict[str, Any]:
        self._called("read", {})
        return shown(self._profile(key))

    async def first(self, path: str) -> dict[str, Any] | None:
        self._called("first", {})
        return next((shown(each) for each in self._campaign.profiles.values()), None)

    def _called(self, what: str, body: Mapping[str, Any]) -> bool:
        """Whether the answer will be lost. Raises what the client raises."""
        self._life.step()
        self.calls += 1
        self._campaign.before_call(what)
        fault = self._campaign.down.pop() if self._campaign.down else ""
        fault = "bare" if self._campaign.clock.time.now < self._campaign.down_until else fault
        if fault == "busy":
            raise RetryError("Campaign: busy", code="target_busy", status=503)
        if fault == "bare":
            raise RetryError("Campaign: fault", code="target_error", status=500, attempts=8)
        if body.get("gender") == BAD:
            raise RejectError("Campaign: value_refused", code="value_refused", status=500)
        return fault == "lost"

    def _answer(self, lost: bool, status: int) -> int:
        self._life.step()
        if lost:
            raise RetryError("Campaign: no answer", code="timeout")
        return status

    def _profile(self, key: str) -> Profile:
        if key not in self._campaign.profiles:
            raise NotFound("Campaign: not found", code="not_found", status=404)
        return self._campaign.profiles[key]


def copy_of(profiles: dict[str, Profile]) -> dict[str, Profile]:
    return {key: replace(each, flags=dict(each.flags), fields=dict(each.fields)) for key, each in profiles.items()}


def moment(stamp: int | None) -> str:
    if stamp is None:
        return ""
    return (START + timedelta(milliseconds=stamp)).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def shown(profile: Profile) -> dict[str, Any]:
    """The profile as the API gives it; times are empty until a flag was first set (campaign.md §6.2)."""
    stamps = [fact.stamp for fact in profile.flags.values() if fact.stamp is not None]
    times = {f"{name}LastModified": moment(fact.stamp) for name, fact in profile.flags.items() if name != UNTIMED}
    return {
        "externalId": profile.key,
        **profile.fields,
        **{name: fact.value for name, fact in profile.flags.items()},
        **times,
        "blackListAllLastModified": moment(max(stamps, default=None)),
        "lastModified": moment(profile.modified),
    }
