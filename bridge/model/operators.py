"""The comparisons of a filter, by what they take. What each means is in bridge/mapping/filters.py, its words in static/operators.js."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Equality = Literal["eq", "ne"]  # a value, null for an empty field, or a list: the set of options that a column holds
Ordering = Literal["lt", "le", "gt", "ge"]  # a value
Part = Literal["contains", "begins_with", "ends_with"]  # a text
Choice = Literal["in"]  # a list of values
Emptiness = Literal["is_empty", "is_not_empty"]  # nothing
Options = Literal["contains_any", "contains_all"]  # an option, or a list of them; for columns that hold several
Operator = Literal[Equality, Ordering, Part, Choice, Emptiness, Options]
OperatorKind = Literal["equality", "order", "part", "choice", "emptiness", "options"]

_NAMES: Mapping[OperatorKind, object] = {
    "equality": Equality,
    "order": Ordering,
    "part": Part,
    "choice": Choice,
    "emptiness": Emptiness,
    "options": Options,
}
OPERATORS: Mapping[Operator, OperatorKind] = {name: kind for kind, names in _NAMES.items() for name in get_args(names)}
