"""Prometheus metrics of control: what it knows of every workflow. Names, kinds and units are listed in docs/operations.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from bridge.model.desired import WORKFLOWS, Workflow
from bridge.model.errors import BridgeError
from bridge.observe.metrics import Definition
from services.control.models.workflow_json import WorkflowOut

STATUS = Definition("bridge_workflow_status", "gauge", "1 or 0", ("workflow", "status"), "1 for the status the workflow has")
PENDING = Definition("bridge_workflow_pending_changes", "gauge", "1 or 0", ("workflow",), "1 while saved edits await a restart")
REASON = Definition("bridge_workflow_reason", "gauge", "1", ("workflow", "code"), "1 for the code of why it is FAILED, or of what it warns")
SERVICES = Definition("bridge_service_running", "gauge", "1 or 0", ("workflow", "role", "instance"), "1 while the instance says it runs")
BACKLOG = Definition("bridge_backlog_records", "gauge", "records", ("workflow",), "Records read and queued, not yet written")
AGE = Definition("bridge_backlog_oldest_seconds", "gauge", "seconds", ("workflow",), "Age of the oldest waiting record")
HELD = Definition("bridge_held_decisions", "gauge", "decisions", ("workflow",), "Opt-ins and deletes that the consent guard holds")
OPTOUTS = Definition("bridge_optouts_waiting", "gauge", "opt-outs", ("workflow",), "Opt-outs that have not been written yet")
PASSED_OVER = Definition(
    "bridge_records_passed_over_total", "counter", "records", ("topic",), "Records about decisions that control cannot use"
)
PARKED = Definition("bridge_parked_keys", "gauge", "keys", ("workflow",), "Keys that wait for another record")
RECORDS = Definition(
    "bridge_records_total", "counter", "records", ("workflow", "outcome"), "Records by what became of them in the present run"
)
CALLS = Definition("bridge_target_calls_total", "counter", "calls", ("workflow",), "Calls to the target system in the present run")
METRICS = (STATUS, PENDING, REASON, SERVICES, BACKLOG, AGE, HELD, OPTOUTS, PASSED_OVER, PARKED, RECORDS, CALLS)
STATUSES = ("RUNNING", "STOPPED", "STARTING", "FAILED")


class _Workflows(Collector):
    def __init__(self, view: Callable[[Workflow], WorkflowOut], odd: Callable[[], Mapping[str, int]]) -> None:
        self._view, self._odd = view, odd

    def collect(self) -> Iterable[Metric]:
        """Nothing for a workflow of which nothing is known yet: no metric is better than a wrong one."""
        views = [view for workflow in WORKFLOWS for view in self._seen(workflow)]
        yield from _status(views)
        yield from _backlog(views)
        yield from _counters(views)
        passed = PASSED_OVER.counted()
        for topic, number in self._odd().items():
            passed.add_metric([topic], number)
        yield passed

    def _seen(self, workflow: Workflow) -> list[WorkflowOut]:
        try:
            return [self._view(workflow)]
        except BridgeError:
            return []


def _status(views: list[WorkflowOut]) -> Iterator[Metric]:
    status = STATUS.gauged()
    pending = PENDING.gauged()
    reason = REASON.gauged()
    services = SERVICES.gauged()
    for view in views:
        for each in STATUSES:
            status.add_metric([view.id, each], float(view.status == each))
        pending.add_metric([view.id], float(view.pending_changes))
        if view.reason is not None:
            reason.add_metric([view.id, view.reason.code], 1.0)
        for service in view.services:
            services.add_metric([view.id, service.role, service.instance], float(service.status == "RUNNING"))
    yield from (status, pending, reason, services)


def _backlog(views: list[WorkflowOut]) -> Iterator[Metric]:
    """Without samples while Kafka cannot be asked."""
    records = BACKLOG.gauged()
    age = AGE.gauged()
    parked = PARKED.gauged()
    held = HELD.gauged()
    optouts = OPTOUTS.gauged()
    for view in views:
        if view.backlog.records is not None:
            records.add_metric([view.id], view.backlog.records)
        if view.backlog.oldest_age_s is not None:
            age.add_metric([view.id], view.backlog.oldest_age_s)
        parked.add_metric([view.id], view.backlog.parked)
        held.add_metric([view.id], view.backlog.held)
        optouts.add_metric([view.id], view.backlog.optouts_waiting)
    yield from (records, age, parked, held, optouts)


def _counters(views: list[WorkflowOut]) -> Iterator[Metric]:
    """Since the services began their present run, as their heartbeats say."""
    counted = RECORDS.counted()
    calls = CALLS.counted()
    for view in views:
        for name, value in view.counters.model_dump(exclude={"target_calls", "parked"}).items():
            counted.add_metric([view.id, name], value)
        calls.add_metric([view.id], view.counters.target_calls)
    yield from (counted, calls)


def exposition(view: Callable[[Workflow], WorkflowOut], odd: Callable[[], Mapping[str, int]] = dict) -> Callable[[], bytes]:
    """Makes the text of /metrics. `odd`: how many records of each topic control has passed over."""
    registry = CollectorRegistry()
    registry.register(_Workflows(view, odd))
    return lambda: generate_latest(registry)
