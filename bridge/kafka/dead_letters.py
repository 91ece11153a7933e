"""`<workflow>.dead-letters`: the original key, bytes and headers, and why (contracts/kafka.md)."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime

from bridge.kafka.client import Names
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import RejectError
from bridge.model.events import Record

VARIABLE_PARTS = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+")


class KafkaDeadLetters:
    def __init__(self, settings: KafkaSettings, workflow: str, revision: int, producer: KafkaProducer) -> None:
        names = Names(settings)
        self._prefix, self._topic = names.prefix, names.topic(f"{workflow}.dead-letters")
        self._workflow, self._revision, self._producer = workflow, revision, producer

    async def put(self, record: Record, error: RejectError, *, attempts: int, first_failed_at: datetime, failed_at: datetime) -> None:
        """Returns when the topic has it. Raises RetryError: then the record must not be settled."""
        times = {"first_failed_at": first_failed_at, "failed_at": failed_at}
        headers = letter_headers(record, error, self._prefix, self._workflow, self._revision, attempts=attempts, **times)
        await self._producer.send(self._topic, record.key, record.value, headers)


def letter_headers(
    record: Record,
    error: RejectError,
    prefix: str,
    workflow: str,
    revision: int,
    *,
    attempts: int,
    first_failed_at: datetime,
    failed_at: datetime,
) -> list[tuple[str, bytes]]:
    """The record's own headers and those of a dead letter. A record that never was in its topic has the offset -1. `prefix`: of the
    topics; `revision`: of the running configuration. `dlq.opt-outs` is there if opt-outs wait with it."""
    facts = {
        "dlq.topic": prefix + record.topic,
        "dlq.partition": record.partition,
        "dlq.offset": record.offset,
        "dlq.timestamp": record.timestamp_ms,
        "dlq.workflow": workflow,
        "dlq.revision": revision,
        "dlq.stage": error.stage,
        "dlq.code": error.code,
        "dlq.reason": str(error),
        "dlq.target-status": "" if error.status is None else error.status,
        "dlq.attempts": attempts,
        "dlq.first-failed-at": first_failed_at.isoformat(),
        "dlq.failed-at": failed_at.isoformat(),
        "dlq.fingerprint": fingerprint(error),
        "dlq.opt-outs": error.opt_outs or None,
    }
    kept = [header for header in record.headers if header[0] not in facts]
    return kept + [(name, str(value).encode()) for name, value in facts.items() if value is not None]


def fingerprint(error: RejectError) -> str:
    """Equal for letters with the same cause: code and reason without ids and numbers."""
    reason = VARIABLE_PARTS.sub("#", str(error))
    return hashlib.sha256(f"{error.stage}|{error.code}|{reason}".encode()).hexdigest()[:16]
