"""What a process tells of its work: one object, made at its start and handed to what works."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.observe.metrics import Metrics
from bridge.observe.tracing import Tracer


@dataclass(frozen=True, slots=True)
class Telemetry:
    metrics: Metrics
    tracer: Tracer
