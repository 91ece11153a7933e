"""`python -m services.optin.resolver`: decides, from what both systems say of a contact's opt-out flags, what each has to be told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime

from bridge.avro import Decoder, Encoder, load_schema
from bridge.clock import Clock, SystemClock
from bridge.desired import Desired
from bridge.entry import main
from bridge.events import Headers, OptStatusDecided, OptStatusObserved
from bridge.flow.waits import LetterLimit
from bridge.kafka.client import Names, headers_of
from bridge.kafka.dead_letters import KafkaDeadLetters
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.reader import TopicReader
from bridge.kafka.records import Lease
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.state import KafkaState
from bridge.kafka.stream import FaustStream
from bridge.kafka.topics import Topics, optin_topics, workflow_topics
from bridge.report import Report
from bridge.rooms import ConsentSettings, ResolverSettings, WriterSettings
from bridge.settings import KafkaSettings, ServiceSettings
from bridge.state import Digests
from bridge.telemetry import Telemetry
from bridge.tracing import OFF, Tracer
from services.optin.guard import WINDOW, ConsentGuard
from services.optin.resolve import releases
from services.optin.resolving import GUARD, TOPIC, Released, Resolving
from services.optin.running import running_config
from services.optin.status import StatusCodec

GROUP, OBSERVATIONS = "optin-resolver", "optin.observations"


class ResolverRun:
    """See bridge.service.Run."""

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
        return self._stream is not None and self._stream.ready

    async def run(self) -> None:
        direction, pairs = running_config(self._desired)
        counts = await asyncio.to_thread(Topics(self._kafka).ensure, [*optin_topics(), *workflow_topics("optin")])
        registry = HttpRegistry(self._kafka)
        subject = f"{self._kafka.topic_prefix}{TOPIC}-value"
        schema_id = await asyncio.to_thread(registry.register, subject, load_schema("OptStatusDecided"))
        encoder = Encoder(load_schema("OptStatusDecided"), schema_id)
        producer, lease = KafkaProducer(self._kafka), Lease()
        folder = self._service.own_dir(GROUP)
        state = KafkaState(self._kafka, "optin", folder, producer)
        secret = self._resolver.digest_key.value() or f"{self._kafka.topic_prefix}optin.state"
        topic = Names(self._kafka).topic(TOPIC)

        async def publish(decision: OptStatusDecided, headers: Headers) -> None:
            await producer.send(topic, decision.contact_key.encode(), encoder.encode(decision), headers)

        self._resolving = Resolving(
            Decoder(registry, load_schema("OptStatusObserved"), OptStatusObserved),
            state,
            StatusCodec(Digests(secret), pairs),
            pairs,
            direction,
            ConsentGuard(self._consent.release_limit),
            publish,
            PastReleases(self._kafka, registry).of,
            KafkaDeadLetters(self._kafka, "optin", self._desired.revision or 0, producer),
            LetterLimit(self._limits.dead_letters_in_a_row, self._limits.dead_letter_ratio),
            self._clock,
            partitions=counts[OBSERVATIONS],
            produced_by=f"{GROUP}/{self._service.instance_id}",
            lease_check=lease.check,
            tracer=self._tracer,
        )
        try:
            self._stream = FaustStream(self._kafka, GROUP, OBSERVATIONS, counts[OBSERVATIONS], folder / "faust", self._resolving, lease)
            await self._stream.run()
        finally:
            state.close()
            await asyncio.to_thread(producer.close)

    def told(self, desired: Desired) -> None:
        """Nothing but start and stop concerns the resolver."""

    def report(self) -> Report:
        if self._resolving is None:
            return Report()
        counted = self._resolving.counters
        return Report(
            counters={"dead_lettered": counted["dead_lettered"]},
            trouble=self._resolving.trouble,
            consumed={"read": counted["read"], "written": counted["decided"]},
            rebalances=self._stream.rebalances if self._stream is not None else 0,
        )


class PastReleases:
    """The releases of the last hour, read back from the decisions themselves: a restart does not begin the count anew."""

    def __init__(self, kafka: KafkaSettings, registry: HttpRegistry) -> None:
        self._kafka, self._topic = kafka, Names(kafka).topic(TOPIC)
        self._decoder = Decoder(registry, load_schema("OptStatusDecided"), OptStatusDecided)

    async def of(self, partition: int, now: datetime) -> Sequence[Released]:
        values = await asyncio.to_thread(self._values, partition, now)
        decisions = [await self._decoder.decode(value) for value in values]
        return [Released(each.decided_at, partition) for each in decisions if releases(each)]

    def _values(self, partition: int, now: datetime) -> list[bytes]:
        """What was decided since, and neither held nor released by an operator."""
        with closing(TopicReader(self._kafka)) as reader:
            start = reader.since(self._topic, partition, now - WINDOW)
            _, end = reader.range(self._topic, partition)
            messages = reader.read(self._topic, partition, start, end)
            return [message.value() or b"" for message in messages if GUARD not in dict(headers_of(message))]


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
