"""A Docker engine with compose and the base images: what is there is used, what is missing is made, and what was made is removed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandbox.kafka.local import fetch

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
KEPT = ROOT / ".run" / "compose"  # downloads, for the next time; `make clean` removes them
COMPOSE = "github.com/docker/compose/v2@v2.40.3"
PYTHON, KAFKA, REGISTRY = "python:3.11-slim", "apache/kafka:4.1.0", "apicurio/apicurio-registry:3.0.9"
FORWARDS = Path("/proc/sys/net/ipv4/ip_forward")
EMPTY = {  # tables of a firewall without rules
    "filter": "*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\nCOMMIT\n",
    "nat": "*nat\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\nCOMMIT\n",
}
TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")


class ComposeError(Exception):
    """Something did not work; the message says what."""


@contextmanager
def step(what: str) -> Iterator[None]:
    """Prints what is done, and then how long it took."""
    print(f"{what} …", flush=True)
    began = time.monotonic()
    yield
    print(f"    {time.monotonic() - began:6.1f} s", flush=True)


def run(*command: str | Path, timeout_s: float = 600, **more: object) -> str:
    """What the command prints. Raises ComposeError with the end of it if it fails."""
    try:
        result = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False, **more
        )  # type: ignore[call-overload]
    except FileNotFoundError as exc:
        raise ComposeError(f"{command[0]} is missing") from exc
    except subprocess.TimeoutExpired as exc:
        raise ComposeError(f"{' '.join(map(str, command))}: not within {timeout_s:.0f} s") from exc
    if result.returncode != 0:
        raise ComposeError(f"{' '.join(map(str, command))} ended with {result.returncode}:\n{result.stdout[-3000:]}")
    return str(result.stdout)


def install(program: str, *packages: str) -> None:
    """From Debian, as root."""
    if shutil.which(program):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ComposeError(f"{program} is missing (Debian: apt-get install {' '.join(packages)})")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-q", env=quiet)
    run("apt-get", "install", "-yq", "--no-install-recommends", *packages, env=quiet)


class Engine:
    """Use as a context manager. `docker` and `compose` run their commands."""

    def __init__(self) -> None:
        self.env = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "DOCKER_HOST", "TMPDIR")}
        self.env["DOCKER_BUILDKIT"] = "0"  # Debian has no buildx
        self._home: Path | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self._firewall, self._forwards = "", ""  # as they were before our engine
        self._made: list[str] = []
        self._compose = ["docker", "compose"]

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._daemon is None:
            for image in reversed(self._made):
                with suppress(ComposeError):
                    self.docker("rmi", "--force", image)
            return
        self._daemon.terminate()
        try:
            self._daemon.wait(60)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()
        self._put_back()

    def _put_back(self) -> None:
        """The firewall as it was (an engine leaves its rules, and FORWARD on DROP), and no file."""
        if self._forwards:
            missing = (text for table, text in EMPTY.items() if f"*{table}\n" not in self._firewall)
            run("iptables-restore", input="".join((self._firewall, *missing)))
            FORWARDS.write_text(self._forwards)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in reversed([each for each in mounts if each.startswith(f"{self._home}/")]):
            run("umount", mount)
        if self._home is not None:
            shutil.rmtree(self._home)

    def docker(self, *arguments: str | Path, timeout_s: float = 600) -> str:
        return run("docker", *arguments, timeout_s=timeout_s, env=self.env)

    def compose(self, *arguments: str | Path, timeout_s: float = 300) -> str:
        return run(*self._compose, *arguments, timeout_s=timeout_s, env=self.env, cwd=ROOT)

    def start(self) -> None:
        """Uses the engine of this machine if it answers, else starts one of its own, with everything in one temporary folder."""
        install("docker", "docker.io")
        with suppress(ComposeError):
            self.docker("version", timeout_s=20)
            return
        if os.geteuid() != 0:
            raise ComposeError("no Docker engine answers, and only root can start one")
        install("dockerd", "docker.io")
        install("iptables", "iptables")
        self._home = home = Path(tempfile.mkdtemp(prefix="bridge-docker-"))
        self._firewall, self._forwards = run("iptables-save"), FORWARDS.read_text()
        socket = f"unix://{home}/docker.sock"
        folders = ("--data-root", home / "data", "--exec-root", home / "exec", "--pidfile", home / "pid")
        with (home / "log").open("wb") as log:
            self._daemon = subprocess.Popen(
                ["dockerd", "--bridge", "none", "--host", socket, *folders], stdout=log, stderr=log, start_new_session=True
            )
        self.env["DOCKER_HOST"] = socket
        for _ in range(120):
            if self._daemon.poll() is not None:
                raise ComposeError(f"dockerd ended at once:\n{(home / 'log').read_text()[-2000:]}")
            with suppress(ComposeError):
                self.docker("version", timeout_s=10)
                return
            time.sleep(0.5)
        raise ComposeError(f"dockerd did not answer in a minute:\n{(home / 'log').read_text()[-2000:]}")

    def find_compose(self) -> str:
        """Makes sure of compose 2; gives its version. Where Debian has none it is built from its source."""
        with suppress(ComposeError):
            return self.compose("version", "--short").strip()
        program = KEPT / "docker-compose"
        if not program.exists():
            _build_compose(program)
        self._compose = [str(program)]
        return self.compose("version", "--short").strip()

    def base_images(self) -> None:
        """Those that are not there are pulled with COMPOSE_PULL=1, else made here, under the same names."""
        for image, make in ((PYTHON, self._python), (KAFKA, self._kafka), (REGISTRY, self._registry)):
            if image in self.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split():
                continue
            self._made.append(image)
            if os.environ.get("COMPOSE_PULL"):
                self.docker("pull", "--quiet", image)
            else:
                make()

    def build(self, target: str, image: str, version: str) -> None:
        self._made.append(image)
        self.docker(
            *("build", "--network", "host", "--quiet", "--target", target, "--build-arg", f"VERSION={version}", "--tag", image, ROOT)
        )

    def inspect(self, name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.docker("inspect", name))[0]
        return found

    def _python(self) -> None:
        """Debian with Python, as the original; it trusts whom this machine trusts."""
        archive = KEPT / "python.tar"
        if not archive.exists():
            install("debootstrap", "debootstrap")
            KEPT.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="bridge-debian-") as folder:
                root = Path(folder, "root")
                packages = "--include=python3.11,python3-venv,ca-certificates"
                run("debootstrap", "--variant=minbase", packages, "bookworm", root, timeout_s=900)
                for name in ("python", "python3", "python3.11"):
                    (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3.11")
                shutil.rmtree(root / "var/cache/apt/archives")
                if TRUSTED.exists():
                    shutil.copyfile(TRUSTED, root / str(TRUSTED).lstrip("/"))
                run("tar", "-C", root, "-cf", archive.with_suffix(".part"), ".")
            archive.with_suffix(".part").rename(archive)
        self.docker("import", "--change", f"ENV PIP_CERT={TRUSTED}", archive, PYTHON)

    def _kafka(self) -> None:
        self._java(KAFKA, "Kafka.Dockerfile", "kafka")

    def _registry(self) -> None:
        self._java(REGISTRY, "Registry.Dockerfile", "registry")

    def _java(self, image: str, dockerfile: str, jars: str) -> None:
        """The Java of this machine with the jars of `make demo`."""
        install("java", "openjdk-17-jre-headless")
        install("mvn", "maven")
        java = Path(shutil.which("java") or "").resolve().parents[1]
        with tempfile.TemporaryDirectory(prefix="bridge-image-") as folder:
            shutil.copytree(
                java, Path(folder, "jvm"), ignore=shutil.ignore_patterns("src.zip", "jmods", "*.jsa.orig"), ignore_dangling_symlinks=True
            )
            shutil.copytree(fetch() / jars, Path(folder, jars))
            shutil.copy(HERE / "kafka-entrypoint", folder)
            self.docker("build", "--network", "none", "--quiet", "--tag", image, "--file", HERE / dockerfile, folder)


def _build_compose(program: Path) -> None:
    if not shutil.which("go"):
        raise ComposeError("neither `docker compose` nor Go to build it: install docker-compose-v2, or Go 1.23 or newer")
    KEPT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bridge-compose-") as folder:
        source = Path(folder, "source")
        found = json.loads(run("go", "mod", "download", "-json", COMPOSE, cwd=folder))
        shutil.copytree(found["Dir"], source)
        run("chmod", "-R", "u+w", source)
        version = f"-s -w -X github.com/docker/compose/v2/internal.Version={COMPOSE.rpartition('@')[2]}"
        env = {**os.environ, "CGO_ENABLED": "0"}
        run("go", "build", "-trimpath", "-ldflags", version, "-o", program, "./cmd", cwd=source, env=env, timeout_s=1200)


def fail(text: str) -> int:
    print(f"test-compose: {text}", file=sys.stderr)
    return 1
