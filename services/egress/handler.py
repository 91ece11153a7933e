"""Writes one email event to the contact's timeline: what is particular to the egress writer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from bridge.dynamics.batch import BatchAnswer, Operation
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.errors import BUSY, NO_SUCH_ROW, QueryRefused, meaning
from bridge.flow.batcher import Batcher, Call
from bridge.flow.ports import Result, Route
from bridge.kafka.avro import Decoder
from bridge.model.clock import Clock
from bridge.model.errors import ParkError, RejectError, RetryError
from bridge.model.events import EmailEvent, Kind, Record
from bridge.model.json_text import loads
from bridge.model.state import Known
from services.egress.activity import Activities
from services.egress.payload import Dropped, Payloads

EXISTS = "0x80040237"
AWAY = (502, 503, 504)
NO_CONTACT = {*NO_SUCH_ROW, "0x80043507"}
EVENT_ID = "event-id"
TRIES = 8  # of an item that the service fails to write without saying that it is busy


class EgressHandler:
    """See bridge.flow.ports.Handler. Every event is a job of its own; `.state` keeps the last one of each contact."""

    sums = False

    def __init__(
        self,
        activities: Activities,
        batcher: Batcher[Operation, BatchAnswer],
        decoder: Decoder[EmailEvent],
        payloads: Payloads,
        kinds: Collection[Kind],
        clock: Clock,
    ) -> None:
        self._activities, self._batcher, self._decoder = activities, batcher, decoder
        self._payloads, self._kinds, self._clock = payloads, kinds, clock

    def route(self, record: Record) -> Route:
        """The contact and the event: what the journal delivered twice is one job while it waits."""
        event_id = record.header(EVENT_ID) or f"{record.topic}-{record.partition}-{record.offset}".encode()
        key = f"{(record.key or b'').decode('utf-8', 'replace')}/{event_id.decode('utf-8', 'replace')}"
        return Route(key, key.partition("/")[0], live=True)

    async def decode(self, record: Record) -> EmailEvent:
        if record.value is not None and record.value[:1] == b"{":
            return self._from_journal(record.value)
        event = await self._decoder.decode(record.value)
        if event.contact_key.encode() != record.key:
            raise RejectError("the event belongs to another contact than its record", code="misplaced", stage="decode")
        return event

    def _from_journal(self, value: bytes) -> EmailEvent:
        """A re-driven letter of the reader: the journal's own event, read with settings and configuration as they are now."""
        try:
            event = loads(value)
        except ValueError as exc:
            raise RejectError("the message is neither an event nor JSON", code="not_this_event", stage="decode") from exc
        found = self._payloads.read(event, self._kinds, self._clock.now())
        if isinstance(found, Dropped):
            raise RejectError(f"the event belongs on no timeline ({found.why})", code="not_this_event", stage="map")
        return found

    def merge(self, waiting: EmailEvent, arrived: EmailEvent) -> tuple[EmailEvent, bool]:
        return waiting, True

    def rejected(self, event: EmailEvent, known: Known | None) -> Known:
        return known or Known()

    async def write(self, event: EmailEvent, known: Known | None) -> Result:
        answer = await self._batcher.send(self._activities.create(event))
        known = replace(known or Known(), exists=True, status=answer.status)
        if answer.good:
            return Result("created", known)
        if answer.code == EXISTS and answer.status in (409, 412):  # an earlier delivery, or our own call before a crash
            return Result("unchanged", known)
        raise _failure(event, answer)


def _failure(event: EmailEvent, answer: BatchAnswer) -> Exception:
    place = f"{event.kind} activity -> {answer.status}"
    if answer.code in NO_CONTACT:
        return ParkError(f"Dynamics: {place} {answer.code}: the contact is not there", code="contact_missing", status=answer.status)
    if answer.status == 401:  # the token ended while the batch ran: the next one begins with the question for a new one
        return RetryError(f"Dynamics: {place}", code="target_busy", status=401, attempts=TRIES)
    error = meaning(place, answer.status, answer.code, None, "target")
    if isinstance(error, RetryError) and answer.status >= 500 and answer.code not in BUSY and answer.status not in AWAY:
        return RetryError(str(error), code="target_error", status=answer.status, attempts=TRIES)
    if isinstance(error, QueryRefused):
        return RejectError(f"Dynamics: {place} {answer.code}".rstrip(), code="activity_refused", status=answer.status)
    return error


def in_batches(client: DynamicsClient) -> Call[Operation, BatchAnswer]:
    """The call of a Batcher."""

    async def call(operations: Callable[[], Sequence[Operation]]) -> list[BatchAnswer]:
        try:
            return await client.batch(operations)
        except QueryRefused as exc:
            raise RejectError(str(exc), code="activity_refused", status=exc.status) from exc

    return call
