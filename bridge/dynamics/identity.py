"""Who we are in Dynamics, and which organisation it is that answers (dataverse.md §2.6)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.errors import QueryRefused, refused
from bridge.model.clock import Clock
from bridge.model.errors import RetryError

LOOK_AGAIN_S = 600.0  # another organisation may stand behind the same address while we run


@dataclass(frozen=True, slots=True)
class Identity:
    """Both are GUIDs, lower case. `user`: our application user. `organisation`: of which a copy or another environment has another."""

    user: str
    organisation: str


class WhoAmI:
    """One per process, for all of its feeds. Remembers the answer for ten minutes."""

    def __init__(self, client: DynamicsClient, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._lock = asyncio.Lock()
        self._found: Identity | None = None
        self._asked_at = 0.0

    async def ask(self, again: bool = False) -> Identity:
        """Returns who we are now. Raises RetryError (`bad_answer` for one without these ids) or HaltError."""
        async with self._lock:
            if self._found is None or again or self._clock.monotonic() - self._asked_at >= LOOK_AGAIN_S:
                self._found, self._asked_at = await self._answer(), self._clock.monotonic()
            return self._found

    async def _answer(self) -> Identity:
        try:
            answer = await self._client.get("WhoAmI")
        except QueryRefused as exc:
            raise refused(exc, self._client.origin) from exc
        ids = [answer.get(name) for name in ("UserId", "OrganizationId")]
        if not all(isinstance(each, str) and each for each in ids):
            raise RetryError("Dynamics: WhoAmI: an answer without UserId or OrganizationId", code="bad_answer")
        return Identity(str(ids[0]).lower(), str(ids[1]).lower())
