"""`python -m services.control`: the control service. `python -m services.control token …`: its tokens."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TypeVar

import uvicorn

from bridge.campaign.settings import CampaignSettings, ExportSettings, JournalSettings
from bridge.consent.settings import ConsentSettings
from bridge.dynamics.settings import DynamicsSettings
from bridge.kafka.client import Names, check_settings, warn_of_plaintext
from bridge.kafka.follower import Followed, Follower
from bridge.kafka.lag import LagReader
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topics, control_topics, ingress_decisions, optin_topics, outcomes_topic, workflow_topics
from bridge.model.clock import SystemClock
from bridge.model.desired import WORKFLOWS
from bridge.model.errors import HaltError
from bridge.model.settings import EXIT_UNUSABLE_SETTINGS, Settings, SettingsError, load_all
from bridge.observe.log import configure, log
from bridge.observe.settings import ServiceSettings
from bridge.process.entry import on_signal
from bridge.process.waiting import answered
from services.control import pages
from services.control.api import token_command
from services.control.api.access import Access, Tokens
from services.control.api.context import Control
from services.control.api.live_stream import Live
from services.control.api.sockets import listening
from services.control.api.views import workflow_view
from services.control.api.web_app import build_app
from services.control.settings import ControlSettings
from services.control.systems.connections import Systems
from services.control.systems.planner import Planner
from services.control.topics.archive import Archive
from services.control.topics.audit_trail import Trail
from services.control.topics.decision_outcomes import Outcomes
from services.control.topics.decisions import Decisions
from services.control.topics.held_items import Settling
from services.control.topics.lag_samples import Backlog
from services.control.topics.letters import Letters
from services.control.topics.reader_cursors import Cursors
from services.control.topics.record_search import Traces
from services.control.topics.store import Store
from services.egress.settings import TimelineSettings

T = TypeVar("T")


class Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: uvicorn would raise them again after its own shutdown, and the exit code would not be 0."""
        yield


@dataclass(frozen=True, slots=True)
class AllSettings:
    """All of control's settings. `dynamics`, `campaign`, `journal` and `exports` are None where their address is not set: control works
    without them."""

    kafka: KafkaSettings
    service: ServiceSettings
    control: ControlSettings
    consent: ConsentSettings
    dynamics: DynamicsSettings | None
    campaign: CampaignSettings | None
    journal: JournalSettings | None
    exports: ExportSettings | None
    timeline: TimelineSettings

    @staticmethod
    def load() -> AllSettings:
        """Raises SettingsError with the problems of all of them."""
        optional: dict[str, type[Settings]] = {
            "DYNAMICS_URL": DynamicsSettings,
            "CAMPAIGN_URL": CampaignSettings,
            "CAMPAIGN_JOURNAL_URL": JournalSettings,
            "CAMPAIGN_SFTP_HOST": ExportSettings,
        }
        given = [kind for url, kind in optional.items() if os.environ.get(url)]
        ours = (KafkaSettings, ServiceSettings, ControlSettings, ConsentSettings, TimelineSettings)
        kafka, service, control, consent, timeline, *systems = load_all(*ours, *given)
        found = dict(zip(given, systems, strict=True))
        check_settings(kafka)
        dynamics, campaign, journal, exports = (found.get(kind) for kind in optional.values())
        return AllSettings(kafka, service, control, consent, dynamics, campaign, journal, exports, timeline)


def main() -> int:
    if sys.argv[1:2] == ["token"]:
        return token_command.main(sys.argv[2:])
    try:
        settings = AllSettings.load()
        known = Tokens(settings.control.tokens_file) if settings.control.tokens_file else None
        _check_access(settings.control, known)
        sockets = listening(settings.control)
    except SettingsError as exc:
        print("\n".join(exc.problems), file=sys.stderr)
        return EXIT_UNUSABLE_SETTINGS
    configure(settings.service, service="control", instance=settings.service.instance_id)
    warn_of_plaintext(settings.kafka)
    try:
        asyncio.run(_serve(settings, known, sockets))
    except HaltError as exc:
        log("run_failed", "error", code=exc.code, reason=str(exc), hint=exc.hint)
        return 1
    return 0


def _check_access(control: ControlSettings, known: Tokens | None) -> None:
    """Without tokens whoever reaches the port may do everything, so it has to be this machine's own."""
    _check_certificate(control)
    if known is not None:
        known.entries()  # raises SettingsError for a file that is not one of tokens
        return
    loopback = control.host == "localhost"
    with suppress(ValueError):
        loopback = ip_address(control.host).is_loopback
    if not loopback:
        text = (
            f"CONTROL_HOST: {control.host} is not a loopback address; without CONTROL_TOKENS_FILE control listens on 127.0.0.1 or ::1 only"
        )
        raise SettingsError([text])


def _check_certificate(control: ControlSettings) -> None:
    if bool(control.tls_cert_file) != bool(control.tls_key_file):
        missing = "CONTROL_TLS_KEY_FILE" if control.tls_cert_file else "CONTROL_TLS_CERT_FILE"
        raise SettingsError([f"{missing}: missing; give certificate and key, or neither"])
    if control.tls_cert_file is None or control.tls_key_file is None:
        return
    for variable, path in (("CONTROL_TLS_CERT_FILE", control.tls_cert_file), ("CONTROL_TLS_KEY_FILE", control.tls_key_file)):
        if not os.access(path, os.R_OK) or path.is_dir():
            raise SettingsError([f"{variable}: cannot be read; give the path of a readable PEM file"])
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(control.tls_cert_file, control.tls_key_file, "")  # asks nobody
    except (OSError, ValueError) as exc:
        problem = f"CONTROL_TLS_CERT_FILE, CONTROL_TLS_KEY_FILE: no certificate with its key ({type(exc).__name__}); give two PEM files"
        raise SettingsError([f"{problem}, the key not encrypted"]) from exc


async def _serve(settings: AllSettings, known: Tokens | None, sockets: list[socket.socket]) -> None:
    clock, kafka = SystemClock(), settings.kafka
    archive, decisions = Archive(kafka.topic_prefix), Decisions(kafka)
    store = Store(kafka, clock, settings.control.start_deadline_s, archive.mark, decisions.mark)
    systems = Systems(settings.dynamics, settings.campaign, clock, settings.journal, settings.timeline, settings.exports)
    cursors, traces, topics = Cursors(), Traces(kafka, archive), Topics(kafka)
    backlog = Backlog(LagReader(kafka), store, clock, decisions.counts, archive.optouts)
    control = Control(
        settings=settings.control,
        consent=settings.consent,
        store=store,
        backlog=backlog,
        topics=topics,
        cursors=cursors,
        archive=archive,
        letters=Letters(kafka, archive, store),
        decisions=decisions,
        outcomes=Outcomes(traces, backlog),
        settling=Settling(kafka, decisions, store, topics, clock, settings.service.instance_id),
        traces=traces,
        systems=systems,
        planner=Planner(kafka, systems, cursors, clock, settings.consent),
        access=Access(known, clock, settings.control.public_url),
        clock=clock,
    )
    live = Live(lambda workflow: workflow_view(store, control.backlog, clock, workflow), clock)
    trail = Trail(kafka, clock)
    try:
        await _listen(kafka, control, live, trail, sockets)
    finally:
        store.close()
        archive.close()
        decisions.close()
        await trail.close()
        await systems.close()


async def _listen(kafka: KafkaSettings, control: Control, live: Live, trail: Trail, sockets: list[socket.socket]) -> None:
    """Until a signal comes, or what runs beside the web server fails."""
    settings = control.settings
    app = build_app(control, live, trail.note)
    pages.install(app, control)
    server = Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=2,
            timeout_keep_alive=30,
            limit_concurrency=1000,
            ssl_certfile=str(settings.tls_cert_file) if settings.tls_cert_file else None,
            ssl_keyfile=str(settings.tls_key_file) if settings.tls_key_file else None,
        )
    )
    on_signal(lambda: setattr(server, "should_exit", True))
    beside = [asyncio.create_task(call) for call in (_follow(kafka, control), live.run())]
    for task in beside:
        task.add_done_callback(lambda _: setattr(server, "should_exit", True))
    log("listening", host=settings.host, port=settings.port)
    await server.serve(sockets)
    for task in beside:
        task.cancel()
    for ended in await asyncio.gather(*beside, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended


async def _follow(kafka: KafkaSettings, control: Control) -> None:
    """Reads what is there as soon as Kafka answers, then samples the backlog. The API answers meanwhile, with 503: a list that is not
    complete would say that the rest is not there."""
    rng = random.Random()
    partitions = await answered(
        lambda: asyncio.to_thread(_topics, control.topics, control.consent.decisions_days), "Kafka", asyncio.sleep, rng
    )
    names, told = Names(kafka), control.cursors.followed() | control.archive.followed() | control.decisions.followed()
    follower = Follower(kafka, *(Followed(names.topic(name), partitions[name], call) for name, call in told.items() if name in partitions))
    follower.begin()
    for each in (control.cursors, control.archive, control.decisions):
        each.complete = lambda: follower.caught_up and control.store.ready
    try:
        while not follower.caught_up:
            await asyncio.sleep(0.05)
        await answered(control.store.start, "Kafka", asyncio.sleep, rng)
        await control.backlog.run()
    finally:
        follower.close()


def _topics(topics: Topics, decisions_days: int) -> dict[str, int]:
    """Makes sure of the topics control reads from, and gives the partitions of all. A workflow's topic that is not as it should be is the
    services' to complain about."""
    topics.ensure(control_topics())
    consent = [*optin_topics(decisions_days), outcomes_topic(decisions_days), ingress_decisions(decisions_days)]
    for wanted in (*map(workflow_topics, WORKFLOWS), consent):
        try:
            topics.ensure(wanted)
        except HaltError as exc:
            log("waiting_for", "error", what="a usable topic", reason=str(exc))
    return topics.partitions()


if __name__ == "__main__":
    sys.exit(main())
