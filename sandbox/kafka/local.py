"""One local Kafka broker and one schema registry: fetch, start, stop. Nothing outside `home` is touched."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

POM = Path(__file__).with_name("pom.xml")
JARS = POM.parents[2] / ".run" / "jars"
CLUSTER_ID = "Q2FtcGFpZ25CcmlkZ2VTYg"

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
log.retention.check.interval.ms={retention_check_ms}
log.initial.task.delay.ms=1000
"""


class SandboxError(Exception):
    """Something the sandbox needs is missing or did not start; the message says what to do."""


def free_port() -> int:
    """Below the ports that systems give to connections by themselves: there the next one that is opened may take it meanwhile."""
    while True:
        port = 15_000 + secrets.randbelow(17_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def fetch(jars: Path = JARS) -> Path:
    """Downloads Kafka and the registry once; gives the folder. Takes about 10 s the first time."""
    jars.mkdir(parents=True, exist_ok=True)
    done = jars / "complete"
    with (jars / "lock").open("w") as lock:  # several test processes want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _download(jars)
            done.touch()
    return jars


def _download(jars: Path) -> None:
    command = ["mvn", "-q", "-B", "-f", str(POM), f"-Dout={jars}", "package"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as exc:
        raise SandboxError("Maven is missing: install Maven and Java 17 (Debian: apt-get install maven)") from exc
    if result.returncode != 0:
        raise SandboxError(f"Maven could not fetch Kafka:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")


def java(main_class: str, *arguments: str, classpath: Path, heap_mb: int = 256) -> list[str]:
    """The command line of a Java program out of `classpath`."""
    options = [f"-Xmx{heap_mb}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    return ["java", *options, "-cp", f"{classpath}/*", main_class, *arguments]


@dataclass
class LocalKafka:
    """A broker on `port` and a registry on `registry_port`; data, logs and pid files live in `home`.

    `properties` of the broker override those above; `format_options` go to Kafka's `format` (users, say).
    """

    home: Path
    port: int = 9092
    registry_port: int = 8081
    retention_check_ms: int = 300_000
    jars: Path = JARS
    controller_port: int = field(default_factory=free_port)
    properties: str = ""
    format_options: Sequence[str] = ()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def registry_url(self) -> str:
        return f"http://127.0.0.1:{self.registry_port}/apis/ccompat/v7"

    def up(self, timeout_s: float = 90, registry: bool = True) -> None:
        """Starts what is not running yet and returns when both answer (or the broker alone). Raises SandboxError."""
        fetch(self.jars)
        self.home.mkdir(parents=True, exist_ok=True)
        self.start_kafka()
        self.wait_kafka(timeout_s)
        if registry:
            self.start_registry()
            self.wait_registry(timeout_s)

    def down(self) -> None:
        self.stop("registry", signal.SIGKILL)
        self.stop("kafka", signal.SIGTERM)

    def status(self) -> dict[str, bool]:
        return {"kafka": _listens(self.port), "registry": self._registry_answers()}

    def start_kafka(self) -> None:
        if self.running("kafka"):
            return
        if _listens(self.port):
            raise SandboxError(f"port {self.port} is taken by another program: stop it or choose another port")
        data, properties = self.home / "kafka-data", self.home / "server.properties"
        properties.write_text(
            PROPERTIES.format(
                port=self.port,
                controller_port=self.controller_port,
                data=data,
                retention_check_ms=self.retention_check_ms,
            )
            + self.properties
        )
        classpath = self.jars / "kafka"
        if not (data / "meta.properties").exists():
            arguments = ["format", "-t", CLUSTER_ID, "-c", str(properties), *self.format_options]
            command = java("kafka.tools.StorageTool", *arguments, classpath=classpath)
            subprocess.run(command, check=True, capture_output=True, env=self._env())
        self._spawn("kafka", java("kafka.Kafka", str(properties), classpath=classpath, heap_mb=512), self._env())

    def start_registry(self) -> None:
        if self.running("registry"):
            return
        if _listens(self.registry_port):
            raise SandboxError(f"port {self.registry_port} is taken by another program: stop it or choose another port")
        folder = self.jars / "registry"
        runner = next(folder.glob("apicurio-registry-app-*-runner.jar"))
        env = self._env() | {
            "APICURIO_STORAGE_KIND": "kafkasql",
            "APICURIO_KAFKASQL_BOOTSTRAP_SERVERS": self.bootstrap,
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(self.registry_port),
            "QUARKUS_LOG_LEVEL": "WARN",
        }
        options = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        main = "io.quarkus.runner.GeneratedMain"
        self._spawn("registry", ["java", *options, "-cp", f"{runner}:{folder}/lib/*", main], env)

    def wait_kafka(self, timeout_s: float = 60) -> None:
        self._wait("kafka", lambda: _listens(self.port), timeout_s)

    def wait_registry(self, timeout_s: float = 60) -> None:
        self._wait("registry", self._registry_answers, timeout_s)

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM, timeout_s: float = 20) -> None:
        """Ends `kafka` or `registry` and waits until it is gone."""
        pid = self._pid(name)
        if pid is None:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, how)
        deadline = time.monotonic() + timeout_s
        while _alive(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        if _alive(pid):
            os.kill(pid, signal.SIGKILL)
        (self.home / f"{name}.pid").unlink(missing_ok=True)

    def tool(self, main_class: str, *arguments: str) -> str:
        """Runs one of Kafka's own command line tools and gives what it printed."""
        command = java(main_class, *arguments, classpath=self.jars / "kafka")
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=self._env())
        if result.returncode != 0:
            raise SandboxError(f"{main_class} failed: {result.stdout[-500:]}{result.stderr[-500:]}")
        return result.stdout

    def running(self, name: str) -> bool:
        pid = self._pid(name)
        return pid is not None and _alive(pid)

    def _pid(self, name: str) -> int | None:
        path = self.home / f"{name}.pid"
        return int(path.read_text()) if path.exists() else None

    def _env(self) -> dict[str, str]:
        return dict(os.environ) | {"LOG_DIR": str(self.home)}

    def _spawn(self, name: str, command: list[str], env: dict[str, str]) -> None:
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=env)
        (self.home / f"{name}.pid").write_text(str(process.pid))

    def _registry_answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.registry_url}/subjects", timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    def _wait(self, name: str, ready: object, timeout_s: float) -> None:
        assert callable(ready)
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running(name):
                raise SandboxError(f"{name} ended at once; its log: {self.home / f'{name}.log'}")
            if time.monotonic() > deadline:
                raise SandboxError(f"{name} did not answer in {timeout_s:.0f} s; its log: {self.home / f'{name}.log'}")
            time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _alive(pid: int) -> bool:
    with suppress(ChildProcessError):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
