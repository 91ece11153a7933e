"""The product beside systems without a memory, on a Kafka of its own: what scale is measured on, and where its figures are noted."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.measure import cpu_s
from benchmarks.watch import Broker, peak_mib
from bridge.kafka.settings import KafkaSettings
from sandbox.campaign import CampaignSandbox
from sandbox.dynamics import DynamicsSandbox
from sandbox.kafka import LocalKafka
from sandbox.kafka.local import free_port
from tests.e2e.stack import ROOT, Process, Stack

CALLS_AT_ONCE = 64
IDLE_S, PATIENCE_S = 20.0, 120
MOST_SHOWN = 4  # kinds of requests


class Notes:
    """Figures of all runs by workload, size and name, in a file that is written with each of them: an abort keeps what was measured."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.all: dict[str, dict[str, dict[str, float]]] = json.loads(path.read_text()) if path.exists() else {}

    def begin(self, workload: str, records: int) -> None:
        self._now = self.all.setdefault(workload, {})[str(records)] = {}
        self._records = records

    def note(self, name: str, value: float) -> None:
        self._now[name] = value
        self._path.write_text(json.dumps(self.all, indent=1))
        print(f"{self._records:9,d}  {name:58} {value:14.5g}   load {os.getloadavg()[0]:.1f}", flush=True)

    def each(self, name: str, total: float, records: int | None = None) -> None:
        """Of one record."""
        self.note(name, total / (records or self._records))


@dataclass
class Rig:
    """`stack` for services and API; `dynamics` and `campaign` are the processes that stand in for the systems."""

    stack: Stack
    broker: Broker
    dynamics: subprocess.Popen[bytes]
    campaign: subprocess.Popen[bytes]
    notes: Notes

    def cpu(self, *names: str) -> float:
        """Seconds that these services have used so far."""
        return sum(cpu_s(self.stack.processes[name].popen.pid) for name in names)

    def pids(self) -> dict[str, int]:
        running = {name: each.popen.pid for name, each in self.stack.processes.items() if each.popen.poll() is None}
        return running | {"kafka": self.broker.pid(), "registry": self.broker.pid("registry")}

    def peaks(self, when: str) -> None:
        for name, pid in self.pids().items():
            self.notes.note(f"peak memory {when}, {name}, MiB", peak_mib(pid))

    async def asked(self, system: str, path: str, method: str = "GET") -> Any:
        """The answer of a stand-in's own (admin) API."""
        url = self.stack.dynamics_url if system == "dynamics" else self.stack.campaign_url
        answer = await self.stack.http.request(method, f"{url}/_admin/{path}", timeout=60)
        answer.raise_for_status()
        return answer.json()

    async def calls(self, system: str) -> dict[str, int]:
        """Requests that a stand-in has had, by method and set."""
        found: dict[str, int] = (await self.asked(system, "counts"))["requests"]
        return found

    async def idle(self, polls_of: str) -> None:
        """What goes on while nothing does: CPU of each service, requests to Dynamics' `polls_of` and to Kafka. No cost is left out."""
        before, cpu, asked = self.broker.requests(), {name: cpu_s(pid) for name, pid in self.pids().items()}, await self.calls("dynamics")
        await asyncio.sleep(IDLE_S)
        spent = {name: cpu_s(pid) - cpu[name] for name, pid in self.pids().items()}
        polls = (await self.calls("dynamics")).get(polls_of, 0) - asked.get(polls_of, 0)
        made = self.broker.requests() - before
        for name, seconds in spent.items():
            self.notes.note(f"idle, {name}, % of a core", seconds / IDLE_S * 100)
        self.notes.note("idle, polls of the table /s", polls / IDLE_S)
        self.notes.note("idle, one poll, CPU ms of the reader (heartbeats included)", spent["reader-1"] * 1000 / max(polls, 1))
        self.notes.note("idle, requests to Kafka /s", made.total() / IDLE_S)
        for kind, number in made.most_common(MOST_SHOWN):
            self.notes.note(f"idle, of them {kind} /s", number / IDLE_S)

    async def until_empty(self, group: str) -> None:
        """Until nobody is in this group: members that have ended stay in it for the session timeout."""

        async def empty() -> bool:
            groups = (await self.stack.workflow())["backlog"]["groups"]
            return all(each["members"] == 0 for each in groups if each["group"] == group)

        await self.stack.until(empty, f"nobody is in {group}", PATIENCE_S)


def told(process: Process, event: str) -> list[dict[str, Any]]:
    """The log lines of one event."""
    marked = f'"event": "{event}"'
    return [json.loads(line) for line in process.log.read_text(errors="replace").splitlines() if marked in line]


async def until_told(stack: Stack, process: Process, event: str, within_s: float, times: int = 1) -> dict[str, Any]:
    async def there() -> dict[str, Any] | None:
        lines = told(process, event)
        return lines[times - 1] if len(lines) >= times else None

    found: dict[str, Any] = await stack.until(there, f"{process.name} says {event}", within_s)
    return found


def _stand_in(folder: Path, which: str, *options: str) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    with (folder / f"{which}.log").open("wb") as log:
        command = [sys.executable, "-m", "benchmarks.lean", which, *options]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log)
    assert process.stdout is not None
    return process, json.loads(process.stdout.readline())


@asynccontextmanager
async def rigged(notes: Notes, workflow: str, rows: int, assets: int = 0, **environment: str) -> AsyncIterator[Rig]:
    """Control is up and nothing else. Dynamics has `rows` contacts or, with `assets`, `rows` of each of so many custom entities. Everything
    is ended and deleted afterwards."""
    home = Path(tempfile.mkdtemp(prefix="scale-"))
    dynamics, there = _stand_in(home, "dynamics", "--assets", str(assets), "--rows", str(rows))
    campaign, here = _stand_in(home, "campaign", "--assets", str(assets), "--sftp", str(home / "sftp"))
    broker = Broker(LocalKafka(home / "kafka", free_port(), free_port()))  # last: whoever takes any free port could take these
    try:
        broker.up()
        kafka = KafkaSettings(bootstrap_servers=broker.kafka.bootstrap, registry_url=broker.kafka.registry_url)
        sftp: Mapping[str, str] = {name: value for name, value in here.items() if name.startswith("CAMPAIGN_SFTP")}
        settings = {"CAMPAIGN_CONCURRENCY": str(CALLS_AT_ONCE), "CAMPAIGN_SFTP_POLL_INTERVAL_S": "1", **sftp, **environment}
        stack = Stack(kafka, home, DynamicsSandbox(), CampaignSandbox(), there["url"], here["url"], workflow, settings)
        stack.environment["CAMPAIGN_JOURNAL_URL"] = here["url"] + here["journal"]
        try:
            stack.service("control")
            await stack.until(lambda: _answers(stack.http), "control answers", PATIENCE_S)
            yield Rig(stack, broker, dynamics, campaign, notes)
        finally:
            await stack.http.aclose()
            stack.close()
    finally:
        for process in (dynamics, campaign):
            process.terminate()
            process.wait()
        broker.kafka.down()
        shutil.rmtree(home, ignore_errors=True)


async def _answers(http: httpx.AsyncClient) -> bool:
    return (await http.get("/api/v1/workflows")).status_code == 200
