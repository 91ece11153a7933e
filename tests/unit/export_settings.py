"""Settings of the reader of exports, for tests."""

from __future__ import annotations

from bridge.campaign.settings import ExportSettings
from bridge.model.settings import load

REQUIRED = {f"CAMPAIGN_SFTP_{name}": "x" for name in ("HOST", "USER", "KEY_FILE", "KNOWN_HOSTS_FILE")}


def export_settings(**named: str) -> ExportSettings:
    """With those that begin with CAMPAIGN_EXPORT_, without that. Raises SettingsError."""
    return load(ExportSettings, REQUIRED | {f"CAMPAIGN_EXPORT_{name}": value for name, value in named.items()})
