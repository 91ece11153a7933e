"""Releasing and discarding what is held: what is published for each item, and who may do it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from bridge.kafka.avro import Encoder, load_schema
from bridge.kafka.partitioner import partition_for
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topics
from bridge.model.clock import Clock
from bridge.model.desired import Desired, Workflow
from bridge.model.events import ChangeEvent, Record, event_headers
from services.control.models.consent_json import HeldIn
from services.control.rules import actions
from services.control.rules.actions import By, HeldAction
from services.control.rules.decision_records import Decision
from services.control.topics.decisions import GUARD, RELEASED, Decisions
from services.control.topics.store import Store

AT_ONCE = 500  # items in one transaction


class SecondPersonNeeded(Exception):
    """Whoever releases is not to be who saved the configuration under which it was held."""


class Settling:
    """Raises RetryError or HaltError when Kafka or the registry do not answer."""

    def __init__(self, kafka: KafkaSettings, decisions: Decisions, store: Store, topics: Topics, clock: Clock, instance_id: str) -> None:
        self._decisions, self._store, self._topics, self._clock = decisions, store, topics, clock
        self._registry, self._prefix, self._produced_by = HttpRegistry(kafka), kafka.topic_prefix, f"control/{instance_id}"
        self._encoders: dict[str, Encoder] = {}

    async def settle(self, workflow: Workflow, action: HeldAction, chosen: HeldIn, by: By) -> tuple[int, int]:
        """Releases or discards; how many items, and how many were not open any more, or never there."""
        contacts = None if chosen.contacts is None else [each.lower() for each in chosen.contacts]
        ids = self._decisions.open_ids(workflow, chosen.ids, contacts)
        partitions = await asyncio.to_thread(self._topics.partitions) if action == "released" and ids else {}
        done = 0
        for start in range(0, len(ids), AT_ONCE):
            again = await self._again(workflow, action, ids[start : start + AT_ONCE], partitions)
            done += await self._store.run(actions.settle_held(workflow, action, again, by, chosen.reason))
        asked = len(ids) if chosen.ids is None else len(set(chosen.ids))
        return done, asked - done

    async def _again(
        self, workflow: Workflow, action: HeldAction, ids: Sequence[str], partitions: Mapping[str, int]
    ) -> dict[str, Sequence[Record]]:
        """What is to be published for each item. One whose table has no topic is left out, and stays held: nobody would read it."""
        again: dict[str, Sequence[Record]] = {}
        for id in ids:
            found = await self._decisions.item(workflow, id)
            if found is None:
                continue
            item, record = found
            if action == "discarded":
                again[id] = []
            elif workflow == "optin":
                again[id] = [_as_released(record)]
            elif count := partitions.get(f"ingress.changes.{item.table}"):
                again[id] = [await self._change(item, record, count)]
        return again

    async def _change(self, item: Decision, record: Record, partitions: int) -> Record:
        """Tells the writer of ingress to carry the item out, in its turn among the changes of that key."""
        event = ChangeEvent(
            table=item.table,
            key=item.key,
            op="upsert",
            lane="live",
            version=None,
            changed_at=None,
            observed_at=self._clock.now(),
            fields={},
        )
        told = {"guard": RELEASED, "kind": item.kind, "flags": ",".join(item.waits), "held": item.id}
        first = next((value for name, value in record.headers if name == "traceparent"), None)
        headers = [*event_headers("live", "", self._produced_by, first), *((name, value.encode()) for name, value in told.items())]
        topic, key = f"ingress.changes.{item.table}", item.key.encode()
        value = (await self._encoder(topic)).encode(event)
        return Record(topic, partition_for(key, partitions), 0, 0, key, value, headers)

    async def _encoder(self, topic: str) -> Encoder:
        if topic not in self._encoders:
            schema = load_schema("ChangeEvent")
            schema_id = await asyncio.to_thread(self._registry.register, f"{self._prefix}{topic}-value", schema)
            self._encoders[topic] = Encoder(schema, schema_id)
        return self._encoders[topic]


def check_second_person(store: Store, workflow: Workflow, who: str) -> None:
    """Raises SecondPersonNeeded if whoever releases saved the configuration that runs; while nothing runs, the one that was saved last."""
    desired, revisions = store.desired(workflow), store.revisions(workflow)
    if configured_by(desired, {number: each.saved_by for number, each in revisions.items()}) == who:
        raise SecondPersonNeeded


def configured_by(desired: Desired, saved_by: Mapping[int, str]) -> str | None:
    """Who saved the configuration that runs, else the last one. `saved_by`: by revision."""
    running = desired.revision if desired.desired == "RUNNING" else None
    return saved_by.get(max(saved_by, default=0) if running is None else running)


def _as_released(record: Record) -> Record:
    """The same decision, marked so that the writer of Opt In/Out carries it out."""
    kept = [header for header in record.headers if header[0] != GUARD]
    return Record(record.topic, record.partition, 0, 0, record.key, record.value, [*kept, (GUARD, RELEASED.encode())])
