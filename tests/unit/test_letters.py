"""services.control.topics.letters: what a re-driven letter becomes."""

from __future__ import annotations

from bridge.kafka.client import Names
from bridge.kafka.settings import KafkaSettings
from bridge.model.events import Record
from services.control.topics.letters import record_again

NAMES = Names(KafkaSettings())


def a_letter(topic: str = "egress.email-events", **headers: bytes) -> Record:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    facts = {"dlq.topic": topic.encode(), "dlq.partition": b"3", "dlq.code": b"contact_missing", **named}
    return Record("egress.dead-letters", 0, 7, 0, b"key", b"value", list(facts.items()))


def test_a_letter_goes_back_to_its_partition_and_has_its_whole_time_to_wait_again() -> None:
    again = record_again(a_letter(traceparent=b"t", parked_since=b"1767225600000"), NAMES, "egress")

    assert again is not None
    assert (again.topic, again.partition, again.key, again.value) == ("egress.email-events", 3, b"key", b"value")
    assert list(again.headers) == [("traceparent", b"t"), ("dlq.redriven", b"1")]


def test_a_letter_of_another_workflow_goes_nowhere() -> None:
    assert record_again(a_letter("ingress.changes.contact"), NAMES, "egress") is None
