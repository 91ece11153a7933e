"""Stand-in for Adobe Campaign Standard: `CampaignSandbox` in process, or `python -m sandbox.campaign --port 9002`."""

from sandbox.campaign.server import CampaignSandbox
from sandbox.campaign.settings import Settings

__all__ = ["CampaignSandbox", "Settings"]
