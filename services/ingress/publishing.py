"""What the ingress writer publishes besides its calls: proof of what it decided on opt-outs, and what Opt In/Out has to hear."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from bridge.kafka.avro import Encoder, load_schema
from bridge.kafka.client import Names
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topics, ingress_decisions, optin_topics
from bridge.model.events import OptStatusDecided, OptStatusObserved, event_headers


class Publishing:
    """`open` before the first use. Everything returns when Kafka has it, and raises RetryError while it is away."""

    def __init__(self, kafka: KafkaSettings, registry: HttpRegistry, producer: KafkaProducer, days: int, produced_by: str) -> None:
        self._kafka, self._registry, self._producer = kafka, registry, producer
        self._produced_by, self._names = produced_by, Names(kafka)
        self._topics = (ingress_decisions(days), optin_topics(days)[0])

    async def open(self) -> None:
        """Raises HaltError for a topic that is not as it has to be."""
        await asyncio.to_thread(Topics(self._kafka).ensure, self._topics)
        self._decisions = await self._encoder(self._topics[0].name, "OptStatusDecided")
        self._observations = await self._encoder(self._topics[1].name, "OptStatusObserved")

    async def prove(self, decision: OptStatusDecided, headers: Mapping[str, str]) -> None:
        """See services.ingress.consent.Proof."""
        version = headers.get("origin", "").removeprefix("version ")
        kept = [*event_headers("live", version, self._produced_by), ("target", b"campaign")]
        kept += [(name, value.encode()) for name, value in headers.items()]
        topic = self._names.topic(self._topics[0].name)
        await self._producer.send(topic, decision.contact_key.encode(), self._decisions.encode(decision), kept)

    async def observe(self, event: OptStatusObserved) -> None:
        """See services.ingress.optin.PublishObservation."""
        topic = self._names.topic(self._topics[1].name)
        headers = event_headers("live", "", self._produced_by)
        await self._producer.send(topic, event.contact_key.encode(), self._observations.encode(event), headers)

    async def _encoder(self, topic: str, schema: str) -> Encoder:
        loaded = load_schema(schema)
        return Encoder(loaded, await asyncio.to_thread(self._registry.register, f"{self._names.topic(topic)}-value", loaded))
