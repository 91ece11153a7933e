"""`/metrics`, `/healthz` and `/readyz` of a service, in the service's own loop: that it answers says that the loop turns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bridge.model.clock import Clock
from bridge.model.desired import HEARTBEAT_DEADLINE_S
from bridge.model.settings import SettingsError
from bridge.observe.log import log
from bridge.observe.metrics import CONTENT_TYPE, Metrics
from bridge.observe.settings import ServiceSettings


class Readiness:
    """Whether the service hears control, and is heard."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heard_at: float | None = None

    def heard(self) -> None:
        """`control.workflows` is followed, or Kafka took a heartbeat."""
        self._heard_at = self._clock.monotonic()

    def lacking(self) -> str | None:
        """Why it is not ready; None if it is."""
        if self._heard_at is None:
            return "Kafka has not answered yet, control.workflows is not followed"
        silent_s = self._clock.monotonic() - self._heard_at
        return f"Kafka has taken no heartbeat for {silent_s:.0f} s" if silent_s > HEARTBEAT_DEADLINE_S else None


@asynccontextmanager
async def serving(settings: ServiceSettings, metrics: Metrics, lacking: Callable[[], str | None]) -> AsyncIterator[None]:
    """Listens while the block runs, if METRICS_PORT is set. `lacking`: what it lacks to be ready. Raises SettingsError."""
    if not settings.metrics_port:
        yield
        return
    from aiohttp import web  # a service without it does without its memory

    async def told(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": CONTENT_TYPE})

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        reason = lacking()
        return web.Response(text="ready\n") if reason is None else web.Response(status=503, text=f"{reason}\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", told), web.get("/healthz", alive), web.get("/readyz", ready)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await _listen(web.TCPSite(runner, settings.metrics_host, settings.metrics_port), settings)
        yield
    finally:
        await runner.cleanup()


async def _listen(site: object, settings: ServiceSettings) -> None:
    place = f"{settings.metrics_host}:{settings.metrics_port}"
    try:
        await site.start()  # type: ignore[attr-defined]
    except (OSError, OverflowError) as exc:
        why = (exc.strerror if isinstance(exc, OSError) else None) or type(exc).__name__
        problem = f"METRICS_PORT: cannot listen on {place} ({why}); choose a free port and an address of this machine (METRICS_HOST)"
        raise SettingsError([problem.replace("\n", " ")]) from exc
    log("listening", address=place)
