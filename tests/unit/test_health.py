"""What a service answers at METRICS_PORT, and that nothing is imported that is not asked for."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from bridge.http.transport import build_client
from bridge.model.settings import SettingsError
from bridge.observe.metrics import Metrics
from bridge.observe.settings import ServiceSettings
from bridge.observe.telemetry import tracer
from bridge.observe.tracing import OFF
from bridge.process.health import Readiness, serving
from sandbox.kafka.local import free_port
from tests.clock import FakeClock

ROOT = Path(__file__).parents[2]
ROLES = ("ingress.reader", "ingress.writer", "egress.reader", "egress.writer", "optin.reader", "optin.resolver", "optin.writer")


async def answers(port: int, *paths: str) -> list[httpx.Response]:
    async with build_client(5, 1) as http:
        return [await http.get(f"http://127.0.0.1:{port}{path}") for path in paths]


async def test_alive_ready_and_metrics_are_answered() -> None:
    port, clock = free_port(), FakeClock()
    readiness = Readiness(clock)
    metrics = Metrics("ingress", "reader", clock)

    async with serving(ServiceSettings(METRICS_PORT=port), metrics, readiness.lacking):
        before = await answers(port, "/healthz", "/readyz", "/metrics", "/elsewhere")
        readiness.heard()
        after = await answers(port, "/readyz")
        clock.advance(11)
        silent = await answers(port, "/healthz", "/readyz")

    assert [each.status_code for each in before] == [200, 503, 200, 404]
    assert "control.workflows" in before[1].text
    assert "bridge_service_records_total" in before[2].text
    assert before[2].headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert [each.status_code for each in after] == [200]
    assert [each.status_code for each in silent] == [200, 503]
    assert "11 s" in silent[1].text


async def test_without_a_port_nothing_listens() -> None:
    async with serving(ServiceSettings(), Metrics("ingress", "reader", FakeClock()), lambda: None):
        tasks = [each for each in asyncio.all_tasks() if each is not asyncio.current_task()]

    assert tasks == []
    assert ServiceSettings().metrics_port == 0


async def test_an_address_that_is_not_ours_is_a_wrong_setting() -> None:
    settings = ServiceSettings(METRICS_PORT=free_port(), METRICS_HOST="192.0.2.1")

    with pytest.raises(SettingsError) as caught:
        async with serving(settings, Metrics("ingress", "reader", FakeClock()), lambda: None):
            pytest.fail("it listens")

    (problem,) = caught.value.problems
    assert "METRICS_HOST" in problem


def test_a_port_that_is_taken_ends_the_process_with_78_and_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = {
            "METRICS_PORT": str(port),
            "CAMPAIGN_URL": "http://127.0.0.1:1/x",
            "CAMPAIGN_CLIENT_ID": "i",
            "CAMPAIGN_CLIENT_SECRET": "s",
            "CAMPAIGN_ORG_ID": "o",
            "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        }

        ended = subprocess.run(
            [sys.executable, "-m", "services.ingress.writer"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **settings},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert ended.returncode == 78
    (line,) = ended.stderr.splitlines()
    assert line.startswith("METRICS_PORT: ") and str(port) in line


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    modules = ", ".join(f"services.{role}" for role in ROLES)
    code = f"""
import sys, {modules}
from bridge.observe.settings import ServiceSettings
from bridge.observe.telemetry import tracer
from bridge.observe.tracing import OFF
assert tracer(ServiceSettings(), "x") is OFF
with OFF.span("write") as span:
    span.outcome = "updated"
print(sorted(name for name in sys.modules if name.startswith("opentelemetry") or name == "aiohttp.web"))
"""

    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)

    assert ended.stdout == "[]\n"
    assert tracer(ServiceSettings(), "x") is OFF
