"""How long to wait, and when dead letters mean that we are wrong rather than the data. Pure."""

from __future__ import annotations

import random
from collections import deque

from bridge.model.errors import HaltError

FIRST_S, LONGEST_S = 0.5, 60.0
WINDOW = 500
LEAST_TO_JUDGE = 200


def backoff_s(attempt: int, rng: random.Random, longest_s: float = LONGEST_S) -> float:
    """Seconds before try `attempt` + 1: 0.5, 1, 2, … up to `longest_s`, each shortened by up to a quarter so that waiters spread."""
    return float(min(FIRST_S * 2 ** min(max(attempt - 1, 0), 20), longest_s) * rng.uniform(0.75, 1.0))


class LetterLimit:
    """Raises HaltError at the `in_a_row`-th dead letter without a success between, or when more than `ratio` of the last 500
    records (200 at least) ended there."""

    def __init__(self, in_a_row: int, ratio: float) -> None:
        self._in_a_row, self._ratio = in_a_row, ratio
        self._streak = 0
        self._window: deque[bool] = deque(maxlen=WINDOW)

    def passed(self) -> None:
        self._streak = 0
        self._window.append(False)

    def set_aside(self) -> None:
        """To be called before a record is dead-lettered."""
        self._streak += 1
        self._window.append(True)
        bad = sum(self._window)
        if self._streak >= self._in_a_row:
            raise _too_many(f"{self._streak} records in a row")
        if len(self._window) >= LEAST_TO_JUDGE and bad > self._ratio * len(self._window):
            raise _too_many(f"{bad} of the last {len(self._window)} records")


def _too_many(what: str) -> HaltError:
    return HaltError(
        f"{what} could not be used: configuration, settings or target are wrong, not the data",
        code="too_many_dead_letters",
        hint="Look at the dead letters' groups, mend the mapping, the settings or the target, then start again.",
        origin="service",
    )
