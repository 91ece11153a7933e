"""The warning of a process that speaks to Kafka without TLS over a network."""

from __future__ import annotations

import json

import pytest

from bridge.kafka.client import warn_of_plaintext
from bridge.kafka.settings import KafkaSettings
from bridge.model.settings import load
from tests.unit.control_app import logging_as


def told(capsys: pytest.CaptureFixture[str], servers: str, **environment: str) -> list[dict[str, object]]:
    with logging_as("json"):
        warn_of_plaintext(load(KafkaSettings, {"KAFKA_BOOTSTRAP_SERVERS": servers, **environment}))
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize("protocol", [None, "PLAINTEXT", "sasl_plaintext"])
def test_plaintext_that_leaves_the_machine_is_warned_of_once_with_the_brokers_and_the_way_out(
    capsys: pytest.CaptureFixture[str], protocol: str | None
) -> None:
    more = {"KAFKA_SECURITY_PROTOCOL": protocol} if protocol else {}
    (line,) = told(capsys, "localhost:9092, kafka-1:9092,10.0.0.7:9092,[2001:db8::1]:9092", **more)

    assert (line["event"], line["level"], line["protocol"]) == ("kafka_plaintext", "warning", (protocol or "PLAINTEXT").upper())
    assert line["brokers"] == ["kafka-1:9092", "10.0.0.7:9092", "[2001:db8::1]:9092"]
    assert "SASL_SSL" in str(line["hint"])


@pytest.mark.parametrize("servers", ["localhost:9092", "127.0.0.1:9092,LOCALHOST:9093", "[::1]:9092", "PLAINTEXT://127.0.0.5:9092"])
def test_plaintext_on_the_loopback_address_is_not(capsys: pytest.CaptureFixture[str], servers: str) -> None:
    assert told(capsys, servers) == []


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_tls_is_not(capsys: pytest.CaptureFixture[str], protocol: str) -> None:
    assert told(capsys, "kafka-1:9092", KAFKA_SECURITY_PROTOCOL=protocol) == []


def test_a_password_in_a_file_is_read_for_each_client_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("secret") / "password"
    path.write_text("first\n")
    settings = load(KafkaSettings, {"KAFKA_SASL_PASSWORD_FILE": str(path)})
    before = settings.client()["sasl.password"]
    path.write_text("second")
    changed = settings.client()["sasl.password"]
    path.unlink()

    assert (before, changed, settings.client()["sasl.password"]) == ("first", "second", "first")
