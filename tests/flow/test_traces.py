"""One trace from read to write, and what it tells: real loops, real OTLP over HTTP, a collector that keeps what comes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from bridge.flow.reader import Cursor, Feed, Step
from bridge.memory import MemoryPublisher
from bridge.model.errors import HaltError
from bridge.model.events import Outgoing, Record, event_headers
from bridge.observe.settings import ServiceSettings
from bridge.observe.telemetry import tracer
from bridge.observe.tracing import Tracer
from sandbox.web import serving
from tests.clock import FakeClock
from tests.flow.resolving import Bench
from tests.flow.writing import LIVE, Rig, refused
from tests.otlp import Sink

TOLD = {"key", "topic", "partition", "offset", "outcome"}
END = HaltError("the script ends", code="end", hint="", origin="source")


class Pages:
    """Two pages, with an empty one between; the events are made as a source makes them."""

    def __init__(self) -> None:
        self.pages = [["a", "b"], [], ["c"]]

    async def step(self, cursor: Cursor | None) -> Step:
        if not self.pages:
            raise END
        keys = self.pages.pop(0)
        events = [Outgoing(LIVE, key, None, event_headers("live", "1", "test")) for key in keys]
        return Step(events, {"phase": "live", "left": len(self.pages)})


@asynccontextmanager
async def collected() -> AsyncIterator[tuple[Sink, str]]:
    sink = Sink()
    async with serving(sink.app()) as url:
        yield sink, url


@contextmanager
def tracing(url: str, service: str = "test") -> Iterator[Tracer]:
    made = tracer(ServiceSettings(OTEL_EXPORTER_OTLP_ENDPOINT=url), service)
    try:
        yield made
    finally:
        made.close()


async def published(made: Tracer) -> list[Record]:
    """What a run of the reader loop brings out, as a consumer would get it."""
    publisher = MemoryPublisher()
    with pytest.raises(HaltError):
        await Feed("feed", Pages(), publisher, None, FakeClock(), random.Random(3), made).run()
    events = publisher.log.events
    return [
        Record(each.topic, 0, offset, 1_700_000_000_000, each.key.encode(), each.key.encode(), each.headers)
        for offset, each in enumerate(events)
    ]


async def run(url: str) -> None:
    with tracing(url, "ingress-reader") as reading:
        records = await published(reading)
        with tracing(url, "ingress-writer") as writing:
            rig = Rig(tracer=writing)
            rig.handler.script["b"] = [refused()]
            await rig.work(*records)
            await asyncio.to_thread(writing.close)
        await asyncio.to_thread(reading.close)


async def test_a_page_and_the_writes_of_its_records_are_one_trace() -> None:
    async with collected() as (sink, url):
        await run(url)

    reads, writes = sink.named("read"), {each.attributes["key"]: each for each in sink.named("write")}
    failed = [each for each in reads if each.attributes["outcome"] == "end"]
    pages = [each for each in reads if each not in failed]
    assert len(pages) == 2 and len(failed) == 1, "an empty page is not told"
    assert {each.service for each in reads} == {"ingress-reader"}
    assert {each.service for each in writes.values()} == {"ingress-writer"}
    first, second = writes["a"].trace, writes["c"].trace
    assert writes["b"].trace == first != second
    assert {each.trace: each.span for each in pages} == {first: writes["a"].parent, second: writes["c"].parent}


async def test_spans_tell_where_a_record_is_and_what_became_of_it_and_nothing_else() -> None:
    async with collected() as (sink, url):
        await run(url)

    by_key = {each.attributes["key"]: each.attributes for each in sink.named("write")}
    assert by_key["a"] == {"key": "a", "topic": LIVE, "partition": 0, "offset": 0, "outcome": "updated"}
    assert by_key["b"]["outcome"] == "value_refused"
    assert all(set(each.attributes) <= TOLD for each in sink.spans)


async def test_a_decision_goes_on_in_the_trace_of_its_observation() -> None:
    async with collected() as (sink, url):
        with tracing(url, "optin-resolver") as made:
            bench = Bench(tracer=made)
            resolver = await bench.resolver()
            record = bench.observed("c-1", "dynamics", 1, donotemail=True)
            await resolver.take([record])
            await asyncio.to_thread(made.close)

    (span,) = sink.named("resolve")
    (_, headers), *_ = bench.decided
    _, trace, parent, _ = dict(headers)["traceparent"].decode().split("-")
    assert (trace, parent) == (span.trace, span.span)
    assert dict(record.headers)["traceparent"].decode().split("-")[1:3] == [span.trace, span.parent]
    assert span.attributes["outcome"] == "decided" and set(span.attributes) <= TOLD


async def test_without_a_collector_the_work_goes_on() -> None:
    with tracing("http://127.0.0.1:1") as made:
        records = await published(made)

    assert len(records) == 3
