"""What the resolver of Opt In/Out is told."""

from __future__ import annotations

from pydantic import Field

from bridge.model.settings import Secret, Settings


class ResolverSettings(Settings):
    digest_key: Secret = Field(default_factory=Secret, alias="STATE_DIGEST_KEY", description="Key of the digests in the state topics")
