"""The entry point that every service shares: settings, logging, signals, exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from bridge.kafka.client import check_settings, warn_of_plaintext
from bridge.kafka.settings import KafkaSettings
from bridge.model.clock import SystemClock
from bridge.model.desired import Desired, Workflow
from bridge.model.errors import HaltError
from bridge.model.settings import EXIT_UNUSABLE_SETTINGS, Settings, SettingsError, load_all
from bridge.observe.log import configure, log
from bridge.observe.metrics import Metrics
from bridge.observe.settings import ServiceSettings
from bridge.observe.telemetry import Telemetry, tracer
from bridge.process.health import serving
from bridge.process.service import Run, Service

LONGEST_STOP_S = 9.0


def main(
    workflow: Workflow,
    role: str,
    more: Sequence[type[Settings]],
    make: Callable[..., Callable[[Desired], Run]],
    beside: Callable[[str, Desired], None] | None = None,
) -> int:
    """Runs a service and returns its exit code. `make(kafka, service, telemetry, *others)` returns the maker of its runs, `others` being
    the settings of the classes in `more`; `beside` hears the desired state of the other workflows."""
    try:
        kafka, service, *others = load_all(KafkaSettings, ServiceSettings, *more)
        check_settings(kafka)
    except SettingsError as exc:
        print("\n".join(exc.problems), file=sys.stderr)
        return EXIT_UNUSABLE_SETTINGS
    configure(service, service=f"{workflow}-{role}", instance=service.instance_id)
    warn_of_plaintext(kafka)
    clock = SystemClock()
    telemetry = Telemetry(Metrics(workflow, role, clock), tracer(service, f"{workflow}-{role}"))
    life = Service(workflow, role, kafka, service, make(kafka, service, telemetry, *others), clock, telemetry.metrics, beside)
    try:
        asyncio.run(_served(life, service, telemetry.metrics))
    except SettingsError as exc:
        print("\n".join(exc.problems), file=sys.stderr)
        return EXIT_UNUSABLE_SETTINGS
    except HaltError as exc:
        log("run_failed", "error", code=exc.code, reason=str(exc), hint=exc.hint)
        return 1
    finally:
        telemetry.tracer.close()
    return 0


async def _served(life: Service, settings: ServiceSettings, metrics: Metrics) -> None:
    on_signal(life.stop)
    async with serving(settings, metrics, life.readiness.lacking):
        await life.serve()


def on_signal(stop: Callable[[], None]) -> None:
    """Calls `stop` at SIGTERM and SIGINT, in the running loop; 9 s later the process ends whatever still hangs (a broker that is away):
    what is not committed is read again."""

    def told() -> None:
        stop()
        last = threading.Timer(LONGEST_STOP_S, os._exit, (0,))
        last.daemon = True
        last.start()

    # Not loop.add_signal_handler: asyncio hears of a signal by a byte in the pipe that also wakes the loop, and when a busy loop has let
    # the callbacks of Kafka's threads fill that pipe, the signal is lost.
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(told))
