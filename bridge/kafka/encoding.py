"""What a reader publishes, as bytes. What cannot be encoded, or is larger than Kafka takes, becomes a dead letter: one row never holds up
the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bridge.kafka.avro import Encoder
from bridge.kafka.dead_letters import letter_headers
from bridge.model.clock import Clock
from bridge.model.desired import Workflow
from bridge.model.errors import RejectError
from bridge.model.events import ChangeEvent, Headers, Outgoing, Record
from bridge.observe.log import log

Message = tuple[str, bytes, bytes | None, Headers]  # topic without prefix, key, value, headers
Smaller = Callable[[Any], Any | None]
NOT_OURS = 2_000  # bytes of a batch of Kafka's that are none of ours


class Encoding:
    """`largest`: bytes of a message that Kafka takes. `smaller`: what of an event has to arrive though the whole of it cannot (opt-outs);
    None if nothing."""

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        largest: int,
        clock: Clock,
        *,
        workflow: Workflow,
        prefix: str,
        revision: int | None,
        smaller: Smaller = lambda _: None,
    ) -> None:
        self._encoders, self._largest, self._clock = encoders, largest, clock
        self._workflow, self._prefix, self._revision, self._smaller = workflow, prefix, revision or 0, smaller
        self.dead_lettered = 0

    def messages(self, outgoing: Outgoing) -> Iterator[Message]:
        """One, mostly. Bytes (a dead letter of the feed's own) go out as they are."""
        key = outgoing.key.encode("utf-8", "replace")
        if isinstance(outgoing.event, bytes):
            yield outgoing.topic, key, outgoing.event, outgoing.headers
            return
        try:
            yield outgoing.topic, key, self._encoded(outgoing), outgoing.headers
        except RejectError as exc:
            yield self._letter(outgoing, key, exc)
            if (rest := self._smaller(outgoing.event)) is not None:
                with suppress(RejectError):  # what cannot be stored may be its key, or an opt-out itself: the letter says so
                    yield outgoing.topic, key, self._encoded(replace(outgoing, event=rest)), outgoing.headers

    def _encoded(self, outgoing: Outgoing) -> bytes:
        try:
            value = self._encoders[outgoing.topic].encode(outgoing.event)
        except Exception as exc:  # fastavro raises what the value leads it to: UnicodeEncodeError, OverflowError, TypeError, …
            field = self._culprit(outgoing) or "a field"
            text = f"{_of(outgoing)}{field} holds what cannot be stored ({type(exc).__name__})"
            raise RejectError(text, code="not_storable", stage="decode") from exc
        size = len(value) + len(outgoing.key) + sum(len(name) + len(each) for name, each in outgoing.headers)
        if size + NOT_OURS > self._largest:
            text = f"{_of(outgoing)}the row with its columns is larger than Kafka takes ({size} of {self._largest} bytes)"
            raise RejectError(text, code="event_too_large", stage="decode")
        return value

    def _culprit(self, outgoing: Outgoing) -> str | None:
        """The column that cannot be encoded."""
        event = outgoing.event
        if not isinstance(event, ChangeEvent):
            return None
        for name, value in event.fields.items():
            label = {name: event.labels[name]} if name in event.labels else {}
            try:
                self._encoders[outgoing.topic].encode(replace(event, fields={name: value}, labels=label))
            except Exception:
                return name
        return None

    def _letter(self, outgoing: Outgoing, key: bytes, exc: RejectError) -> Message:
        """Without a value: there is none that Kafka could hold. The row is in the source, a replay of its key reads it again."""
        now = self._clock.now()
        record = Record(outgoing.topic, 0, -1, int(now.timestamp() * 1000), key, None, outgoing.headers)
        facts = letter_headers(record, exc, self._prefix, self._workflow, self._revision, attempts=1, first_failed_at=now, failed_at=now)
        self.dead_lettered += 1
        log("record_dead_lettered", "warning", key=outgoing.key, topic=outgoing.topic, code=exc.code, stage=exc.stage, reason=str(exc))
        return f"{self._workflow}.dead-letters", key, None, facts


def _of(outgoing: Outgoing) -> str:
    return f"{outgoing.event.table}: " if isinstance(outgoing.event, ChangeEvent) else ""
