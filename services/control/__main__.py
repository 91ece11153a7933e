"""`python -m services.control`: the control service."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address

import uvicorn

from bridge.clock import SystemClock
from bridge.entry import on_signal
from bridge.errors import HaltError, RetryError
from bridge.flow.waits import backoff_s
from bridge.kafka.client import check_settings
from bridge.kafka.lag import LagReader
from bridge.kafka.topics import Topics
from bridge.log import configure, log
from bridge.settings import EXIT_UNUSABLE_SETTINGS, ControlSettings, KafkaSettings, ServiceSettings, SettingsError, load_all
from services.control.app import build_app
from services.control.backlog import Backlog
from services.control.store import Store


class Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: uvicorn would raise them again after its own shutdown, and the exit code would not be 0."""
        yield


def main() -> int:
    try:
        kafka, service, control = load_all(KafkaSettings, ServiceSettings, ControlSettings)
        check_settings(kafka)
        _only_loopback(control)
    except SettingsError as exc:
        print("\n".join(exc.problems), file=sys.stderr)
        return EXIT_UNUSABLE_SETTINGS
    configure(service, service="control", instance=service.instance_id)
    try:
        asyncio.run(_serve(kafka, control))
    except HaltError as exc:
        log("run_failed", "error", code=exc.code, reason=str(exc), hint=exc.hint)
        return 1
    return 0


def _only_loopback(control: ControlSettings) -> None:
    """There are no tokens yet, so whoever reaches the port may do everything."""
    if os.environ.get("CONTROL_TOKENS_FILE"):
        raise SettingsError(["CONTROL_TOKENS_FILE: tokens come with a later version; leave it unset, control listens on loopback only"])
    loopback = control.host == "localhost"
    with suppress(ValueError):
        loopback = ip_address(control.host).is_loopback
    if not loopback:
        raise SettingsError(
            [f"CONTROL_HOST: {control.host} is not a loopback address; without tokens control listens on 127.0.0.1 or ::1 only"]
        )


async def _serve(kafka: KafkaSettings, control: ControlSettings) -> None:
    clock = SystemClock()
    store = Store(kafka, clock, control.start_deadline_s)
    backlog = Backlog(LagReader(kafka), store, clock)
    app = build_app(store, backlog, Topics(kafka), clock)
    config = uvicorn.Config(
        app, host=control.host, port=control.port, log_config=None, access_log=False, timeout_graceful_shutdown=3, lifespan="off"
    )
    server = Server(config)
    on_signal(lambda: setattr(server, "should_exit", True))
    background = asyncio.create_task(_follow(store, backlog))
    background.add_done_callback(lambda _: setattr(server, "should_exit", True))
    log("listening", host=control.host, port=control.port)
    await server.serve()
    background.cancel()
    store.close()
    with suppress(asyncio.CancelledError):
        await background


async def _follow(store: Store, backlog: Backlog) -> None:
    """Reads what is there as soon as Kafka answers, then samples the backlog. The API answers meanwhile, with 503."""
    attempt, rng = 0, random.Random()
    while not store.ready:
        try:
            await store.start()
        except RetryError as exc:
            attempt += 1
            log("waiting_for", "warning", what="Kafka", reason=str(exc))
            await asyncio.sleep(backoff_s(attempt, rng, 3))
    await backlog.run()


if __name__ == "__main__":
    sys.exit(main())
