"""What a history begins with: direction, mappings, limits, clocks and who is there already. Everything is drawn from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.faults.consent.campaign import PAIRED
from tests.faults.consent.exports import ZONE
from tests.faults.consent.truth import Direction

KEYS = tuple(f"{number}0000000-0000-4000-8000-0000000000ab" for number in (1, 2, 3))
DIRECTIONS: tuple[Direction, ...] = ("dynamics-to-campaign", "campaign-to-dynamics", "bidirectional", "both")
HOURS, DAYS = 3_600_000, 86_400_000


@dataclass(frozen=True, slots=True)
class Setup:
    """`lower_limit`, `delete_limit`: in an hour, None for the default, which a history never reaches. `ours`, `dynamics`, `campaign`: by
    how many milliseconds these clocks are ahead. `declares`: somebody says so when Dynamics was restored. `zone`:
    CAMPAIGN_EXPORT_TIME_ZONE. `short`: all of it happens within an hour. In the end: `mends`: what Campaign refuses is corrected;
    `exports`: it exports everything once more."""

    direction: Direction
    flags: tuple[str, str]
    people: int
    filtered: bool
    delete_filtered_out: bool
    apply_deletes: bool
    lower_limit: int | None
    delete_limit: int | None
    ours: int
    dynamics: int
    campaign: int
    declares: bool
    mends: bool
    exports: bool
    zone: str | None
    short: bool
    steps: int

    @staticmethod
    def drawn(rng: random.Random) -> Setup:
        filtered = rng.random() < 0.5
        skewed = rng.random() < 0.4
        lower_limit, short = rng.choice((None, None, None, 0, 1)), rng.random() < 0.3
        return Setup(
            direction=rng.choices(DIRECTIONS, (4, 2, 5, 2))[0],
            flags=PAIRED[rng.random() < 0.1],
            people=3 if lower_limit and short else rng.choice((1, 1, 1, 2, 2, 3)),
            filtered=filtered,
            delete_filtered_out=filtered and rng.random() < 0.6,
            apply_deletes=rng.random() < 0.6,
            lower_limit=lower_limit,
            delete_limit=rng.choice((None, None, None, 0, 1)),
            ours=_skew(rng) if skewed else 0,
            dynamics=_skew(rng) if skewed else 0,
            campaign=_skew(rng) if skewed else 0,
            declares=rng.random() < 0.8,
            mends=rng.random() < 0.6,
            exports=rng.random() < 0.7,
            zone=ZONE if rng.random() < 0.6 else None,
            short=short,
            steps=rng.randint(6, 30),
        )

    @property
    def ingress_has_flags(self) -> bool:
        return self.direction in ("dynamics-to-campaign", "both")

    @property
    def optin_runs(self) -> bool:
        return self.direction != "dynamics-to-campaign"

    def pause(self, rng: random.Random) -> int:
        """Milliseconds until something happens again."""
        if self.short:
            return rng.choice((1, 120, 400, 900, 3_000, 20_000))
        return rng.choice((1, 120, 400, 900, 3_000, 20_000, 20_000, 600_000, 600_000, 3 * HOURS))


def _skew(rng: random.Random) -> int:
    """Two of them differ by more than two seconds, or not at all: less cannot be measured."""
    return rng.choice((0, 0, 2_500, -30_000, 90_000, -240_000))
