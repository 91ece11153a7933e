"""What came of decisions: as the writers told; else, of older ones, from how far the writer of Opt In/Out has come and from what it notes
of the last decision of each contact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge.kafka.lag import GroupLag
from bridge.model.desired import Workflow
from bridge.model.state import Known
from services.control.models.consent_json import Outcome
from services.control.rules.decision_records import Decision
from services.control.topics.decisions import HELD, TOPICS
from services.control.topics.lag_samples import Backlog
from services.control.topics.record_search import Traces

GROUP = "optin"
TOLD: Mapping[str, Outcome] = {
    "updated": "written",
    "unchanged": "unchanged",
    "absent": "absent",
    "observed_again": "observed_again",
    "stale": "stale",
    "dead_lettered": "dead_lettered",
    "written": "written",
    "executed": "executed",
    "kept": "kept",
    "voided": "voided",
}
SETTLED: Mapping[str, Outcome] = {"released": "released", "discarded": "discarded"}


class Outcomes:
    """Raises RetryError or HaltError."""

    def __init__(self, traces: Traces, backlog: Backlog) -> None:
        self._traces, self._backlog = traces, backlog

    async def of(self, workflow: Workflow, decisions: Sequence[Decision], contact: str | None, partitions: int) -> dict[str, Outcome]:
        """By id. `partitions` of `optin.state`. What was written is told of all decisions whose outcome is kept, of others of one
        contact's only: for the rest it would have to be searched for."""
        found: dict[str, Outcome] = {}
        for each in decisions:
            if (told := _told(each)) is not None:
                found[each.id] = told
        rest = [each for each in decisions if each.id not in found]
        if workflow == "ingress":  # the record is made when all is over
            return found | {each.id: "done" for each in rest}
        window = self._backlog.window(workflow)
        reached = _reached(window[-1].groups or () if window else ())
        known = await self._traces.written(contact, partitions) if contact is not None and rest else {}
        return found | {each.id: _outcome(each, reached, known) for each in rest}


def _told(decision: Decision) -> Outcome | None:
    """What is known without asking."""
    if decision.guard == HELD:
        return SETTLED.get(decision.action or "") or ("held" if decision.waits else "voided")
    return TOLD.get(decision.outcome)


def _reached(groups: Sequence[GroupLag]) -> dict[int, int]:
    """First offset that the writer has not settled, by partition."""
    return {
        each.partition: each.end - each.lag
        for group in groups
        if group.group == GROUP
        for topic, partitions in group.topics.items()
        if topic == TOPICS["optin"]
        for each in partitions
    }


def _outcome(decision: Decision, reached: Mapping[int, int], known: Mapping[str, Known]) -> Outcome:
    target = decision.event.target if decision.event else ""
    last = known.get(f"{decision.key}/{target}")
    if last is not None and (last.partition, last.offset) == (decision.part, decision.last_at):
        return TOLD.get(last.outcome, "done")
    return "waiting" if decision.last_at >= reached.get(decision.part, 0) else "done"
