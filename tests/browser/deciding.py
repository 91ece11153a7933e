"""Held decisions for the tests of the pages: made by the services from what people say, or put into Kafka as the resolver does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from bridge.kafka.avro import Encoder, load_schema
from bridge.kafka.client import Names
from bridge.kafka.dead_letters import KafkaDeadLetters
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.registry import HttpRegistry
from bridge.model.errors import RejectError
from bridge.model.events import Headers, OptStatusDecided, Record, event_headers
from tests.e2e.consent import person, until_both
from tests.e2e.helpers import new_key
from tests.e2e.stack import Stack

TOPIC = "optin.decisions"


async def come_back(stack: Stack, number: int) -> list[str]:
    """People who opted out in Campaign and opt in there again: with a limit of 0 each of these releases is held. Their contacts."""
    people = [person(stack) for _ in range(number)]
    before = await held_now(stack)
    await said(stack, people, True)
    await asyncio.gather(*(until_both(stack, each, True) for each in people))
    await said(stack, people, False)
    await until_held(stack, before + number)
    return people


async def said(stack: Stack, people: Sequence[str], out: bool) -> None:
    for each in people:
        stack.campaign.opt_out(each, "blackListEmail", out)
    stack.campaign.exports.run()


async def held_now(stack: Stack, workflow: str = "optin") -> int:
    return int((await stack.get(f"/workflows/{workflow}"))["backlog"]["held"])


async def until_held(stack: Stack, number: int, workflow: str = "optin") -> None:
    async def so_many() -> bool:
        return await held_now(stack, workflow) == number

    await stack.until(so_many, f"{number} are held", 40)


async def discard_all(stack: Stack, workflow: str = "optin") -> None:
    answer = await stack.http.post(f"/api/v1/workflows/{workflow}/held/discard", json={"all": True, "reason": "between two tests"})
    assert answer.status_code == 202, answer.text
    await until_held(stack, 0, workflow)


async def put_held(stack: Stack, number: int = 1) -> list[str]:
    """Held decisions on contacts that nobody has, as `services/optin/resolving.py` publishes them. Their contacts."""
    people = [new_key() for _ in range(number)]
    await _put(stack, TOPIC, [(_decision(each), _headers()) for each in people])
    return people


async def put_held_by_ingress(stack: Stack) -> tuple[str, str, str]:
    """A release, a delete of a contact, and one of another record, as the writer of ingress publishes what the guard holds; their keys."""
    person, gone, car = new_key(), new_key(), new_key()
    before = await held_now(stack, "ingress")
    release = {"table": "contact", "flags": "blackListEmail", "kind": "release"}
    delete = {"flags": "delete", "kind": "delete"}
    await _put(
        stack,
        "ingress.decisions",
        [
            (_lower(person), _of_ingress(**release)),
            (_delete(gone, "deleted-in-dynamics"), _of_ingress(**delete, table="contact")),
            (_delete(car, "filtered-out"), _of_ingress(**delete, table="new_vehicle")),
        ],
    )
    await until_held(stack, before + 3, "ingress")
    return person, gone, car


async def _put(stack: Stack, topic: str, decisions: Sequence[tuple[OptStatusDecided, Headers]]) -> None:
    schema, name = load_schema("OptStatusDecided"), Names(stack.kafka).topic(topic)
    encoder = Encoder(schema, await asyncio.to_thread(HttpRegistry(stack.kafka).register, f"{name}-value", schema))
    producer = KafkaProducer(stack.kafka)
    try:
        await asyncio.gather(*(producer.send(name, each.contact_key.encode(), encoder.encode(each), told) for each, told in decisions))
    finally:
        producer.close()


async def put_letter(stack: Stack, code: str, reason: str) -> str:
    """A decision that could not be written, as the writer sets it aside; its contact."""
    contact, now = new_key(), datetime.now(UTC)
    record = Record(TOPIC, 0, 0, 0, contact.encode(), b"", _headers())
    producer = KafkaProducer(stack.kafka)
    try:
        letters = KafkaDeadLetters(stack.kafka, "optin", 1, producer)
        error = RejectError(reason, code=code, stage="write", status=404)
        await letters.put(record, error, attempts=1, first_failed_at=now, failed_at=now)
    finally:
        producer.close()
    return contact


def _headers() -> Headers:
    more = [("target", b"dynamics"), ("flags", b"donotemail"), ("decides", b"opt-in"), ("guard", b"held")]
    return [*event_headers("live", "", "optin-resolver/test"), *more]


def _decision(contact: str) -> OptStatusDecided:
    now = datetime.now(UTC)
    inputs = {"campaign": False, "campaign_changed_at": now, "dynamics": True, "dynamics_changed_at": None}
    return OptStatusDecided(contact, "dynamics", {"donotemail": False}, "campaign-is-later", {"donotemail": inputs}, now)


def _of_ingress(**more: str) -> Headers:
    about = {"target": "campaign", "outcome": "held", "guard": "held", "status": "", "origin": "version 915244", **more}
    return [*event_headers("live", "915244", "ingress-writer/test"), *((name, value.encode()) for name, value in about.items())]


def _lower(contact: str) -> OptStatusDecided:
    now = datetime.now(UTC)
    said = {"campaign": True, "campaign_changed_at": None, "campaign_from": "profile"}
    inputs = said | {"dynamics": False, "dynamics_changed_at": now, "dynamics_from": "version 915244"}
    return OptStatusDecided(contact, "campaign", {"blackListEmail": False}, "opted-in-in-dynamics", {"blackListEmail": inputs}, now)


def _delete(key: str, rule: str) -> OptStatusDecided:
    return OptStatusDecided(key, "campaign", {}, rule, {}, datetime.now(UTC))
