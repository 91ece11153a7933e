"""What saving or starting ingress takes away in Campaign, for the answer (control-api.md, consent.md): the plan of a small sample."""

from __future__ import annotations

import asyncio

from bridge.kafka.topics import Topics
from bridge.model.config import Config, IngressConfig
from bridge.model.errors import BridgeError
from bridge.observe.log import log
from services.control.models.workflow_json import EstimateOut, TakenOut
from services.control.rules.losses import takes_away
from services.control.systems.connections import NotAnswered
from services.control.systems.planner import Planner

SAMPLE = 100
WITHIN_S = 5.0  # nobody waits longer for a start because a system is slow
NOTHING = EstimateOut(sample=0, total=0)


async def taken_away(planner: Planner, topics: Topics, config: Config | None) -> TakenOut | None:
    """None for the other workflows, and if it cannot be found out within WITHIN_S: that is no reason not to save or to start."""
    if not isinstance(config, IngressConfig):
        return None
    if not takes_away(config):
        return TakenOut(sample=0, lowers=NOTHING, deletes=NOTHING, above_limits=False)
    try:
        async with asyncio.timeout(WITHIN_S):
            partitions = await topics.partitions_of("ingress.state")
            plan = await planner.plan(config, SAMPLE, partitions, WITHIN_S * 0.8)
    except (TimeoutError, BridgeError, NotAnswered):
        return None
    except Exception as exc:  # a fault of ours in what is only told
        log("internal_fault", "error", where="plan of what is taken away", reason=type(exc).__name__)
        return None
    if plan.sample == 0 and plan.deletes.total is None:  # no row could be read in time
        return None
    return TakenOut.model_validate(plan.model_dump(include=set(TakenOut.model_fields)))
