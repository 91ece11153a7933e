"""JSON as others send it: decimals exact, and one error for whatever can be wrong with it. Pure."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

LARGEST_EXPONENT = 308  # of a float; one more digit than that and a few bytes become a gigabyte as soon as they are written out


def loads(text: str | bytes) -> Any:
    """Numbers with a point or an exponent are Decimals. Raises ValueError for what is not JSON, for NaN, Infinity and numbers beyond those
    of a float, and for what is nested too deeply to be read."""
    try:
        return json.loads(text, parse_float=_number, parse_constant=_no_number)
    except (ArithmeticError, RecursionError) as exc:
        raise ValueError(type(exc).__name__) from None


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if abs(number.adjusted()) > LARGEST_EXPONENT:
        raise ValueError("a number beyond those of a float")
    return number


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
