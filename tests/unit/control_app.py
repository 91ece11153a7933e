"""Control's whole web application for tests: no network, no Kafka. What needs Kafka or a store answers 500, unless it is given."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import structlog

import bridge.observe.log
from bridge.observe.log import configure
from bridge.observe.settings import ServiceSettings
from services.control import pages
from services.control.api.access import RANKS, Access, Tokens
from services.control.api.context import Control
from services.control.api.door import API
from services.control.api.web_app import build_app
from services.control.settings import ControlSettings
from services.control.topics.archive import Archive
from tests.clock import FakeClock

AT = "2026-01-01T00:00:00Z"
HOST = "bridge.example"
SECRET = "s3cret-value"
Refusals = list[tuple[str, str | None, str, str]]


def build(file: Path | None, refusals: Refusals | None = None, clock: FakeClock | None = None, live: Any = None, **more: Any) -> Any:
    """The whole application. `more`: settings by their variables, and parts of `Control` by their names."""
    clock = clock or FakeClock()
    settings = ControlSettings(CONTROL_TOKENS_FILE=file, **{name: value for name, value in more.items() if name.isupper()})
    given: dict[str, Any] = {
        "settings": settings,
        "access": Access(Tokens(file) if file else None, clock, settings.public_url),
        "clock": clock,
    }
    parts: dict[str, Any] = {each.name: (given | more).get(each.name) for each in dataclasses.fields(Control)}

    async def audit(by: str, address: str | None, what: str, code: str) -> None:
        if refusals is not None:
            refusals.append((by, address, what, code))

    control = Control(**parts)
    app = build_app(control, cast(Any, live), audit)
    pages.install(app, control)
    return app


def client(app: Any, **headers: str) -> httpx.AsyncClient:
    """An exception that leaves the application fails the test: the web server would print it with its text."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=f"http://{HOST}", headers=headers)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def operations(app: Any) -> list[tuple[str, str]]:
    """Method and path of everything the API can do."""
    return [(method.upper(), path) for path, methods in app.openapi()["paths"].items() if path.startswith(API) for method in methods]


async def roles_needed(tmp_path: Path) -> dict[tuple[str, str], str]:
    """The least role each operation does not refuse."""
    clock, file = FakeClock(), tmp_path / "roles"
    known: dict[str, str] = {role: Tokens(file).add(role, cast(Any, role), AT) for role in RANKS}
    app = build(file, clock=clock)
    found: dict[tuple[str, str], str] = {}
    async with client(app) as http:
        for method, path in operations(app):
            for role, token in known.items():
                clock.advance(1)
                answer = await http.request(method, re.sub(r"\{[^}]+\}", "1", path), headers=bearer(token))
                assert answer.status_code not in (401, 429)
                if answer.status_code != 403:
                    found.setdefault((method, path), role)
    return found


def check_headers(answer: httpx.Response) -> None:
    """Every answer has them, whatever it is."""
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'", "object-src follows it"
    assert (policy["base-uri"], policy["frame-ancestors"], policy["script-src"]) == ("'none'", "'none'", "'self'")
    assert not [source for source in policy.values() if source not in ("'none'", "'self'")]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert "server" not in answer.headers
    if not answer.url.path.startswith("/static/"):
        assert answer.headers["cache-control"] == "no-store"


@contextmanager
def logging_as(kind: str) -> Iterator[None]:
    """The log as a service has it, until the end of the block."""
    before, logger = structlog.get_config(), bridge.observe.log._logger
    configure(ServiceSettings(LOG_FORMAT=cast(Any, kind), LOG_LEVEL="info"), service="control", instance="one")
    try:
        yield
    finally:
        structlog.configure(**before)
        bridge.observe.log._logger = logger


def read_archive() -> Archive:
    """An empty one, as after everything has been read."""
    archive = Archive("")
    archive.complete = lambda: True
    return archive
