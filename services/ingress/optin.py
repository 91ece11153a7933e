"""What Opt In/Out has to hear from ingress: a profile that is made or deleted has lost its opt-outs (rule 4 of the consent contract)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from bridge.consent.profiles import created, gone, observed
from bridge.model.clock import Clock
from bridge.model.config import OptinConfig
from bridge.model.desired import Desired
from bridge.model.events import OptStatusObserved
from bridge.model.flags import canonical_flag

PROFILE = "profile"


class PublishObservation(Protocol):
    async def __call__(self, event: OptStatusObserved) -> None:
        """Publishes to `optin.observations`. Raises RetryError."""


class OptIn:
    """Nothing is published before Opt In/Out was started with a direction from Campaign: until then it knows no words."""

    def __init__(self, observe: PublishObservation, clock: Clock, flags: Flags | None = None) -> None:
        self._observe, self._clock, self._flags = observe, clock, flags or Flags()

    def concerned(self, resource: str) -> bool:
        """Whether Opt In/Out looks after flags of this resource."""
        return resource == PROFILE and bool(self._flags.names)

    async def created(self, resource: str, contact: str, opted_out: Collection[str], ahead: int | None) -> None:
        """`ahead`: by how many milliseconds Campaign's clock is ahead of ours, as in `seen`."""
        if self.concerned(resource):
            await self._observe(created(contact, self._flags.names, opted_out, self._clock.now(), ahead))

    async def seen(self, resource: str, contact: str, profile: Mapping[str, Any], ahead: int | None) -> None:
        if self.concerned(resource):
            await self._observe(observed(contact, profile, self._flags.names, self._clock.now(), ahead))

    async def gone(self, resource: str, contact: str) -> None:
        if self.concerned(resource):
            await self._observe(gone(contact, self._clock.now()))


class Flags:
    """The flags of the configuration with which Opt In/Out was started last, whether it runs or is stopped."""

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()

    def heard(self, workflow: str, desired: Desired) -> None:
        """Of the desired state of any workflow."""
        if workflow != "optin" or desired.config is None:
            return
        config = OptinConfig.model_validate(desired.config)
        known = config.direction in ("campaign-to-dynamics", "bidirectional")
        self.names = frozenset(canonical_flag(each.target) for each in config.mappings) if known else frozenset()
