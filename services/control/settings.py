"""Where control listens, who may use it, and what its pages show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from bridge.model.settings import Settings, WebOrigin


def _instances(text: str) -> str:
    for each in filter(str.strip, text.split(",")):
        name, _, address = (part.strip() for part in each.partition("="))
        if not name or not address.startswith(("https://", "http://")):
            raise ValueError("must be name=https://…, comma-separated")
    return text


class ControlSettings(Settings):
    host: str = Field("127.0.0.1", alias="CONTROL_HOST", min_length=1, description="Address control listens on")
    port: int = Field(8080, alias="CONTROL_PORT", ge=0, le=65535, description="Its port")
    tokens_file: Path | None = Field(
        None, alias="CONTROL_TOKENS_FILE", description="Tokens (hashed) with name and role; without it control is on loopback only"
    )
    tls_cert_file: Path | None = Field(None, alias="CONTROL_TLS_CERT_FILE", description="Certificate (PEM), for https")
    tls_key_file: Path | None = Field(None, alias="CONTROL_TLS_KEY_FILE", description="Its key (PEM)")
    public_url: WebOrigin | None = Field(None, alias="CONTROL_PUBLIC_URL", description="`https://…` of the proxy before control, if any")
    org_name: str = Field("", alias="ORG_NAME", description="Shown in the header of the pages")
    instance_name: str = Field("", alias="INSTANCE_NAME", description="Shown in the header of the pages")
    instances: Annotated[str, AfterValidator(_instances)] = Field(
        "", alias="CONTROL_INSTANCES", description="Other instances' pages for the header, `name=https://…`, comma-separated"
    )
    start_deadline_s: float = Field(
        120, alias="CONTROL_START_DEADLINE_S", gt=0, le=3600, description="STARTING for longer is FAILED, seconds"
    )
    second_person: bool = Field(
        False,
        alias="CONSENT_SECOND_PERSON",
        description="`true`: who releases what the consent guard holds must not be who saved the running configuration (403 "
        "`second_person_needed`). It needs `CONTROL_TOKENS_FILE`: without tokens everybody is one person",
    )

    @property
    def https(self) -> bool:
        """Whether browsers reach control by https."""
        return self.tls_cert_file is not None or (self.public_url or "").startswith("https://")
