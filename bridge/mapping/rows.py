"""A change event and its table's mapping → what Campaign is to hold. Pure: no I/O, no clock, no Kafka.

Order: filter, picklist display value, replacement, conversion to the target's type. Fields keep dotted names here;
`nested` makes the JSON body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from bridge.mapping.convert import TargetField, convert, cut
from bridge.mapping.filters import passes
from bridge.mapping.values import number, text
from bridge.model.config import FieldMapping, TableMapping
from bridge.model.errors import RejectError
from bridge.model.events import ChangeEvent, Value
from bridge.model.flags import OPT_OUT_FLAGS, canonical_flag

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
        self._numbers = {(each.source, number(each.from_value.strip())): each.to for each in reversed(table.replacements)}

    def to_campaign(self, event: ChangeEvent) -> Mapped | Skip:
        """The record for an upsert event."""
        if not self._columns <= event.fields.keys():
            return Skip.INCOMPLETE
        if not passes({**event.fields, self.table.key.source: event.key}, self.table.filter):
            return Skip.FILTERED
        fields = {to.name: self._converted(event, field, to) for field, to in self._fields if to.name not in self.flags}
        return Mapped(self.key(event.key), fields, self._first_only - self.flags)

    def said(self, event: ChangeEvent) -> dict[str, bool | None]:
        """The opt-out flags of an event, by Campaign's names: None for one that Dynamics leaves open, or that cannot be told, which must
        neither become FALSE nor hold up its neighbours. One that the event does not carry is left out."""
        found: dict[str, bool | None] = {}
        for field, to in self._fields:
            if to.name not in self.flags or (field.source not in event.fields and field.source != self.table.key.source):
                continue
            try:
                value = self._converted(event, field, to)
            except RejectError:
                value = None
            found[to.name] = value if isinstance(value, bool) else None
        return found

    def doubts(self, event: ChangeEvent) -> Iterator[tuple[FieldMapping, TargetField, Doubt]]:
        """The fields of a row that lose something on the way, for the plan: cut at the target's length, or refused."""
        for field, to in self._fields:
            chosen, exact = self._chosen(event, field, to)
            try:
                convert(chosen, to, exact)
            except RejectError:
                yield field, to, "not_convertible"
                continue
            if cut(chosen, to, exact):
                yield field, to, "truncated"

    def replaces(self, event: ChangeEvent, source: str) -> bool:
        """Whether a replacement takes the value of this column, as technical value or, with display picklists, by its label."""
        return self._replaced(event, source, event.fields.get(source)) is not None

    def key(self, key: str) -> str:
        """The Campaign key of a Dynamics key: the same text. Raises RejectError if it does not fit."""
        if self.key_field.length is not None and len(key) > self.key_field.length:
            raise RejectError(
                f"key field {self.key_field.name} holds {self.key_field.length} characters, the key has {len(key)}",
                code="key_too_long",
                stage="map",
            )
        return key

    def _converted(self, event: ChangeEvent, field: FieldMapping, to: TargetField) -> Value:
        chosen, exact = self._chosen(event, field, to)
        return convert(chosen, to, exact)

    def _chosen(self, event: ChangeEvent, field: FieldMapping, to: TargetField) -> tuple[Value, bool]:
        """The value of one column: replaced, or its display value, or as it is; for a date the day it is where people live. And whether it
        is more than words."""
        value = event.key if field.source == self.table.key.source else event.fields[field.source]
        replaced = self._replaced(event, field.source, value)
        if replaced is not None:
            return replaced, False
        if to.kind == "date" and field.source in event.days:
            return event.days[field.source], True
        display = self._display(event, field.source)
        return (value, field.source in event.exact) if display is None else (display, False)

    def _display(self, event: ChangeEvent, source: str) -> str | None:
        return event.labels.get(source) if self.table.picklists == "display" else None

    def _replaced(self, event: ChangeEvent, source: str, value: Value) -> str | None:
        """What replaces a value: found as it is written, else by its label, else a number as a number (`5` for `5.0000`)."""
        for shown in (text(value), self._display(event, source)):
            if shown is not None and (source, shown) in self._replacements:
                return self._replacements[source, shown]
        counted = number(value) if source in event.exact or not isinstance(value, str) else None
        return None if counted is None else self._numbers.get((source, counted))


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
