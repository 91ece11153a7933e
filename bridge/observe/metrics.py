"""Prometheus metrics of a service: the one list of names, and the object of one process that counts.

Calls are counted as they are made; all else is asked of the run when somebody scrapes, so that a record costs nothing. Counters of runs
that have ended are kept: a counter of this process never goes back.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.model.clock import Clock
from bridge.model.desired import OUTCOMES
from bridge.model.report import Report
from bridge.model.text import mended

System = Literal["dynamics", "campaign", "journal", "sftp"]
Result = Literal["ok", "busy", "refused", "failed"]
Limit = Literal["requests", "seconds"]
COUNTED = ("read", *OUTCOMES)
RESULTS: tuple[Result, ...] = ("ok", "busy", "refused", "failed")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside each counter, which nobody asks for


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric, as docs/operations.md tells of it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    meaning: str

    @property
    def family(self) -> str:
        """Its name as prometheus_client wants it."""
        return self.name.removesuffix("_total")

    def counted(self) -> CounterMetricFamily:
        return CounterMetricFamily(self.family, self.meaning, labels=self.labels)

    def gauged(self) -> GaugeMetricFamily:
        return GaugeMetricFamily(self.family, self.meaning, labels=self.labels)


RECORDS = Definition("bridge_service_records_total", "counter", "records", ("workflow", "role", "outcome"), "what became of records")
PARKED = Definition("bridge_service_parked_keys", "gauge", "keys", ("workflow", "role"), "keys that wait for another record")
CALLS = Definition("bridge_calls_total", "counter", "calls", ("system", "result"), "calls to an outside system by how it answered")
SECONDS = Definition("bridge_call_seconds", "histogram", "seconds", ("system",), "how long a call took")
AGE = Definition("bridge_poll_age_seconds", "gauge", "seconds", ("workflow", "feed"), "since the feed's last successful step")
DAYS = Definition("bridge_tracking_days_left", "gauge", "days", ("workflow", "feed"), "until a tracking token or journal position expires")
WAIT = Definition("bridge_retry_after_seconds", "gauge", "seconds", ("system",), "wait that the system still imposes now")
REBALANCES = Definition(
    "bridge_rebalances_total", "counter", "rebalances", ("workflow", "role"), "assignments of partitions to an instance"
)
BUDGET = Definition("bridge_api_budget_left", "gauge", "requests or seconds", ("system", "limit"), "what the system says is left")
TEXTS = Definition("bridge_texts_mended_total", "counter", "texts", ("workflow", "role"), "texts that lost characters nobody can store")
METRICS = (RECORDS, PARKED, CALLS, SECONDS, AGE, DAYS, WAIT, REBALANCES, BUDGET, TEXTS)


class Meter:
    """Counts the calls to one system. This one counts nothing: for whoever has no metrics."""

    def now(self) -> float:
        """Monotonic, for the `seconds` of a call."""
        return 0.0

    def called(self, result: Result, seconds: float) -> None:
        """`busy`: asks to come again later; `refused`: does not want this call; `failed`: fault or silence."""

    def left(self, limit: Limit, amount: float) -> None:
        """What is left of a limit, as the system said last."""

    def waits(self, seconds: Callable[[], float]) -> None:
        """Whom to ask how long the system is still to be left alone."""


UNMETERED = Meter()


class Metrics:
    """Of one process, made at its start; nothing is registered anywhere else."""

    def __init__(self, workflow: str, role: str, clock: Clock) -> None:
        self.runs = Runs(workflow, role)
        self._registry = CollectorRegistry()
        self._registry.register(self.runs)
        self._calls = _Calls(self._registry, clock)

    def meter(self, system: System) -> Meter:
        """Of this system. Meters of one system count together."""
        return _SystemMeter(self._calls, system)

    def exposition(self) -> bytes:
        """The text of /metrics."""
        return generate_latest(self._registry)


class _Calls:
    """What the meters count with."""

    def __init__(self, registry: CollectorRegistry, clock: Clock) -> None:
        self.clock = clock
        self.results = Counter(CALLS.family, CALLS.meaning, CALLS.labels, registry=registry)
        self.seconds = Histogram(SECONDS.family, SECONDS.meaning, SECONDS.labels, buckets=BUCKETS_S, registry=registry)
        self.wait = Gauge(WAIT.family, WAIT.meaning, WAIT.labels, registry=registry)
        self.budget = Gauge(BUDGET.family, BUDGET.meaning, BUDGET.labels, registry=registry)


class _SystemMeter(Meter):
    def __init__(self, calls: _Calls, system: System) -> None:
        self._calls, self._system = calls, system
        self._results = {result: calls.results.labels(system, result) for result in RESULTS}  # all of them from the beginning, as 0
        self._seconds, self._wait = calls.seconds.labels(system), calls.wait.labels(system)

    def now(self) -> float:
        return self._calls.clock.monotonic()

    def called(self, result: Result, seconds: float) -> None:
        self._results[result].inc()
        self._seconds.observe(seconds)

    def left(self, limit: Limit, amount: float) -> None:
        self._calls.budget.labels(self._system, limit).set(amount)

    def waits(self, seconds: Callable[[], float]) -> None:
        self._wait.set_function(seconds)


class Runs(Collector):
    """What the present run tells, on top of what runs before it have counted."""

    def __init__(self, workflow: str, role: str) -> None:
        self._workflow, self._role = workflow, role
        self._before: Tally[str] = Tally()
        self._rebalances = 0
        self._ask: Callable[[], Report] = Report

    def began(self, report: Callable[[], Report]) -> None:
        self._ask = report

    def ended(self) -> None:
        last, self._ask = self._ask(), Report
        self._before += _counted(last)
        self._rebalances += last.rebalances

    def collect(self) -> Iterable[Metric]:
        report = self._ask()
        counted, role = self._before + _counted(report), [self._workflow, self._role]
        records = RECORDS.counted()
        for outcome in COUNTED:
            records.add_metric([*role, outcome], counted[outcome])
        parked = PARKED.gauged()
        parked.add_metric(role, report.parked)
        rebalances = REBALANCES.counted()
        rebalances.add_metric(role, self._rebalances + report.rebalances)
        age = AGE.gauged()
        days = DAYS.gauged()
        for feed, poll in report.polls.items():
            age.add_metric([self._workflow, feed], poll.age_s)
            if poll.days_left is not None:
                days.add_metric([self._workflow, feed], poll.days_left)
        texts = TEXTS.counted()
        texts.add_metric(role, mended["texts"])
        return [records, parked, rebalances, age, days, texts]


def _counted(report: Report) -> Tally[str]:
    return Tally({outcome: report.counters.get(outcome, 0) + report.consumed.get(outcome, 0) for outcome in COUNTED})
