"""What Campaign offers to a mapping: the published resources (campaign.md §5.2). Their fields come from bridge.campaign.metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.campaign.client import CampaignClient
from bridge.campaign.metadata import CUSTOM, EXT, tried


@dataclass(frozen=True, slots=True)
class ResourceInfo:
    name: str
    label: str


async def list_resources(client: CampaignClient) -> list[ResourceInfo]:
    """`profile` first, then the others by name. Raises RetryError or HaltError."""
    found = {"profile": ResourceInfo("profile", "Profiles")}
    for family in (EXT, CUSTOM):
        listed = await tried(client, family) or await tried(client, f"{family}/") or {}
        for name, entry in listed.items():
            if isinstance(entry, Mapping) and (entry.get("type") == "collection" or entry.get("data")):
                found[name] = ResourceInfo(name, str(entry.get("label") or entry.get("help") or name))
    return sorted(found.values(), key=lambda each: (each.name != "profile", each.name))
