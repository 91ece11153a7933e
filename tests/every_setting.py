"""All classes of settings, wherever they are."""

from __future__ import annotations

from bridge.campaign.settings import CampaignSettings, ExportSettings, JournalSettings
from bridge.consent.settings import ConsentSettings
from bridge.dynamics.settings import DynamicsSettings
from bridge.flow.settings import WriterSettings
from bridge.kafka.settings import KafkaSettings
from bridge.model.settings import Settings
from bridge.observe.settings import ServiceSettings
from services.control.settings import ControlSettings
from services.egress.settings import EventSettings, TimelineSettings
from services.optin.settings import ResolverSettings

EVERY_SETTINGS: tuple[type[Settings], ...] = (
    KafkaSettings,
    ServiceSettings,
    DynamicsSettings,
    CampaignSettings,
    JournalSettings,
    EventSettings,
    TimelineSettings,
    WriterSettings,
    ExportSettings,
    ConsentSettings,
    ResolverSettings,
    ControlSettings,
)
