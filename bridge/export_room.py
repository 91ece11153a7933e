"""What is known beforehand of Campaign's exports of opt-out flags: the settings of their reader (campaign.md §10). See bridge/rooms.py."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from bridge.settings import Room, TimeZone


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


class ExportSettings(Room):
    """The files with changed opt-out flags that a workflow of Campaign puts on its SFTP server (campaign.md §10)."""

    host: str = Field(alias="CAMPAIGN_SFTP_HOST", min_length=1, description="`<instance>.campaign.adobe.com`; opt-in/out from Campaign")
    port: int = Field(22, alias="CAMPAIGN_SFTP_PORT", ge=1, le=65535, description="Its port")
    user: str = Field(alias="CAMPAIGN_SFTP_USER", min_length=1, description="User, who logs in with a key")
    key_file: Path = Field(alias="CAMPAIGN_SFTP_KEY_FILE", description="Path of the private key (PEM or OpenSSH), not encrypted")
    known_hosts_file: Path = Field(alias="CAMPAIGN_SFTP_KNOWN_HOSTS_FILE", description="Path of the host keys that are trusted")
    folder: str = Field("d365_loads/exports", alias="CAMPAIGN_SFTP_FOLDER", min_length=1, description="Where the exports are")
    poll_interval_s: float = Field(
        60, alias="CAMPAIGN_SFTP_POLL_INTERVAL_S", gt=0, le=86400, description="How often is looked for new files, seconds"
    )
    timeout_s: float = Field(
        600, alias="CAMPAIGN_SFTP_TIMEOUT_S", gt=0, le=7200, description="So long may listing or copying go without progress, seconds"
    )
    pattern: str = Field(
        "d365_optout_*.csv,d365_optout_*.csv.gz", alias="CAMPAIGN_EXPORT_FILES", min_length=1, description="Names of exports, by comma"
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
        description="Order of day, month and year in times, with any separator (default: told from each column, where it is unambiguous)",
    )
    time_zone: TimeZone | None = Field(
        None,
        alias="CAMPAIGN_EXPORT_TIME_ZONE",
        description="Zone of times without an offset, by its IANA name (default: unknown; such a time never takes an opt-out away)",
    )
    yes: str = Field("", alias="CAMPAIGN_EXPORT_YES", description="Further words for yes, by comma")
    no: str = Field("", alias="CAMPAIGN_EXPORT_NO", description="Further words for no, by comma")
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
