"""What the benchmarks share: a figure with its bound, percentiles, CPU time of a process."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.settings import KafkaSettings
from sandbox.kafka import LocalKafka
from sandbox.kafka.local import free_port

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement. `bound`: what must hold, as (comparison, number); None: for information."""

    name: str
    value: float
    unit: str
    bound: tuple[str, float] | None = None

    @property
    def holds(self) -> bool:
        if self.bound is None:
            return True
        comparison, limit = self.bound
        return self.value <= limit if comparison == "<=" else self.value >= limit


def on_own_kafka(measured: Callable[[KafkaSettings, Path], Coroutine[Any, Any, list[Figure]]]) -> list[Figure]:
    """Measures on a Kafka that nobody else uses."""
    home = Path(tempfile.mkdtemp())
    kafka = LocalKafka(home / "kafka", free_port(), free_port())
    kafka.up()
    try:
        return asyncio.run(measured(KafkaSettings(bootstrap_servers=kafka.bootstrap, registry_url=kafka.registry_url), home))
    finally:
        kafka.down()


def percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
