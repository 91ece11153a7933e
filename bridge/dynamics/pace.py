"""How soon to ask a table again. Pure.

Right after changes more are likely, so the next poll comes early; an idle table is asked at the configured interval, never later, since
half of that is what people wait. Many tables share a quarter of the environment's request limit at most (dataverse.md §8.1).
"""

from __future__ import annotations

REQUESTS_PER_S = 6000 / 300
SHARE = 0.25
EARLY = 0.2
GROWTH = 1.5


def next_poll_s(interval_s: float, last_wait_s: float, changed: bool, tables: int) -> float:
    """Seconds to the next poll of one of `tables`, after a poll that brought something or did not."""
    least = tables / (REQUESTS_PER_S * SHARE)
    wait = interval_s * EARLY if changed else min(last_wait_s * GROWTH, interval_s)
    return max(wait, least)
