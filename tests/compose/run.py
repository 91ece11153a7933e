"""`make test-compose`: the image and the compose file for real, with the stand-ins; ends with 0 only if both systems agree."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx

from sandbox.demo import consent, timelines
from sandbox.demo.compare import differences, mappings
from sandbox.kafka.local import free_port
from tests.compose.engine import ROOT, ComposeError, Engine, fail, step

VERSION = "compose-test"
PROJECT = "bridge-compose-test"
TOKEN = "cb_sandbox"  # deploy/sandbox/secrets/control_tokens
ROLES = ("ingress-reader", "ingress-writer", "egress-reader", "egress-writer", "optin-reader", "optin-resolver", "optin-writer")
WORKFLOWS = {"ingress": 2, "egress": 2, "optin": 3}  # with the number of their roles
IMAGES = {"bridge": f"campaign-bridge:{VERSION}", "sandbox": f"campaign-bridge-sandbox:{VERSION}"}
IN_THE_IMAGE = "id -u; command -v gcc cc make || true; python -c 'import bridge, cli, services; print(bridge.__version__)'"
HAS_METRICS = "`METRICS_PORT`" in (ROOT / "docs/settings.md").read_text()


class Trial:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seed = 0
        self._port = free_port()
        engine.env |= {"BRIDGE_VERSION": VERSION, "CONTROL_PUBLISH": f"127.0.0.1:{self._port}"}
        client = {"base_url": f"http://127.0.0.1:{self._port}/api/v1", "headers": {"Authorization": f"Bearer {TOKEN}"}}
        self._control = httpx.Client(timeout=20, trust_env=False, **client)  # type: ignore[arg-type]

    def run(self) -> None:
        engine = self._engine
        with step("Building the image, and the one with the stand-ins"):
            for target, image in IMAGES.items():
                engine.build(target, image, VERSION)
        with step("The image: its user, no compiler, a read-only root file system, the version in its label"):
            self._check_image()
        with step("docker compose --profile sandbox up"):
            self._compose("up", "--detach", "--no-build", "--quiet-pull")
        with step("Waiting for three workflows, STOPPED, with all of their services"):
            self._until("three STOPPED workflows", self._all_stopped, 240)
            self._connect()
        with step("Limits, log rotation, ports, and who is healthy"):
            self._check_containers()
        with step("Starting ingress over the REST API; 6,000 records"):
            self._start("ingress", {"tables": mappings()})
            self._until_equal("both systems are equal")
        with step("Starting egress; the events of 200 e-mails on the timelines"):
            made = self._campaign.post("/_admin/journal/traffic", json={"seed": 1, "mails": 200}).raise_for_status().json()
            self._start("egress", {"events": dict.fromkeys(made["expected"], True)})
            self._until("all events are on the timelines", lambda: not timelines.differences(self._dynamics, made["expected"]))
        with step("Starting opt-in/out; a no of Dynamics, and one of Campaign by SFTP"):
            self._start("optin", consent.CONFIG)
            self._until("opt-outs of Dynamics are in Campaign", lambda: not consent.differences(self._dynamics, self._campaign), 240)
            person = next(row["contactid"] for row in consent.contacts(self._dynamics) if not row[consent.COLUMN])
            consent.says(self._campaign, person, True)
            self._until("an opt-out of Campaign is in Dynamics", lambda: consent.in_dynamics(self._dynamics, person))
        self._disturb()
        with step("The end: equal, opt-out flags as well, RUNNING, no dead letters"):
            self._until_equal("both systems are equal")
            self._until("opt-out flags are equal", lambda: not consent.differences(self._dynamics, self._campaign))
            self._until("all workflows are RUNNING", self._all_run)
            if any(self._workflow(each)["counters"]["dead_lettered"] for each in WORKFLOWS):
                raise ComposeError("there are dead letters")
        print(f"both systems are equal: {differences(self._dynamics, self._campaign)[0]:,} records, field by field", flush=True)

    def _disturb(self) -> None:
        for service in ("kafka", "registry", *ROLES, "control"):
            with step(f"Restarting {service}, changes meanwhile"):
                self._churn()
                self._compose("restart", service)
                self._until_equal(f"both systems are equal after a restart of {service}")
        with step("All services of all workflows are back, RUNNING"):
            self._until("all services are back", self._all_run)
        with step("kill -9 of Kafka, changes before and after"):
            self._churn()
            self._kill_kafka()
            self._churn()
            self._until_equal("both systems are equal after the kill")
        for number in (3, 1):
            with step(f"--scale ingress-writer={number}, changes meanwhile"):
                self._churn()
                self._compose("up", "--detach", "--no-build", "--no-recreate", "--scale", f"ingress-writer={number}")
                self._until(f"{number} writers run", lambda number=number: self._running("writer") == number)  # type: ignore[misc]
                self._churn()
                self._until_equal(f"both systems are equal with {number} writers")

    def down(self) -> None:
        self._compose("down", "--volumes", "--remove-orphans", "--timeout", "20")

    def logs(self) -> str:
        return self._compose("ps", "--all") + self._compose("logs", "--tail", "15", "--no-color")

    def _compose(self, *arguments: str) -> str:
        return self._engine.compose("-p", PROJECT, "--env-file", os.devnull, "--profile", "sandbox", *arguments)

    def _check_image(self) -> None:
        docker = self._engine.docker
        said = docker("run", "--rm", "--network", "none", "--read-only", IMAGES["bridge"], "sh", "-c", IN_THE_IMAGE).split()
        if said[:1] != ["10001"] or len(said) != 2:
            raise ComposeError(f"the image is not as it should be: {said}")
        label = docker("inspect", "--format", '{{index .Config.Labels "org.opencontainers.image.version"}}', IMAGES["bridge"])
        if label.strip() != VERSION:
            raise ComposeError(f"the label of the image says {label!r}")

    def _check_containers(self) -> None:
        published = []
        for service in (*ROLES, "control", "kafka", "registry", "dynamics", "campaign"):
            host: Any = self._container(service)["HostConfig"]
            published += [service] if host["PortBindings"] else []
            ours = service not in ("kafka", "registry")
            if not host["Memory"] or not host["NanoCpus"] or "max-size" not in host["LogConfig"]["Config"]:
                raise ComposeError(f"{service} has no limits")
            if host["ReadonlyRootfs"] is not ours:
                raise ComposeError(f"{service}: its root file system")
        if published != ["control"]:
            raise ComposeError(f"published: {published}")
        watched = ("control", "dynamics", "campaign", "kafka", *(ROLES if HAS_METRICS else ()))
        self._until("the containers are healthy", lambda: all(self._healthy(each) for each in watched), 120)

    def _healthy(self, service: str) -> bool:
        state: Any = self._container(service)["State"]
        return bool(state["Health"]["Status"] == "healthy")

    def _container(self, service: str) -> dict[str, Any]:
        return self._engine.inspect(self._compose("ps", "--quiet", service).split()[0])

    def _connect(self) -> None:
        """The stand-ins publish no port; on this machine the addresses of their containers can be reached."""
        for name, port in (("dynamics", 9001), ("campaign", 9002)):
            address = next(iter(self._container(name)["NetworkSettings"]["Networks"].values()))["IPAddress"]
            setattr(self, f"_{name}", httpx.Client(base_url=f"http://{address}:{port}", timeout=60, trust_env=False))

    _dynamics: httpx.Client
    _campaign: httpx.Client

    def _start(self, workflow: str, config: dict[str, Any]) -> None:
        path = f"/workflows/{workflow}"
        saved = self._control.get(f"{path}/config").raise_for_status()
        body, headers = {"config": config, "comment": "compose"}, {"If-Match": saved.headers["etag"]}
        self._control.put(f"{path}/config", json=body, headers=headers).raise_for_status()
        self._control.post(f"{path}/start").raise_for_status()

    def _churn(self) -> None:
        self._seed += 1
        body = {"seed": self._seed, "updates": 100, "inserts": 10, "deletes": 5}
        self._dynamics.post("/_admin/churn", json=body).raise_for_status()

    def _kill_kafka(self) -> None:
        """Its process, not its container: `docker kill` would count as an order to stay away."""
        before = self._container("kafka")
        engine_is_here = before["State"]["Pid"] > 0 and os.geteuid() == 0
        if not engine_is_here:
            raise ComposeError("killing Kafka needs root")
        os.kill(before["State"]["Pid"], signal.SIGKILL)
        self._until("Docker starts Kafka again", lambda: self._container("kafka")["RestartCount"] > before["RestartCount"])

    def _workflow(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self._control.get(f"/workflows/{id}").raise_for_status().json()
        return found

    def _all_stopped(self) -> bool:
        return self._all_there() and all(self._workflow(each)["status"] == "STOPPED" for each in WORKFLOWS)

    def _all_run(self) -> bool:
        return self._all_there() and all(self._workflow(each)["status"] == "RUNNING" for each in WORKFLOWS)

    def _all_there(self) -> bool:
        return all(len({each["role"] for each in self._workflow(id)["services"]}) == number for id, number in WORKFLOWS.items())

    def _running(self, role: str) -> int:
        services = self._workflow("ingress")["services"]
        return sum(each["role"] == role and each["status"] == "RUNNING" for each in services)

    def _until_equal(self, what: str) -> None:
        self._until(what, lambda: not differences(self._dynamics, self._campaign)[1], 240)

    def _until(self, what: str, ready: Callable[[], bool], timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        last = ""
        while time.monotonic() < deadline:
            try:
                if ready():
                    return
            except (httpx.HTTPError, KeyError) as exc:
                last = f" ({type(exc).__name__}: {exc})"
            time.sleep(1)
        raise ComposeError(f"{what}: not within {timeout_s:.0f} s{last}")


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    try:
        with Engine() as engine:
            with step("Docker engine"):
                engine.start()
            with step("Compose 2"):
                print(f"    {engine.find_compose()}", flush=True)
            with step("Base images"):
                engine.base_images()
            _tried(engine)
    except ComposeError as exc:
        return fail(str(exc))
    except KeyboardInterrupt:
        return fail("ended")
    print(f"test-compose: passed in {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    return 0


def _tried(engine: Engine) -> None:
    trial = Trial(engine)
    try:
        trial.run()
    except ComposeError:
        print(trial.logs(), file=sys.stderr)
        raise
    finally:
        with step("Removing containers, volumes and images"):
            trial.down()


if __name__ == "__main__":
    sys.exit(main())
