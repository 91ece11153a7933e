"""What a process does until Kafka and the registry answer it for the first time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bridge.flow.patience import only_retries, patiently
from bridge.model.errors import HaltError, RetryError
from bridge.observe.log import log

T = TypeVar("T")
LONGEST_S = 3.0


async def answered(
    call: Callable[[], Awaitable[T]],
    what: str,
    sleep: Callable[[float], Awaitable[None]],
    rng: random.Random,
    go_on: Callable[[], None] = lambda: None,
) -> T:
    """Repeats a call until `what` answers, with a log line for each wait. `go_on` raises to give up. A refusal is waited out, too: there is
    no workflow yet that could be FAILED, and a process that ends would only be started again and again."""

    def failed(exc: RetryError | HaltError, _: float) -> None:
        if exc.code == "kafka_refused" and isinstance(exc, HaltError):
            log("waiting_for", "error", what=what, code=exc.code, reason=str(exc), hint=exc.hint)
        else:
            log("waiting_for", "warning", what=what, reason=str(only_retries(exc)))
        go_on()

    return await patiently(call, failed, sleep, rng, LONGEST_S)
