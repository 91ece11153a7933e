"""The processes of the demo: Kafka, both stand-ins, the services. All of them end with the demo."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from sandbox.kafka import LocalKafka, SandboxError
from sandbox.kafka.local import JARS, free_port

HOME = Path(os.environ.get("DEMO_HOME", JARS.parent / "demo"))  # emptied at the start
SFTP = HOME / "sftp"
JOURNAL = "/events/organizations/4711/integrations/815/sandbox-registration"


def port(preferred: int) -> int:
    """The usual port, or a free one if another program has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return free_port()
    return preferred


class Processes:
    """Use as a context manager: what it started is ended, newest first, however the block ends."""

    def __init__(self) -> None:
        shutil.rmtree(HOME, ignore_errors=True)
        (HOME / "logs").mkdir(parents=True)
        self.kafka = LocalKafka(HOME / "kafka", port(9092), port(8081))
        usual = (("dynamics", 9001), ("campaign", 9002), ("control", 8080), ("sftp", 9022))
        self.ports = {name: port(number) for name, number in usual}
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []

    def __enter__(self) -> Self:
        signal.signal(signal.SIGTERM, _as_interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave processes behind
        for _, process in reversed(self._started):
            process.terminate()
        deadline = time.monotonic() + 12
        for _, process in self._started:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.kafka.down()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def start(self, name: str, module: str, *arguments: str, **environment: str) -> None:
        """Starts `python -m module`, its log in logs/<name>.log."""
        with (HOME / "logs" / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C is ours; the others are told in order
            )
        self._started.append((name, process))

    def check(self) -> None:
        """Raises SandboxError if one of them has ended."""
        for name, process in self._started:
            if process.poll() is not None:
                raise SandboxError(f"{name} ended with {process.returncode}; its log: {HOME / 'logs' / name}.log")

    def wait(self, ready: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            self.check()
            try:
                if ready():
                    return
            except httpx.TransportError:
                pass  # it is still starting
            if time.monotonic() > deadline:
                raise SandboxError(f"{what}: not within {timeout_s:.0f} s; the logs are in {HOME / 'logs'}")
            time.sleep(0.1)

    def environment(self) -> Mapping[str, str]:
        """Settings of all services."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap,
            "SCHEMA_REGISTRY_URL": self.kafka.registry_url,
            "STATE_DIR": str(HOME / "state"),
            "LOG_FORMAT": "json",
            "DYNAMICS_URL": self.url("dynamics"),
            "DYNAMICS_TENANT_ID": "sandbox-tenant",
            "DYNAMICS_CLIENT_ID": "sandbox-client",
            "DYNAMICS_CLIENT_SECRET": "sandbox-secret",
            "DYNAMICS_TOKEN_URL": f"{self.url('dynamics')}/sandbox-tenant/oauth2/v2.0/token",
            "DYNAMICS_POLL_INTERVAL_S": "2",
            "CAMPAIGN_URL": f"{self.url('campaign')}/sandbox",
            "CAMPAIGN_CLIENT_ID": "sandbox-campaign",
            "CAMPAIGN_CLIENT_SECRET": "sandbox-secret",
            "CAMPAIGN_ORG_ID": "sandbox@AdobeOrg",
            "CAMPAIGN_TOKEN_URL": f"{self.url('campaign')}/ims/token/v3",
            "CAMPAIGN_JOURNAL_URL": self.url("campaign") + JOURNAL,
            "CAMPAIGN_SFTP_HOST": "127.0.0.1",
            "CAMPAIGN_SFTP_PORT": str(self.ports["sftp"]),
            "CAMPAIGN_SFTP_USER": "sandbox-sftp",
            "CAMPAIGN_SFTP_KEY_FILE": str(SFTP / "client_key"),
            "CAMPAIGN_SFTP_KNOWN_HOSTS_FILE": str(SFTP / "known_hosts"),
            "CAMPAIGN_SFTP_POLL_INTERVAL_S": "1",
            "CONTROL_PORT": str(self.ports["control"]),
        }


def _as_interrupt(*_: object) -> None:
    raise KeyboardInterrupt
