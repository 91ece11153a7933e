"""A profile of Campaign as the writer of Opt In/Out looks at it and writes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bridge.campaign.client import CampaignClient
from bridge.campaign.errors import NotFound
from bridge.consent.profiles import PROFILES, ahead_ms, flag_time
from bridge.consent.rule import Clocks
from bridge.consent.words import OLDEST
from bridge.dynamics.client import DynamicsClient
from bridge.model.flags import UNTIMED
from services.optin.observing import Observing

Inputs = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Found:
    """`key`: as Campaign has it, which older integrations wrote in capitals."""

    key: str
    profile: Mapping[str, Any]

    def changed_since(self, name: str, inputs: Inputs) -> bool:
        """Whether somebody has changed a flag here after what the decision knew. Without a time of its own it cannot be told."""
        known = inputs.get(name, {}).get("campaign_changed_at") or OLDEST
        return name not in UNTIMED and (flag_time(name, self.profile) or OLDEST) > known


class Profiles:
    def __init__(self, client: CampaignClient, dynamics: DynamicsClient, observing: Observing) -> None:
        self._client, self._dynamics, self._observing = client, dynamics, observing

    async def look(self, contact: str) -> Found | None:
        """As it is now; None if there is none. Keys are compared by letter in Campaign, so one in capitals is looked for as well."""
        for key in dict.fromkeys((contact, contact.upper())):
            try:
                return Found(key, await self._client.read(PROFILES, key))
            except NotFound:
                continue
        return None

    async def observe(self, contact: str, profile: Mapping[str, Any]) -> None:
        """Publishes a profile that was just looked at for the resolver."""
        await self._observing.profile(contact, profile, self._client.ahead_s)

    async def opt_out(self, found: Found, names: Sequence[str]) -> int:
        """The status of the answer."""
        return await self._client.update(PROFILES, found.key, dict.fromkeys(names, True))

    async def objecting(self, contact: str, lowers: Collection[str], inputs: Inputs) -> set[str]:
        """Of flags of Dynamics to be lowered, those that Campaign shows as opted out by now (the export is of last night), and those whose
        opt-in is not later for sure by the clocks as both systems show them now."""
        if not lowers:
            return set()
        found = await self.look(contact)
        profile = found.profile if found is not None else {}
        names = {pair.dynamics: pair.campaign for pair in self._observing.pairs}
        back = {name for name in lowers if profile.get(names[name]) is True}
        clocks = Clocks(_difference(self._client.ahead_s), _difference(self._dynamics.ahead_s))
        doubtful = {name for name in lowers if not _later(inputs.get(name, {}), clocks)}
        if profile and back | doubtful:
            await self.observe(contact, profile)
        return back | doubtful


def _later(inputs: Mapping[str, Any], clocks: Clocks) -> bool:
    """Whether Campaign's word is later than that of Dynamics, if there is one."""
    campaign, dynamics = inputs.get("campaign_changed_at"), inputs.get("dynamics_changed_at")
    return dynamics is None or (campaign is not None and clocks.later_in_campaign(campaign, dynamics))


def _difference(our_ahead_s: float | None) -> timedelta | None:
    ahead = ahead_ms(our_ahead_s)
    return None if ahead is None else timedelta(milliseconds=ahead)
