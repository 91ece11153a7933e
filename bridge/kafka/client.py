"""Names with their prefix, and what librdkafka's errors mean for us."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from bridge.errors import BridgeError, HaltError, RetryError
from bridge.settings import KafkaSettings

SESSION_TIMEOUT_MS = 10_000

REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}
OUT_OF_RANGE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}
FENCED = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.FENCED_INSTANCE_ID,
}


class FencedError(BridgeError):
    """Another process has taken over: whatever this one still had in hand is the other's now."""


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
    if cause.code() in FENCED:
        return FencedError(text, code="fenced")
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
    if cause.fatal():
        hint = "Start the workflow again; if it comes back, look into the broker's log."
        return HaltError(text, code="kafka_client_failed", hint=hint, origin="kafka")
    return RetryError(text, code="kafka_unavailable")
