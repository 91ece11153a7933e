"""The conflict rule of campaign.md §10.4, applied to words. Pure.

Flag by flag: Campaign's word wins if it is later; else TRUE wins if either side says so. A side without a word does not object.

                    Campaign TRUE    Campaign FALSE, later    Campaign FALSE, not later
    Dynamics TRUE   TRUE             FALSE                    TRUE
    Dynamics FALSE  TRUE             FALSE                    FALSE

Clocks are nobody's proof (rule 5 of the consent contract): a comparison across systems is by whole seconds, as Dynamics has them, and takes
off by how much each clock was ahead of ours; in doubt TRUE.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from bridge.consent.words import Status, Word

OUT_IN_CAMPAIGN, OUT_IN_DYNAMICS = "opted-out-in-campaign", "opted-out-in-dynamics"
CAMPAIGN_LATER, IN_ON_BOTH = "campaign-is-later", "opted-in-on-both"
CAMPAIGN_CHANGED = "campaign-changed"  # one way: Campaign is followed


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a flag has to be, and by which rule."""

    value: bool
    rule: str


@dataclass(frozen=True, slots=True)
class Clocks:
    """By how much each system's clock is ahead of ours; None: not measured."""

    campaign: timedelta | None = None
    dynamics: timedelta | None = None

    def later_in_campaign(self, campaign: datetime, dynamics: datetime) -> bool:
        """Whether a moment of Campaign's clock is later than one of Dynamics', for sure."""
        return all((campaign - ahead).replace(microsecond=0) > dynamics for ahead in self._differences())

    def later_in_dynamics(self, dynamics: datetime, campaign: datetime) -> bool:
        """Whether a moment of Dynamics' clock, which knows whole seconds, is later than one of Campaign's, for sure."""
        return all(dynamics > campaign - ahead for ahead in self._differences())

    def _differences(self) -> set[timedelta]:
        """By how much Campaign's clock may be ahead of Dynamics'. With one that was not measured it may be as the other one."""
        zero = timedelta(0)
        difference = (self.campaign or zero) - (self.dynamics or zero)
        return {difference} if self.campaign is not None and self.dynamics is not None else {difference, zero}


UNMEASURED = Clocks()


def ruling(campaign: Word | None, dynamics: Word | None, clocks: Clocks = UNMEASURED, shown: bool = False) -> Ruling:
    """`shown`: Campaign holds TRUE, whoever put it there."""
    if shown or (campaign is not None and campaign.value):
        return Ruling(True, OUT_IN_CAMPAIGN)
    if dynamics is None or not dynamics.value:
        return Ruling(False, IN_ON_BOTH)
    if campaign is None or not clocks.later_in_campaign(campaign.at, dynamics.at):
        return Ruling(True, OUT_IN_DYNAMICS)
    return Ruling(False, CAMPAIGN_LATER)


def clocks_of(status: Status) -> Clocks:
    return Clocks(status.campaign.ahead, status.dynamics.ahead)
