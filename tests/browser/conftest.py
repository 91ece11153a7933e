"""The product with a browser before it. Four of them are shared by all tests of a worker, since a start takes seconds: `idle` (no service
runs), `live` (reader and writer run), `deciding` (Opt In/Out runs) and `guarded` (with tokens). Whoever uses one brings it into the state
the test needs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from bridge.kafka.settings import KafkaSettings
from bridge.model.config import default_ingress
from sandbox.kafka import LocalKafka
from services.control.api.access import Tokens
from services.control.models.system_json import Role
from tests.browser.browsing import Visits, chromium, sign_in
from tests.browser.deciding import discard_all
from tests.e2e.consent import config, consenting
from tests.e2e.stack import ROOT, Stack, running

HERE = Path(__file__).parent
ORG, INSTANCE = "Example Motors", "example-prod"
PLACES = "stage=https://stage.example.com/,Other Org/other-prod=https://other.example.com/"
DEFAULT: dict[str, Any] = default_ingress().model_dump(mode="json", by_alias=True)


def fetched_axe(folder: Path = ROOT / ".run" / "axe") -> Path:
    """Where axe is; fetched once for every state of the lock file, however many workers ask."""
    version = folder / hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()[:12]
    if not version.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder))
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, made)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(made)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        try:
            made.rename(version)
        except OSError:  # another worker was first
            shutil.rmtree(made)
    return version / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="session")
def axe() -> str:
    """The text of axe. A page cannot load it (Content-Security-Policy), but a debugger may run it there."""
    return fetched_axe().read_text(encoding="utf-8")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as made:
        yield made


@asynccontextmanager
async def product(kafka: LocalKafka, folder: Path, **environment: str) -> AsyncIterator[Stack]:
    """Both sandboxes with a few records, and control; a topic prefix of its own."""
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap, registry_url=kafka.registry_url, topic_prefix=f"b{uuid.uuid4().hex[:8]}.", partitions=3
    )
    named = {"ORG_NAME": ORG, "INSTANCE_NAME": INSTANCE, "CONTROL_INSTANCES": PLACES}
    async with running(settings, folder, "CONTROL_TOKENS_FILE" not in environment, **(named | environment)) as stack:
        stack.dynamics.load(contacts=12, vehicles=5, seed=1)
        yield stack


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _idle(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with product(kafka, tmp_path_factory.mktemp("idle")) as stack:
        await until_ready(stack)
        yield stack


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _live(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with product(kafka, tmp_path_factory.mktemp("live")) as stack:
        await until_ready(stack)
        yield stack


async def until_ready(stack: Stack, **headers: str) -> None:
    """Until control has read all it keeps in Kafka."""

    async def ready() -> bool:
        paths = ("/api/v1/workflows", "/api/v1/workflows/ingress/dead-letters/groups")
        return all([(await stack.http.get(path, headers=headers)).status_code == 200 for path in paths])

    await stack.until(ready, "control is ready", 30)


async def put(stack: Stack, workflow: str, config: Any, **headers: str) -> None:
    """Saves a configuration over the one that is saved, if it differs."""
    path = f"/api/v1/workflows/{workflow}/config"
    before = await stack.http.get(path, headers=headers)
    if before.json()["config"] != config:
        answer = await stack.http.put(path, json={"config": config}, headers={"If-Match": before.headers["etag"], **headers})
        assert answer.status_code == 200, answer.text


async def out_of_the_box(stack: Stack) -> None:
    """The configurations as they were at first, and nothing asked to run; no faults in the sandboxes."""
    stack.dynamics.ledger.clear()
    stack.campaign.ledger.clear()
    if (await stack.workflow())["desired"] == "RUNNING":
        await stack.stop(wait=False)
    await put(stack, "ingress", DEFAULT)
    await put(stack, "egress", {"events": {"send": False, "open": False, "click": False, "bounce": False}})
    await put(stack, "optin", {"direction": "disabled", "mappings": []})
    await stack.http.delete("/api/v1/workflows/ingress/tables/contact/replay")


@pytest_asyncio.fixture(loop_scope="session")
async def idle(_idle: Stack) -> AsyncIterator[Stack]:
    """Control without services, as out of the box."""
    await out_of_the_box(_idle)
    yield _idle
    if _idle.processes["control-1"].popen.poll() is not None:
        _idle.service("control")
    await until_ready(_idle)


@pytest_asyncio.fixture(loop_scope="session")
async def live(_live: Stack) -> Stack:
    """As out of the box, STOPPED; a reader and a writer wait for a start."""
    for role in ("reader", "writer"):
        known = _live.processes.get(f"{role}-1")
        if known is None or known.popen.poll() is not None:
            _live.service(role)
    await out_of_the_box(_live)
    await _live.until_status("STOPPED", 30)
    return _live


@pytest_asyncio.fixture(loop_scope="session")
async def mailing(kafka: LocalKafka, tmp_path: Path) -> AsyncIterator[Stack]:
    """A product of the test's own that sends e-mail events to Dynamics, RUNNING."""
    async with product(kafka, tmp_path) as stack:
        await until_ready(stack)
        stack.id = "egress"
        stack.campaign.settings.change({"journal_retry_after_s": 0.2})
        await put(stack, "egress", {"events": {"send": True, "open": False, "click": False, "bounce": False}})
        stack.service("reader")
        stack.service("writer")
        await stack.start()
        yield stack


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def _deciding(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    settings = KafkaSettings(
        bootstrap_servers=kafka.bootstrap, registry_url=kafka.registry_url, topic_prefix=f"b{uuid.uuid4().hex[:8]}.", partitions=3
    )
    folder = tmp_path_factory.mktemp("deciding")
    async with consenting(settings, folder, ORG_NAME=ORG, INSTANCE_NAME=INSTANCE, OPTIN_RELEASE_LIMIT="0") as stack:
        await until_ready(stack)
        await stack.save(config())
        await stack.start()
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def deciding(_deciding: Stack) -> Stack:
    """Opt In/Out, both ways, RUNNING; whoever opts in is held, and nobody is."""
    await discard_all(_deciding)
    return _deciding


@dataclass
class Guarded:
    """Control with tokens. Every test makes its own, so that none uses up another's rate."""

    stack: Stack
    tokens: Tokens

    def token(self, role: Role) -> tuple[str, str]:
        """A new name with this role, and its token."""
        name = f"{role}-{uuid.uuid4().hex[:6]}"
        return name, self.tokens.add(name, role, datetime.now(UTC).isoformat())

    async def signed_in(self, visits: Visits, role: Role, **options: Any) -> tuple[str, Page]:
        """The name, and a page of a browser that is signed in."""
        name, token = self.token(role)
        page = await visits.page("/login", **options)
        await sign_in(page, token)
        return name, page


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def guarded(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    tokens = _new_tokens(folder / "tokens")
    async with product(kafka, folder, CONTROL_TOKENS_FILE=str(folder / "tokens")) as stack:
        made = Guarded(stack, tokens)
        _, token = made.token("admin")
        await until_ready(stack, Authorization=f"Bearer {token}")
        yield made


def _new_tokens(path: Path) -> Tokens:
    path.write_text('{"tokens": []}', encoding="utf-8")
    return Tokens(path)


async def _visiting(browser: Browser, stack: Stack) -> AsyncIterator[Visits]:
    visits = Visits(browser, f"http://127.0.0.1:{stack.control_port}")
    yield visits
    await visits.end()
    assert visits.unexpected() == []


@pytest_asyncio.fixture(loop_scope="session")
async def visits(browser: Browser, idle: Stack) -> AsyncIterator[Visits]:
    """Browsers before `idle`. The test fails in the end if they complained of anything it has not announced."""
    async for each in _visiting(browser, idle):
        yield each


@pytest_asyncio.fixture(loop_scope="session")
async def live_visits(browser: Browser, live: Stack) -> AsyncIterator[Visits]:
    async for each in _visiting(browser, live):
        yield each


@pytest_asyncio.fixture(loop_scope="session")
async def guarded_visits(browser: Browser, guarded: Guarded) -> AsyncIterator[Visits]:
    async for each in _visiting(browser, guarded.stack):
        yield each


@pytest_asyncio.fixture(loop_scope="session")
async def mailing_visits(browser: Browser, mailing: Stack) -> AsyncIterator[Visits]:
    async for each in _visiting(browser, mailing):
        yield each


@pytest_asyncio.fixture(loop_scope="session")
async def deciding_visits(browser: Browser, deciding: Stack) -> AsyncIterator[Visits]:
    async for each in _visiting(browser, deciding):
        yield each
