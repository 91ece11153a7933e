"""A member of a consumer group with a thread of its own, which reports to the event loop that made it."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any

from confluent_kafka import KafkaException

from bridge.kafka.client import error_for
from bridge.model.errors import RetryError

RELEASE_TIMEOUT_S = 20


class Member(ABC):
    """`name`: of the thread, `doing`: for the text of an error."""

    def __init__(self, name: str, doing: str) -> None:
        self._doing = doing
        self._loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    async def run(self) -> None:
        """Until cancelled or closed. Raises HaltError (refused, INSTANCE_ID taken, backlog expired) or RetryError (start over)."""
        self._thread.start()
        await self._failed

    async def close(self) -> None:
        """Gives everything back, once what is in flight has ended, and leaves the group."""
        self._closing.set()
        await asyncio.to_thread(self._thread.join, RELEASE_TIMEOUT_S + 10)

    @abstractmethod
    def _work(self) -> None:
        """Subscribes, and polls until `_closing` is set."""

    @abstractmethod
    def _leave(self) -> None:
        """Gives everything back and leaves the group; raises nothing."""

    def _run(self) -> None:
        try:
            self._work()
        except KafkaException as exc:
            self._fail(error_for(exc, self._doing))
        except Exception as exc:  # a thread that only ended would leave a run that says RUNNING and does nothing
            self._fail(exc)
        finally:
            self._leave()

    def _fail(self, exc: Exception) -> None:
        self._loop.call_soon_threadsafe(lambda: None if self._failed.done() else self._failed.set_exception(exc))

    def _ended(self, ending: Coroutine[Any, Any, None]) -> None:
        """Waits, on the thread, for the end of what is under way in the event loop. Raises RetryError."""
        try:
            asyncio.run_coroutine_threadsafe(ending, self._loop).result(RELEASE_TIMEOUT_S)
        except TimeoutError as exc:
            raise RetryError(f"what is under way did not end in {RELEASE_TIMEOUT_S} s; the run begins again", code="release_slow") from exc
