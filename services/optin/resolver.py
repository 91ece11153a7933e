"""`python -m services.optin.resolver`: decides, from what both systems say of a contact's opt-out flags, what each has to be told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from bridge.consent.settings import ConsentSettings
from bridge.flow.settings import WriterSettings
from bridge.flow.waits import LetterLimit
from bridge.kafka.avro import Decoder, Encoder, load_schema
from bridge.kafka.client import Names
from bridge.kafka.dead_letters import KafkaDeadLetters
from bridge.kafka.guard import KafkaGuard
from bridge.kafka.lease import Lease
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.state import KafkaState
from bridge.kafka.stream import FaustStream
from bridge.kafka.topics import Topics, optin_topics, workflow_topics
from bridge.model.clock import Clock, SystemClock
from bridge.model.desired import Desired
from bridge.model.events import Headers, OptStatusDecided, OptStatusObserved, event_headers
from bridge.model.report import Report
from bridge.model.state import Digests
from bridge.observe.settings import ServiceSettings
from bridge.observe.telemetry import Telemetry
from bridge.observe.tracing import OFF, Tracer
from bridge.process.entry import main
from services.optin.merged import Merged
from services.optin.resolving import CARRIED, TOPIC, Resolving
from services.optin.running import running_config
from services.optin.settings import ResolverSettings
from services.optin.status import StatusCodec

GROUP, OBSERVATIONS = "optin-resolver", "optin.observations"


class ResolverRun:
    """See bridge.process.service.Run."""

    def __init__(
        self,
        kafka: KafkaSettings,
        service: ServiceSettings,
        resolver: ResolverSettings,
        consent: ConsentSettings,
        limits: WriterSettings,
        desired: Desired,
        clock: Clock,
        tracer: Tracer = OFF,
    ) -> None:
        self._kafka, self._service, self._resolver, self._consent, self._limits = kafka, service, resolver, consent, limits
        self._desired, self._clock, self._tracer = desired, clock, tracer
        self._stream: FaustStream | None = None
        self._resolving: Resolving | None = None

    @property
    def ready(self) -> bool:
        return self._stream is not None and self._stream.membership.joined

    async def run(self) -> None:
        direction, pairs = running_config(self._desired)
        topics = [*optin_topics(self._consent.decisions_days), *workflow_topics("optin")]
        counts = await asyncio.to_thread(Topics(self._kafka).ensure, topics)
        registry = HttpRegistry(self._kafka)
        encoder = await self._encoder(registry, TOPIC, "OptStatusDecided")
        observed = await self._encoder(registry, OBSERVATIONS, "OptStatusObserved")
        producer, lease = KafkaProducer(self._kafka), Lease()
        guard = KafkaGuard(self._kafka, producer)
        folder = self._service.own_dir(GROUP)
        state = KafkaState(self._kafka, "optin", folder, producer, "resolver")
        secret = self._resolver.digest_key.value() or f"{self._kafka.topic_prefix}optin.state"
        topic = Names(self._kafka).topic(TOPIC)

        async def publish(decision: OptStatusDecided, headers: Headers) -> None:
            await producer.send(topic, decision.contact_key.encode(), encoder.encode(decision), headers)

        async def observe(event: OptStatusObserved) -> None:
            headers = [*event_headers("live", "", f"{GROUP}/{self._service.instance_id}"), (CARRIED, b"1")]
            place = Names(self._kafka).topic(OBSERVATIONS)
            await producer.send(place, event.contact_key.encode(), observed.encode(event), headers)

        self._resolving = Resolving(
            Decoder(registry, load_schema("OptStatusObserved"), OptStatusObserved),
            state,
            StatusCodec(Digests(secret), pairs),
            pairs,
            direction,
            guard,
            publish,
            Merged(pairs, direction, self._consent.merged, observe),
            KafkaDeadLetters(self._kafka, "optin", self._desired.revision or 0, producer),
            LetterLimit(self._limits.dead_letters_in_a_row, self._limits.dead_letter_ratio),
            self._clock,
            limit=self._consent.release_limit,
            partitions=counts[OBSERVATIONS],
            produced_by=f"{GROUP}/{self._service.instance_id}",
            lease_check=lease.check,
            tracer=self._tracer,
        )
        try:
            self._stream = FaustStream(self._kafka, GROUP, OBSERVATIONS, counts[OBSERVATIONS], folder / "faust", self._resolving, lease)
            await self._stream.run()
        finally:
            guard.close()
            state.close()
            await asyncio.to_thread(producer.close)

    async def _encoder(self, registry: HttpRegistry, topic: str, schema: str) -> Encoder:
        subject = f"{self._kafka.topic_prefix}{topic}-value"
        return Encoder(load_schema(schema), await asyncio.to_thread(registry.register, subject, load_schema(schema)))

    def told(self, desired: Desired) -> None:
        """Nothing but start and stop concerns the resolver."""

    def report(self) -> Report:
        if self._resolving is None:
            return Report()
        counted = self._resolving.counters
        outside = self._stream.membership.trouble() if self._stream is not None else None
        trouble, lasted_s = (self._resolving.trouble, 0.0) if outside is None else outside
        return Report(
            counters={"dead_lettered": counted["dead_lettered"], "optout_kept": counted["optout_kept"]},
            trouble=trouble,
            trouble_for_s=lasted_s,
            consumed={"read": counted["read"], "written": counted["decided"]},
            rebalances=self._stream.rebalances if self._stream is not None else 0,
        )


def make(
    kafka: KafkaSettings,
    service: ServiceSettings,
    telemetry: Telemetry,
    resolver: ResolverSettings,
    consent: ConsentSettings,
    limits: WriterSettings,
) -> Callable[[Desired], ResolverRun]:
    clock = SystemClock()
    return lambda desired: ResolverRun(kafka, service, resolver, consent, limits, desired, clock, telemetry.tracer)


if __name__ == "__main__":
    sys.exit(main("optin", "resolver", [ResolverSettings, ConsentSettings, WriterSettings], make))
