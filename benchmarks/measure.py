"""What the benchmarks share: a figure with its bound, percentiles, CPU time of a process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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


def percentile(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
