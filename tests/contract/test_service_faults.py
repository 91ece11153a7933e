"""A fault of a service's own is answered by another start, a few times, and then by FAILED (operations.md, `internal_error`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import control_topics
from bridge.model.clock import SystemClock
from bridge.model.desired import Desired
from bridge.model.report import Report
from bridge.model.settings import load
from bridge.observe.metrics import Metrics
from bridge.observe.settings import ServiceSettings
from bridge.process import service as service_module
from bridge.process.service import FAULTS, Service
from tests.contract.broker import eventually, latest, make, producing


class Faulty:
    """Ends so many times with a fault of its own, then works."""

    def __init__(self, faults: int) -> None:
        self.left, self.begun = faults, 0
        self.ready = False

    async def run(self) -> None:
        self.begun += 1
        if self.left:
            self.left -= 1
            fault = LookupError("row of anna@example.com")
            fault.add_note("contact/c-1 of ingress.changes.contact-0-17")
            raise fault
        self.ready = True
        await asyncio.Event().wait()

    def report(self) -> Report:
        return Report()

    def told(self, desired: Desired) -> None: ...


async def served(kafka: KafkaSettings, run: Faulty, until: Callable[[dict[str, object]], bool], *strange: bytes) -> dict[str, object]:
    """The heartbeat of a service with this run, once it is so."""
    make(kafka, *control_topics())
    async with producing(kafka) as producer:
        topic = f"{kafka.topic_prefix}control.workflows"
        wanted = {"desired": "RUNNING", "generation": 1, "revision": 1, "config": {}}
        for value in (json.dumps(wanted).encode(), *strange):
            await producer.send(topic, b"ingress", value)
    settings = load(ServiceSettings, {"INSTANCE_ID": "w1"})
    service = Service("ingress", "writer", kafka, settings, lambda _: run, SystemClock(), Metrics("ingress", "writer", SystemClock()))
    serving = asyncio.create_task(service.serve())

    def beat() -> dict[str, object]:
        return latest(kafka, "control.services").get("ingress/writer/w1") or {}

    try:
        await eventually(lambda: until(beat()), 40)
        return beat()
    finally:
        service.stop()
        await asyncio.wait_for(serving, 20)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "backoff_s", lambda *_: 0.05)


async def test_a_fault_that_passes_is_over_after_another_start(kafka_settings: KafkaSettings) -> None:
    run = Faulty(FAULTS)

    beat = await served(kafka_settings, run, lambda beat: beat.get("status") == "RUNNING")

    assert (run.begun, beat["reason"]) == (FAULTS + 1, None)


async def test_a_fault_that_stays_ends_in_failed_and_names_the_record_it_met(kafka_settings: KafkaSettings) -> None:
    run = Faulty(1_000)

    beat = await served(kafka_settings, run, lambda beat: beat.get("status") == "FAILED")

    reason = beat["reason"]
    assert isinstance(reason, dict) and (reason["code"], run.begun) == ("internal_error", FAULTS + 1)
    assert "LookupError at contact/c-1 of ingress.changes.contact-0-17" in reason["message"] and "anna" not in json.dumps(beat)


async def test_what_a_stranger_says_is_wanted_changes_nothing(kafka_settings: KafkaSettings) -> None:
    beat = await served(kafka_settings, Faulty(0), lambda beat: beat.get("status") == "RUNNING", b"no json", b"[]", b"5")

    assert beat["generation"] == 1
