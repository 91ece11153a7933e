"""The writer's own code without anything that lasts: for the plan of a configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from bridge.consent.guard import Ask
from bridge.kafka.avro import Decoder
from bridge.model.clock import Clock
from bridge.model.events import ChangeEvent, OptStatusDecided, OptStatusObserved
from bridge.model.state import Digests, Known
from services.ingress.children import Children
from services.ingress.consent import Consent
from services.ingress.handler import IngressHandler
from services.ingress.optin import OptIn
from services.ingress.target import CampaignCalls, Target


class NoConsent:
    """Stands for the guard, the proof and Opt In/Out: what a draft would lower and delete is to be counted, so nothing is held."""

    async def passes(self, ask: Ask) -> bool:
        return True

    def lowers(self) -> int:
        return 0

    def deletes(self, table: str) -> int:
        return 0

    async def prove(self, decision: OptStatusDecided, headers: Mapping[str, str]) -> None: ...

    async def observe(self, event: OptStatusObserved) -> None: ...

    async def until(self, tables: Sequence[str]) -> datetime:
        return datetime.max.replace(tzinfo=UTC)

    async def keep(self, partition: int, key: str, known: Known) -> None: ...


def dry_handler(target: Target, calls: CampaignCalls, decoder: Decoder[ChangeEvent], digests: Digests, clock: Clock) -> IngressHandler:
    """Of one table. `calls` stands for Campaign."""
    nothing = NoConsent()
    consent = Consent(calls, nothing, nothing.prove, nothing, clock)
    optin, children = OptIn(nothing.observe, clock), Children({}, nothing, clock)
    return IngressHandler({target.table.source: target}, calls, decoder, digests, consent, optin, clock, nothing.keep, children)
