"""Words of the pages that are data: workflows, events, settings with the variables they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.model.desired import Workflow

ABOUT: Mapping[Workflow, str] = {
    "ingress": "Contacts and custom tables, from Microsoft Dynamics 365 to Campaign",
    "egress": "E-mail marketing events, from Campaign to Microsoft Dynamics 365",
    "optin": "Opt-in and opt-out statuses, either way or both",
}


@dataclass(frozen=True, slots=True)
class Search:
    """Of one record. `about`: what is known of it; `tables`: whether its table is to be chosen."""

    about: str
    key: str = "Key of the contact"
    tables: bool = False


RECORDS: Mapping[Workflow, Search] = {
    "ingress": Search("one record: when it was read, whether it waits, what became of it.", "Key of the record", True),
    "egress": Search("one contact: when its last e-mail event was read, which events wait, what became of the last one."),
    "optin": Search("one contact: when its status was observed in Dynamics or Campaign, what was decided, whether it has been written."),
}

EVENTS: Sequence[tuple[str, str, str]] = (
    ("send", "Sends", "An e-mail was sent."),
    ("click", "Clicks", "A link (URL) in an e-mail was clicked."),
    ("open", "Opens", "An e-mail was opened."),
    ("bounce", "Bounces", "An e-mail bounced hard: the address does not exist."),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A setting on the settings page. `name`: in the API's answer; None for what this product does not use, `note` says why."""

    label: str
    variable: str | None
    name: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    id: str
    title: str
    system: str
    settings: Sequence[Shown]
    note: str = ""


NOT_NEEDED = "not needed for OAuth server-to-server"

SETTINGS: Sequence[Section] = (
    Section(
        "dynamics",
        "Microsoft Dynamics 365 Credentials",
        "dynamics",
        (
            Shown("Client ID", "DYNAMICS_CLIENT_ID", "client_id"),
            Shown("Client Secret", "DYNAMICS_CLIENT_SECRET", "client_secret"),
            Shown("Tenant", "DYNAMICS_TENANT_ID", "tenant_id"),
            Shown("URL", "DYNAMICS_URL", "url", "https://<server>.api.crm.dynamics.com/"),
            Shown("Token address", "DYNAMICS_TOKEN_URL", "token_url"),
        ),
    ),
    Section(
        "campaign",
        "Adobe (API) Credentials",
        "campaign",
        (
            Shown("Auth type", None, None, "Oauth (server-to-server). JWT has been switched off by Adobe."),
            Shown("Client ID", "CAMPAIGN_CLIENT_ID", "client_id"),
            Shown("Client Secret", "CAMPAIGN_CLIENT_SECRET", "client_secret"),
            Shown("Organization ID", "CAMPAIGN_ORG_ID", "org_id", "<id>@AdobeOrg"),
            Shown("Technical Account ID", None, None, NOT_NEEDED),
            Shown("Technical Account Email", None, None, NOT_NEEDED),
            Shown("adobe.io Integration ID", None, None, NOT_NEEDED),
            Shown("adobe.io Org ID", None, None, NOT_NEEDED),
            Shown("URL", "CAMPAIGN_URL", "url", "https://mc.adobe.io/<campaign-instance-name>"),
            Shown("Token address", "CAMPAIGN_TOKEN_URL", "token_url"),
            Shown("Scopes", "CAMPAIGN_SCOPES", "scopes"),
            Shown("I/O Events journal", "CAMPAIGN_JOURNAL_URL", "journal_url", "for egress; of the registration in the Adobe console"),
        ),
    ),
    Section(
        "sftp",
        "Optional Adobe Campaign SFTP Settings",
        "campaign",
        (
            Shown("SFTP Host", None, "sftp_host", "<campaign-instance-name>.campaign.adobe.com"),
            Shown("SFTP User", None, "sftp_user"),
            Shown("SFTP Key", None, "sftp_key"),
            Shown("Do you want to export logs to your Adobe Campaign SFTP?", None, "sftp_logs", "No (default)"),
        ),
        "Needed only for opt-in/out from Campaign (Unidirectional and Bidirectional) or to put logs there. Create the folder "
        "d365_loads/exports yourself after the key has been set up. You are responsible for the data that is read from the SFTP server.",
    ),
)
