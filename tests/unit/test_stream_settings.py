"""Kafka's security settings, as Faust gets them from librdkafka's."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from bridge.kafka.settings import KafkaSettings
from bridge.kafka.stream import credentials
from bridge.model.errors import HaltError
from bridge.model.settings import load


def given(**properties: str) -> Any:
    return credentials(load(KafkaSettings, {f"KAFKA_{name}": value for name, value in properties.items()}))


def test_plaintext_needs_none() -> None:
    assert given() is None


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_user_and_password_over_tls_with_the_hosts_name_checked(mechanism: str) -> None:
    made = given(SECURITY_PROTOCOL="SASL_SSL", SASL_MECHANISM=mechanism, SASL_USERNAME="ada", SASL_PASSWORD="s3cret")

    assert (made.mechanism.value, made.username, made.password, made.protocol.value) == (mechanism, "ada", "s3cret", "SASL_SSL")
    assert (made.ssl_context.check_hostname, made.ssl_context.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_tls_alone() -> None:
    assert given(SECURITY_PROTOCOL="SSL").protocol.value == "SSL"


def test_checks_are_switched_off_only_by_name() -> None:
    names = given(SECURITY_PROTOCOL="SSL", SSL_ENDPOINT_IDENTIFICATION_ALGORITHM="none").context
    nothing = given(SECURITY_PROTOCOL="SSL", ENABLE_SSL_CERTIFICATE_VERIFICATION="false").context

    assert (names.check_hostname, names.verify_mode) == (False, ssl.CERT_REQUIRED)
    assert (nothing.check_hostname, nothing.verify_mode) == (False, ssl.CERT_NONE)


def test_a_mechanism_that_faust_does_not_have_is_refused_with_the_way_out() -> None:
    with pytest.raises(HaltError) as refused:
        given(SECURITY_PROTOCOL="SASL_SSL", SASL_MECHANISM="OAUTHBEARER")

    assert "SCRAM-SHA-512" in refused.value.hint
