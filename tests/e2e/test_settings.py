"""Processes by themselves: unusable settings, and ending while Kafka is away (environment.md)."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from sandbox.kafka.local import free_port
from tests.e2e.helpers import eventually
from tests.e2e.stack import Process, Stack

CANARY = "hush-hush-42"


async def ended(process: Process, within_s: float = 15) -> int:
    return await asyncio.wait_for(asyncio.to_thread(process.popen.wait), within_s)


async def lines_of(process: Process) -> list[str]:
    """What a process with unusable settings has said; it must end with 78."""
    assert await ended(process) == 78
    return process.log.read_text().splitlines()


@pytest.mark.parametrize(
    ("role", "settings", "named"),
    [
        (
            "reader",
            {"DYNAMICS_URL": "", "DYNAMICS_PAGE_SIZE": "6000", "PARTITIONS": "many"},
            ["DYNAMICS_URL", "DYNAMICS_PAGE_SIZE", "PARTITIONS"],
        ),
        ("reader", {"DYNAMICS_CLIENT_SECRET": "", "DYNAMICS_CLIENT_ID": ""}, ["DYNAMICS_CLIENT_SECRET", "DYNAMICS_CLIENT_ID"]),
        ("writer", {"CAMPAIGN_URL": "mc.adobe.io", "CAMPAIGN_ORG_ID": ""}, ["CAMPAIGN_URL", "CAMPAIGN_ORG_ID"]),
        ("writer", {"CAMPAIGN_CLIENT_SECRET_FILE": "/nowhere/secret"}, ["CAMPAIGN_CLIENT_SECRET"]),
        ("writer", {"CAMPAIGN_CONCURRENCY": "0", "INSTANCE_ID": "with blank"}, ["CAMPAIGN_CONCURRENCY", "INSTANCE_ID"]),
        ("control", {"CONTROL_PORT": "100000", "LOG_LEVEL": "loud"}, ["CONTROL_PORT", "LOG_LEVEL"]),
        ("control", {"CONTROL_HOST": "0.0.0.0"}, ["CONTROL_HOST"]),
        ("control", {"CONTROL_TLS_KEY_FILE": "/nowhere/key"}, ["CONTROL_TLS_CERT"]),
        ("control", {"CONTROL_TLS_CERT_FILE": "/nowhere/cert", "CONTROL_TLS_KEY_FILE": "/nowhere/key"}, ["CONTROL_TLS_CERT"]),
    ],
)
async def test_unusable_settings_end_with_78_and_a_line_each(stack: Stack, role: str, settings: dict[str, str], named: list[str]) -> None:
    lines = await lines_of(stack.service(role, f"{role}-unusable", **settings))

    assert sorted(line.split(":")[0].removesuffix("_FILE") for line in lines) == sorted(named)
    assert "sandbox-secret" not in "".join(lines)


async def test_a_port_that_is_taken_is_a_wrong_setting(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (line,) = await lines_of(stack.service("control", "control-unusable", CONTROL_PORT=str(taken.getsockname()[1])))

    assert line.startswith("CONTROL_PORT: ")


async def test_a_secret_in_the_wrong_variable_is_not_shown(stack: Stack) -> None:
    wrong = {"DYNAMICS_URL": CANARY, "PARTITIONS": CANARY, "SCHEMA_REGISTRY_URL": CANARY}

    lines = await lines_of(stack.service("reader", "reader-unusable", **wrong))

    assert len(lines) == 3
    assert CANARY not in "".join(lines)


@pytest.mark.parametrize("role", ["reader", "writer", "control"])
async def test_sigterm_while_kafka_is_away_ends_with_0_within_10_s(stack: Stack, role: str) -> None:
    settings = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}", "CONTROL_PORT": str(free_port())}
    process = stack.service(role, f"{role}-waiting", **settings)
    await eventually(stack, lambda: "waiting_for" in process.log.read_text(), "it says what it waits for", 20)
    started = time.monotonic()

    code = await process.terminate(within_s=10)

    assert (code, time.monotonic() - started < 10) == (0, True)
    assert "Traceback" not in process.log.read_text()
