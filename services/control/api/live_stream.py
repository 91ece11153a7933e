"""Server-sent events: every workflow whenever it changes, at most once a second each, made once for all who listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any

from bridge.model.clock import Clock
from bridge.model.desired import WORKFLOWS, Workflow
from bridge.model.errors import BridgeError
from services.control.models.workflow_json import WorkflowOut

LOOK_EVERY_S = 1.0
CHECK_EVERY_S = 3.0  # whether the client may still listen
COMMENT_EVERY_S = 15.0
MOST_LISTENERS = 500
COMMENT = b": still here\n\n"
MOVING: Any = {"services": {"__all__": {"heartbeat_at"}}, "backlog": {"as_of", "oldest_age_s"}}


class Listener:
    """What one client has not been sent yet: the last state of each workflow, never more."""

    def __init__(self, now: Mapping[Workflow, bytes]) -> None:
        self.waiting = dict(now)
        self.woken = asyncio.Event()
        if now:
            self.woken.set()

    def tell(self, workflow: Workflow, event: bytes) -> None:
        self.waiting[workflow] = event
        self.woken.set()

    async def events(self) -> AsyncIterator[bytes]:
        """Until the client goes; now and then nothing, so that whoever passes it on can look whether the client still may."""
        yield b"retry: 2000\n\n"
        clock = asyncio.get_running_loop().time
        commented_at = clock()
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.woken.wait(), CHECK_EVERY_S)
            self.woken.clear()
            waiting, self.waiting = self.waiting, {}
            due = clock() - commented_at >= COMMENT_EVERY_S
            commented_at = clock() if due else commented_at
            yield b"".join(waiting.values()) + (COMMENT if due else b"")


class Live:
    """`view` gives a workflow as the API shows it."""

    def __init__(self, view: Callable[[Workflow], WorkflowOut], clock: Clock) -> None:
        self._view, self._clock = view, clock
        self._last: dict[Workflow, bytes] = {}
        self._shown: dict[Workflow, str] = {}
        self._listeners: set[Listener] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._look()
            await self._clock.sleep(LOOK_EVERY_S)

    @property
    def full(self) -> bool:
        return len(self._listeners) >= MOST_LISTENERS

    async def listen(self, allowed: Callable[[], bool] = lambda: True) -> AsyncIterator[bytes]:
        """The events for one client, beginning with the present state of all workflows; until it goes or is not `allowed` any more."""
        listener = Listener(self._last)
        self._listeners.add(listener)
        try:
            async for event in listener.events():
                if not allowed():
                    return
                if event:
                    yield event
        finally:
            self._listeners.discard(listener)

    def _look(self) -> None:
        for workflow in WORKFLOWS:
            try:
                view = self._view(workflow)
            except BridgeError:  # Kafka has not answered yet: nothing to tell
                continue
            compared = view.model_dump_json(exclude=MOVING)
            if compared != self._shown.get(workflow):
                self._shown[workflow] = compared
                event = f"event: workflow\ndata: {view.model_dump_json()}\n\n".encode()
                self._last[workflow] = event
                for listener in self._listeners:
                    listener.tell(workflow, event)
