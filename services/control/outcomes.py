"""What came of decisions: from how far the writer has come, and from what it notes of the last decision of each contact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge.kafka.lag import GroupLag
from bridge.state import Known
from services.control.backlog import Backlog
from services.control.consent import TOPIC, Decision
from services.control.models_consent import Outcome
from services.control.traces import Traces

GROUP = "optin"
TOLD: Mapping[str, Outcome] = {
    "updated": "written",
    "unchanged": "unchanged",
    "absent": "absent",
    "observed_again": "observed_again",
    "stale": "stale",
    "dead_lettered": "dead_lettered",
}


class Outcomes:
    """Raises RetryError or HaltError."""

    def __init__(self, traces: Traces, backlog: Backlog) -> None:
        self._traces, self._backlog = traces, backlog

    async def of(self, decisions: Sequence[Decision], contact: str | None, partitions: int) -> dict[str, Outcome]:
        """By id. What was written is told of one contact's decisions only: for others it would have to be searched for."""
        window = self._backlog.window("optin")
        reached = _reached(window[-1].groups or () if window else ())
        known = await self._traces.written(contact, partitions) if contact is not None and decisions else {}
        return {each.id: _outcome(each, reached, known) for each in decisions}


def _reached(groups: Sequence[GroupLag]) -> dict[int, int]:
    """First offset that the writer has not settled, by partition."""
    return {
        each.partition: each.end - each.lag
        for group in groups
        if group.group == GROUP
        for topic, partitions in group.topics.items()
        if topic == TOPIC
        for each in partitions
    }


def _outcome(decision: Decision, reached: Mapping[int, int], known: Mapping[str, Known]) -> Outcome:
    target = decision.event.target if decision.event else ""
    last = known.get(f"{decision.contact}/{target}")
    if last is not None and (last.partition, last.offset) == (decision.part, decision.at):
        return TOLD.get(last.outcome, "done")
    return "waiting" if decision.at >= reached.get(decision.part, 0) else "done"
