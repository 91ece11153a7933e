"""services.optin.resolve between a tiny Dynamics and a tiny Campaign: whatever people click, whatever crashes, comes twice or late, both
end equal, after a bounded number of writes, and nobody who said no is opted in."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.events import OptStatusDecided, OptStatusObserved, System
from services.optin.known import Observation, Pair, Status
from services.optin.resolve import Direction, resolve
from tests.unit.fakes import NOON

EMAIL, PHONE = Pair("donotemail", "blackListEmail"), Pair("donotphone", "blackListPhone")
PUSH = Pair("donotbulkemail", "blackListPushnotification")
TARGETS: tuple[System, System] = ("dynamics", "campaign")
ROUNDS = 8  # to deliver all that is under way, and all that follows from it
WRITES = 4  # by us in those rounds, per flag

EXAMPLES = int(os.environ.get("BRIDGE_EXAMPLES", "300"))
thorough = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)
brief = settings(thorough, max_examples=EXAMPLES * 2 // 5)


@dataclass(frozen=True)
class Said:
    """What a person said last: the value, and the time that the system keeps of it."""

    value: bool
    at: datetime | None


def by_the_table(campaign: Said, dynamics: Said) -> bool:
    """Campaign.md §10.4. Dynamics' time is that of the second before: what is said in Campaign in the same second is not later for sure."""
    if campaign.at is not None and (dynamics.at is None or campaign.at.replace(microsecond=0) > dynamics.at):
        return campaign.value
    return campaign.value or dynamics.value


@dataclass(frozen=True)
class Row:
    """The contact. `modified_at` is in whole seconds."""

    flags: Mapping[str, bool]
    version: int
    modified_at: datetime


@dataclass(frozen=True)
class Profile:
    """Push has no time of its own, but that of any flag's last change."""

    flags: Mapping[str, bool]
    times: Mapping[str, datetime]
    modified_at: datetime

    def changed_at(self, name: str) -> datetime | None:
        return max(self.times.values(), default=None) if name == PUSH.campaign else self.times.get(name)


def message(version: Row | Profile, now: datetime) -> OptStatusObserved:
    match version:
        case Row(flags, _, modified_at):
            return OptStatusObserved("c-1", "dynamics", {n: {"value": v, "changed_at": None} for n, v in flags.items()}, modified_at, now)
        case Profile(flags, _, modified_at):
            shown = {name: {"value": value, "changed_at": version.changed_at(name)} for name, value in flags.items()}
            return OptStatusObserved("c-1", "campaign", shown, modified_at, now)


@dataclass
class Queue:
    """Decisions for one system. `done` is the writer's position, `committed` where it begins again after a crash."""

    decisions: list[OptStatusDecided] = field(default_factory=list)
    versions: list[int | None] = field(default_factory=list)  # of the contact, as each decision knew it
    heard_at: list[datetime] = field(default_factory=list)  # when what led to each was observed
    done: int = 0
    committed: int = 0


class World:
    """Both systems, the people, and everything between. Each method is a step that may happen at any time."""

    def __init__(
        self,
        pairs: tuple[Pair, ...],
        direction: Direction,
        opted_out: frozenset[str] = frozenset(),
        *,
        versions: bool = True,
        in_order: bool = True,
    ) -> None:
        self.pairs, self.direction, self.versions, self.in_order, self.now = pairs, direction, versions, in_order, NOON
        self.row = Row({pair.dynamics: pair.dynamics in opted_out for pair in pairs}, 1, NOON)
        self.profile = Profile({pair.campaign: False for pair in pairs}, {}, NOON)
        self.said: dict[System, dict[Pair, Said]] = {
            "dynamics": {pair: Said(self.row.flags[pair.dynamics], NOON) for pair in pairs},
            "campaign": {pair: Said(False, None) for pair in pairs},
        }
        self.last_click: dict[Pair, System] = {}
        self.log: list[str] = []  # what happened, for whoever has to understand a failure
        self.written: dict[System, int] = {"dynamics": 0, "campaign": 0}
        self.status, self.offset = Status(), 0
        self.committed = (self.status, self.offset)
        self.observations: list[Observation] = []
        self.queues: dict[System, Queue] = {target: Queue() for target in TARGETS}
        self.in_hand: list[Observation] = []  # read in Dynamics, not yet published
        self.files: list[Observation] = []  # rows exported, not yet published
        self.published: list[Observation] = []
        self.ours: dict[str, int] = {}  # the version that the writer's last write of a flag gave the row, as far as it knows
        self.seen_version = 0  # the last that the reader has read
        self.exported: Profile = self.profile
        self.unread: set[Pair] = set()  # changed in Dynamics by a person since the reader was there
        self.unexported: set[Pair] = set()

    # People

    def click_in_dynamics(self, pair: Pair) -> None:
        """Not back again before anybody could see it: that cannot be told from an edit to another column."""
        if pair in self.unread:
            return
        self.row = self._next_row({pair.dynamics: not self.row.flags[pair.dynamics]})
        self.said["dynamics"][pair] = Said(self.row.flags[pair.dynamics], self.row.modified_at)
        self.last_click[pair] = "dynamics"
        self.unread.add(pair)
        self._log(f"person: {pair.dynamics}={self.row.flags[pair.dynamics]} v{self.row.version}")

    def edit_in_dynamics(self) -> None:
        self.row = self._next_row({})
        self._log(f"person edits another column v{self.row.version}")

    def click_in_campaign(self, pair: Pair) -> None:
        if pair in self.unexported:
            return
        self._set_in_campaign({pair.campaign: not self.profile.flags[pair.campaign]})
        self.said["campaign"][pair] = Said(self.profile.flags[pair.campaign], self.profile.changed_at(pair.campaign))
        self.last_click[pair] = "campaign"
        if self.direction == "campaign-to-dynamics":
            self.unexported.add(pair)
        self._log(f"person: {pair.campaign}={self.profile.flags[pair.campaign]}")

    def edit_in_campaign(self) -> None:
        self.profile = Profile(self.profile.flags, self.profile.times, self.now)

    # Readers

    def read(self) -> None:
        self.in_hand.append(Observation(message(self.row, self.now), self._version()))
        self.seen_version = self.row.version
        self._log(f"reader has v{self.row.version} in hand")

    def export(self) -> None:
        self.files.append(Observation(message(self.profile, self.now)))
        self.exported = self.profile
        self.unexported.clear()
        self._log(f"exported {dict(self.profile.flags)}")

    def publish_rows(self, count: int) -> None:
        for _ in range(min(count, len(self.in_hand))):
            self._publish(self.in_hand.pop(0 if self.in_order else -1))
            if not self.in_hand and self.seen_version == self.row.version:
                self.unread.clear()

    def publish_file(self, place: int) -> None:
        if self.files:
            in_order = self.direction == "campaign-to-dynamics"
            self._publish(self.files.pop(0 if in_order else place % len(self.files)))

    def publish_again(self, place: int) -> None:
        if self.published:
            self.observations.append(self.published[place % len(self.published)])
            self._log(f"published again: {_short(self.observations[-1])}")

    # Resolver

    def resolve(self, count: int) -> None:
        for _ in range(min(count, len(self.observations) - self.offset)):
            observation = self.observations[self.offset]
            self.status, decisions = resolve(self.status, observation, self.pairs, self.direction, self.now)
            self.offset += 1
            self._log(f"resolver hears {_short(observation)}: {[(each.target, dict(each.flags)) for each in decisions]}")
            for each in decisions:
                self.queues[each.target].decisions.append(each)
                order = self.status.dynamics.order
                self.queues[each.target].versions.append(order.version if order else None)
                told = self.status.side(each.target).told
                self.queues[each.target].heard_at.append(min(told[name].heard_at for name in each.flags))

    def commit_resolver(self) -> None:
        self.committed = (self.status, self.offset)

    def crash_resolver(self, with_its_state: bool) -> None:
        """Its state may or may not have reached the broker before the position did."""
        status, self.offset = self.committed
        self.status = self.status if with_its_state else status
        self._log(f"resolver crashes{'' if with_its_state else ', loses state'}")

    # Writer

    def write(self, target: System, count: int, crash: bool = False) -> None:
        """`count` decisions that waited together. A crash comes after the write, before anything is said of it."""
        queue = self.queues[target]
        portion = queue.decisions[queue.done : queue.done + count]
        if not portion:
            return
        flags = {name: value for each in portion for name, value in each.flags.items()}
        inputs = {name: each for decision in portion for name, each in decision.inputs.items()}
        if target == "dynamics":
            last = queue.done + len(portion) - 1
            places = range(queue.done, last + 1)
            basis = {name: (queue.versions[at], queue.heard_at[at]) for at in places for name in queue.decisions[at].flags}
            self._write_to_dynamics(flags, inputs, basis, crash)
        else:
            self._write_to_campaign(flags, inputs)
        queue.done = queue.committed if crash else queue.done + len(portion)

    def commit_writer(self, target: System) -> None:
        self.queues[target].committed = self.queues[target].done

    def crash_writer(self, target: System) -> None:
        self.queues[target].done = self.queues[target].committed
        self._log(f"writer to {target} crashes")

    def _write_to_dynamics(
        self,
        flags: Mapping[str, bool],
        inputs: Mapping[str, Mapping[str, Any]],
        basis: Mapping[str, tuple[int | None, datetime]],
        crash: bool,
    ) -> None:
        different = {name: value for name, value in flags.items() if self.row.flags[name] != value}
        doubtful = [name for name, value in different.items() if not value and self.ours.get(name) != self.row.version]
        unforeseen = [name for name in doubtful if self._edited_since(*basis[name]) or inputs[name]["dynamics"] is not True]
        if unforeseen:
            self._publish(Observation(message(self.row, self.now), self._version()))
        different = {name: value for name, value in different.items() if name not in unforeseen}
        released = [pair for pair in self.pairs if different.get(pair.dynamics) is False]
        back = [pair.dynamics for pair in released if self.profile.flags[pair.campaign]]
        if back:
            self._publish(Observation(message(self.profile, self.now)))
        different = {name: value for name, value in different.items() if name not in back}
        if not different:
            return
        self.written["dynamics"] += len(different)
        self.row = self._next_row(different)
        self._log(f"we write {different} v{self.row.version}{', crash' if crash else ''}")
        if not crash:
            self.ours |= dict.fromkeys(different, self.row.version)
            written = Row({name: self.row.flags[name] for name in different}, self.row.version, self.row.modified_at)
            self._publish(Observation(message(written, self.now), self._version(), own=True))

    def _write_to_campaign(self, flags: Mapping[str, bool], inputs: Mapping[str, Mapping[str, Any]]) -> None:
        different = {name: value for name, value in flags.items() if self.profile.flags[name] != value}
        unforeseen = {name for name, value in different.items() if not value or self._changed_since(name, inputs[name])}
        if unforeseen:
            self._publish(Observation(message(self.profile, self.now)))
        wanted = {name: True for name in different if name not in unforeseen}
        if wanted:
            self.written["campaign"] += len(wanted)
            self._set_in_campaign(wanted)
            self._log(f"we write {wanted}")

    def _edited_since(self, version: int | None, heard_at: datetime) -> bool:
        newer = version is None or not self.versions or self.row.version > version
        return newer and self.row.modified_at >= heard_at.replace(microsecond=0)

    def _changed_since(self, name: str, inputs: Mapping[str, Any]) -> bool:
        changed_at, known = self.profile.changed_at(name), inputs["campaign_changed_at"]
        return name != PUSH.campaign and changed_at is not None and (known is None or changed_at > known)

    # In the end

    def settle(self) -> None:
        """Everything that is under way arrives, and everything that follows from it, without a further crash."""
        before = sum(self.written.values())
        for _ in range(ROUNDS):
            moved = False
            if self.seen_version != self.row.version:
                self.read()
            if self.exported != self.profile:
                self.export()
            self.publish_rows(len(self.in_hand))
            while self.files:
                self.publish_file(0)
            if self.offset < len(self.observations):
                self.resolve(len(self.observations) - self.offset)
                moved = True
            for target, queue in self.queues.items():
                if queue.done < len(queue.decisions):
                    self.tick(500)
                    self.write(target, len(queue.decisions))
                    moved = True
            if not moved:
                assert sum(self.written.values()) - before <= WRITES * len(self.pairs), f"too many writes for what was said:{self}"
                self.commit_resolver()
                for target in TARGETS:
                    self.commit_writer(target)
                return
        raise AssertionError(f"it never comes to rest:{self}")

    def tick(self, milliseconds: int) -> None:
        self.now += timedelta(milliseconds=milliseconds)

    def in_both(self, pair: Pair) -> tuple[bool, bool]:
        return self.row.flags[pair.dynamics], self.profile.flags[pair.campaign]

    def rule(self, pair: Pair) -> bool:
        return by_the_table(self.said["campaign"][pair], self.said["dynamics"][pair])

    def _version(self) -> int | None:
        return self.row.version if self.versions else None

    def _next_row(self, flags: Mapping[str, bool]) -> Row:
        return Row({**self.row.flags, **flags}, self.row.version + 1, self.now.replace(microsecond=0))

    def _set_in_campaign(self, flags: Mapping[str, bool]) -> None:
        times = dict.fromkeys(flags, self.now)
        self.profile = Profile({**self.profile.flags, **flags}, {**self.profile.times, **times}, self.now)

    def _publish(self, observation: Observation) -> None:
        self.observations.append(observation)
        self.published.append(observation)
        self._log(f"published: {_short(observation)}")

    def _log(self, what: str) -> None:
        self.log.append(f"{(self.now - NOON).total_seconds():7.3f} {what}")

    def __repr__(self) -> str:
        return "\n".join(["", *self.log])


def _short(observation: Observation) -> str:
    event = observation.event
    flags = {name: each["value"] for name, each in event.flags.items()}
    return f"{event.system} {flags} v{observation.version}{' own' if observation.own else ''}"


@dataclass(frozen=True)
class Step:
    """What happens, how long after the step before, and to whom."""

    name: str
    after_ms: int
    pair: int = 0
    target: System = "dynamics"
    count: int = 1
    yes: bool = True


def stir(world: World, steps: Sequence[Step]) -> None:
    """Anything, in any order."""
    for step in steps:
        world.tick(step.after_ms)
        pair = world.pairs[step.pair % len(world.pairs)]
        match step.name:
            case "click in dynamics":
                world.click_in_dynamics(pair)
            case "click in campaign":
                world.click_in_campaign(pair)
            case "edit":
                world.edit_in_dynamics() if step.yes else world.edit_in_campaign()
            case "read":
                world.read()
            case "export":
                world.export()
            case "publish":
                world.publish_rows(step.count) if step.yes else world.publish_file(step.count)
            case "publish again":
                world.publish_again(step.count)
            case "resolve":
                world.resolve(step.count)
            case "write":
                world.write(step.target, step.count)
            case "write and crash":
                world.write(step.target, step.count, crash=True)
            case "commit":
                world.commit_resolver() if step.yes else world.commit_writer(step.target)
            case "crash of the resolver":
                world.crash_resolver(with_its_state=step.yes)
            case "crash of the writer":
                world.crash_writer(step.target)
            case "what dynamics shows is heard":
                world.read()
                world.publish_rows(len(world.in_hand))
                world.resolve(len(world.observations))
            case "what campaign shows is heard":
                world.export()
                world.publish_file(len(world.files) - 1)
                world.resolve(len(world.observations))
            case "settle":
                world.settle()


NAMES = [
    *("click in dynamics", "click in campaign") * 2,
    *("read", "export", "publish", "publish", "resolve", "resolve", "write", "write"),
    *("settle", "what dynamics shows is heard", "what campaign shows is heard"),
    *("edit", "publish again", "write and crash", "commit", "crash of the resolver", "crash of the writer"),
]
PEOPLE = ["click in dynamics", "click in campaign", "edit"]
ONE_WAY = [name for name in NAMES if name != "edit"]  # which would make an earlier change in Dynamics look like a later one


def steps(names: Sequence[str] = NAMES, *, most: int = 40) -> st.SearchStrategy[list[Step]]:
    one = st.builds(
        Step,
        st.sampled_from(names),
        st.sampled_from([1, 300, 900, 2000]),
        st.integers(0, 1),
        st.sampled_from(TARGETS),
        st.integers(1, 4),
        st.booleans(),
    )
    return st.lists(one, min_size=1, max_size=most)


def _as_known(said: Said, now: bool) -> Said:
    """A side that nobody has clicked on meanwhile. What we wrote there is no change by a person: it has no time."""
    return said if said.value is now else Said(now, None)


OPTED_OUT = st.frozensets(st.sampled_from([EMAIL.dynamics, PHONE.dynamics]))


def story(*names: str) -> list[Step]:
    return [Step(name, after_ms=2000) for name in names]


# Both ways


@thorough
@given(steps(), OPTED_OUT)
def test_in_any_order_both_systems_end_equal_and_come_to_rest(happens: list[Step], opted_out: frozenset[str]) -> None:
    world = World((EMAIL, PHONE), "bidirectional", opted_out)

    stir(world, happens)
    world.settle()

    for pair in world.pairs:
        assert len(set(world.in_both(pair))) == 1, world


@thorough
@given(steps(), OPTED_OUT)
def test_in_any_order_nobody_is_opted_in_whom_the_rule_opts_out(happens: list[Step], opted_out: frozenset[str]) -> None:
    world = World((EMAIL, PHONE), "bidirectional", opted_out)

    stir(world, happens)
    world.settle()

    for pair in world.pairs:
        if world.rule(pair):
            assert world.in_both(pair) == (True, True), world


@thorough
@given(steps(PEOPLE, most=12), OPTED_OUT)
def test_when_each_change_is_settled_before_the_next_the_rule_holds_exactly(happens: list[Step], opted_out: frozenset[str]) -> None:
    world = World((EMAIL, PHONE), "bidirectional", opted_out)
    world.settle()
    ruled = {pair: world.rule(pair) for pair in world.pairs}

    for step in happens:
        before = {side: dict(said) for side, said in world.said.items()}
        stir(world, [step])
        for pair in world.pairs:
            if world.said["campaign"][pair] != before["campaign"][pair]:
                ruled[pair] = by_the_table(world.said["campaign"][pair], _as_known(before["dynamics"][pair], ruled[pair]))
            elif world.said["dynamics"][pair] != before["dynamics"][pair]:
                ruled[pair] = by_the_table(_as_known(before["campaign"][pair], ruled[pair]), world.said["dynamics"][pair])
        world.settle()

        assert {pair: world.in_both(pair) for pair in world.pairs} == {pair: (value, value) for pair, value in ruled.items()}, world


@brief
@given(steps(), OPTED_OUT)
def test_a_push_flag_without_a_time_of_its_own_ends_equal_as_well(happens: list[Step], opted_out: frozenset[str]) -> None:
    world = World((EMAIL, PUSH), "bidirectional", opted_out)

    stir(world, happens)
    world.settle()

    assert len(set(world.in_both(PUSH))) == 1, world


@brief
@given(steps(), OPTED_OUT)
def test_without_versions_both_systems_come_to_rest_and_are_equal(happens: list[Step], opted_out: frozenset[str]) -> None:
    world = World((EMAIL,), "bidirectional", opted_out & {EMAIL.dynamics}, versions=False)

    stir(world, happens)
    world.settle()

    assert len(set(world.in_both(EMAIL))) == 1, world


@brief
@given(steps(), OPTED_OUT)
def test_rows_of_dynamics_first_heard_in_any_order_end_equal(happens: list[Step], opted_out: frozenset[str]) -> None:
    world = World((EMAIL, PHONE), "bidirectional", opted_out, in_order=False)

    stir(world, happens)
    world.settle()

    for pair in world.pairs:
        assert len(set(world.in_both(pair))) == 1, world


# Stories that were found. Each begins with donotemail ticked, and ends with it ticked by a person after all else was said.

CLICK_D, CLICK_C = "click in dynamics", "click in campaign"
HEARD_D, HEARD_C = "what dynamics shows is heard", "what campaign shows is heard"
LOST = {
    "ticked after a write that crashed": story("settle", CLICK_C, HEARD_C, "write and crash", CLICK_D),
    "ticked before our write, published after it": story("settle", CLICK_D, HEARD_D, CLICK_C, CLICK_D, "read", HEARD_C, *2 * ["write"]),
    "ticked while the opt-in waits": story("settle", CLICK_C, HEARD_C, CLICK_D, HEARD_D, CLICK_D, HEARD_D, "write"),
}


@pytest.mark.parametrize("happens", LOST.values(), ids=LOST)
def test_an_opt_out_in_dynamics_is_not_lost(happens: list[Step]) -> None:
    world = World((EMAIL,), "bidirectional", frozenset({EMAIL.dynamics}))

    stir(world, happens)
    world.settle()

    assert world.rule(EMAIL)
    assert world.in_both(EMAIL) == (True, True), world


def test_a_flag_that_was_told_in_vain_is_told_again() -> None:
    world = World((EMAIL,), "bidirectional")

    stir(world, story(HEARD_D, CLICK_C, HEARD_C, CLICK_C, HEARD_C, "settle", CLICK_D, CLICK_C, CLICK_C, HEARD_C))
    world.settle()

    assert world.in_both(EMAIL) == (False, False), world


# One way


def test_one_way_an_opt_out_in_campaign_overwrites_an_earlier_opt_in_not_yet_read() -> None:
    world = World((EMAIL,), "campaign-to-dynamics", frozenset({EMAIL.dynamics}))

    stir(world, story("settle", CLICK_D, CLICK_C, HEARD_C))
    world.settle()

    assert world.in_both(EMAIL) == (True, True), world


@thorough
@given(steps(ONE_WAY), st.booleans())
def test_one_way_dynamics_ends_as_campaign_has_it_whenever_campaign_changed_last(happens: list[Step], opted_out: bool) -> None:
    world = World((EMAIL,), "campaign-to-dynamics", frozenset({EMAIL.dynamics} if opted_out else ()))

    stir(world, happens)
    world.settle()

    if world.last_click.get(EMAIL) == "campaign":
        assert world.row.flags[EMAIL.dynamics] is world.profile.flags[EMAIL.campaign], world


@brief
@given(steps(), OPTED_OUT)
def test_one_way_campaign_is_never_written(happens: list[Step], opted_out: frozenset[str]) -> None:
    world = World((EMAIL, PHONE), "campaign-to-dynamics", opted_out)

    stir(world, happens)
    world.settle()

    assert world.written["campaign"] == 0, world


@brief
@given(steps([name for name in NAMES if name != "click in campaign"]), OPTED_OUT)
def test_one_way_dynamics_is_left_alone_while_nothing_changes_in_campaign(happens: list[Step], opted_out: frozenset[str]) -> None:
    world = World((EMAIL, PHONE), "campaign-to-dynamics", opted_out)

    stir(world, happens)
    world.settle()

    assert world.written["dynamics"] == 0, world


@brief
@given(steps(PEOPLE, most=12), OPTED_OUT)
def test_one_way_when_each_change_is_settled_dynamics_has_what_was_said_last(happens: list[Step], opted_out: frozenset[str]) -> None:
    world = World((EMAIL, PHONE), "campaign-to-dynamics", opted_out)
    world.settle()

    for step in happens:
        stir(world, [step])
        world.settle()

        for pair, system in world.last_click.items():
            assert world.row.flags[pair.dynamics] is world.said[system][pair].value, world
