"""What the routes work with, put together once, and who gives a command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from bridge.consent.settings import ConsentSettings
from bridge.kafka.topics import Topics
from bridge.model.clock import Clock
from bridge.model.desired import WORKFLOWS, Workflow
from services.control.api.access import Access, Principal
from services.control.api.problems import Refused
from services.control.models.system_json import Role
from services.control.rules.actions import By
from services.control.settings import ControlSettings
from services.control.systems.connections import Systems
from services.control.systems.planner import Planner
from services.control.topics.archive import Archive
from services.control.topics.decision_outcomes import Outcomes
from services.control.topics.decisions import Decisions
from services.control.topics.held_items import Settling
from services.control.topics.lag_samples import Backlog
from services.control.topics.letters import Letters
from services.control.topics.reader_cursors import Cursors
from services.control.topics.record_search import Traces
from services.control.topics.store import Store


@dataclass(frozen=True, slots=True)
class Control:
    settings: ControlSettings
    consent: ConsentSettings
    store: Store
    backlog: Backlog
    topics: Topics
    cursors: Cursors
    archive: Archive
    letters: Letters
    decisions: Decisions
    outcomes: Outcomes
    settling: Settling
    traces: Traces
    systems: Systems
    planner: Planner
    access: Access
    clock: Clock

    def by(self, request: Request) -> By:
        """Who gives this command, from where, now."""
        who: Principal = request.state.who
        return By(who.name, request.client.host if request.client else None, self.clock.now().isoformat())


def need(role: Role) -> Callable[[Request], Principal]:
    """A dependency: whoever asks has at least this role. Refused 403 otherwise."""

    def check(request: Request) -> Principal:
        who: Principal = request.state.who
        if not who.may(role):
            raise Refused(403, "role_missing", f"This needs the role {role}; {who.name} is {who.role}.")
        return who

    return check


Viewer = Annotated[Principal, Depends(need("viewer"))]
Operator = Annotated[Principal, Depends(need("operator"))]
Admin = Annotated[Principal, Depends(need("admin"))]


def known(id: str) -> Workflow:
    """Raises Refused 404."""
    for workflow in WORKFLOWS:
        if workflow == id:
            return workflow
    raise Refused(404, "unknown_workflow", f"There is no such workflow; there are {', '.join(WORKFLOWS)}.")
