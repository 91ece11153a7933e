"""What cannot be read or written goes to the dead letters as it came, and the rest flows (kafka.md)."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from functools import partial
from typing import Any

import httpx
from confluent_kafka import Message, Producer

from tests.e2e.helpers import (
    eventually,
    everything_passed,
    headers_of,
    heartbeat,
    latest,
    messages,
    names,
    new_key,
    run,
    run_through,
    service_logs,
    until_messages,
    until_reason,
)
from tests.e2e.stack import CONTACT_FIELDS, Stack, contacts

LETTERS = "ingress.dead-letters"
FACTS = {
    *("dlq.topic", "dlq.partition", "dlq.offset", "dlq.timestamp", "dlq.workflow", "dlq.revision", "dlq.stage", "dlq.code"),
    *("dlq.reason", "dlq.target-status", "dlq.attempts", "dlq.first-failed-at", "dlq.failed-at", "dlq.fingerprint"),
}


def produce(stack: Stack, values: Mapping[bytes | None, bytes | None]) -> None:
    """As a stranger would: these values under these keys into the contacts' changes."""
    producer = Producer(stack.kafka.client())
    for key, value in values.items():
        topic = f"{stack.kafka.topic_prefix}ingress.changes.contact"
        producer.produce(topic, value, key, headers=[("stranger", b"yes")])
    assert producer.flush(10) == 0


def registered(stack: Stack, schema: dict[str, Any]) -> int:
    """The id of a schema that is none of ours."""
    url = f"{stack.kafka.registry_url}/subjects/{stack.kafka.topic_prefix}stranger-value/versions"
    answer = httpx.post(url, json={"schema": json.dumps(schema)}, timeout=10, trust_env=False)
    return int(answer.raise_for_status().json()["id"])


def schema_id(message: Message) -> int:
    return int(struct.unpack(">bI", (message.value() or b"")[:5])[1])


async def test_poison_is_dead_lettered_unchanged_and_the_rest_flows(stack: Stack) -> None:
    key = stack.dynamics.upsert("contact", {"lastname": "Meyer"})
    await run_through(stack, contacts())
    good = (await until_messages(stack, "ingress.replay.contact", 1))[0]
    other = f"{new_key()}".encode()
    foreign = {"type": "record", "name": "Other", "fields": [{"name": "number", "type": "long"}]}
    poison: dict[bytes | None, bytes | None] = {
        b"not-avro": b"hello, this is no avro",
        b"unknown-schema": struct.pack(">bI", 0, 999_999) + (good.value() or b"")[5:],
        b"null-value": None,
        b"garbage": struct.pack(">bI", 0, schema_id(good)) + b"\xff" * 40,
        b"cut-short": (good.value() or b"")[:30],
        b"too-short": b"\x00\x00",
        b"other-schema": struct.pack(">bI", 0, registered(stack, foreign)) + b"\x02",
        b"\xff\xfe key": good.value(),
        None: good.value(),
        other: good.value(),  # a good event under another key than its own
    }

    produce(stack, poison)
    letters = await until_messages(stack, LETTERS, len(poison), 150)  # an id that nobody knows may be news to the registry, for a minute
    stack.dynamics.upsert("contact", {"contactid": key, "lastname": "Maier"})
    await everything_passed(stack)

    assert (stack.campaign.get("profile", key) or {})["lastName"] == "Maier"
    assert {message.key(): message.value() for message in letters} == poison
    assert len(letters) == len(poison)
    sent = {message.key(): message for message in await asyncio.to_thread(messages, stack.kafka, "ingress.changes.contact")}
    for message in letters:
        headers, original = headers_of(message), sent[message.key()]
        assert FACTS | {"stranger"} <= headers.keys()
        assert headers["dlq.topic"] == original.topic()
        assert (headers["dlq.partition"], headers["dlq.offset"]) == (str(original.partition()), str(original.offset()))
        assert headers["dlq.timestamp"] == str(original.timestamp()[1])
        assert (headers["dlq.workflow"], headers["dlq.revision"], headers["dlq.stage"]) == ("ingress", "2", "decode")
        assert headers["dlq.code"] and headers["dlq.reason"] and headers["dlq.fingerprint"]
    assert (await stack.workflow())["status"] == "RUNNING"


async def test_what_campaign_refuses_is_dead_lettered_with_its_status(stack: Stack) -> None:
    stack.campaign.settings.refuse = [{"resource": "profile", "field": "email", "contains": "refused"}]
    bad = stack.dynamics.upsert("contact", {"lastname": "Bad", "emailaddress1": "refused@example.com"})
    good = stack.dynamics.upsert("contact", {"lastname": "Good", "emailaddress1": "fine@example.com"})

    await run_through(stack, contacts())

    (letter,) = await until_messages(stack, LETTERS, 1)
    headers = headers_of(letter)
    assert (letter.key() or b"").decode() == bad
    assert (headers["dlq.stage"], headers["dlq.target-status"], headers["origin-lane"]) == ("write", "500", "initial")
    assert "refused@example.com" not in str(headers)
    assert stack.campaign.get("profile", good) is not None
    stack.dynamics.upsert("contact", {"contactid": bad, "emailaddress1": "mended@example.com"})
    await everything_passed(stack)
    assert (stack.campaign.get("profile", bad) or {})["email"] == "mended@example.com"


async def test_f154_what_does_not_fit_the_type_is_dead_lettered_at_the_mapping(stack: Stack) -> None:
    stack.campaign.add_field("profile", name="cusLevel", type="long")
    stack.campaign.publish()
    bad = stack.dynamics.upsert("contact", {"lastname": "Bad", "jobtitle": "not a number"})
    stack.dynamics.upsert("contact", {"lastname": "Good", "jobtitle": "12"})

    await run_through(stack, contacts(fields=CONTACT_FIELDS | {"jobtitle": "cusLevel"}))

    (letter,) = await until_messages(stack, LETTERS, 1)
    headers = headers_of(letter)
    assert ((letter.key() or b"").decode(), headers["dlq.stage"], headers["dlq.target-status"]) == (bad, "map", "")
    assert "cusLevel" in headers["dlq.reason"]
    assert "not a number" not in str(headers)
    assert names(stack) == {"Good"}


async def waiting(stack: Stack, records: int) -> bool:
    return bool((await stack.workflow())["backlog"]["records"] >= records)


async def test_when_everything_is_refused_the_workflow_halts_and_the_rest_waits(stack: Stack) -> None:
    stack.campaign.settings.refuse = [{"resource": "profile", "field": "lastName", "contains": ""}]
    stack.dynamics.load(contacts=400, seed=3)
    await stack.configure(contacts())
    stack.service("reader")
    stack.service("writer")
    await stack.start(wait=False)

    reason = await until_reason(stack, "too_many_dead_letters")

    assert (reason["role"], reason["hint"] != "") == ("writer", True)
    letters = await asyncio.to_thread(messages, stack.kafka, LETTERS)
    assert 90 <= len(letters) <= 120
    await stack.until(partial(waiting, stack, 250), "the rest waits: 250 records or more", 10)  # the lag is sampled every second
    stack.campaign.settings.refuse = []
    await stack.stop()
    await stack.start()
    await stack.until_caught_up()
    assert len(stack.campaign.rows("profile")) >= 400 - len(letters)


async def test_no_field_value_leaves_the_events(stack: Stack) -> None:
    """Neither state nor dead letters' headers, heartbeats, cursors, workflows or logs hold one."""
    canary = "Canarybird"
    values = {"lastname": canary, "firstname": canary, "address1_city": canary}
    stack.campaign.settings.refuse = [{"resource": "profile", "field": "email", "contains": "refused"}]
    good = stack.dynamics.upsert("contact", {**values, "emailaddress1": f"{canary}@example.com"})
    stack.dynamics.upsert("contact", {**values, "emailaddress1": f"refused.{canary}@example.com"})
    await run(stack, contacts(), reader={"LOG_LEVEL": "debug"}, writer={"LOG_LEVEL": "debug"})
    await everything_passed(stack)
    stack.dynamics.upsert("contact", {"contactid": good, "lastname": f"{canary} 2"})
    await everything_passed(stack)
    letters = await until_messages(stack, LETTERS, 1)
    await eventually(stack, lambda: heartbeat(stack, "writer").get("counters", {}).get("dead_lettered") == 1, "the heartbeat counts", 10)

    assert "2" in (stack.campaign.get("profile", good) or {})["lastName"]
    assert len(latest(stack.kafka, "ingress.state")) >= 3
    for topic in ("ingress.state", "ingress.cursors", "control.services", "control.workflows", "control.audit"):
        found = await asyncio.to_thread(messages, stack.kafka, topic)
        assert found, topic
        for message in found:
            assert canary.encode() not in (message.value() or b""), topic
            assert canary not in str(headers_of(message)), topic
    assert all(canary not in str(headers_of(letter)) for letter in letters)
    assert canary not in service_logs(stack)
    assert "sandbox-secret" not in service_logs(stack)


async def test_half_an_emoji_and_a_row_too_large_for_kafka_hold_up_nobody(stack: Stack) -> None:
    half = stack.dynamics.upsert("contact", {"lastname": "Ann \ud83d"})
    large = stack.dynamics.upsert("contact", {"lastname": "Large", "description": "é" * 2_000})
    stack.campaign.add_field("profile", name="cusText", length=4_000)
    stack.campaign.publish()
    await run(stack, contacts(fields=CONTACT_FIELDS | {"description": "cusText"}), reader={"KAFKA_MESSAGE_MAX_BYTES": "5500"})
    await everything_passed(stack)

    profile = stack.campaign.get("profile", half) or {}
    assert profile["lastName"] == "Ann \ufffd"
    (letter,) = await until_messages(stack, LETTERS, 1)
    assert (letter.key(), headers_of(letter)["dlq.code"]) == (large.encode(), "event_too_large")
    counters = (await stack.workflow())["counters"]
    assert (counters["dead_lettered"], counters["incomplete"], counters["read"]) == (1, 1, 3)  # with the sentinel
