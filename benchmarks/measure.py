"""What the benchmarks share: a figure with its bound, percentiles, CPU time and memory of a process, arrivals at a stand-in."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from bridge.kafka.settings import KafkaSettings
from sandbox.kafka import LocalKafka
from sandbox.kafka.local import free_port
from sandbox.web import Fault, Ledger

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
    """Measures on a Kafka that nobody else uses; what it held is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
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


def memory_mb(pid: int, what: str = "VmRSS") -> float:
    """What a process holds in memory, MB (10^6 bytes). `what`: a line of /proc/<pid>/status; `VmHWM` is the most it ever held."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{what}:")).split()[1]) * 1024 / 1e6


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request at a stand-in. `at`: seconds of the monotonic clock, before the stand-in does anything with it."""

    at: float
    method: str
    path: str


@dataclass
class Arrivals(Fault):
    """A fault that never strikes and notes every request whose path its pattern finds."""

    seen: list[Arrival] = field(default_factory=list)

    def strikes(self, method: str, path: str) -> bool:
        if super().strikes(method, path):
            self.seen.append(Arrival(monotonic(), method, path))
        return False

    def first(self, after: float, key: str = "") -> Arrival | None:
        """The first request since `after` (monotonic) with `key` in its path."""
        return next((each for each in self.seen if each.at >= after and key in each.path), None)


def arrivals(ledger: Ledger, path: str, method: str = "") -> Arrivals:
    """Notes from now on when requests to `path` (a regular expression) come; ahead of all faults, so that none hides one."""
    noted = Arrivals("latency", method=method, path=path)
    ledger.faults.insert(0, noted)
    return noted
