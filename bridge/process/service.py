"""The life of one service process: wait for Kafka, follow the desired state, run or stop, and say so every two seconds (decision D6)."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

from bridge import __version__
from bridge.flow.waits import backoff_s
from bridge.kafka.client import FencedError, Names, trouble
from bridge.kafka.follower import Entry, Followed, Follower
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topics, control_topics, workflow_topics
from bridge.model.clock import Clock
from bridge.model.desired import FAULT, HEARTBEAT_EVERY_S, WORKFLOWS, Desired, Heartbeat, Reason, Status, Workflow
from bridge.model.errors import BridgeError, HaltError
from bridge.model.report import Report
from bridge.observe.log import log
from bridge.observe.metrics import Metrics
from bridge.observe.settings import ServiceSettings
from bridge.process.health import Readiness
from bridge.process.lasting import Lasting
from bridge.process.repeats import Repeats
from bridge.process.waiting import answered

T = TypeVar("T")
FENCINGS, FENCINGS_WITHIN_S = 4, 120.0
FAULTS, FAULTS_WITHIN_S, LONGEST_WAIT_S = 4, 900.0, 60.0  # of our own: so many are answered by another start


class Run(Protocol):
    """One run of a role, with the configuration of one start."""

    @property
    def ready(self) -> bool:
        """Whether it does its work by now."""

    async def run(self) -> None:
        """Until cancelled; then drains, commits and leaves its group before it returns. Raises HaltError for good, or RetryError to be
        started again."""

    def report(self) -> Report: ...

    def told(self, desired: Desired) -> None:
        """Something else than start or stop has changed: a replay is asked for, or called off."""


class _Stopped(Exception):
    """Asked to stop before there was anything to run."""


class Service:
    """One instance of one role. `make` builds a run for a desired state; it must not connect to anything yet. `beside` hears what other
    workflows are to do."""

    def __init__(
        self,
        workflow: Workflow,
        role: str,
        kafka: KafkaSettings,
        service: ServiceSettings,
        make: Callable[[Desired], Run],
        clock: Clock,
        metrics: Metrics,
        beside: Callable[[str, Desired], None] | None = None,
    ) -> None:
        self._beside = beside
        self._workflow, self._role, self._kafka, self._instance = workflow, role, kafka, service.instance_id
        self._make, self._clock, self._metrics = make, clock, metrics
        self._rng = random.Random()
        self._desired = self._current = Desired()  # what is wanted, and what this instance acts on: until it has drained, the last one
        self._changed, self._shutdown = asyncio.Event(), asyncio.Event()
        self._run: Run | None = None
        self._status: Status = "STOPPED"
        self._since = clock.now().isoformat()
        self._reason: Reason | None = None
        self._lasting = Lasting(clock)
        self._beat_now = asyncio.Event()
        self._fencings, self._faults = Repeats(FENCINGS, FENCINGS_WITHIN_S, clock), Repeats(FAULTS, FAULTS_WITHIN_S, clock)
        self.readiness = Readiness(clock)

    async def serve(self) -> None:
        """Until `stop`. Raises HaltError if the topics it meets control in are not as they have to be."""
        log("service_started", version=__version__)
        with suppress(_Stopped):
            await self._serve()
        log("service_stopped")

    async def _serve(self) -> None:
        topics = Topics(self._kafka)
        counts = await self._waiting_for("Kafka", lambda: asyncio.to_thread(topics.ensure, control_topics()))
        await self._waiting_for("Kafka", lambda: self._base_topics(topics))
        names = Names(self._kafka)
        topic = names.topic("control.workflows")
        follower = await self._waiting_for("Kafka", lambda: self._follow(topic, counts["control.workflows"]))
        self._producer = KafkaProducer(self._kafka)
        self.readiness.heard()
        beats = asyncio.create_task(self._beat(names.topic("control.services")))
        try:
            while not self._shutdown.is_set():
                await self._one_run()
        finally:
            beats.cancel()
            with suppress(BridgeError, TimeoutError):
                key = f"{self._workflow}/{self._role}/{self._instance}".encode()
                await asyncio.wait_for(self._producer.send(names.topic("control.services"), key, None), 2)
            follower.close()
            await asyncio.to_thread(self._producer.close, 2)

    def stop(self) -> None:
        self._shutdown.set()
        self._changed.set()

    async def _base_topics(self, topics: Topics) -> None:
        """The workflow's own topics from the start on; what is wrong with them is said when somebody starts it."""
        try:
            await asyncio.to_thread(topics.ensure, workflow_topics(self._workflow))
        except HaltError as exc:
            log("waiting_for", "error", what="a usable topic", reason=str(exc))

    async def _follow(self, topic: str, partitions: int) -> Follower:
        follower = Follower(self._kafka, Followed(topic, partitions, self._told))
        await follower.start()
        return follower

    def _told(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.value is None or entry.key not in WORKFLOWS:
                continue
            try:
                told = Desired.from_json(json.loads(entry.value))
            except (ValueError, TypeError, KeyError, AttributeError) as exc:  # of a stranger's: what was wanted before still is
                log("desired_unreadable", "error", workflow=entry.key, offset=entry.offset, reason=type(exc).__name__)
                continue
            if entry.key == self._workflow:
                self._desired = told
                self._changed.set()
            elif self._beside is not None:
                self._beside(entry.key, told)

    async def _one_run(self) -> None:
        """Waits until something is to run, runs it until that changes, and waits again."""
        self._changed.clear()
        wanted = self._current = self._desired
        if wanted.desired == "STOPPED":
            self._now("STOPPED")
            await self._changed.wait()
            return
        attempt = 0
        while wanted.generation == self._desired.generation and not self._shutdown.is_set():
            self._changed.clear()
            attempt += 1
            again = await self._run_once(wanted)
            gc.collect()  # Kafka's clients are parts of cycles: until Python looks by itself their threads and pipes would stay
            if not again:
                return
            longest_s = LONGEST_WAIT_S if self._reason is not None and self._reason.code == FAULT else 15.0
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), backoff_s(attempt, self._rng, longest_s))

    async def _run_once(self, wanted: Desired) -> bool:
        """True if it is to be started again with the same generation."""
        self._now("STARTING", self._reason if self._status == "STARTING" else None)
        log("run_started", revision=wanted.revision, generation=wanted.generation)
        try:
            self._run = self._make(wanted)
            self._metrics.runs.began(self._run.report)
            task = asyncio.create_task(self._run.run())
            await self._until_changed(task, wanted)
            await task
        except asyncio.CancelledError:
            log("run_stopped", revision=wanted.revision)
            return False
        except HaltError as exc:
            return await self._failed(Reason.of(exc), wanted)
        except FencedError as exc:
            return await self._fenced(exc, wanted)
        except BridgeError as exc:
            log("run_failed", "warning", code=exc.code, reason=str(exc), again=True)
            self._now("STARTING", Reason.of(exc))
            return True
        except Exception as exc:
            return await self._faulty(exc, wanted)
        finally:
            self._run = None
            self._metrics.runs.ended()
        return True

    async def _faulty(self, exc: Exception, wanted: Desired) -> bool:
        """A fault of our own. What passes by itself is over after another start; what does not ends in FAILED, with the record it met."""
        again, reason, where = not self._faults.too_many(), Reason.of_fault(exc), "".join(traceback.format_tb(exc.__traceback__)[-3:])
        log("run_failed", "error", code=FAULT, reason=reason.message, where=where, again=again)
        if not again:
            return await self._failed(reason, wanted)
        self._now("STARTING", reason)
        return True

    async def _fenced(self, exc: FencedError, wanted: Desired) -> bool:
        """Once may be a broker that restarted; again and again is another process with our name."""
        log("run_failed", "warning", code=exc.code, reason=str(exc), again=True)
        if self._fencings.too_many():
            return await self._failed(Reason.of_displacement(), wanted)
        self._now("STARTING", Reason.of(exc))
        return True

    async def _until_changed(self, task: asyncio.Task[None], wanted: Desired) -> None:
        """Returns when the run has ended by itself, or after cancelling it because something else is wanted."""
        while not task.done():
            changed = asyncio.create_task(self._changed.wait())
            await asyncio.wait({task, changed}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            self._changed.clear()
            if self._shutdown.is_set() or self._desired.generation != wanted.generation:
                task.cancel()
                await asyncio.wait({task})
            elif self._run is not None:
                self._run.told(self._desired)

    async def _failed(self, reason: Reason, wanted: Desired) -> bool:
        """FAILED until somebody presses Start or Stop."""
        log("run_failed", "error", code=reason.code, reason=reason.message, hint=reason.hint)
        self._now("FAILED", reason)
        while self._desired.generation == wanted.generation and not self._shutdown.is_set():
            await self._changed.wait()
            self._changed.clear()
        return False

    def _now(self, status: Status, reason: Reason | None = None) -> None:
        if (status, reason) != (self._status, self._reason):
            if status != self._status:
                self._since = self._clock.now().isoformat()
            self._status, self._reason = status, reason
            self._beat_now.set()

    async def _beat(self, topic: str) -> None:
        while True:
            if self._run is not None and self._run.ready and self._status == "STARTING":
                self._now("RUNNING")
            try:
                beat = self._heartbeat()
                value = json.dumps(beat.to_json(), separators=(",", ":")).encode()
                await asyncio.wait_for(self._producer.send(topic, beat.key.encode(), value), HEARTBEAT_EVERY_S)
                self.readiness.heard()
            except (FencedError, HaltError) as exc:
                if isinstance(exc, HaltError):
                    trouble("saying how this service is", exc)
                await asyncio.to_thread(self._producer.close, 0)
                self._producer = KafkaProducer(self._kafka)
            except (BridgeError, TimeoutError):
                pass  # Kafka is away; control notices by the silence
            except Exception as exc:  # without beats control would take this service for dead
                log("internal_fault", "error", where="heartbeat", reason=type(exc).__name__)
            with suppress(TimeoutError):
                self._beat_now.clear()
                await asyncio.wait_for(self._beat_now.wait(), HEARTBEAT_EVERY_S if self._settled() else 0.2)

    def _settled(self) -> bool:
        return self._status != "STARTING"

    def _heartbeat(self) -> Heartbeat:
        report = self._run.report() if self._run is not None else Report()
        reason = self._reason or (Reason.of(report.trouble) if report.trouble is not None else None)
        since = self._lasting.since(reason, report.trouble_for_s)
        return Heartbeat(
            workflow=self._workflow,
            role=self._role,
            instance=self._instance,
            status=self._status,
            generation=self._current.generation,
            revision=self._current.revision if self._status != "STOPPED" else None,
            since=self._since,
            version=__version__,
            reason=reason,
            counters=report.counters,
            parked=report.parked,
            last_read_at=report.last_read_at,
            last_written_at=report.last_written_at,
            feeds=report.feeds,
            reason_since=since.isoformat() if since is not None else None,
            in_work=report.in_work,
            source_away=report.source_away,
        )

    async def _waiting_for(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        def go_on() -> None:
            if self._shutdown.is_set():
                raise _Stopped

        return await answered(call, what, self._clock.sleep, self._rng, go_on)
