"""services.control.api.door: what answers without a token, what every answer carries, and what faults tell."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.control.api import door as doors
from services.control.api.access import PER_SECOND, Tokens
from services.control.pages.frame import Frame
from tests.clock import FakeClock
from tests.unit.control_app import AT, HOST, SECRET, Refusals, bearer, build, check_headers, client, logging_as, operations, roles_needed

STATIC = Frame.folder / "static"


@pytest.fixture
def token(tmp_path: Path) -> str:
    return Tokens(tmp_path / "tokens").add("me", "admin", AT)


@pytest.fixture
def refusals() -> Refusals:
    return []


@pytest.fixture
def app(token: str, tmp_path: Path, refusals: Refusals) -> Any:
    return build(tmp_path / "tokens", refusals)


async def test_no_operation_of_the_api_answers_without_a_token(tmp_path: Path) -> None:
    clock = FakeClock()
    app = build(tmp_path / "none", clock=clock)
    told = []
    async with client(app) as http:
        for method, path in operations(app):
            clock.advance(1)
            answer = await http.request(method, re.sub(r"\{[^}]+\}", "1", path))
            told.append((answer.status_code, answer.headers["www-authenticate"], answer.json()["code"]))

    assert len(told) > 20
    assert set(told) == {(401, "Bearer", "not_signed_in")}


async def test_reading_is_get_and_whatever_commands_is_not(tmp_path: Path) -> None:
    needed = await roles_needed(tmp_path)

    assert {role for (method, _), role in needed.items() if method == "GET"} == {"viewer"}
    assert {method for method, _ in needed} <= {"GET", "POST", "PUT", "DELETE"}


async def test_only_these_addresses_answer_without_a_token(app: Any) -> None:
    async with client(app) as http:
        answers = {path: await http.get(path) for path in ("/healthz", "/openapi.json", "/login", "/static/icon.svg")}
        pages = [await http.get(path) for path in ("/", "/settings", "/audit", "/workflows/ingress", "/docs", "/redoc", "/nothing")]

    assert doors.PUBLIC == ("/healthz", "/readyz", "/metrics", "/login", "/static/", "/openapi.json", "/favicon.ico")
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(answers, 200)
    assert {(page.status_code, page.headers["location"], page.text) for page in pages} == {(303, "/login", "")}


async def test_every_answer_carries_the_headers(app: Any, token: str) -> None:
    broken(app)
    async with client(app) as http:
        answers = [await http.get(path) for path in ("/healthz", "/login", "/", "/api/v1/workflows", "/static/icon.svg", "/openapi.json")]
        answers += [await http.get(path, headers=bearer(token)) for path in ("/", "/settings", "/nothing", "/api/v1/nothing", BROKEN)]
        answers += [
            await http.post("/login", content=b"x", headers=each) for each in ({"Origin": "https://evil.example"}, {"Content-Length": "x"})
        ]
        answers += [await http.request("TRACE", "/login"), await http.get("/static/none.js")]
        answers += [await http.get("/login") for _ in range(PER_SECOND)][-1:]

    assert {answer.status_code for answer in answers} == {200, 303, 401, 403, 404, 405, 413, 429, 500}
    for answer in answers:
        check_headers(answer)


@pytest.mark.parametrize("settings", [{"CONTROL_PUBLIC_URL": "https://bridge.example"}, {"CONTROL_TLS_CERT_FILE": "cert.pem"}])
async def test_over_https_every_answer_says_to_come_back_over_https_only(token: str, tmp_path: Path, settings: dict[str, Any]) -> None:
    app = build(tmp_path / "tokens", **settings)
    broken(app)
    async with client(app) as http:
        answers = [await http.get(path) for path in ("/healthz", "/login", "/", "/api/v1/workflows", "/static/icon.svg")]
        answers += [await http.get(path, headers=bearer(token)) for path in ("/settings", "/nothing", BROKEN)]

    assert {answer.headers["strict-transport-security"] for answer in answers} == {"max-age=31536000; includeSubDomains"}


@pytest.mark.parametrize("settings", [{}, {"CONTROL_PUBLIC_URL": "http://bridge.example"}])
async def test_over_http_nothing_is_said_of_https(token: str, tmp_path: Path, settings: dict[str, Any]) -> None:
    async with client(build(tmp_path / "tokens", **settings)) as http:
        answer = await http.post("/login", data={"token": token, "privacy": "yes"})

    assert answer.status_code == 303 and "strict-transport-security" not in answer.headers
    assert not [cookie for cookie in answer.headers.get_list("set-cookie") if "Secure" in cookie]


async def test_another_site_may_not_read_an_answer_even_after_asking(app: Any, token: str) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    async with client(app) as http:
        before = await http.options("/api/v1/workflows", headers=asked)
        itself = await http.get("/", headers={"Origin": "https://evil.example"} | bearer(token))

    assert (before.status_code, itself.status_code) == (403, 403)
    assert not [name for each in (before, itself) for name in each.headers if name.startswith("access-control-")]


BROKEN = f"/static-fault/{SECRET}"


def broken(app: Any) -> None:
    @app.api_route(BROKEN, methods=["GET", "POST"], include_in_schema=False)
    async def fault() -> None:
        raise RuntimeError(f"row of {SECRET} at /home/bridge")


async def test_a_fault_of_ours_tells_the_kind_of_error_and_no_text(app: Any, token: str) -> None:
    broken(app)
    async with client(app, **bearer(token)) as http:
        answer = await http.get(BROKEN)

    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["code"] == "internal_error" and "RuntimeError" in answer.json()["detail"]
    assert SECRET not in answer.text and "Traceback" not in answer.text and "/home" not in answer.text
    assert not app.debug


async def test_a_fault_of_ours_is_one_line_of_the_log_with_its_place_and_no_text(
    app: Any, token: str, refusals: Refusals, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    broken(app)
    with logging_as("json"):
        async with client(app, **bearer(token)) as http:
            await http.get(BROKEN)
            await http.post(BROKEN)

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["level"], line["reason"]) for line in lines] == [("request_failed", "error", "RuntimeError")] * 2
    assert all("test_door.py" in line["where"] and "in fault" in line["where"] for line in lines)
    assert SECRET not in str(lines)
    assert caplog.records == [], "nobody else tells of it"
    assert [(by, code) for by, _, _, code in refusals] == [("me", "internal_error")], "the command is audited"


async def test_trace_is_not_answered_and_shows_nothing(app: Any, token: str) -> None:
    async with client(app, **bearer(token)) as http:
        answers = [await http.request("TRACE", path) for path in ("/", "/login", "/healthz", "/api/v1/workflows")]

    assert {answer.status_code for answer in answers} == {405}
    assert not [answer for answer in answers if token in answer.text]


@pytest.mark.parametrize(
    "path",
    ["", "..%2fframe.py", "%2e%2e/frame.py", "%2e%2e%2fframe.py", "%252e%252e/frame.py", "..%5cframe.py", "%2fetc/passwd", ".git/config"],
)
async def test_nothing_outside_static_is_served_however_it_is_written(app: Any, path: str) -> None:
    async with client(app) as http:
        answer = await http.get(f"/static/{path}")

    assert answer.status_code == 404
    assert "import" not in answer.text and "root:" not in answer.text


def test_static_files_are_scripts_styles_and_pictures() -> None:
    assert {path.suffix for path in STATIC.iterdir()} <= {".js", ".css", ".svg", ".png", ".ico", ".woff2"}


async def test_a_token_in_the_address_is_not_taken(app: Any, token: str) -> None:
    async with client(app) as http:
        answers = [await http.get(f"/api/v1/workflows?{name}={token}") for name in ("token", "access_token", "bridge_session")]

    assert {answer.status_code for answer in answers} == {401}


async def test_one_way_to_sign_in_does_not_stand_in_for_the_other(app: Any, token: str) -> None:
    async with client(app, Cookie=f"bridge_session={token}") as http:
        assert (await http.get("/settings")).status_code == 200
        assert (await http.get("/settings", headers=bearer("wrong"))).status_code == 303
        assert (await http.get("/api/v1/workflows", headers=bearer(""))).status_code == 401


async def test_both_lengths_in_one_request_are_refused(app: Any, token: str) -> None:
    async with client(app, **bearer(token)) as http:
        both = await http.post("/api/v1/workflows/ingress/stop", content=b"{}", headers={"Transfer-Encoding": "chunked"})
        signed = await http.post("/api/v1/workflows/ingress/stop", headers={"Content-Length": "-1"})

    assert (both.status_code, signed.status_code) == (413, 413)


async def stalling() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.sleep(60)


async def test_a_body_in_chunks_that_stalls_is_answered_and_audited(
    app: Any, token: str, refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "LONGEST_S", 0.05)
    async with client(app, **bearer(token)) as http:
        answer = await http.post("/api/v1/workflows/ingress/stop", content=stalling())

    assert (answer.status_code, answer.json()["code"]) == (503, "took_too_long")
    assert answer.headers["content-type"] == "application/problem+json"
    check_headers(answer)
    assert [(by, code) for by, _, _, code in refusals] == [("me", "took_too_long")]


async def test_a_body_in_chunks_whose_sender_goes_away_commands_nothing(app: Any, token: str, refusals: Refusals) -> None:
    broken(app)
    messages: list[Any] = [{"type": "http.request", "body": b"{}", "more_body": True}, {"type": "http.disconnect"}]
    names = {"host": HOST, "transfer-encoding": "chunked"} | {name.lower(): value for name, value in bearer(token).items()}
    scope = {"type": "http", "method": "POST", "path": BROKEN, "query_string": b"", "client": ("10.0.0.1", 1), "scheme": "http"}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in names.items()]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)

    assert sent[0]["status"] == 400, "the route would have answered 500"
    assert [(by, code) for by, _, _, code in refusals] == [("me", "body_broken_off")]
