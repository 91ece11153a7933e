"""What people said, and what follows from it by the contract alone (consent.md; campaign.md §10.4). Imports nothing of the product.

All times are true ones, in milliseconds: people know when they said something, whatever the clocks of the systems show.

A *word* is what somebody said about a flag in one system. In Campaign it has the time of the flag. In Dynamics it has the time of the
record: whoever changes the contact says all its flags again (rule 3), unless it is our own application user. Defaults, creations with
FALSE, restores and our own writes are no words. `heard`: which of our readers have seen it; what was said and taken back, deleted or
overwritten before any reader could see it binds nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

System = Literal["dynamics", "campaign"]
Direction = Literal["dynamics-to-campaign", "campaign-to-dynamics", "bidirectional", "both"]
"""`both`: bidirectional, with the flags in the contact mapping of ingress as well."""
Hearer = Literal["ingress", "optin"]
SYSTEMS: tuple[System, ...] = ("dynamics", "campaign")
Place = tuple[str, int]
"""A contact's key and the number of a flag."""


@dataclass(eq=False, slots=True)
class Word:
    """`at`: when it was said, as the rules compare it; `since`: when the value itself was chosen."""

    value: bool
    at: int
    since: int
    heard: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Book:
    """All words of a history. `heard_by`: in which of our readers' ears a word has to be before it can bind."""

    direction: Direction
    said: dict[tuple[Place, System], list[Word]] = field(default_factory=dict)
    carried: dict[Place, list[Word]] = field(default_factory=dict)

    def say(self, place: Place, system: System, value: bool, at: int, since: int | None = None) -> Word:
        word = Word(value, at, at if since is None else since)
        self.said.setdefault((place, system), []).append(word)
        return word

    def carry(self, word: Word, place: Place) -> None:
        """A word of a contact that was merged into this one, where both systems are told what people said."""
        if self.direction in ("bidirectional", "both"):
            self.said.setdefault((place, "dynamics"), []).append(word)
            self.carried.setdefault(place, []).append(word)

    def last(self, place: Place, system: System, hearer: Hearer | None = None) -> Word | None:
        """The latest word in a system; of two of one time the one that says no. Of those that say no only what `hearer` has heard."""
        words = [each for each in self.said.get((place, system), ()) if hearer is None or not each.value or hearer in each.heard]
        return max(words, key=lambda each: (each.at, each.value), default=None)

    def must_be_true(self, place: Place, target: System) -> bool:
        """Whether `target` may not show this person as mailable: the last word is no, over all that was said, and without what nobody has
        heard as well."""
        return all(self._says_no(place, target, each) for each in (None, self.hearer))

    @property
    def hearer(self) -> Hearer:
        """Who has to have heard a word before it can bind."""
        return "ingress" if self.direction == "dynamics-to-campaign" else "optin"

    def _says_no(self, place: Place, target: System, hearer: Hearer | None) -> bool:
        campaign, dynamics = self.last(place, "campaign", hearer), self.last(place, "dynamics", hearer)
        match self.direction:
            case "bidirectional":
                return by_rule(campaign, dynamics)
            case "both":  # a change of the column from TRUE to FALSE is a word as well there (rule 2)
                return by_rule(campaign, dynamics) and not self._taken_back(place, campaign, "dynamics", hearer)
            case "dynamics-to-campaign":
                said = target == "campaign" and dynamics is not None and dynamics.value
                return said and not self._taken_back(place, dynamics, "campaign", None)  # it is looked at, not heard
            case _:
                said = target == "dynamics" and campaign is not None and campaign.value
                return said and not self._taken_back(place, campaign, "dynamics", hearer)

    def _taken_back(self, place: Place, no: Word | None, other: System, hearer: Hearer | None) -> bool:
        """Whether somebody has chosen FALSE in the other system after that TRUE was chosen, and not TRUE since. A restore that brings an
        earlier FALSE back there takes no word away."""
        last = self.last(place, other, hearer)
        if no is None or last is None or last.value:
            return no is None
        after = self.last_of(place, other, True, hearer)
        said = [each for each in self.said[place, other] if not each.value and (after is None or each.at >= after.at)]
        return any(each.since > no.since for each in said)

    def may_lower_dynamics(self, place: Place, held: Word | None) -> bool:
        """Whether TRUE may be taken back in Dynamics now. `held`: the word that its TRUE is, None if we wrote it ourselves.

        There is a word FALSE in Campaign later than that, and later than any TRUE of Campaign that we have heard of. Where the flags are in
        the contact mapping as well, a change in Dynamics has lowered Campaign, and may come back from there.
        """
        no = self.last_of(place, "campaign", True, "optin")
        said = [
            self.last_of(place, "campaign", False, None),
            self.last_of(place, "dynamics", False, None) if self.direction == "both" else None,
        ]
        yes = max((each.at for each in said if each is not None), default=None)
        return yes is not None and all(each is None or yes > each.at for each in (held if held and held.value else None, no))

    def may_lower_campaign(self, place: Place, held: Word | None, turned: int | None) -> bool:
        """Whether TRUE may be taken back in Campaign now. `turned`: when the column went from TRUE to FALSE in Dynamics by somebody else
        than us, where our reader has seen both sides; `held`: the word that Campaign's TRUE is, None if we wrote it ourselves. Where Opt
        In/Out writes to Dynamics as well, a word of Campaign has lowered Dynamics, and may come back from there."""
        yes = self.last_of(place, "campaign", False, None) if self.direction == "both" else None
        moments = [each for each in (turned, None if yes is None else yes.at) if each is not None]
        return bool(moments) and (held is None or not held.value or max(moments) >= held.at)

    def last_of(self, place: Place, system: System, value: bool, hearer: Hearer | None) -> Word | None:
        words = [each for each in self.said.get((place, system), ()) if each.value is value and (hearer is None or hearer in each.heard)]
        return max(words, key=lambda each: each.at, default=None)

    def last_no(self, place: Place) -> Word | None:
        """Why a flag is TRUE where we wrote it."""
        words = [word for system in SYSTEMS for word in self.said.get((place, system), ()) if word.value and word.heard]
        return max(words, key=lambda each: each.at, default=None)

    def readable(self, place: Place, word: Word, at: int) -> Word:
        """What can be read of a word of Dynamics once an import has set the time of the record back to `at`."""
        said = [each for each in self.said[place, "dynamics"] if each.heard and (each.value, each.since) == (word.value, word.since)]
        return max(said, key=lambda each: each.at) if said else self.say(place, "dynamics", word.value, at, word.since)

    def never_shown(self, place: Place, hearer: Hearer) -> None:
        """The contact was deleted while the flag was not mapped: what was said of it before and not written yet is gone with it."""
        for word in self.said.get((place, "dynamics"), ()):
            word.heard.discard(hearer)

    def forgotten(self, hearer: Hearer) -> None:
        """The state was lost: what was heard has to be heard again, as far as a system still shows it."""
        for words in self.said.values():
            for word in words:
                word.heard.discard(hearer)


def by_rule(campaign: Word | None, dynamics: Word | None) -> bool:
    """The rule of campaign.md §10.4: Campaign later, Campaign's value; Dynamics later or equal, TRUE if either says so."""
    if campaign is None:
        return dynamics is not None and dynamics.value
    if dynamics is None or campaign.at > dynamics.at:
        return campaign.value
    return campaign.value or dynamics.value
