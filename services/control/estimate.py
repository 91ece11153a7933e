"""How many opt-outs a plan would take away and how many records it would delete, beside the limits of the consent guard. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.model.flags import OPT_OUT_FLAGS
from services.control.models import EstimateOut
from services.control.models_data import LimitedOut


def lowers(body: dict[str, Any], current: dict[str, Any]) -> bool:
    """Whether writing `body` takes away an opt-out that Campaign has now."""
    return any(body.get(flag) is False and current.get(flag) is True for flag in OPT_OUT_FLAGS)


def whole(found: int, sample: int, total: int | None) -> int | None:
    """The same for all rows, by proportion; None if nobody knows how many there are, or none was tried."""
    return None if total is None or sample == 0 else round(found * max(total, sample) / sample)


def limited(found: int, whole: int | None, limit: int) -> LimitedOut:
    return LimitedOut(sample=found, total=whole, limit=limit, above=(found if whole is None else whole) > limit)


def together(tables: Sequence[LimitedOut]) -> EstimateOut:
    totals = [each.total for each in tables if each.total is not None]
    return EstimateOut(sample=sum(each.sample for each in tables), total=sum(totals) if len(totals) == len(tables) else None)
