"""Who we are to a token endpoint. Another way to sign in is another class here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from bridge.model.settings import Secret


class Credential(Protocol):
    def form(self) -> Mapping[str, str]:
        """The fields of a token request, as they are now."""

    def reload(self) -> bool:
        """Reads again what may have been rotated; whether it has changed."""


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """Client credentials with a secret (dataverse.md §1.2, campaign.md §1.1)."""

    client_id: str
    secret: Secret
    scope: str

    def form(self) -> Mapping[str, str]:
        return {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.secret.value(),
            "scope": self.scope,
        }

    def reload(self) -> bool:
        return self.secret.reload()
