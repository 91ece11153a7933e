"""A stand-in for Campaign that a plan writes to."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bridge.campaign.client import CampaignClient
from bridge.campaign.errors import Duplicate, NotFound
from services.control.rules import losses


class Notes:
    """Stands for Campaign: reads are real, so that a record that is there already is found; writes are only counted."""

    def __init__(self, client: CampaignClient) -> None:
        self._client = client
        self.calls: Counter[str] = Counter()
        self.lowers, self.deletes = False, False  # whether an opt-out, or a record, that is there now would go

    @property
    def ahead_s(self) -> float | None:
        return self._client.ahead_s

    async def create(self, path: str, body: dict[str, Any]) -> int:
        key = str(next(iter(body.values())))  # the handler puts the key first
        if await self._current(path, key) is not None:
            raise Duplicate("the key is taken", code="duplicate_key", status=409)
        self.calls["create"] += 1
        return 201

    async def update(self, path: str, key: str, body: dict[str, Any]) -> int:
        if (current := await self._current(path, key)) is None:
            raise NotFound("the key was not found", code="not_found", status=404)
        self.calls["update"] += 1
        self.lowers = self.lowers or losses.lowers(body, current)
        return 200

    async def delete(self, path: str, key: str) -> int:
        self.calls["delete"] += 1
        self.deletes = self.deletes or await self._current(path, key) is not None
        return 200

    async def read(self, path: str, key: str) -> dict[str, Any]:
        return await self._client.read(path, key)

    async def first(self, path: str) -> dict[str, Any] | None:
        return await self._client.first(path)

    async def _current(self, path: str, key: str) -> dict[str, Any] | None:
        try:
            return await self._client.read(path, key)
        except NotFound:
            return None
