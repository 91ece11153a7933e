"""One mapped table with the resource it goes to, one record that is being worked on, and what is sent of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from bridge.campaign.metadata import Resource
from bridge.consent.mapped import Past, Wanted
from bridge.mapping.convert import TargetField, empty
from bridge.mapping.rows import Mapper
from bridge.model.config import TableMapping
from bridge.model.events import Value
from bridge.model.state import Known
from services.ingress.consent import ConsentCalls, Place
from services.ingress.decide import Change


class CampaignCalls(ConsentCalls, Protocol):
    """All calls of bridge.campaign.client.CampaignClient that are made; the plan of a configuration only notes them."""

    async def create(self, path: str, body: dict[str, Any]) -> int: ...

    async def delete(self, path: str, key: str) -> int: ...

    async def first(self, path: str) -> dict[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class Target:
    """One mapped table with the Campaign resource it goes to. `capitals`: there are profiles whose key is in capital letters."""

    table: TableMapping
    resource: Resource
    fields: Mapping[str, TargetField]
    mapper: Mapper
    capitals: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """One record. `past`: what is known of its opt-outs; `wanted`: what they come to. `times`: to be remembered of what was written;
    `there`: a profile was found."""

    target: Target
    event: Change
    known: Known | None
    place: Place
    past: Past
    wanted: Wanted
    times: Mapping[str, str] = field(default_factory=dict)
    there: bool = True

    @property
    def name(self) -> str:
        return f"{self.place.table}/{self.place.key}"

    @property
    def exists(self) -> bool:
        return self.known is not None and self.known.exists

    def having(self, times: Mapping[str, str] | None) -> Work:
        return replace(self, times=times or {}, there=times is not None)


def sent(fields: Mapping[str, TargetField], changed: Mapping[str, Value]) -> dict[str, Any]:
    """As Campaign takes it: an empty field has the empty value of its kind."""
    return {name: empty(fields[name]) if value is None else value for name, value in changed.items()}


def same(current: Any, wanted: Value, field: TargetField) -> bool:
    """Whether Campaign shows a field as it is to be."""
    if wanted is None:
        return current is None or current == empty(field) or current == ""
    if field.kind == "number" and not isinstance(current, str):
        return float(current or 0) == wanted  # decimals of an answer are exact, a float is not
    return bool(current == wanted)
