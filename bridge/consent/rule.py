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

from bridge.consent.words import Side, Status, Word

OUT_IN_CAMPAIGN, OUT_IN_DYNAMICS = "opted-out-in-campaign", "opted-out-in-dynamics"
CAMPAIGN_LATER, IN_ON_BOTH = "campaign-is-later", "opted-in-on-both"
CAMPAIGN_CHANGED = "campaign-changed"  # one way: Campaign is followed


@dataclass(frozen=True, slots=True)
class Ruling:
    """What a flag has to be, and by which rule."""

    value: bool
    rule: str


def ruling(campaign: Word | None, dynamics: Word | None, ahead: timedelta = timedelta(0), shown: bool = False) -> Ruling:
    """`ahead`: by how much Campaign's clock is ahead of Dynamics'. `shown`: Campaign holds TRUE, whoever put it there."""
    if shown or (campaign is not None and campaign.value):
        return Ruling(True, OUT_IN_CAMPAIGN)
    if dynamics is None or not dynamics.value:
        return Ruling(False, IN_ON_BOTH)
    if campaign is None or not campaign_later(campaign.at, dynamics.at, ahead):
        return Ruling(True, OUT_IN_DYNAMICS)
    return Ruling(False, CAMPAIGN_LATER)


def campaign_later(campaign: datetime, dynamics: datetime, ahead: timedelta = timedelta(0)) -> bool:
    """Whether a moment of Campaign's clock is later than one of Dynamics', for sure."""
    return (campaign - ahead).replace(microsecond=0) > dynamics


def between(status: Status) -> timedelta:
    """By how much Campaign's clock is ahead of Dynamics'."""
    return status.campaign.ahead - status.dynamics.ahead


def said_later(word: Word | None, other: Word | None, side: Side, other_side: Side) -> bool:
    """Whether `word` was said after `other` of the other system, for sure. A word that is missing is older than any."""
    if word is None:
        return False
    return other is None or (word.at - side.ahead).replace(microsecond=0) > other.at - other_side.ahead
