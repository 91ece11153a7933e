"""`python -m tests.faults.launch services.<workflow>.<role>`: the service as it is, with death or a wrong clock on the way.

- `FAULT_AT=<point>` and `FAULT_NTH=<n>`: the process kills itself (SIGKILL) when it comes to this point for the n-th time. Points are
  calls of the Kafka clients: `begin`, `commit` and `committed` of a transaction (before, before and after the call), `offsets` (before
  a group's offsets are committed) and `produce:<end of a topic's name>`.
- `FAULT_CLOCK=<file>`: the wall clock is off by as many seconds as the file says, each time it is asked.

Nothing of ours is replaced but the clock, which is handed in.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiokafka  # type: ignore[import-untyped]
import confluent_kafka

import bridge.model.clock

AT, LEFT = os.environ.get("FAULT_AT", ""), [int(os.environ.get("FAULT_NTH", "1"))]
CLOCK = os.environ.get("FAULT_CLOCK")


def reached(point: str) -> None:
    if point == AT:
        LEFT[0] -= 1
        if LEFT[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Producer(confluent_kafka.Producer):
    def produce(self, topic: str, *args: Any, **kwargs: Any) -> None:
        if AT.startswith("produce:") and topic.endswith(AT.removeprefix("produce:")):
            reached(AT)
        super().produce(topic, *args, **kwargs)

    def begin_transaction(self, *args: Any) -> None:
        reached("begin")
        super().begin_transaction(*args)

    def commit_transaction(self, *args: Any) -> None:
        reached("commit")
        super().commit_transaction(*args)
        reached("committed")


class Consumer(confluent_kafka.Consumer):
    def commit(self, *args: Any, **kwargs: Any) -> Any:
        reached("offsets")
        return super().commit(*args, **kwargs)


class FaustConsumer(aiokafka.AIOKafkaConsumer):  # type: ignore[misc]
    async def commit(self, *args: Any, **kwargs: Any) -> Any:
        reached("offsets")
        return await super().commit(*args, **kwargs)


class WrongClock(bridge.model.clock.SystemClock):
    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=float(Path(CLOCK or "").read_text() or 0))


if __name__ == "__main__":
    confluent_kafka.Producer, confluent_kafka.Consumer = Producer, Consumer  # type: ignore[misc]
    aiokafka.AIOKafkaConsumer = FaustConsumer
    if CLOCK:
        bridge.model.clock.SystemClock = WrongClock  # type: ignore[misc]
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
