"""Campaign calls per change: on a day's mix of changes, and when ten changes of each record wait.

A call is what Campaign's accounting counts: everything that reaches it about a record, reads included (metadata and tokens are about none).
The mix is of changes to contacts: 60 % with a new value in a mapped column, 20 % with a new version only (a column that is not mapped),
15 % new contacts, 5 % deleted ones, with `apply_deletes` on, so that a delete costs its call. Ten waiting changes: each round is read by
the reader into events of its own before the next one is made, and only then the writer starts.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from benchmarks.measure import Arrivals, Figure, arrivals, on_own_kafka
from bridge.kafka.settings import KafkaSettings
from bridge.model.config import CONTACT_FIELDS, default_ingress
from tests.e2e.helpers import calls_of, until_messages
from tests.e2e.stack import Stack, contacts, running

CONTACTS, CHANGES = 5_000, 4_000
KEYS, WAITING = 2_000, 10
MAPPED = contacts(fields=CONTACT_FIELDS, apply_deletes=True)


def run() -> list[Figure]:
    return on_own_kafka(_measured)


async def _measured(settings: KafkaSettings, home: Path) -> list[Figure]:
    async with running(settings, home) as stack:
        stack.dynamics.load(contacts=CONTACTS, seed=1)
        polls = arrivals(stack.dynamics.ledger, "deltatoken")
        await stack.configure(MAPPED)
        stack.service("reader")
        stack.service("writer")
        await stack.start()
        await stack.until_equal(120)
        await stack.until_caught_up()
        return [*await _mix(stack, polls), *await _waiting(stack, polls)]


async def _mix(stack: Stack, polls: Arrivals) -> list[Figure]:
    before, rng = _calls(stack), random.Random(2)
    people = rng.sample([row["contactid"] for row in stack.dynamics.rows("contact")], CHANGES)
    kinds = ["update"] * (CHANGES * 60 // 100) + ["unchanged"] * (CHANGES * 20 // 100) + ["insert"] * (CHANGES * 15 // 100)
    kinds += ["delete"] * (CHANGES - len(kinds))
    rng.shuffle(kinds)
    for number, (kind, key) in enumerate(zip(kinds, people, strict=True)):
        match kind:
            case "update":
                stack.dynamics.upsert("contact", {"contactid": key, "lastname": f"Lovelace {number}"})
            case "unchanged":
                stack.dynamics.upsert("contact", {"contactid": key, "jobtitle": f"Analyst {number}"})
            case "insert":
                stack.dynamics.upsert("contact", {"firstname": "Ada", "lastname": f"Byron {number}"})
            case "delete":
                stack.dynamics.delete("contact", key)
    await _published(stack, polls)
    await stack.until_caught_up()
    calls = _calls(stack) - before
    return [
        Figure("calls per change, day's mix", calls / CHANGES, "", ("<=", 0.85)),
        Figure("records that differ then", len(_differing(stack)), "", ("<=", 0)),
    ]


async def _waiting(stack: Stack, polls: Arrivals) -> list[Figure]:
    await stack.processes["writer-1"].terminate()
    people = [row["contactid"] for row in stack.dynamics.rows("contact")][:KEYS]
    before, records = _calls(stack), len(await until_messages(stack, "ingress.changes.contact", CHANGES))
    for number in range(WAITING):
        for key in people:
            stack.dynamics.upsert("contact", {"contactid": key, "lastname": f"Change {number}"})
        await _published(stack, polls)
    waiting = len(await until_messages(stack, "ingress.changes.contact", records)) - records
    stack.service("writer")
    await stack.until_status("RUNNING")
    await stack.until_caught_up(120)
    calls = _calls(stack) - before
    old = sum(stack.campaign.get("profile", key)["lastName"] != f"Change {WAITING - 1}" for key in people)  # type: ignore[index]
    return [
        Figure("changes that waited, of each record", waiting / KEYS, "", (">=", WAITING)),
        Figure("calls per waiting change", calls / waiting, "", ("<=", 0.15)),
        Figure("records left on an old version", old, "", ("<=", 0)),
        Figure("records that differ in the end", len(_differing(stack)), "", ("<=", 0)),
    ]


async def _published(stack: Stack, polls: Arrivals) -> None:
    """Until what has been changed so far is in Kafka: a poll saw it, and the next one comes only after its events went out."""
    for _ in range(2):
        seen = len(polls.seen)

        async def polled(seen: int = seen) -> bool:
            return len(polls.seen) > seen

        await stack.until(polled, "the next poll", 30)
    await asyncio.sleep(0.1)


def _calls(stack: Stack) -> int:
    """About records: what is asked about the resource as such is metadata, read once at each start."""
    by_operation = stack.campaign.counts()["engine_calls"]["by_operation"]
    return sum(calls_of(stack, "profile").values()) - int(by_operation.get("other", 0))


def _differing(stack: Stack) -> list[str]:
    """Contacts whose mapped fields are not the profile's, and those that one side lacks."""
    fields = {field.source: field.target.split(".") for field in default_ingress().tables[0].fields}
    there = {row["contactid"]: row for row in stack.dynamics.rows("contact")}
    here = {row["externalId"]: row for row in stack.campaign.rows("profile")}
    wrong = list(there.keys() ^ here.keys())
    for key in there.keys() & here.keys():
        for source, path in fields.items():
            value = here[key][path[0]] if len(path) == 1 else here[key][path[0]][path[1]]
            if not (there[key].get(source) or "").startswith(value or "") or bool(value) != bool(there[key].get(source)):
                wrong.append(key)
    return wrong
