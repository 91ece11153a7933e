"""The guard's ledger in Kafka: the topic `consent.guard`, one partition, by the broker's clock (bridge/consent/guard.py)."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from bridge.consent.guard import Ask, Ledger
from bridge.kafka.client import Names
from bridge.kafka.follower import Entry, Followed, Follower
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topics, guard_topic
from bridge.model.errors import RetryError
from bridge.observe.log import log

ANSWER_WITHIN_S = 30.0


class Guard(Protocol):
    async def passes(self, ask: Ask) -> bool:
        """Whether it may be done now; False: it is to be held. Raises RetryError while Kafka is away."""


class KafkaGuard:
    """See Guard. It connects when it is first asked: most installations never lower anything for hours."""

    def __init__(self, settings: KafkaSettings, producer: KafkaProducer) -> None:
        self._settings, self._producer = settings, producer
        self._topic = Names(settings).topic(guard_topic().name)
        self._ledger = Ledger()
        self._waiting: dict[str, asyncio.Future[bool]] = {}
        self._follower: Follower | None = None
        self._opening = asyncio.Lock()

    async def passes(self, ask: Ask) -> bool:
        await self._open()
        token = uuid.uuid4().hex
        answer = self._waiting[token] = asyncio.get_running_loop().create_future()
        try:
            value = json.dumps({"id": ask.id, "limit": ask.limit, "token": token}).encode()
            await self._producer.send(self._topic, ask.kind.encode(), value, partition=0)
            return await asyncio.wait_for(answer, ANSWER_WITHIN_S)
        except TimeoutError as exc:
            raise RetryError("Kafka does not show the guard's ledger", code="kafka_unavailable") from exc
        finally:
            self._waiting.pop(token, None)

    def close(self) -> None:
        if self._follower is not None:
            self._follower.close()

    async def _open(self) -> None:
        async with self._opening:
            if self._follower is None:
                await asyncio.to_thread(Topics(self._settings).ensure, [guard_topic()])
                follower = Follower(self._settings, Followed(self._topic, 1, self._read))
                await follower.start()
                self._follower = follower

    def _read(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            try:
                told = json.loads(entry.value or b"")
                ask, token = Ask(entry.key, str(told["id"]), int(told["limit"])), str(told["token"])
            except (ValueError, KeyError, TypeError):
                log("guard_entry_unreadable", "warning", offset=entry.offset)
                continue
            verdict = self._ledger.take(ask, datetime.fromtimestamp(entry.timestamp_ms / 1000, UTC))
            answer = self._waiting.get(token)
            if answer is not None and not answer.done():
                answer.set_result(verdict)
