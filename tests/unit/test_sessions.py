"""Tokens, sessions of pages and streams of events: how they begin and how they end."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bridge.model.desired import Workflow
from bridge.model.errors import RetryError
from bridge.model.settings import SettingsError
from services.control import __main__ as entry
from services.control.api import live_stream
from services.control.api.access import OPEN, RESERVED, SESSION_S, Principal, Tokens, hashed
from services.control.models.workflow_json import WorkflowOut
from tests.clock import FakeClock
from tests.unit.control_app import AT, Refusals, bearer, build, client


@pytest.fixture
def token(tmp_path: Path) -> str:
    return Tokens(tmp_path / "tokens").add("me", "admin", AT)


@pytest.fixture
def refusals() -> Refusals:
    return []


@pytest.fixture
def app(token: str, tmp_path: Path, refusals: Refusals) -> Any:
    return build(tmp_path / "tokens", refusals)


async def test_the_session_cookie_is_strict_and_hidden_from_scripts(app: Any, token: str) -> None:
    async with client(app) as http:
        answer = await http.post("/login", data={"token": token, "privacy": "yes"})
        gone = await http.post("/logout", headers={"X-Requested-With": "bridge"})

    cookies = answer.headers.get_list("set-cookie")
    assert (answer.status_code, answer.headers["location"], answer.text) == (303, "/", "")
    assert [each.partition("=")[0] for each in cookies] == ["bridge_session", "bridge_privacy"]
    for cookie in cookies:
        assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and "domain" not in cookie.lower()
    assert f"Max-Age={SESSION_S}" in cookies[0]
    assert "Max-Age=0" in gone.headers["set-cookie"]


HTTPS: Any = [
    {"CONTROL_TLS_CERT_FILE": "cert.pem", "CONTROL_TLS_KEY_FILE": "key.pem"},
    {"CONTROL_PUBLIC_URL": "https://bridge.example.com"},
]


@pytest.mark.parametrize("settings", HTTPS)
async def test_with_https_the_cookies_are_sent_over_https_only(token: str, tmp_path: Path, settings: dict[str, Any]) -> None:
    async with client(build(tmp_path / "tokens", **settings)) as http:
        answer = await http.post("/login", data={"token": token, "privacy": "yes"})

    cookies = answer.headers.get_list("set-cookie")
    assert len(cookies) == 2 and all("Secure" in cookie for cookie in cookies)


async def test_behind_a_proxy_pages_come_from_the_public_url_and_from_nowhere_else(token: str, tmp_path: Path) -> None:
    app = build(tmp_path / "tokens", CONTROL_PUBLIC_URL="https://bridge.example.com/")
    origins = ("https://bridge.example.com", "https://evil.example", "http://bridge.example.com", "https://bridge.example.com.evil.example")
    async with client(app, Host="127.0.0.1:8080") as http:
        answers = [await http.post("/login", data={"token": token, "privacy": "y"}, headers={"Origin": each}) for each in origins]

    assert [answer.status_code for answer in answers] == [303, 403, 403, 403]
    assert "settings.control.public_url" in inspect.getsource(entry._serve)


async def test_one_token_may_be_signed_in_in_several_browsers(app: Any, token: str) -> None:
    for _ in range(3):
        async with client(app) as http:
            assert (await http.post("/login", data={"token": token, "privacy": "yes"})).status_code == 303
            assert (await http.get("/settings")).status_code == 200


async def test_a_page_needs_the_token_to_be_still_there(app: Any, token: str, tmp_path: Path) -> None:
    async with client(app, Cookie=f"bridge_session={token}") as http:
        before = await http.get("/settings")
        Tokens(tmp_path / "tokens").revoke("me")
        after = await http.get("/settings")

    assert (before.status_code, after.status_code) == (200, 303)


async def test_every_page_has_sign_out(app: Any, token: str) -> None:
    paths = ("/", "/settings", "/audit", "/documentation", "/workflows/ingress", "/workflows/ingress/tables/contact", "/workflows/egress")
    async with client(app, **bearer(token)) as http:
        pages = [await http.get(path) for path in paths]

    assert all(page.status_code == 200 and 'id="sign-out"' in page.text for page in pages)


def test_tokens_are_256_bits_of_the_systems_random_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []
    real = secrets.token_urlsafe

    def noted(size: int | None = None) -> str:
        asked.append(size)
        return real(size)

    monkeypatch.setattr(secrets, "token_urlsafe", noted)
    made = {Tokens(tmp_path / "tokens").add(f"t{number}", "viewer", AT) for number in range(20)}

    assert asked == [32] * 20
    assert {len(base64.urlsafe_b64decode(token.removeprefix("cb_") + "=")) for token in made} == {32}
    assert len(made) == 20 and len(hashed("x")) * 4 == 256


async def test_out_of_the_box_there_is_no_account(tmp_path: Path) -> None:
    app = build(tmp_path / "none")
    async with client(app) as http:
        answers = [await http.get("/api/v1/workflows", headers=bearer(guess)) for guess in ("admin", "local", "cb_", OPEN.name)]

    assert {answer.status_code for answer in answers} == {401}


@pytest.mark.parametrize("name", ["local", "unknown", "control", "", "a b", "a\nb", "é", "a/b", "<b>", "x" * 65])
def test_a_name_that_would_mislead_in_the_audit_is_not_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be used"):
        Tokens(tmp_path / "tokens").add(name, "admin", AT)

    assert OPEN.name in RESERVED
    assert Tokens(tmp_path / "tokens").add("anna.b_c@machine-1", "viewer", AT)


def test_tokens_that_are_made_at_once_are_all_there(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    Tokens(file).add("gone", "viewer", AT)

    def made(number: int) -> str:
        if number == 10:
            Tokens(file).revoke("gone")
        return Tokens(file).add(f"t{number}", "viewer", AT)

    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(made, range(40)))

    known = Tokens(file)
    assert sorted(entry["name"] for entry in known.entries()) == sorted(f"t{number}" for number in range(40))
    assert [known.find(token) for token in tokens] == [Principal(f"t{number}", "viewer") for number in range(40)]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


# -- streams of events ------------------------------------------------------------------------------------------------------------


def _away(workflow: Workflow) -> WorkflowOut:
    raise RetryError("away", code="kafka_unavailable")


@pytest.mark.parametrize("change", ["revoked", "another role"])
@pytest.mark.parametrize("waking", ["event", "comment"])
@pytest.mark.parametrize("by", ["header", "cookie"])
async def test_a_stream_ends_with_its_token(
    token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, waking: str, by: str
) -> None:
    assert live_stream.COMMENT_EVERY_S <= 15, "so long may a stream outlive its token"
    if waking == "comment":
        monkeypatch.setattr(live_stream, "COMMENT_EVERY_S", 0.01)
    file, events = tmp_path / "tokens", live_stream.Live(_away, FakeClock())
    headers = bearer(token) if by == "header" else {"Cookie": f"bridge_session={token}"}
    async with client(build(file, live=events), **headers) as http:
        stream = asyncio.create_task(http.get("/api/v1/events"))
        while not events._listeners:
            await asyncio.sleep(0)
        (listener,) = events._listeners
        await asyncio.sleep(0.05)
        assert not stream.done()
        Tokens(file).revoke("me")
        if change == "another role":
            file.write_text(json.dumps({"tokens": [{"name": "me", "role": "viewer", "sha256": hashed(token), "created": AT}]}))
        if waking == "event":
            listener.tell("ingress", b"event: later\n\n")
        answer = await asyncio.wait_for(stream, 5)

    assert answer.status_code == 200 and answer.text.startswith("retry:")
    assert "later" not in answer.text
    assert not events._listeners


async def test_a_stream_goes_on_while_its_token_is_there(token: str, tmp_path: Path) -> None:
    file, events = tmp_path / "tokens", live_stream.Live(_away, FakeClock())
    other = Tokens(file).add("other", "viewer", AT)
    async with client(build(file, live=events), **bearer(other)) as http:
        stream = asyncio.create_task(http.get("/api/v1/events"))
        while not events._listeners:
            await asyncio.sleep(0)
        (listener,) = events._listeners
        Tokens(file).revoke("me")
        listener.tell("ingress", b"event: first\n\n")
        await asyncio.sleep(0.05)
        assert not stream.done()
        Tokens(file).revoke("other")
        listener.tell("ingress", b"event: second\n\n")
        answer = await asyncio.wait_for(stream, 5)

    assert "event: first" in answer.text and "second" not in answer.text
