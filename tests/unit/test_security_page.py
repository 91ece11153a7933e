"""docs/security.md: every test it names is there, every item of ASVS 5.0 is decided, and what no other test holds is held here.

Control's whole web application is asked without a network and without Kafka: what needs Kafka or a store answers 500, which is what the
tests about faults want.
"""

from __future__ import annotations

import ast
import base64
import dataclasses
import inspect
import json
import re
import secrets
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import structlog
import uvicorn
from aiohttp import web

import bridge.log
from bridge.errors import RetryError
from bridge.http import build_client, send
from bridge.kafka.topics import control_topics
from bridge.log import configure, log
from bridge.settings import ROOMS, ControlSettings, KafkaSettings, Secret, ServiceSettings, Url
from services.control import __main__ as entry
from services.control import door as doors
from services.control import live, models, models_data, systems
from services.control.access import OPEN, PER_SECOND, RANKS, SESSION_S, Access, Tokens, hashed
from services.control.app import build_app
from services.control.archive import Archive
from services.control.context import Control
from services.control.door import API, LARGEST_BODY, LONGEST_S
from services.control.pages.frame import Frame
from services.control.routes import tables
from tests.clock import FakeClock

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
TEXT = PAGE.read_text(encoding="utf-8")
STATIC = Frame.folder / "static"
AT = "2026-01-01T00:00:00Z"
HOST = "bridge.example"
ITEM = re.compile(r"\b\d+\.\d+\.\d+\b")
ROW = re.compile(r"^\| (\d+\.\d+\.\d+[^|]*) \|(.+)\|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_\w+)`")
SECRET = "s3cret-value"

# How many items of levels 1 and 2 each section of ASVS 5.0.0 has; they come first in every section. V9, V10 and V17 are decided as a whole.
SECTIONS = """
1.1:2 1.2:9 1.3:11 1.4:3 1.5:2 2.1:3 2.2:3 2.3:4 2.4:1 3.2:2 3.3:4 3.4:6 3.5:5 3.7:2 4.1:3 4.2:1 4.3:2 4.4:4 5.1:1
5.2:3 5.3:2 5.4:3 6.1:3 6.2:12 6.3:4 6.4:4 6.5:5 6.6:3 6.8:4 7.1:3 7.2:4 7.3:2 7.4:5 7.5:2 7.6:2 8.1:2 8.2:3 8.3:1
8.4:1 11.1:2 11.2:3 11.3:3 11.4:4 11.5:1 11.6:1 12.1:3 12.2:2 12.3:4 13.1:1 13.2:5 13.3:2 13.4:5 14.1:2 14.2:4 14.3:3
15.1:3 15.2:3 15.3:7 16.1:1 16.2:5 16.3:4 16.4:3 16.5:3
"""


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def items(text: str) -> list[str]:
    """Items, with `1.2.6–1.2.8` written out."""
    for first, last in re.findall(r"(\d+\.\d+\.\d+)–(\d+\.\d+\.\d+)", text):
        stem = first.rpartition(".")[0]
        text += "".join(f" {stem}.{number}" for number in range(int(first.rpartition(".")[2]) + 1, int(last.rpartition(".")[2])))
    return ITEM.findall(text)


# -- the page -----------------------------------------------------------------------------------------------------------------------


def test_every_item_that_is_met_names_a_test_that_exists() -> None:
    rows = ROW.findall(section("Met"))
    wrong = []
    for item, rest in rows:
        named = TEST.findall(rest.rsplit("|", 1)[-1])
        if len(rest.split("|")) != 3 or not named:
            wrong.append(f"{item}: no test")
        for path, name in named:
            file = ROOT / path
            if not file.exists() or not re.search(rf"^(async )?def {name}\(", file.read_text(encoding="utf-8"), re.MULTILINE):
                wrong.append(f"{item}: {path}::{name}")

    assert len(rows) > 50
    assert wrong == []


def test_every_test_that_the_page_names_anywhere_exists() -> None:
    for path, name in TEST.findall(TEXT):
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), f"{path}::{name}"


def test_every_item_of_levels_1_and_2_is_decided_exactly_once() -> None:
    met = [item for cell, _ in ROW.findall(section("Met")) for item in items(cell)]
    unmet = [item for cell, _ in ROW.findall(section("Not met")) for item in items(cell)]
    other = items(section("Does not apply"))
    decided = [item for item in met + unmet + other if not item.startswith(("9.", "10.", "17."))]
    counts = [each.split(":") for each in SECTIONS.split()]
    expected = [f"{name}.{number}" for name, count in counts for number in range(1, int(count) + 1)]

    assert sorted(decided) == sorted(expected)
    assert all(f"V{chapter}" in section("Does not apply") for chapter in (5, 9, 10, 17))


def test_what_is_not_met_says_what_an_operator_can_do() -> None:
    rows = ROW.findall(section("Not met"))

    assert rows
    assert all(len(rest.split("|")) == 2 and rest.split("|")[1].strip() for _, rest in rows)


def test_the_limits_in_the_page_are_those_of_the_code() -> None:
    told = section("Limits")
    limits = (
        (f"{LARGEST_BODY // 2**20} MiB", LARGEST_BODY % 2**20 == 0),
        (f"{PER_SECOND} requests a second", True),
        (f"{LONGEST_S:.0f} s", True),
        (f"{SESSION_S // 3600} hours", SESSION_S % 3600 == 0),
        (f"{live.MOST_LISTENERS} listeners", True),
        (f"{systems.ASK_WITHIN_S:.0f} s", True),
        (f"{tables.MOST_WAITING:,} records", True),
        (f"{tables.MOST_ROWS:,} rows", True),
        (f"{_longest(models.CommandIn, 'comment'):,} characters", True),
        (f"{_longest(models_data.ChosenIn, 'ids'):,} ids", True),
    )
    assert [text for text, whole in limits if not whole or text not in told] == []


def _longest(model: Any, name: str) -> int:
    return int(next(each.max_length for each in model.model_fields[name].metadata if hasattr(each, "max_length")))


async def test_the_roles_in_the_page_are_those_of_the_routes(tmp_path: Path) -> None:
    rows = dict(re.findall(r"^\| `(viewer|operator|admin)` \| (.+) \|$", section("Roles"), re.MULTILINE))
    told = {(role, call) for role, text in rows.items() for call in re.findall(r"`((?:POST|PUT|DELETE) [^`]+)`", text)}

    needed = await roles_needed(tmp_path)
    assert told == {(role, f"{method} {path.removeprefix(API)}") for (method, path), role in needed.items() if method != "GET"}
    assert "?values=true" in rows["admin"]


def test_the_page_names_every_address_control_connects_to() -> None:
    told = section("What control talks to")
    urls = [info.alias for room in ROOMS for info in room.model_fields.values() if info.annotation is str and _is_url(info)]

    assert len(urls) >= 5
    assert [alias for alias in [*urls, "KAFKA_BOOTSTRAP_SERVERS"] if f"`{alias}`" not in told] == []


def _is_url(info: Any) -> bool:
    return any(each in Url.__metadata__ for each in info.metadata)  # type: ignore[attr-defined]


# -- control's web application ------------------------------------------------------------------------------------------------------


@pytest.fixture
def token(tmp_path: Path) -> str:
    return Tokens(tmp_path / "tokens").add("me", "admin", AT)


@pytest.fixture
def refusals() -> list[tuple[str, str | None, str, str]]:
    return []


def build(
    file: Path | None, refusals: list[tuple[str, str | None, str, str]] | None = None, clock: FakeClock | None = None, **settings: Any
) -> Any:
    """The whole application; no Kafka, no systems."""
    clock = clock or FakeClock()
    given: dict[str, Any] = {
        "settings": ControlSettings(CONTROL_TOKENS_FILE=file, **settings),
        "access": Access(Tokens(file) if file else None, clock),
        "clock": clock,
    }
    parts: dict[str, Any] = {each.name: given.get(each.name) for each in dataclasses.fields(Control)}
    control = Control(**parts)

    async def audit(by: str, address: str | None, what: str, code: str) -> None:
        if refusals is not None:
            refusals.append((by, address, what, code))

    return build_app(control, cast(Any, None), audit)


@pytest.fixture
def app(token: str, tmp_path: Path, refusals: list[tuple[str, str | None, str, str]]) -> Any:
    return build(tmp_path / "tokens", refusals)


def client(app: Any, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}", headers=headers)


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


async def test_answers_of_pages_refusals_and_files_carry_the_headers(app: Any, token: str) -> None:
    async with client(app) as http:
        answers = [await http.get(path) for path in ("/healthz", "/login", "/", "/api/v1/workflows", "/static/icon.svg", "/openapi.json")]
        answers += [await http.get(path, headers=bearer(token)) for path in ("/", "/settings", "/nothing", "/api/v1/nothing")]
        answers += [await http.post("/login", content=b"x", headers={"Origin": "https://evil.example"})]

    for answer in answers:
        policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'none'", "object-src follows it"
        assert (policy["base-uri"], policy["frame-ancestors"], policy["script-src"]) == ("'none'", "'none'", "'self'")
        assert not [source for source in policy.values() if source not in ("'none'", "'self'")]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert not [name for name in answer.headers if name.startswith("access-control-")]
        assert "server" not in answer.headers
    assert {answer.headers["cache-control"] for answer in answers if not answer.url.path.startswith("/static/")} == {"no-store"}


async def test_another_site_may_not_read_an_answer_even_after_asking(app: Any, token: str) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    async with client(app) as http:
        before = await http.options("/api/v1/workflows", headers=asked)
        itself = await http.get("/", headers={"Origin": "https://evil.example"} | bearer(token))

    assert (before.status_code, itself.status_code) == (403, 403)
    assert not [name for each in (before, itself) for name in each.headers if name.startswith("access-control-")]


async def test_a_fault_of_ours_tells_the_kind_of_error_and_no_text(app: Any, token: str) -> None:
    @app.get(f"/static-fault/{SECRET}")
    async def broken() -> None:
        raise RuntimeError(f"row of {SECRET} at /home/bridge")

    async with client(app, **bearer(token)) as http:
        answer = await http.get(f"/static-fault/{SECRET}")

    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert answer.json()["code"] == "internal_error"
    assert SECRET not in answer.text and "Traceback" not in answer.text and "/home" not in answer.text
    assert not app.debug


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


# -- sessions ---------------------------------------------------------------------------------------------------------------------


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


async def test_with_tls_the_cookies_are_sent_over_tls_only(token: str, tmp_path: Path) -> None:
    app = build(tmp_path / "tokens", CONTROL_TLS_CERT_FILE=tmp_path / "cert.pem", CONTROL_TLS_KEY_FILE=tmp_path / "key.pem")
    async with client(app) as http:
        answer = await http.post("/login", data={"token": token, "privacy": "yes"})

    assert all("Secure" in cookie for cookie in answer.headers.get_list("set-cookie"))
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


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


async def test_wrong_tokens_are_slowed_down_and_audited(app: Any, token: str, refusals: list[tuple[str, str | None, str, str]]) -> None:
    async with client(app) as http:
        answers = [await http.post("/login", data={"token": f"cb_guess{number}"}) for number in range(PER_SECOND + 5)]
        known = await http.get("/settings", headers=bearer(token))

    assert [answer.status_code for answer in answers].count(401) == PER_SECOND
    assert {answer.status_code for answer in answers} == {401, 429}
    assert known.status_code == 200, "whoever has a token is not locked out by those who guess"
    assert {(by, what) for by, _, what, _ in refusals} == {("unknown", "POST /login")}
    assert "guess" not in str(refusals)


async def test_what_others_say_about_the_address_is_not_believed(app: Any, refusals: list[tuple[str, str | None, str, str]]) -> None:
    claims = {"X-Forwarded-For": "10.9.9.9", "X-Real-IP": "10.9.9.9", "Forwarded": "for=10.9.9.9", "X-Forwarded-Proto": "https"}
    async with client(app, **claims) as http:
        await http.get("/api/v1/workflows")
        for _ in range(PER_SECOND):
            await http.get("/login", headers={"X-Forwarded-For": "10.9.9.8"})
        last = await http.get("/login", headers={"X-Forwarded-For": "10.9.9.7"})

    assert {address for _, address, _, _ in refusals} == {"127.0.0.1"}
    assert last.status_code == 429
    assert "proxy_headers=False" in inspect.getsource(entry._listen)


async def test_refusals_say_who_where_what_and_why_and_hold_no_token(
    app: Any, token: str, tmp_path: Path, refusals: list[tuple[str, str | None, str, str]]
) -> None:
    viewer = Tokens(tmp_path / "tokens").add("guest", "viewer", AT)
    start = "/api/v1/workflows/ingress/start"
    async with client(app) as http:
        await http.post(start, headers=bearer(viewer))
        await http.post(start, headers=bearer("cb_wrong"))
        await http.post(start, headers=bearer(token) | {"Origin": "https://evil.example"})
        await http.post(start, headers={"Cookie": f"bridge_session={token}"})
        await http.get(f"/api/v1/workflows?token={token}")

    assert [(by, what, code) for by, _, what, code in refusals] == [
        ("guest", f"POST {start}", "role_missing"),
        ("unknown", f"POST {start}", "not_signed_in"),
        ("unknown", f"POST {start}", "foreign_origin"),
        ("me", f"POST {start}", "header_missing"),
        ("unknown", "GET /api/v1/workflows", "not_signed_in"),
    ]
    assert not [secret for secret in (token, viewer, "cb_wrong", hashed(token)) if secret in str(refusals)]


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


# -- what pages show --------------------------------------------------------------------------------------------------------------


HOSTILE = "<img src=x onerror=alert(1)>\"'{{7*7}}"


async def test_what_pages_show_is_escaped_and_never_a_template(token: str, tmp_path: Path) -> None:
    app = build(tmp_path / "tokens", ORG_NAME=HOSTILE, INSTANCE_NAME=HOSTILE, CONTROL_INSTANCES="x=javascript:alert(1),y=data:text/html,")
    async with client(app, **bearer(token)) as http:
        pages = [await http.get("/workflows/ingress/tables/" + "".join(f"%{ord(each):02x}" for each in HOSTILE)), await http.get("/")]

    for page in pages:
        assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
        assert "<img src=x" not in page.text and "&lt;img src=x" in page.text
        assert "{{7*7}}" in page.text
        assert "javascript:" not in page.text and "data:text/html" not in page.text


async def test_pages_hold_no_script_and_no_address_of_others(app: Any, token: str) -> None:
    async with client(app, **bearer(token)) as http:
        pages = [(await http.get(path)).text for path in ("/", "/settings", "/audit", "/workflows/ingress", "/workflows/optin")]

    for page in pages:
        assert not re.search(r"<script(?![^>]*\bsrc=)", page), "inline script"
        assert not re.search(r"<[^>]+\s(on\w+|style)=", page), "inline handler or style"
        assert not re.search(r"<(script|link|img|iframe|form)[^>]+(src|href|action)=\"(?!/(?!/))", page), "foreign address"


def test_scripts_make_no_markup_from_text_and_keep_nothing_but_settings() -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|postMessage|indexedDB|document\.cookie"
    for path in STATIC.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(forbidden, text), path.name
        assert set(re.findall(r"(?:local|session)Storage\.setItem\(\s*\"([\w-]+)\"", text)) <= set(re.findall(r"`(bridge-[\w-]+)`", TEXT))
        assert len(re.findall(r"Storage\.setItem\(", text)) == len(re.findall(r"Storage\.setItem\(\s*\"", text)), path.name


# -- code and cryptography ----------------------------------------------------------------------------------------------------------


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Of the services; the command line runs on the operator's own machine."""
    for folder in ("bridge", "services"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if not name.startswith("services/control/cli/"):
                yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module) -> set[str]:
    found = {each.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names}
    return found | {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def test_no_command_of_the_system_no_eval_no_unsafe_reader() -> None:
    dangerous = {"subprocess", "pickle", "marshal", "shelve", "pty", "xml", "lxml", "ldap", "code", "runpy"}
    for name, tree in modules():
        assert not imported(tree) & dangerous, name
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("eval", "exec", "compile", "os.system", "os.popen", "yaml.load"), f"{name}: {called}"


def test_every_use_of_cryptography_is_in_the_inventory() -> None:
    told = section("Keys and algorithms")
    using = {name for name, tree in modules() if imported(tree) & {"hashlib", "hmac", "secrets", "ssl", "cryptography", "Crypto", "jwt"}}
    hashes = {node.attr for _, tree in modules() for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _of_hashlib(node)}

    assert using
    assert {name for name in using if f"`{name}`" not in told} == set()
    assert hashes == {"sha256", "blake2b"}


def _of_hashlib(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "hashlib"


def test_queries_take_what_is_asked_for_as_values() -> None:
    archive = Archive("")
    archive._db.execute("INSERT INTO marks VALUES ('ingress', '0-1', 'discarded')")
    for text in ("' OR '1'='1", "x'; DROP TABLE marks; --", '" OR 1=1 --'):
        assert archive.letters("ingress", None, 10, text) == []
        assert archive.count("ingress", text) == 0
        assert archive.of_key("ingress", text) == []
        assert archive.open("ingress", text) == []
    assert archive._db.execute("SELECT count(*) FROM marks").fetchone()[0] == 1
    archive.close()


def test_no_secret_has_a_value_out_of_the_box() -> None:
    found = [info for room in ROOMS for info in room.model_fields.values() if info.annotation is Secret]

    assert len(found) >= 4
    assert not [info.alias for info in found if not info.is_required() and info.get_default(call_default_factory=True).value()]
    assert not KafkaSettings().librdkafka


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key, of nobody anyone trusts."""
    tool = shutil.which("openssl")
    if tool is None:
        pytest.skip("no openssl")
    cert, key = (tmp_path_factory.mktemp("tls") / name for name in ("cert.pem", "key.pem"))
    made = [
        tool,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    subprocess.run(
        [*made, "-keyout", str(key), "-out", str(cert), "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True
    )
    return cert, key


def test_tls_is_1_2_at_least_with_forward_secrecy(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    config = uvicorn.Config(_nowhere, ssl_certfile=str(cert), ssl_keyfile=str(key), log_config=None)
    config.load()

    assert config.ssl is not None
    assert config.ssl.minimum_version >= ssl.TLSVersion.TLSv1_2
    names = [str(each["name"]) for each in config.ssl.get_ciphers()]
    assert names[0].startswith("TLS_")
    assert not [name for name in names if not name.startswith(("TLS_", "ECDHE-", "DHE-"))]
    assert not [name for name in names if name.endswith(("-SHA", "-MD5")) or "NULL" in name or "RC4" in name or "DES" in name]
    assert not {"ssl_ciphers", "ssl_version"} & set(re.findall(r"(\w+)=", inspect.getsource(entry._listen)))


async def _nowhere(scope: Any, receive: Any, send: Any) -> None:
    return None


async def test_a_certificate_of_nobody_we_trust_ends_the_connection(certificate: tuple[Path, Path]) -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.headers["Authorization"])
        return web.Response()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    server = web.Application()
    server.router.add_get("/", handler)
    runner = web.AppRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0, ssl_context=context)
    await site.start()
    port = cast(Any, site._server).sockets[0].getsockname()[1]
    try:
        async with build_client(5, 1) as http:
            with pytest.raises(RetryError) as caught:
                await send(http, http.build_request("GET", f"https://localhost:{port}/", headers=bearer(SECRET)))
    finally:
        await runner.cleanup()

    assert asked == []
    assert caught.value.code == "network" and SECRET not in str(caught.value)


# -- log --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def logging_as(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(bridge.log, "_logger", bridge.log._logger)
    before = structlog.get_config()
    yield lambda kind: configure(ServiceSettings(LOG_FORMAT=kind, LOG_LEVEL="info"), service="control", instance="one")
    structlog.configure(**before)


FORGED = 'GET /x\n{"event":"forged"}\r\x1b[2J'


def test_a_log_line_is_one_line_of_json_in_utc_on_stderr_whatever_it_tells(logging_as: Any, capsys: pytest.CaptureFixture[str]) -> None:
    logging_as("json")
    log("refused", "warning", by="me", address="10.0.0.1", what=FORGED, code="not_signed_in")

    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert told.out == "" and "\x1b" not in line
    found = json.loads(line)
    assert (found["event"], found["level"], found["service"], found["instance"]) == ("refused", "warning", "control", "one")
    assert (found["by"], found["address"], found["what"], found["code"]) == ("me", "10.0.0.1", FORGED, "not_signed_in")
    assert found["timestamp"].endswith("Z")


def test_what_a_request_tells_does_not_steer_the_console(logging_as: Any, capsys: pytest.CaptureFixture[str]) -> None:
    logging_as("console")
    log("refused", "warning", by="me", what=FORGED)

    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and "\x1b[2J" not in told


def test_the_logs_of_the_page_are_those_of_the_code() -> None:
    audit = next(topic for topic in control_topics() if topic.name == "control.audit")
    days = int(dict(audit.config)["retention.ms"]) // 86_400_000

    assert f"`control.audit`, {days} days" in section("Logs")
    assert "stderr" in section("Logs")
