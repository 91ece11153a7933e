"""The product as processes, against both sandboxes and a real Kafka: what an end-to-end test drives and looks at."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bridge.kafka.settings import KafkaSettings
from sandbox.campaign import CampaignSandbox
from sandbox.dynamics import DynamicsSandbox
from sandbox.kafka.local import free_port
from sandbox.web import serving

ROOT = Path(__file__).parents[2]
CONTACT_FIELDS = {
    "firstname": "firstName",
    "lastname": "lastName",
    "emailaddress1": "email",
    "mobilephone": "mobilePhone",
    "address1_city": "location.city",
}
VEHICLE_FIELDS = {
    "new_name": "cusName",
    "new_plate": "cusPlate",
    "new_color": "cusColor",
    "new_fueltype": "cusFuel",
    "new_price": "cusPrice",
    "new_mileage": "cusMileage",
    "new_registered": "cusRegistered",
    "new_servicedue": "cusServiceDue",
    "new_active": "cusActive",
    "new_contactid": "cusContactId",
}


def mapping(source: str, target: str, key: tuple[str, str], fields: Mapping[str, str], **more: Any) -> dict[str, Any]:
    return {
        "source": source,
        "target": target,
        "key": {"source": key[0], "target": key[1]},
        "fields": [{"source": name, "target": to} for name, to in fields.items()],
        **more,
    }


def contacts(**more: Any) -> dict[str, Any]:
    """The contact → profile mapping; `fields` and all other members of a table mapping can be overridden."""
    return mapping("contact", "profile", ("contactid", "externalId"), more.pop("fields", CONTACT_FIELDS), **more)


def vehicles(**more: Any) -> dict[str, Any]:
    """The new_vehicle → cusVehicle mapping."""
    return mapping("new_vehicle", "cusVehicle", ("new_vehicleid", "cusVehicleId"), more.pop("fields", VEHICLE_FIELDS), **more)


@dataclass
class Process:
    """One service. `log` is its log file."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """kill -9."""
        self.popen.kill()
        self.popen.wait()

    async def terminate(self, within_s: float = 10) -> int:
        """SIGTERM; its exit code. Fails if it takes longer than `within_s`."""
        self.popen.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(asyncio.to_thread(self.popen.wait), within_s)


@dataclass
class Stack:
    """Use `async with running(kafka_settings, tmp_path) as stack`; control is up then, readers and writers are the test's. `id`: the
    workflow that is looked at."""

    kafka: KafkaSettings
    folder: Path
    dynamics: DynamicsSandbox
    campaign: CampaignSandbox
    dynamics_url: str
    campaign_url: str
    id: str = "ingress"
    environment: dict[str, str] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    control_port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.control_port}", timeout=10, trust_env=False)
        self.environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
            "PYTHONPATH": str(ROOT),
            "TOPIC_PREFIX": self.kafka.topic_prefix,
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": self.kafka.registry_url,
            "PARTITIONS": str(self.kafka.partitions),
            "DYNAMICS_URL": self.dynamics_url,
            "DYNAMICS_TENANT_ID": "sandbox-tenant",
            "DYNAMICS_CLIENT_ID": "sandbox-client",
            "DYNAMICS_CLIENT_SECRET": "sandbox-secret",
            "DYNAMICS_TOKEN_URL": f"{self.dynamics_url}/sandbox-tenant/oauth2/v2.0/token",
            "DYNAMICS_POLL_INTERVAL_S": "0.5",
            "CAMPAIGN_URL": f"{self.campaign_url}/sandbox",
            "CAMPAIGN_CLIENT_ID": "sandbox-campaign",
            "CAMPAIGN_CLIENT_SECRET": "sandbox-secret",
            "CAMPAIGN_ORG_ID": "sandbox@AdobeOrg",
            "CAMPAIGN_TOKEN_URL": f"{self.campaign_url}/ims/token/v3",
            "CAMPAIGN_JOURNAL_URL": f"{self.campaign_url}{self.campaign.journal_path}",
            "CONTROL_PORT": str(self.control_port),
            "LOG_FORMAT": "json",
            **self.environment,
        }

    def service(self, role: str, instance: str | None = None, launcher: Sequence[str] = (), **environment: str) -> Process:
        """Starts `services.<workflow>.<role>` (or `control`) as a process; `environment` overrides settings. `launcher`: a command that
        runs the module named after it, instead of `python -m`."""
        instance = instance or f"{role}-1"
        module = "services.control" if role == "control" else f"services.{self.id}.{role}"
        log = self.folder / f"{instance}-{time.monotonic_ns()}.log"
        own = {"INSTANCE_ID": instance, "STATE_DIR": str(self.folder / f"state-{instance}")}
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [*(launcher or (sys.executable, "-m")), module],
                env=self.environment | own | environment,
                cwd=self.folder,
                stdout=out,
                stderr=out,
            )
        process = self.processes[instance] = Process(instance, popen, log)
        return process

    def close(self) -> None:
        for process in self.processes.values():
            if process.popen.poll() is None:
                process.popen.kill()
        for process in self.processes.values():
            process.popen.wait()

    # -- the API ----------------------------------------------------------------------------------------------------------

    async def get(self, path: str) -> Any:
        answer = await self.http.get(f"/api/v1{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def workflow(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.get(f"/workflows/{self.id}")
        return found

    async def configure(self, *tables: Mapping[str, Any]) -> None:
        """Saves an ingress configuration of these tables."""
        await self.save({"tables": list(tables)})

    async def save(self, config: Mapping[str, Any]) -> None:
        """Saves a configuration of the workflow."""
        before = await self.http.get(f"/api/v1/workflows/{self.id}/config")
        answer = await self.http.put(
            f"/api/v1/workflows/{self.id}/config",
            json={"config": config},
            headers={"If-Match": before.headers["etag"]},
        )
        assert answer.status_code == 200, answer.text

    async def start(self, wait: bool = True) -> None:
        answer = await self.http.post(f"/api/v1/workflows/{self.id}/start")
        assert answer.status_code == 202, answer.text
        if wait:
            await self.until_status("RUNNING")

    async def stop(self, wait: bool = True) -> None:
        answer = await self.http.post(f"/api/v1/workflows/{self.id}/stop")
        assert answer.status_code == 202, answer.text
        if wait:
            await self.until_status("STOPPED")

    # -- waiting ----------------------------------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], Awaitable[Any]], what: str, within_s: float = 60) -> Any:
        """Asks again and again until the answer is true; that answer. Fails with the services' last log lines."""
        deadline = time.monotonic() + within_s
        last: object = None
        while time.monotonic() < deadline:
            try:
                last = await holds()
            except httpx.TransportError as exc:
                if ended := [each.name for each in self.processes.values() if (each.popen.poll() or 0) == -signal.SIGSEGV]:
                    raise AssertionError(f"{ended} crashed\n{self.logs()}") from exc
                last = None
            if last:
                return last
            await asyncio.sleep(0.1)
        raise AssertionError(f"{what}: not within {within_s} s; last {last!r}\n{self.logs()}")

    async def until_status(self, status: str, within_s: float = 60) -> dict[str, Any]:
        async def reached() -> dict[str, Any] | None:
            answer = await self.http.get(f"/api/v1/workflows/{self.id}")
            return answer.json() if answer.status_code == 200 and answer.json()["status"] == status else None

        found: dict[str, Any] = await self.until(reached, f"status {status}", within_s)
        return found

    async def until_equal(self, within_s: float = 60) -> None:
        """Until no difference is left between the systems for the running configuration (plain mappings only)."""

        async def equal() -> bool:
            return not self.differences()

        try:
            await self.until(equal, "both systems agree", within_s)
        except AssertionError as exc:
            workflow = await self.workflow()
            raise AssertionError(f"{exc}\n--- differences\n{self.differences()[:5]}\n--- workflow\n{json.dumps(workflow)}") from None

    async def until_caught_up(self, within_s: float = 60) -> dict[str, Any]:
        """Until the backlog is 0, three samples in a row."""
        streak = 0
        workflow: dict[str, Any] = {}

        async def empty() -> bool:
            nonlocal streak, workflow
            workflow = await self.workflow()
            streak = streak + 1 if workflow["backlog"]["records"] == 0 else 0
            if streak < 3:
                await asyncio.sleep(0.5)
            return streak >= 3

        try:
            await self.until(empty, "backlog 0", within_s)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n--- workflow\n{json.dumps(workflow)}") from None
        return workflow

    def logs(self, lines: int = 15) -> str:
        texts = []
        for process in self.processes.values():
            tail = process.log.read_text(errors="replace").splitlines()[-lines:]
            texts.append(f"--- {process.name}\n" + "\n".join(line[:400] for line in tail))
        return "\n".join(texts)

    # -- comparing --------------------------------------------------------------------------------------------------------

    def differences(self) -> list[str]:
        """Contacts and vehicles whose plain text fields differ between the systems (names the record and what is wrong)."""
        return [
            *self._compare("contact", "contactid", "profile", "externalId", {"lastname": "lastName", "emailaddress1": "email"}),
            *self._compare("new_vehicle", "new_vehicleid", "cusVehicle", "cusVehicleId", {"new_name": "cusName"}),
        ]

    def _compare(self, table: str, key: str, resource: str, target_key: str, fields: Mapping[str, str]) -> list[str]:
        there = {row[key]: row for row in self.dynamics.rows(table)}
        here = {row[target_key]: row for row in self.campaign.rows(resource)}
        wrong = [f"{table} {each} is missing" for each in there.keys() - here.keys()]
        wrong += [f"{resource} {each} is left over" for each in here.keys() - there.keys()]
        for each in there.keys() & here.keys():
            for source, target in fields.items():
                if (there[each][source] or "") != here[each][target]:
                    wrong.append(f"{table} {each} {source} differs")
        return wrong


@asynccontextmanager
async def running(
    kafka: KafkaSettings, folder: Path, wait_for_control: bool = True, workflow: str = "ingress", **environment: str
) -> AsyncIterator[Stack]:
    """Both sandboxes (empty) and control; everything is ended afterwards."""
    dynamics, campaign = DynamicsSandbox(), CampaignSandbox()
    async with serving(dynamics.app()) as dynamics_url, serving(campaign.app()) as campaign_url:
        stack = Stack(kafka, folder, dynamics, campaign, dynamics_url, campaign_url, workflow, dict(environment))
        try:
            stack.service("control")

            async def answers() -> bool:
                answer = await stack.http.get("/api/v1/workflows")
                return answer.status_code == 200 or not wait_for_control

            await stack.until(answers, "control answers", 30)
            yield stack
        finally:
            await stack.http.aclose()
            stack.close()
