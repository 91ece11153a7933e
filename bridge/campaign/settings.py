"""Where Campaign, its journal of events and its exports are, and what they look like (campaign.md §1, §8, §10)."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from bridge.model.settings import Secret, Settings, TimeZone, Url

CAMPAIGN_SCOPES = (
    "campaign_sdk,openid,deliverability_service_general,campaign_config_server_general,AdobeID,additional_info.projectedProductContext"
)


class CampaignSettings(Settings):
    url: Url = Field(alias="CAMPAIGN_URL", description="`https://mc.adobe.io/<instance>`")
    client_id: str = Field(alias="CAMPAIGN_CLIENT_ID", min_length=1, description="Client id of the Adobe credential")
    client_secret: Secret = Field(alias="CAMPAIGN_CLIENT_SECRET", description="Its secret")
    org_id: str = Field(alias="CAMPAIGN_ORG_ID", min_length=1, description="`<id>@AdobeOrg`")
    token_url: Url = Field("https://ims-na1.adobelogin.com/ims/token/v3", alias="CAMPAIGN_TOKEN_URL", description="IMS token endpoint")
    scopes: str = Field(
        CAMPAIGN_SCOPES,
        alias="CAMPAIGN_SCOPES",
        min_length=1,
        description="Scopes to ask for, comma-separated; if the journal answers 401 or 403, add `adobeio_api` and `event_receiver_api`",
    )
    concurrency: int = Field(16, alias="CAMPAIGN_CONCURRENCY", ge=1, le=256, description="Calls at once, of one process")
    calls_per_second: float = Field(0, alias="CAMPAIGN_CALLS_PER_SECOND", ge=0, le=10000, description="Own limit of one process; 0: none")
    request_timeout_s: float = Field(30, alias="CAMPAIGN_REQUEST_TIMEOUT_S", gt=0, le=600, description="One call, seconds")
    keys_in_capitals: Literal["auto", "yes", "no"] = Field(
        "auto",
        alias="CAMPAIGN_KEYS_IN_CAPITALS",
        description="Whether an older integration wrote contacts' ids in capital letters: `yes` looks for them before a profile is made, "
        "`auto` if one is among the first 2,000 profiles, `no` never",
    )
    digest_key: Secret = Field(
        default_factory=Secret,
        alias="STATE_DIGEST_KEY",
        description="Key of the digests in the state topics (default: from org and client id; Opt In/Out: from its topic); a new one "
        "rewrites every record once, and Opt In/Out sees every flag as for the first time",
    )

    def digest_secret(self) -> str:
        """What the digests of written values are keyed with."""
        return self.digest_key.value() or f"{self.org_id}|{self.client_id}"


class JournalSettings(Settings):
    url: Url = Field(alias="CAMPAIGN_JOURNAL_URL", description="I/O Events journal of the registration; egress only")
    poll_interval_s: float = Field(
        5, alias="CAMPAIGN_JOURNAL_POLL_INTERVAL_S", gt=0, le=3600, description="Pause at its end, if the journal does not say, seconds"
    )
    page_size: int = Field(500, alias="CAMPAIGN_JOURNAL_PAGE_SIZE", ge=1, le=10000, description="Events of one answer, at most")


def _encoding(text: str) -> str:
    try:
        codecs.lookup(text)
        "x".encode(text)  # rot13 is a codec, but of no text
    except (LookupError, UnicodeError):
        raise ValueError("must be the name of an encoding, as utf-8-sig or iso-8859-1") from None
    return text


DateFormat = Literal["yyyymmdd", "mmddyyyy", "ddmmyyyy", "mmyyyydd", "ddyyyymm", "yyyyddmm", "xml"]
YES = frozenset({"1", "true", "yes", "y", "t", "oui", "ja", "si", "sí"})
NO = frozenset({"0", "false", "no", "n", "f", "non", "nein"})


def spoken(word: str) -> str:
    """Returns a word for yes or no as it is compared: without spaces around it, in any case, however its accents are put together."""
    return unicodedata.normalize("NFC", word).strip().casefold()


def _words(text: str, standard: frozenset[str]) -> frozenset[str]:
    return standard | {spoken(each) for each in text.split(",") if each.strip()}


class ExportSettings(Settings):
    """The files with changed opt-out flags that a workflow of Campaign puts on its SFTP server (campaign.md §10)."""

    host: str = Field(alias="CAMPAIGN_SFTP_HOST", min_length=1, description="`<instance>.campaign.adobe.com`; opt-in/out from Campaign")
    port: int = Field(22, alias="CAMPAIGN_SFTP_PORT", ge=1, le=65535, description="Its port")
    user: str = Field(alias="CAMPAIGN_SFTP_USER", min_length=1, description="User, who logs in with a key")
    key_file: Path = Field(alias="CAMPAIGN_SFTP_KEY_FILE", description="Path of the private key (PEM or OpenSSH), not encrypted")
    known_hosts_file: Path = Field(
        alias="CAMPAIGN_SFTP_KNOWN_HOSTS_FILE",
        description="Path of the host keys that are trusted (`ssh-keyscan <host>`, compared with what Adobe says)",
    )
    folder: str = Field("d365_loads/exports", alias="CAMPAIGN_SFTP_FOLDER", min_length=1, description="Where the exports are")
    poll_interval_s: float = Field(
        60,
        alias="CAMPAIGN_SFTP_POLL_INTERVAL_S",
        gt=0,
        le=86400,
        description="How often it looks for new files, seconds; a file is read when its size is the same twice",
    )
    timeout_s: float = Field(
        600,
        alias="CAMPAIGN_SFTP_TIMEOUT_S",
        gt=0,
        le=7200,
        description="How long listing or copying may go without progress, seconds; a copy that was cut goes on where it was",
    )
    pattern: str = Field(
        "d365_optout_*.csv,d365_optout_*.csv.gz",
        alias="CAMPAIGN_EXPORT_FILES",
        min_length=1,
        description="Names of exports, comma-separated",
    )
    key_column: str = Field(
        "externalId", alias="CAMPAIGN_EXPORT_KEY_COLUMN", min_length=1, description="Column with the contact's id, by name or label"
    )
    encoding: Annotated[str, AfterValidator(_encoding)] = Field(
        "utf-8-sig", alias="CAMPAIGN_EXPORT_ENCODING", min_length=1, description="Encoding of the exports"
    )
    date_format: DateFormat | None = Field(
        None,
        alias="CAMPAIGN_EXPORT_DATE_FORMAT",
        description="Order of day, month and year: `yyyymmdd`, `mmddyyyy`, `ddmmyyyy`, `mmyyyydd`, `ddyyyymm`, `yyyyddmm` or `xml`, "
        "see below (default: told from each column)",
    )
    time_zone: TimeZone | None = Field(
        None,
        alias="CAMPAIGN_EXPORT_TIME_ZONE",
        description="Zone of times without an offset, by its IANA name (`Europe/Paris`); unset: such a time "
        "never takes an opt-out away, see below",
    )
    yes: str = Field("", alias="CAMPAIGN_EXPORT_YES", description="Further words for yes, comma-separated")
    no: str = Field("", alias="CAMPAIGN_EXPORT_NO", description="Further words for no, comma-separated")
    expected_s: float = Field(
        93600, alias="CAMPAIGN_EXPORT_EXPECTED_S", gt=0, description="Without a file for so long the export is said to be overdue, seconds"
    )

    @field_validator("yes", "no")
    @classmethod
    def _one_meaning_each(cls, text: str, info: ValidationInfo) -> str:
        """`no` comes after `yes`, which is known by then."""
        others = NO if info.field_name == "yes" else _words(info.data.get("yes", ""), YES)
        if _words(text, frozenset()) & others:
            raise ValueError("has a word that stands for the other answer as well: give each word one meaning")
        return text

    @property
    def words(self) -> Mapping[str, bool]:
        """Words for yes and no, as `spoken` gives them."""
        return dict.fromkeys(_words(self.yes, YES), True) | dict.fromkeys(_words(self.no, NO), False)
