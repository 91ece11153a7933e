"""A reader and a writer at work, seen from METRICS_PORT and by a collector of traces."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from bridge.http.transport import build_client
from sandbox.kafka.local import free_port
from sandbox.web import serving
from tests.e2e.helpers import eventually, headers_of, messages
from tests.e2e.stack import Stack, contacts
from tests.otlp import Sink

Told = dict[str, float]


async def answer(port: int, path: str) -> httpx.Response | None:
    """None while nothing listens there yet."""
    async with build_client(5, 1) as http:
        try:
            return await http.get(f"http://127.0.0.1:{port}{path}")
        except httpx.TransportError:
            return None


async def told(port: int) -> Told:
    """Samples by name and the values of their labels, `bridge_calls_total ok dynamics`; labels in alphabetical order."""
    got = await answer(port, "/metrics")
    assert got is not None and got.status_code == 200
    return {
        " ".join([sample.name, *(value for _, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(got.text)
        for sample in family.samples
    }


async def until_ready(stack: Stack, port: int) -> None:
    async def ready() -> bool:
        got = await answer(port, "/readyz")
        return got is not None and got.status_code == 200

    await stack.until(ready, "the service is ready", 40)


async def test_counters_move_with_the_records_and_go_on_after_a_stop_and_start(stack: Stack) -> None:
    reader, writer = free_port(), free_port()
    stack.service("reader", METRICS_PORT=str(reader))
    stack.service("writer", METRICS_PORT=str(writer))
    await until_ready(stack, reader)
    await until_ready(stack, writer)
    idle = await told(writer)
    keys = [stack.dynamics.upsert("contact", {"lastname": f"L{number}", "statecode": 0}) for number in range(3)]
    await stack.configure(contacts())
    await stack.start()
    await eventually(stack, lambda: len(stack.campaign.rows("profile")) == 3, "all have arrived")
    await stack.until_caught_up()
    reading, writing = await told(reader), await told(writer)
    await stack.stop()
    stopped = await told(reader)
    await stack.start()
    stack.dynamics.upsert("contact", {"contactid": keys[0], "lastname": "Other", "statecode": 0})
    await eventually(stack, lambda: {row["lastName"] for row in stack.campaign.rows("profile")} >= {"Other"}, "the change has arrived")

    async def counted() -> bool:
        return (await told(writer))["bridge_service_records_total written writer ingress"] == 4

    await stack.until(counted, "the writer counts on", 20)
    assert idle["bridge_service_records_total written writer ingress"] == 0
    assert reading["bridge_service_records_total read reader ingress"] == 3
    assert writing["bridge_service_records_total read writer ingress"] == 3
    assert writing["bridge_service_records_total written writer ingress"] == 3
    assert reading["bridge_calls_total ok dynamics"] >= 2
    assert writing["bridge_calls_total ok campaign"] >= 3
    assert writing["bridge_call_seconds_count campaign"] >= 3
    assert reading["bridge_poll_age_seconds contact ingress"] < 20
    assert 6.9 < reading["bridge_tracking_days_left contact ingress"] <= 7
    assert reading["bridge_api_budget_left requests dynamics"] > 0
    assert reading["bridge_retry_after_seconds dynamics"] == 0
    assert reading["bridge_rebalances_total reader ingress"] >= 1
    assert writing["bridge_rebalances_total writer ingress"] >= 1
    assert stopped["bridge_service_records_total read reader ingress"] == 3
    assert "bridge_poll_age_seconds contact ingress" not in stopped


async def test_one_trace_goes_from_dynamics_through_kafka_to_campaign(stack: Stack) -> None:
    sink = Sink()
    async with serving(sink.app()) as url:
        tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_BSP_SCHEDULE_DELAY": "300"}
        key = stack.dynamics.upsert("contact", {"lastname": "Lovelace", "emailaddress1": "ada@example.com", "statecode": 0})
        await stack.configure(contacts())
        stack.service("reader", **tracing)
        stack.service("writer", **tracing)
        await stack.start()
        await eventually(stack, lambda: sink.named("write") and sink.named("read"), "both have told", 40)

    (write,) = sink.named("write")
    (read,) = [each for each in sink.named("read") if each.trace == write.trace]
    assert (read.service, write.service) == ("ingress-reader", "ingress-writer")
    assert write.parent == read.span and read.parent == ""
    assert (write.attributes["key"], write.attributes["outcome"]) == (key, "created")
    assert "Lovelace" not in str(sink.spans) and "ada@" not in str(sink.spans)
    (message,) = [*messages(stack.kafka, "ingress.replay.contact"), *messages(stack.kafka, "ingress.changes.contact")]
    assert headers_of(message)["traceparent"].startswith(f"00-{read.trace}-{read.span}-")


async def test_a_service_that_does_not_reach_kafka_is_alive_but_not_ready(stack: Stack) -> None:
    port = free_port()
    stack.service("writer", METRICS_PORT=str(port), KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")

    async def alive() -> bool:
        got = await answer(port, "/healthz")
        return got is not None and got.status_code == 200

    await stack.until(alive, "the process answers", 30)
    unready = await answer(port, "/readyz")
    assert unready is not None and unready.status_code == 503
    assert "Kafka" in unready.text
