"""Refusals and sign-ins in `control.audit`: written beside the request, so that a broker that is away holds nobody up."""

from __future__ import annotations

import asyncio
import json
import re

from bridge.kafka.client import FencedError, Names, trouble
from bridge.kafka.producer import KafkaProducer
from bridge.kafka.settings import KafkaSettings
from bridge.model.clock import Clock
from bridge.model.desired import WORKFLOWS
from bridge.model.errors import BridgeError, HaltError
from bridge.observe.log import log
from services.control.rules.actions import AUDIT, By, audit

MOST_WAITING = 1000
KEY = "control"  # of what is about no workflow
ABOUT = re.compile(rf"/workflows/({'|'.join(WORKFLOWS)})(?:/|$)")


class Trail:
    """`note` never fails: what cannot be written is in the log."""

    def __init__(self, settings: KafkaSettings, clock: Clock) -> None:
        self._settings, self._clock = settings, clock
        self._topic = Names(settings).topic(AUDIT)
        self._producer = KafkaProducer(settings)
        self._waiting: set[asyncio.Task[None]] = set()

    async def note(self, by: str, address: str | None, what: str, code: str) -> None:
        done = code == "done"
        log("command" if done else "refused", "info" if done else "warning", by=by, address=address, what=what, code=code)
        if len(self._waiting) < MOST_WAITING:
            entry = audit(what, By(by, address, self._clock.now().isoformat()), None, None, code)
            about = ABOUT.search(what)
            task = asyncio.create_task(self._write(about[1] if about else KEY, json.dumps(entry).encode()))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def close(self) -> None:
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=2)
        await asyncio.to_thread(self._producer.close, 1)

    async def _write(self, key: str, value: bytes) -> None:
        try:
            await asyncio.wait_for(self._producer.send(self._topic, key.encode(), value), 30)
        except (FencedError, HaltError) as exc:
            if isinstance(exc, HaltError):
                trouble("writing the audit", exc)
            self._producer.close(0)
            self._producer = KafkaProducer(self._settings)
        except (BridgeError, TimeoutError):
            pass  # it is in the log
