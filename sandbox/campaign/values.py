"""A sent value becomes the stored one, or an error: types, lengths, enumerations, dates, policies (contract 4.3)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from sandbox.campaign import errors
from sandbox.campaign.model import Field, Resource
from sandbox.campaign.settings import Settings

Converter = Callable[[Resource, Field, Any, Settings], Any]

LIMITS = {"byte": 2**7, "short": 2**15, "long": 2**31}
DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
DATETIME = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,3})?Z)?", re.ASCII)
ISO_DATETIME = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")


def _string(resource: Resource, field: Field, sent: Any, settings: Settings) -> str:
    if not isinstance(sent, str):
        raise errors.unparsable(sent)
    value: str = sent
    if settings.data_policies:
        value = _policy(settings.data_policies.get(f"{resource.name}.{field.name}", ""), field, value)
    if field.length and len(value) > field.length:
        if settings.over_long == "error":
            raise errors.postgres(f"value too long for type character varying({field.length})")
        value = value[: field.length]
    return value


def _policy(policy: str, field: Field, value: str) -> str:
    if policy == "smartCase":
        return re.sub(r"[^\W_]+", lambda word: word.group().capitalize(), value)
    if policy == "email" and value and not EMAIL.fullmatch(value):
        raise errors.refused_value(field.name, value, "'email' data policy")
    return value


def _enum(resource: Resource, field: Field, value: Any, _: Settings) -> str:
    if value == "":
        return str(field.empty)
    if value not in field.names:
        raise errors.not_in_enumeration(resource, field.name, value)
    return str(value)


def _boolean(_: Resource, __: Field, value: Any, ___: Settings) -> bool:
    if not isinstance(value, bool):
        raise errors.unparsable(value)
    return value


def _integer(_: Resource, field: Field, value: Any, __: Settings) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
        raise errors.unparsable(value)
    if not -LIMITS[field.type] <= value < LIMITS[field.type]:
        raise errors.postgres("integer out of range")
    return int(value)


def _float(_: Resource, __: Field, value: Any, ___: Settings) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise errors.unparsable(value)
    return value


def _date(_: Resource, __: Field, value: Any, ___: Settings) -> str:
    if value == "":
        return ""
    try:
        if not isinstance(value, str) or not DATE.fullmatch(value):
            raise errors.unparsable(value)
        date.fromisoformat(value)
    except ValueError:
        raise errors.unparsable(value) from None
    return value


def _datetime(_: Resource, __: Field, value: Any, settings: Settings) -> str:
    """In: `YYYY-MM-DD[ HH:MM:SS[.mmm]Z]`; out: always with three decimals and Z."""
    if value == "":
        return ""
    try:
        if not isinstance(value, str) or not (ISO_DATETIME if settings.iso_dates else DATETIME).fullmatch(value):
            raise errors.unparsable(value)
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise errors.unparsable(value) from None
    moment = moment.astimezone(UTC) if moment.tzinfo else moment
    return f"{moment.replace(tzinfo=None).isoformat(' ', 'milliseconds')}Z"


CONVERTERS: dict[str, Converter] = {
    "string": _string,
    "enum": _enum,
    "boolean": _boolean,
    "byte": _integer,
    "short": _integer,
    "long": _integer,
    "float": _float,
    "double": _float,
    "date": _date,
    "datetime": _datetime,
}


def converted(resource: Resource, field: Field, value: Any, settings: Settings) -> Any:
    """What is stored for a scalar `value`; JSON null is the empty value. Raises AcsError."""
    return field.empty if value is None else CONVERTERS[field.type](resource, field, value, settings)
