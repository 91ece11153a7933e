"""Traces by OpenTelemetry, sent as OTLP over HTTP. Imported only if they are switched on; standard `OTEL_…` variables tune the SDK."""

from __future__ import annotations

import logging
import threading
import time
from contextvars import Token
from types import TracebackType

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from bridge import __version__
from bridge.model.errors import BridgeError
from bridge.model.events import Record, trace_now
from bridge.observe.log import log
from bridge.observe.tracing import Name, Span, Tracer

LONGEST_CLOSE_S = 2.0
TELL_EVERY_S = 60.0


class OtlpTracer(Tracer):
    """`endpoint` as in OTEL_EXPORTER_OTLP_ENDPOINT: `/v1/traces` is put behind it. A collector that is away costs spans, nothing else."""

    def __init__(self, endpoint: str, service: str, instance: str) -> None:
        quieten()
        about = {"service.name": service, "service.instance.id": instance, "service.version": __version__}
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces")))
        self._tracer = self._provider.get_tracer("bridge", __version__)

    def span(self, name: Name, record: Record | None = None) -> Span:
        parent = Context()
        if record is not None and (header := record.header("traceparent")) is not None:
            carrier = {"traceparent": header.decode("ascii", "replace")}
            parent = TraceContextTextMapPropagator().extract(carrier, parent)
        return _Open(self._tracer.start_span(name, parent, attributes=_attributes(record)))

    def close(self) -> None:
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(LONGEST_CLOSE_S)


class _Open(Span):
    def __init__(self, span: trace.Span) -> None:
        self._span, self._dropped = span, False
        self._token: Token[bytes | None] | None = None

    def __enter__(self) -> Span:
        at = self._span.get_span_context()
        self._token = trace_now.set(f"00-{at.trace_id:032x}-{at.span_id:016x}-{int(at.trace_flags):02x}".encode())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Work that was cancelled is not told."""
        if self._token is not None:
            trace_now.reset(self._token)
        if self._dropped or (error is not None and not isinstance(error, Exception)):
            return
        if error is not None:
            self.outcome = error.code if isinstance(error, BridgeError) else "internal_error"
        self._span.set_attribute("outcome", self.outcome)
        if self.topic:
            self._span.set_attribute("topic", self.topic)
        self._span.end()

    def drop(self) -> None:
        self._dropped = True


def _attributes(record: Record | None) -> dict[str, str | int]:
    """Where the record is, and its key; nothing of what it holds."""
    if record is None:
        return {}
    key = (record.key or b"").decode("utf-8", "replace")
    return {"key": key, "topic": record.topic, "partition": record.partition, "offset": record.offset}


class _ExporterLines(logging.Handler):
    """What the exporter complains of as a line of ours, once a minute at most; its texts may hold an answer's body."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._told_at = -TELL_EVERY_S

    def emit(self, record: logging.LogRecord) -> None:
        if time.monotonic() - self._told_at >= TELL_EVERY_S:
            self._told_at = time.monotonic()
            log("traces_not_sent", "warning", logger=record.name, reason=str(record.msg)[:200])


def quieten() -> None:
    logger = logging.getLogger("opentelemetry")
    if not any(isinstance(each, _ExporterLines) for each in logger.handlers):
        logger.addHandler(_ExporterLines())
        logger.propagate = False
