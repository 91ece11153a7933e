"""What Campaign offers to a mapping: the published resources (campaign.md §5.2). Their fields come from bridge.campaign.metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.campaign.client import CampaignClient
from bridge.campaign.metadata import CUSTOM, EXT, listing
from bridge.model.errors import RetryError


@dataclass(frozen=True, slots=True)
class ResourceInfo:
    name: str
    label: str


async def list_resources(client: CampaignClient) -> list[ResourceInfo]:
    """`profile` first, then the others by name. Raises RetryError or HaltError."""
    found, unclear = {"profile": ResourceInfo("profile", "Profiles")}, list[RetryError]()
    for family in (EXT, CUSTOM):
        for name, entry in (await listing(client, family, unclear)).items():
            if isinstance(entry, Mapping) and (entry.get("type") == "collection" or entry.get("data")):
                found[name] = ResourceInfo(name, str(entry.get("label") or entry.get("help") or name))
    if unclear and len(found) == 1:
        raise unclear[0]
    return sorted(found.values(), key=lambda each: (each.name != "profile", each.name))
