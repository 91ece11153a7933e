"""Names with their prefix, the configuration every client starts from, and what librdkafka's errors mean for us."""

from __future__ import annotations

import re
import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from bridge.errors import BridgeError, HaltError, RetryError
from bridge.events import Headers
from bridge.log import log
from bridge.settings import KafkaSettings, SettingsError

SESSION_TIMEOUT_MS = 10_000
TELL_EVERY_S = 5.0
PROPERTY = re.compile(r'property:? "([a-z.]+)"')

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


class FencedError(BridgeError):
    """This client was fenced by another one, or failed for good. What it had in hand may be somebody else's now; a new client may go on."""


_last_told: dict[str, float] = {}


def trouble(doing: str, error: KafkaError | KafkaException | BridgeError) -> None:
    """Logs that Kafka is away, at most once in five seconds for each cause."""
    told = error if isinstance(error, BridgeError) else error_for(error, doing)
    now = time.monotonic()
    if now - _last_told.get(str(told), -TELL_EVERY_S) >= TELL_EVERY_S:
        _last_told[str(told)] = now
        log("kafka_unavailable", "warning", reason=str(told))


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
        named = PROPERTY.search(exc.args[0].str())
        variable = f"KAFKA_{named[1].upper().replace('.', '_')}" if named else "KAFKA_…"
        problem = f"{variable}: librdkafka does not know this property or does not take its value; see librdkafka's CONFIGURATION.md"
        raise SettingsError([problem]) from exc


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
    if cause.code() in LOST or cause.fatal():
        return FencedError(text, code="fenced")
    if cause.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        hint = "Take the longest column out of the mapping, or raise max.message.bytes of the topic and KAFKA_MESSAGE_MAX_BYTES."
        return HaltError(f"{text}: a row is larger than Kafka takes", code="event_too_large", hint=hint, origin="kafka")
    if cause.code() in REFUSED:
        hint = "Check KAFKA_SASL_… and the ACLs of this service's user."
        return HaltError(text, code="kafka_refused", hint=hint, origin="kafka")
    if cause.code() in OUT_OF_RANGE:
        return HaltError(
            f"{text}: records that were waiting have been deleted by the topic's retention",
            code="backlog_expired",
            hint="Delete the cursors of the tables concerned, or replay them, then start: all rows are read again.",
            origin="kafka",
        )
    return RetryError(text, code="kafka_unavailable")


def headers_of(message: Message) -> Headers:
    raw: Any = message.headers()
    return tuple((str(name), value or b"") for name, value in raw or ())
