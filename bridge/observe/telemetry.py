"""What a process tells of its work: one object, made at its start and handed to what works."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.observe.metrics import Metrics
from bridge.observe.settings import ServiceSettings
from bridge.observe.tracing import OFF, Tracer


@dataclass(frozen=True, slots=True)
class Telemetry:
    metrics: Metrics
    tracer: Tracer


def tracer(settings: ServiceSettings, service: str) -> Tracer:
    """`service`: its name in the traces."""
    if settings.otlp_endpoint is None:
        return OFF
    from bridge.observe.otlp import OtlpTracer

    return OtlpTracer(settings.otlp_endpoint, service, settings.instance_id)
