"""What control knows: desired states and revisions (read back from Kafka), and the heartbeats it has heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from bridge.kafka.client import Names
from bridge.kafka.commands import CommandLog, View
from bridge.kafka.follower import Entry, Followed, Follower
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topics, control_topics
from bridge.model.clock import Clock
from bridge.model.config import Config
from bridge.model.desired import WORKFLOWS, Desired, Workflow
from bridge.model.errors import RetryError
from bridge.model.events import Record
from services.control.rules import actions, lifecycle
from services.control.rules.actions import TOPIC, Action, Change, HeldAction
from services.control.rules.lifecycle import SHAPES, Beat, Verdict
from services.control.topics.heartbeats import Heard


@dataclass(frozen=True, slots=True)
class Revision:
    revision: int
    saved_at: str
    saved_by: str
    comment: str | None
    config: Config


class Store:
    """Reads come from memory, writes go through CommandLog. `start` before use; until it returns every call raises RetryError.

    `marked` is told of dead letters that somebody dealt with, `held_marked` of items that were held.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        clock: Clock,
        start_deadline_s: float,
        marked: Callable[[Workflow, Sequence[str], Action], None] = lambda workflow, ids, action: None,
        held_marked: Callable[[Workflow, Sequence[str], HeldAction], None] = lambda workflow, ids, action: None,
    ) -> None:
        self._marked, self._held_marked = marked, held_marked
        self._settings, self._clock, self._start_deadline_s = settings, clock, start_deadline_s
        self._desired: dict[Workflow, Desired] = {}
        self._revisions: dict[Workflow, dict[int, Revision]] = {workflow: {} for workflow in WORKFLOWS}
        self._heard = Heard(clock)
        self._since: dict[Workflow, tuple[str, str]] = {}
        self._thread = ThreadPoolExecutor(1, "commands")
        self._log: CommandLog | None = None
        self._follower: Follower | None = None

    async def start(self) -> None:
        """Creates the control topics and the first revisions if need be, and reads what is there. Raises RetryError or HaltError."""
        counts = await asyncio.to_thread(Topics(self._settings).ensure, control_topics())
        names = Names(self._settings)
        log = CommandLog(self._settings, counts[TOPIC])
        at = self._clock.now().isoformat()
        await self._in_thread(lambda: log.transact(actions.first_revisions(at)))
        told = ((TOPIC, self._told), ("control.services", self._heard.take))
        self._follower = Follower(self._settings, *(Followed(names.topic(topic), counts[topic], changed) for topic, changed in told))
        await self._follower.start()
        self._log = log

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()
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
        return self._heard.beats(workflow)

    def verdict(self, workflow: Workflow) -> tuple[Verdict, str]:
        """The status, and since when it has been so."""
        desired, now = self.desired(workflow), self._clock.now()
        verdict = lifecycle.verdict(workflow, desired, self.beats(workflow), now, self._start_deadline_s)
        before = self._since.get(workflow)
        if before is None or before[0] != verdict.status:
            began = [beat.heartbeat.since for beat in self.beats(workflow)] + [desired.changed_at or now.isoformat()]
            self._since[workflow] = (verdict.status, verdict.since or (max(began) if before is None else now.isoformat()))
        return verdict, self._since[workflow][1]

    # -- writing ----------------------------------------------------------------------------------------------------------

    async def run(self, change: Change) -> Any:
        """Carries out a command of services.control.rules.actions and gives its result. Raises what it raises, RetryError, HaltError."""
        self._check()
        assert self._log is not None
        log = self._log

        def noted(view: View) -> Any:
            result, writes = change(view)
            return (result, writes), writes

        result, writes = await self._in_thread(lambda: log.transact(noted))
        for write in writes:
            if not isinstance(write, Record) and write[0] == TOPIC and write[2] is not None:
                self._take(write[1], write[2])
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
        name, _, rest = key.partition("/")
        kind, _, number = rest.partition("/")
        workflow = next((each for each in WORKFLOWS if each == name), None)
        if workflow is None:
            return
        if kind == "revisions":
            config = SHAPES[workflow].model_validate(value["config"])
            self._revisions[workflow][int(number)] = Revision(
                int(number), value["saved_at"], value["saved_by"], value.get("comment"), config
            )
        elif kind == "dead-letters":
            self._marked(workflow, value["ids"], value["action"])
        elif kind == "held":
            self._held_marked(workflow, value["ids"], value["action"])
        elif not kind:
            desired = Desired.from_json(value)
            if desired.generation >= self._desired.get(workflow, Desired()).generation:
                self._desired[workflow] = desired
