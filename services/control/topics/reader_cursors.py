"""The readers' positions, as the API shows them, and what they say about each ingress table."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from bridge.kafka.follower import Entry
from bridge.model.desired import WORKFLOWS, Workflow
from bridge.model.errors import RetryError
from services.control.rules.table_progress import Position


class Cursors:
    """What `<workflow>.cursors` of all workflows say. Questions raise RetryError until all has been read."""

    def __init__(self) -> None:
        self.complete: Callable[[], bool] = lambda: False
        self._positions: dict[Workflow, dict[str, Position]] = {workflow: {} for workflow in WORKFLOWS}

    def followed(self) -> dict[str, Callable[[Sequence[Entry]], None]]:
        """Who is to be told of what comes in which topic."""
        return {f"{workflow}.cursors": self._told(self._positions[workflow]) for workflow in WORKFLOWS}

    def of(self, workflow: Workflow) -> list[Position]:
        self._check()
        return sorted(self._positions[workflow].values(), key=lambda each: each.key)

    def find(self, workflow: Workflow, name: str) -> Position | None:
        """By its name or by its whole key."""
        return next((each for each in self.of(workflow) if name in (each.name, each.key)), None)

    def table(self, name: str) -> Position | None:
        self._check()
        return self._positions["ingress"].get(f"dynamics:{name}")

    def _check(self) -> None:
        if not self.complete():
            raise RetryError("control is still reading what is in Kafka; try again in a moment", code="still_reading")

    @staticmethod
    def _told(positions: dict[str, Position]) -> Callable[[Sequence[Entry]], None]:
        def told(entries: Sequence[Entry]) -> None:
            for entry in entries:
                if entry.value is None:
                    positions.pop(entry.key, None)
                else:
                    updated_at = datetime.fromtimestamp(entry.timestamp_ms / 1000, UTC)
                    positions[entry.key] = Position(entry.key, json.loads(entry.value), updated_at)

        return told
