"""Names with their prefix, the configuration every client starts from, and what librdkafka's errors mean for us."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import BridgeError, HaltError, RetryError
from bridge.model.events import Headers
from bridge.model.settings import SettingsError
from bridge.observe.log import log

SESSION_TIMEOUT_MS = 10_000
TELL_EVERY_S = 5.0
PROPERTY = re.compile(r"\b(?:sasl|ssl|security|[a-z]+)(?:\.[a-z]+)+\b|SASL mechanism")  # as librdkafka names it in an error
ALLOWED = {
    "security.protocol": "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
    "sasl.mechanism": "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, or another mechanism of librdkafka",
    "sasl.username": "both of KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD(_FILE), for this mechanism",
    "ssl.ca.location": "the path of a readable PEM file",
    "ssl.certificate.location": "the path of a readable PEM file",
    "ssl.key.location": "the path of a readable PEM file",
}

REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}
OUT_OF_RANGE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
LOST = {
    KafkaError._FATAL,
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.FENCED_INSTANCE_ID,
}


TLS_HINT = (
    "Check that the broker's certificate is valid and for the host names in KAFKA_BOOTSTRAP_SERVERS and in its advertised.listeners, "
    "and that KAFKA_SSL_CA_LOCATION names the authority that signed it."
)


class FencedError(BridgeError):
    """This client was fenced by another one, or failed for good. What it had in hand may be somebody else's now; a new client may go on."""


_last_told: dict[str, float] = {}


def trouble(doing: str, error: KafkaError | KafkaException | BridgeError) -> None:
    """Logs that Kafka is away, or refuses us and what to do then, at most once in five seconds for each cause."""
    told = error if isinstance(error, BridgeError) else error_for(error, doing)
    now = time.monotonic()
    if now - _last_told.get(str(told), -TELL_EVERY_S) >= TELL_EVERY_S:
        _last_told[str(told)] = now
        more = {"code": told.code, "hint": told.hint} if isinstance(told, HaltError) else {}
        log("kafka_unavailable", "error" if more else "warning", reason=str(told), **more)


def warn_of_plaintext(settings: KafkaSettings) -> None:
    """One line at the start of a process whose records, or whose password, go unprotected over a network."""
    protocol = settings.librdkafka.get("security.protocol", "PLAINTEXT").upper()
    away = [each for each in settings.bootstrap_servers.split(",") if not _loopback(each)]
    if protocol in ("PLAINTEXT", "SASL_PLAINTEXT") and away:
        hint = "Whoever is on the way can read and change what is sent. Use KAFKA_SECURITY_PROTOCOL=SASL_SSL; see docs/operations.md."
        log("kafka_plaintext", "warning", protocol=protocol, brokers=[each.strip() for each in away], hint=hint)


def _loopback(server: str) -> bool:
    host = server.strip().rpartition("://")[2]
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host.lower() == "localhost"


def client_config(settings: KafkaSettings, **more: Any) -> dict[str, Any]:
    """Configuration of a librdkafka client, with `more` (underscores for dots) on top. Its own log lines are left to `trouble`."""
    ours = {"reconnect_backoff_ms": 200, "reconnect_backoff_max_ms": 2000}
    callback = {"error_cb": lambda error: trouble("connecting", error)}
    return settings.client(**ours | more) | callback | {"log_level": 2}


def check_settings(settings: KafkaSettings) -> None:
    """Raises SettingsError for `KAFKA_…` variables that librdkafka does not know or take; nothing is connected."""
    try:
        Producer(client_config(settings))
    except KafkaException as exc:
        raise SettingsError([_refused(exc.args[0].str(), settings)]) from exc


def _refused(reason: str, settings: KafkaSettings) -> str:
    """The line for what librdkafka does not take. It names the property, not always as it was given (`linger.ms` has another name there):
    then it may be any of those that were."""
    named = PROPERTY.search(reason)
    name = "sasl.mechanism" if named and named[0] == "SASL mechanism" else named[0] if named else ""
    if name not in ALLOWED and name not in settings.librdkafka:
        name = ""
    given = settings.librdkafka.get(name)
    shape = "nothing" if given is None else f"text of {len(given)} characters"
    variable = f"KAFKA_{name.upper().replace('.', '_')}" if name else f"KAFKA_… (one of {', '.join(sorted(settings.librdkafka))})"
    allowed = ALLOWED.get(name, "what librdkafka's CONFIGURATION.md says of this property")
    return f"{variable}: librdkafka does not know this property or does not take its value (got {shape}); allowed: {allowed}"


class Names:
    """Topics, groups and transactional ids of this installation."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.prefix = settings.topic_prefix

    def topic(self, name: str) -> str:
        return self.prefix + name

    group = transactional_id = topic

    def bare(self, name: str) -> str:
        """A topic's name without the prefix."""
        return name.removeprefix(self.prefix)


def error_for(error: KafkaError | KafkaException, doing: str) -> BridgeError:
    """The error a loop can act on, for one of librdkafka's."""
    cause: KafkaError = error.args[0] if isinstance(error, KafkaException) else error
    text = f"Kafka, {doing}: {cause.name()}"
    if cause.code() in REFUSED:  # before what is fatal: a new client would be refused as well
        hint = "Check KAFKA_SASL_… and the ACLs of this service's user."
        return HaltError(text, code="kafka_refused", hint=hint, origin="kafka")
    if cause.code() in LOST or cause.fatal():
        return FencedError(text, code="fenced")
    if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:  # rows are weighed before (bridge/kafka/encoding.py): a topic has been changed since
        hint = "See max.message.bytes of the topics and KAFKA_MESSAGE_MAX_BYTES, then start again."
        return HaltError(f"{text}: a message is larger than its topic takes", code="message_too_large", hint=hint, origin="kafka")
    if cause.code() in OUT_OF_RANGE:
        return HaltError(
            f"{text}: records that were waiting have been deleted by the topic's retention",
            code="backlog_expired",
            hint="Delete the cursors of the tables concerned, or replay them, then start: all rows are read again.",
            origin="kafka",
        )
    if cause.code() == KafkaError._SSL:  # no HaltError: a broker that goes down in the middle of a handshake looks the same
        text = f"{text}. If it lasts: {TLS_HINT}"
    return RetryError(text, code="kafka_unavailable")


def headers_of(message: Message) -> Headers:
    raw: Any = message.headers()
    return tuple((str(name), value or b"") for name, value in raw or ())
