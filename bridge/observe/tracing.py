"""Traces from read to write. Off unless OTEL_EXPORTER_OTLP_ENDPOINT is set: nothing of OpenTelemetry is imported then, a span is nothing.

A page's events carry the `traceparent` of its `read` span, a decision that of its `resolve` span; a `write` span goes on from there.
"""

from __future__ import annotations

from types import TracebackType
from typing import Literal

from bridge.model.events import Record

Name = Literal["read", "resolve", "write"]


class Span:
    """A context manager. `outcome` and `topic` are told when it ends; an error's code is an outcome, too. This one is told to nobody."""

    outcome = ""
    topic = ""

    def __enter__(self) -> Span:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def drop(self) -> None:
        """Nothing has happened that is worth telling."""


class Tracer:
    """Handed in by whoever owns the process. This one is off."""

    def span(self, name: Name, record: Record | None = None) -> Span:
        """A piece of work from now on; of this record, if there is one: the trace in its header goes on."""
        return Span()

    def close(self) -> None:
        """Sends what waits, for two seconds at most."""


OFF = Tracer()
