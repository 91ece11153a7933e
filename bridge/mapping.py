"""A change event and its table's mapping → what Campaign is to hold. Pure: no I/O, no clock, no Kafka.

Order: filter, picklist display value, replacement, conversion to the target's type. Fields keep dotted names here;
`nested` makes the JSON body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from bridge.config import FieldMapping, TableMapping
from bridge.consent.flags import OPT_OUT_FLAGS, canonical_flag
from bridge.convert import TargetField, convert
from bridge.errors import RejectError
from bridge.events import ChangeEvent, Value
from bridge.filters import passes, text

Doubt = Literal["truncated", "not_convertible"]


class Skip(Enum):
    """Why an event is not to be written, as a value."""

    FILTERED = "filtered"
    INCOMPLETE = "incomplete"  # read before a column was added to the mapping: the reader's resync brings the whole row


@dataclass(frozen=True, slots=True)
class Mapped:
    """What Campaign is to hold for one row. `fields`: target name → value, None for empty; without the key and opt-out flags.

    `first_only`: targets whose later changes in Dynamics are not to be propagated (Apply updates off). Opt-out flags are not among the
    fields: what follows for them is decided in bridge/consent.
    """

    key: str
    fields: Mapping[str, Value]
    first_only: frozenset[str]


class Mapper:
    """The mapping of one table, prepared once. Raises RejectError (stage `map`) for a row that does not fit."""

    def __init__(self, table: TableMapping, target: Mapping[str, TargetField]) -> None:
        self.table = table
        self.key_field = target[table.key.target]
        self._columns = frozenset(table.columns())
        self._fields = [(field, target[canonical_flag(field.target)]) for field in table.fields]
        self._first_only = frozenset(to.name for field, to in self._fields if not field.apply_updates)
        self.flags = frozenset(to.name for _, to in self._fields) & frozenset(OPT_OUT_FLAGS)
        self._replacements = {(each.source, each.from_value): each.to for each in table.replacements}

    def to_campaign(self, event: ChangeEvent) -> Mapped | Skip:
        """The record for an upsert event."""
        if not self._columns <= event.fields.keys():
            return Skip.INCOMPLETE
        if not passes({**event.fields, self.table.key.source: event.key}, self.table.filter):
            return Skip.FILTERED
        fields = {to.name: convert(self._chosen(event, field), to) for field, to in self._fields if to.name not in self.flags}
        return Mapped(self.key(event.key), fields, self._first_only - self.flags)

    def said(self, event: ChangeEvent) -> dict[str, bool | None]:
        """The opt-out flags of an event, by Campaign's names: None for one that Dynamics leaves open, or that cannot be told, which must
        neither become FALSE nor hold up its neighbours. One that the event does not carry is left out."""
        found: dict[str, bool | None] = {}
        for field, to in self._fields:
            if to.name not in self.flags or (field.source not in event.fields and field.source != self.table.key.source):
                continue
            try:
                value = convert(self._chosen(event, field), to)
            except RejectError:
                value = None
            found[to.name] = value if isinstance(value, bool) else None
        return found

    def doubts(self, event: ChangeEvent) -> Iterator[tuple[FieldMapping, TargetField, Doubt]]:
        """The fields of a row that lose something on the way, for the plan: cut at the target's length, or refused."""
        for field, to in self._fields:
            chosen = self._chosen(event, field)
            try:
                convert(chosen, to)
            except RejectError:
                yield field, to, "not_convertible"
                continue
            if to.kind == "string" and to.length is not None and chosen is not None and len(text(chosen)) > to.length:
                yield field, to, "truncated"

    def replaces(self, source: str, value: Value, label: str | None) -> bool:
        """Whether a replacement takes this value, as technical value or, with display picklists, by its label."""
        shown = label if self.table.picklists == "display" else None
        return any(each is not None and (source, each) in self._replacements for each in (text(value), shown))

    def key(self, key: str) -> str:
        """The Campaign key of a Dynamics key: the same text. Raises RejectError if it does not fit."""
        if self.key_field.length is not None and len(key) > self.key_field.length:
            raise RejectError(
                f"key field {self.key_field.name} holds {self.key_field.length} characters, the key has {len(key)}",
                code="key_too_long",
                stage="map",
            )
        return key

    def _chosen(self, event: ChangeEvent, field: FieldMapping) -> Value:
        """The value of one column: replaced, or its display value, or as it is."""
        value = event.key if field.source == self.table.key.source else event.fields[field.source]
        display = event.labels.get(field.source) if self.table.picklists == "display" else None
        for shown in (text(value), display):
            if shown is not None and (field.source, shown) in self._replacements:
                return self._replacements[field.source, shown]
        return value if display is None else display


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`{"location.city": "Oslo"}` → `{"location": {"city": "Oslo"}}`."""
    body: dict[str, Any] = {}
    for name, value in fields.items():
        *parents, last = name.split(".")
        place = body
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return body


def flat(body: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The inverse of `nested`."""
    fields: dict[str, Any] = {}
    for name, value in body.items():
        if isinstance(value, Mapping):
            fields |= flat(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields
