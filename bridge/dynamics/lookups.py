"""Single rows of Dynamics by key, some at once, within its limits: what was fetched before a refusal need not be fetched again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bridge.dynamics.changes import Row, TrackedTable

AT_ONCE = 50


class Lookups:
    """For one reader of rows. Keeps what it has fetched until all that was asked for is there."""

    def __init__(self) -> None:
        self._keys: tuple[str, ...] = ()
        self._found: dict[str, Row | None] = {}

    async def rows(self, tracked: TrackedTable, keys: Sequence[str]) -> list[Row | None]:
        """The rows of `keys` in their order, None for what is gone. After an error nothing goes on in the background; the next call for
        the same keys fetches those that are missing. Raises RetryError or HaltError."""
        if tuple(keys) != self._keys:
            self._keys, self._found = tuple(keys), {}
        missing = [key for key in dict.fromkeys(keys) if key not in self._found]
        for start in range(0, len(missing), AT_ONCE):
            await self._fetch(tracked, missing[start : start + AT_ONCE])
        found, self._keys, self._found = self._found, (), {}
        return [found[key] for key in keys]

    async def _fetch(self, tracked: TrackedTable, keys: Sequence[str]) -> None:
        async def one(key: str) -> None:
            self._found[key] = await tracked.row(key)

        try:
            async with asyncio.TaskGroup() as group:
                for key in keys:
                    group.create_task(one(key))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
