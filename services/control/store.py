"""What control knows: desired states and revisions (read back from Kafka), and the heartbeats it has heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bridge.clock import Clock
from bridge.config import Config
from bridge.desired import HEARTBEAT_DEADLINE_S, WORKFLOWS, Desired, Heartbeat, Workflow
from bridge.errors import RetryError
from bridge.kafka.client import Names
from bridge.kafka.commands import CommandLog, View, Write
from bridge.kafka.follower import Entry, Follower
from bridge.kafka.topics import Topics, control_topics
from bridge.settings import KafkaSettings
from services.control import workflows
from services.control.workflows import SHAPES, Beat, Verdict

TOPIC, AUDIT = "control.workflows", "control.audit"


@dataclass(frozen=True, slots=True)
class Revision:
    revision: int
    saved_at: str
    saved_by: str
    comment: str | None
    config: Config


class Stale(Exception):
    """Somebody else has saved since; `current` is the revision there is now."""

    def __init__(self, current: int) -> None:
        super().__init__(f"revision {current} has been saved meanwhile")
        self.current = current


class NotConfigured(Exception):
    """There is nothing to start yet."""


@dataclass(slots=True)
class _Heard:
    heartbeat: Heartbeat
    heard_at: float
    timestamp_ms: int
    left: bool = False


class Store:
    """Reads come from memory, writes go through CommandLog. `start` before use; until it returns every call raises RetryError."""

    def __init__(self, settings: KafkaSettings, clock: Clock, start_deadline_s: float) -> None:
        self._settings, self._clock, self._start_deadline_s = settings, clock, start_deadline_s
        self._desired: dict[Workflow, Desired] = {}
        self._revisions: dict[Workflow, dict[int, Revision]] = {workflow: {} for workflow in WORKFLOWS}
        self._heard: dict[str, _Heard] = {}
        self._since: dict[Workflow, tuple[str, str]] = {}
        self._thread = ThreadPoolExecutor(1, "commands")
        self._log: CommandLog | None = None
        self._followers: list[Follower] = []

    async def start(self) -> None:
        """Creates the control topics and the first revisions if need be, and reads what is there. Raises RetryError or HaltError."""
        counts = await asyncio.to_thread(Topics(self._settings).ensure, control_topics())
        names = Names(self._settings)
        log = CommandLog(self._settings, counts[TOPIC])
        at = self._clock.now().isoformat()
        await self._in_thread(lambda: log.transact(lambda view: _first_revisions(view, at)))
        for topic, changed in ((TOPIC, self._told), ("control.services", self._heartbeats)):
            follower = Follower(self._settings, names.topic(topic), counts[topic], changed)
            self._followers.append(follower)
            await follower.start()
        self._log = log

    def close(self) -> None:
        for follower in self._followers:
            follower.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def ready(self) -> bool:
        return self._log is not None

    # -- reading ----------------------------------------------------------------------------------------------------------

    def desired(self, workflow: Workflow) -> Desired:
        self._check()
        return self._desired.get(workflow, Desired())

    def revisions(self, workflow: Workflow) -> Mapping[int, Revision]:
        self._check()
        return self._revisions[workflow]

    def saved(self, workflow: Workflow) -> Revision:
        revisions = self.revisions(workflow)
        return revisions[max(revisions)]

    def configs(self) -> dict[Workflow, Config]:
        return {workflow: self.saved(workflow).config for workflow in WORKFLOWS}

    def beats(self, workflow: Workflow) -> list[Beat]:
        now = self._clock.monotonic()
        return [
            Beat(each.heartbeat, now - each.heard_at, each.left) for each in self._heard.values() if each.heartbeat.workflow == workflow
        ]

    def heard_ms(self, heartbeat: Heartbeat) -> int:
        return self._heard[heartbeat.key].timestamp_ms

    def verdict(self, workflow: Workflow) -> tuple[Verdict, str]:
        """The status, and since when it has been so."""
        desired, now = self.desired(workflow), self._clock.now()
        verdict = workflows.verdict(workflow, desired, self.beats(workflow), now, self._start_deadline_s)
        before = self._since.get(workflow)
        if before is None or before[0] != verdict.status:
            began = [beat.heartbeat.since for beat in self.beats(workflow)] + [desired.changed_at or now.isoformat()]
            self._since[workflow] = (verdict.status, max(began) if before is None else now.isoformat())
        return verdict, self._since[workflow][1]

    # -- writing ----------------------------------------------------------------------------------------------------------

    async def begin(self, workflow: Workflow, by: str, comment: str | None) -> None:
        """Start. Raises NotConfigured."""
        status, at = self.verdict(workflow)[0].status, self._clock.now().isoformat()

        def command(view: View) -> tuple[None, list[Write]]:
            saved = _latest(view, workflow)
            config = SHAPES[workflow].model_validate(saved["config"])
            if not config.configured():
                raise NotConfigured
            before = Desired.from_json(view.get(workflow) or {})
            after = workflows.started(before, status, saved["revision"], saved["config"], by, at, comment)
            return None, _desired_writes(workflow, "start", before, after, by, at)

        await self._transact(command)

    async def end(self, workflow: Workflow, by: str, comment: str | None) -> None:
        """Stop."""
        at = self._clock.now().isoformat()

        def command(view: View) -> tuple[None, list[Write]]:
            before = Desired.from_json(view.get(workflow) or {})
            return None, _desired_writes(workflow, "stop", before, workflows.stopped(before, by, at, comment), by, at)

        await self._transact(command)

    async def save(self, workflow: Workflow, config: Config, expected: int, by: str, comment: str | None) -> Revision:
        """A new revision, if `expected` is still the latest. Raises Stale."""
        at = self._clock.now().isoformat()

        def command(view: View) -> tuple[dict[str, Any], list[Write]]:
            current = _latest(view, workflow)["revision"]
            if current != expected:
                raise Stale(current)
            value = _revision(current + 1, config, by, at, comment)
            audit = _audit("config", by, at, {"revision": current}, {"revision": current + 1})
            return value, [(TOPIC, f"{workflow}/revisions/{current + 1}", value), (AUDIT, workflow, audit)]

        value = await self._transact(command)
        self._take(f"{workflow}/revisions/{value['revision']}", value)
        return self._revisions[workflow][value["revision"]]

    async def _transact(self, command: Any) -> Any:
        self._check()
        assert self._log is not None
        log = self._log

        def noted(view: View) -> Any:
            result, writes = command(view)
            return (result, writes), writes

        result, writes = await self._in_thread(lambda: log.transact(noted))
        for topic, key, value in writes:
            if topic == TOPIC:
                self._take(key, value)
        return result

    async def _in_thread(self, call: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _check(self) -> None:
        if self._log is None:
            raise RetryError("control has not read its topics yet: Kafka does not answer", code="kafka_unavailable")

    # -- what Kafka tells -------------------------------------------------------------------------------------------------

    def _told(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.value is not None:
                self._take(entry.key, json.loads(entry.value))

    def _take(self, key: str, value: Mapping[str, Any]) -> None:
        """Entries may come late (our own writes come twice), never wrong: generations and revisions only grow."""
        name, _, number = key.partition("/revisions/")
        workflow = next((each for each in WORKFLOWS if each == name), None)
        if workflow is None:
            return
        if number:
            config = SHAPES[workflow].model_validate(value["config"])
            self._revisions[workflow][int(number)] = Revision(
                int(number), value["saved_at"], value["saved_by"], value.get("comment"), config
            )
        else:
            desired = Desired.from_json(value)
            if desired.generation >= self._desired.get(workflow, Desired()).generation:
                self._desired[workflow] = desired

    def _heartbeats(self, entries: Sequence[Entry]) -> None:
        now, wall_ms = self._clock.monotonic(), self._clock.now().timestamp() * 1000
        for entry in entries:
            if entry.value is None:
                if heard := self._heard.get(entry.key):
                    heard.left = True
                continue
            age_s = max(0.0, (wall_ms - entry.timestamp_ms) / 1000) if entry.old else 0.0
            self._heard[entry.key] = _Heard(Heartbeat.from_json(json.loads(entry.value)), now - age_s, entry.timestamp_ms)
        for key, heard in list(self._heard.items()):
            if heard.left and now - heard.heard_at > HEARTBEAT_DEADLINE_S:
                del self._heard[key]


def _first_revisions(view: View, at: str) -> tuple[None, list[Write]]:
    missing = [workflow for workflow in WORKFLOWS if f"{workflow}/revisions/1" not in view]
    return None, [
        (TOPIC, f"{workflow}/revisions/1", _revision(1, workflows.default_config(workflow), "control", at, "out of the box"))
        for workflow in missing
    ]


def _latest(view: View, workflow: Workflow) -> dict[str, Any]:
    prefix = f"{workflow}/revisions/"
    revisions: list[dict[str, Any]] = [value for key, value in view.items() if key.startswith(prefix)]
    return max(revisions, key=lambda value: int(value["revision"]))


def _revision(number: int, config: Config, by: str, at: str, comment: str | None) -> dict[str, Any]:
    return {
        "revision": number,
        "saved_at": at,
        "saved_by": by,
        "comment": comment,
        "config": workflows.dumped(config),
    }


def _desired_writes(workflow: Workflow, what: str, before: Desired, after: Desired, by: str, at: str) -> list[Write]:
    audit = _audit(what, by, at, {"desired": before.desired}, {"desired": after.desired, "revision": after.revision})
    writes: list[Write] = [(AUDIT, workflow, audit)]
    return writes if after is before else [(TOPIC, workflow, after.to_json()), *writes]


def _audit(what: str, by: str, at: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {"at": at, "by": by, "what": what, "before": before, "after": after, "result": "done"}
