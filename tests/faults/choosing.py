"""Which fault tests are tried when there is no time for all."""

from __future__ import annotations

import random
from collections.abc import Mapping

BUDGET_S = 300.0


def chosen(takes: Mapping[str, tuple[float, bool]], seed: int, budget_s: float = BUDGET_S) -> set[str]:
    """Names out of `takes` (seconds, and whether it is never left out), as many as fit, the same for the same seed."""
    names = sorted(takes)
    random.Random(seed).shuffle(names)
    names.sort(key=lambda name: not takes[name][1])
    found, left = set[str](), budget_s
    for name in names:
        seconds, always = takes[name]
        if always or seconds <= left:
            left -= seconds
            found.add(name)
    return found
