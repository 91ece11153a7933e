"""One value of Dynamics into the type of its field in Campaign (campaign.md §9.3 and §4.3). Pure.

`None` means empty on both sides. What does not fit raises RejectError with stage `map`, naming the field, never the value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Literal

from bridge.mapping.values import moment, text, truth
from bridge.model.errors import RejectError
from bridge.model.events import Value

Kind = Literal["string", "integer", "number", "boolean", "date", "datetime", "enumeration", "link", "collection", "item"]
POLICIES = {"email", "phone", "identifier"}  # of Campaign's fields
ADDRESSES = ("email", "phone", "fax", "website")  # wherever in a name
IDENTIFIERS = {"mobile", "url", "uri", "id", "uuid", "guid", "key", "code", "number", "iban"}  # as a word of a name
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# White space, and what is copied along from pages and directories and cannot be seen.
BLANK = "".join(each for each in map(chr, range(0x3001)) if each.isspace())
BLANK += "\u00ad\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
LONGEST = {"byte": 2**7, "short": 2**15, "long": 2**31, "int64": 2**63}


@dataclass(frozen=True, slots=True)
class TargetField:
    """A field of a Campaign resource as its metadata describes it; `name` is dotted for members of an item. `length` in characters."""

    name: str
    kind: Kind
    raw_type: str = "string"
    length: int | None = None
    read_only: bool = False
    label: str = ""
    options: tuple[tuple[str, str], ...] = ()  # (name, label) of an enumeration, in order
    policy: str = ""  # its `dataPolicy`
    link: str = ""  # the resource that a link leads to, where that is told

    @property
    def exact(self) -> bool:
        """Whether it identifies or addresses somebody, as its policy, type or name tells: cut, it would be somebody else's."""
        return self.raw_type == "uuid" or self.policy in POLICIES or _named_exact(self.name.rpartition(".")[2])


def convert(value: Value, field: TargetField, exact: bool = False) -> Value:
    """The value as Campaign takes it. Texts longer than the field are cut at its length, unless they are `exact`, on whichever side:
    numbers, dates, ids, e-mail addresses, phone numbers, URLs. Blank is empty for all but plain texts. Raises RejectError."""
    exact = exact or field.exact or not isinstance(value, str)
    if isinstance(value, str) and (exact or field.kind != "string"):
        value = trimmed(value)
    if value is None or value == "":
        return None
    try:
        match field.kind:
            case "string":
                return _fitting(text(value), field, exact)
            case "integer":
                return _integer(value, field)
            case "number":
                return _number(value)
            case "boolean":
                return _boolean(value)
            case "date":
                return _time(value).date().isoformat()
            case "datetime":
                return campaign_time(_time(value))
            case "enumeration":
                return _option(value, field)
            case _:
                raise ValueError("links and collections cannot be written")
    except (ValueError, InvalidOperation, OverflowError) as exc:
        raise RejectError(
            f"field {field.name}: the value does not fit type {field.kind}; map another field or add a replacement",
            code="not_convertible",
            stage="map",
        ) from exc


def empty(field: TargetField) -> Value:
    """What Campaign shows, and takes, for an empty field of this kind (campaign.md §3.2)."""
    match field.kind:
        case "integer" | "number":
            return 0
        case "boolean":
            return False
        case "enumeration":
            names = [name for name, _ in field.options]
            return next((name for name in ("unknown", "none") if name in names), "")
        case _:
            return ""


def campaign_time(moment: datetime) -> str:
    """`2018-05-17 08:44:49.366Z`: with a blank, UTC, three decimals."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%d %H:%M:%S}.{utc.microsecond // 1000:03d}Z"


@cache
def _named_exact(name: str) -> bool:
    """`cusEmail2`, `phone`, `cusLoyaltyId`, not `cusHumidity`."""
    return any(each in name.lower() for each in ADDRESSES) or any(word.lower() in IDENTIFIERS for word in WORD.findall(name))


def trimmed(value: str) -> str:
    """Without white space and invisible characters at either end."""
    return value.strip(BLANK)


def cut(value: Value, field: TargetField, exact: bool = False) -> bool:
    """Whether `convert` would cut this value."""
    plain = field.kind == "string" and isinstance(value, str) and not (exact or field.exact)
    return plain and field.length is not None and len(text(value)) > field.length


def _fitting(value: str, field: TargetField, exact: bool) -> str:
    if field.length is None or len(value) <= field.length:
        return value
    if exact:
        raise RejectError(
            f"field {field.name} holds {field.length} characters, the value has {len(value)}; addresses, numbers and ids are not cut: "
            "lengthen the field in Campaign, or shorten the value in Dynamics",
            code="too_long",
            stage="map",
        )
    return value[: field.length]


def _integer(value: Any, field: TargetField) -> int:
    number = Decimal(int(value)) if isinstance(value, bool) else Decimal(text(value))
    bound = LONGEST.get(field.raw_type, 2**63)
    if number != number.to_integral_value() or not -bound <= number < bound:
        raise ValueError("not a whole number in range")
    return int(number)


def _number(value: Any) -> float:
    number = float(value) if isinstance(value, bool | int | float) else float(Decimal(value))
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("not a finite number")
    return number


def _boolean(value: Any) -> bool:
    if (known := truth(value)) is not None:
        return known
    number = Decimal(text(value))
    if number in (0, 1):
        return bool(number)
    raise ValueError("neither yes nor no")


def _time(value: Any) -> datetime:
    if (found := moment(value)) is None:
        raise ValueError("not a date")
    return found


def _option(value: Any, field: TargetField) -> str:
    wanted = text(value)
    for matches in (lambda name, label: name == wanted, lambda name, label: wanted.lower() in (name.lower(), label.lower())):
        for name, label in field.options:
            if matches(name, label):
                return name
    if field.options:
        raise ValueError("not one of the enumeration's names")
    return wanted
