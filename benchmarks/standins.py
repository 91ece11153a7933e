"""The stand-ins as processes of their own, so that they do not hold up what is measured; and what Campaign's can take by itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bridge.http.transport import build_client
from sandbox.campaign import CampaignSandbox
from sandbox.kafka.local import free_port
from tests.e2e.stack import ROOT

RECORDS = "^/sandbox/campaign/profileAndServicesExt/profile(/[^/]*)?$"  # calls about records, not about metadata
ALONE_S = 4.0


@dataclass
class StandIn:
    """`http`: its admin side."""

    url: str
    http: httpx.AsyncClient

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.http.request(method, f"/_admin/{path}", json=body)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


class Source(StandIn):
    """Dynamics."""

    @property
    def environment(self) -> dict[str, Any]:
        """Settings that lead a service here."""
        return {"DYNAMICS_URL": self.url, "DYNAMICS_TOKEN_URL": f"{self.url}/sandbox-tenant/oauth2/v2.0/token"}

    async def upsert(self, key: str, **values: Any) -> None:
        """Creates or changes a contact."""
        await self.admin("PATCH", f"tables/contact/rows/{key}", values)


class Target(StandIn):
    """Campaign."""

    @property
    def environment(self) -> dict[str, Any]:
        """Settings that lead a service here."""
        return {"CAMPAIGN_URL": f"{self.url}/sandbox", "CAMPAIGN_TOKEN_URL": f"{self.url}/ims/token/v3"}

    async def takes(self, seconds: float) -> None:
        """Every call about a record takes at least so long from now on."""
        await self.admin("DELETE", "faults")
        await self.admin("POST", "faults", {"kind": "latency", "path": RECORDS, "seconds": seconds})

    async def answers(self, method: str, status: int) -> None:
        """Calls about records by this method are answered so from now on, and nothing is done."""
        fault = {"kind": "status", "method": method, "path": RECORDS, "status": status, "body": "{}", "content_type": "application/json"}
        await self.admin("POST", "faults", fault)

    async def requests(self, method: str) -> int:
        """Requests about profiles by this method, so far."""
        return int((await self.admin("GET", "counts"))["requests"].get(f"{method} profile", 0))

    async def written(self) -> int:
        """Calls that changed a record, so far."""
        by_operation = (await self.admin("GET", "counts"))["engine_calls"]["by_operation"]
        return sum(by_operation.get(name, 0) for name in ("insert", "update", "delete"))

    async def alone(self, at_once: int) -> float:
        """Updates of one record a second, that many at once, with nothing else to do: what this stand-in can take at most."""
        headers = await self._headers()
        await self.admin("POST", "resources/profile/rows", {"rows": [{"externalId": "alone", "lastName": "Lovelace"}]})
        ends_at, calls = time.monotonic() + ALONE_S, 0
        url = f"{self.url}/sandbox/campaign/profileAndServicesExt/profile/alone"

        async def caller(client: httpx.AsyncClient) -> None:
            nonlocal calls
            while time.monotonic() < ends_at:
                answer = await client.patch(url, json={"lastName": f"Lovelace {calls}"}, headers=headers)
                assert answer.status_code == 200, answer.text
                calls += 1

        async with build_client(30, at_once) as client:
            await asyncio.gather(*(caller(client) for _ in range(at_once)))
        return calls / ALONE_S

    async def _headers(self) -> dict[str, str]:
        settings = CampaignSandbox().settings
        form = {"client_id": settings.client_id, "client_secret": settings.client_secret, "grant_type": "client_credentials"}
        answer = await self.http.post("/ims/token/v3", data={**form, "scope": "campaign_sdk"})
        return {"X-Api-Key": settings.client_id, "Authorization": f"Bearer {answer.json()['access_token']}"}


@asynccontextmanager
async def target(folder: Path) -> AsyncIterator[Target]:
    """Campaign, up and empty; ended afterwards."""
    async with _process("campaign", folder) as (url, http):
        yield Target(url, http)


@asynccontextmanager
async def source(folder: Path) -> AsyncIterator[Source]:
    """Dynamics, up and empty; ended afterwards."""
    async with _process("dynamics", folder) as (url, http):
        yield Source(url, http)


@asynccontextmanager
async def _process(name: str, folder: Path) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    port = free_port()
    popen = _started(name, port, folder / f"{name}.log")
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
            while not await _answers(http):
                assert popen.poll() is None, f"the stand-in for {name} did not start"
                await asyncio.sleep(0.05)
            yield url, http
    finally:
        popen.kill()
        popen.wait()


def _started(name: str, port: int, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen([sys.executable, "-m", f"sandbox.{name}", "--port", str(port)], cwd=ROOT, stdout=out, stderr=out)


async def _answers(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/_admin/health")).is_success
    except httpx.TransportError:
        return False
