"""Who asks too often, from elsewhere or without the rights: refused, slowed down, audited; and sign-ins."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from services.control import __main__ as entry
from services.control.api import door as doors
from services.control.api.access import MOST_NAMES, PER_SECOND, Rates, Tokens, hashed
from tests.clock import FakeClock
from tests.unit.control_app import AT, Refusals, bearer, build, check_headers, client


@pytest.fixture
def token(tmp_path: Path) -> str:
    return Tokens(tmp_path / "tokens").add("me", "admin", AT)


@pytest.fixture
def refusals() -> Refusals:
    return []


@pytest.fixture
def app(token: str, tmp_path: Path, refusals: Refusals) -> Any:
    return build(tmp_path / "tokens", refusals)


async def test_wrong_tokens_are_slowed_down_and_audited(app: Any, token: str, refusals: Refusals) -> None:
    async with client(app) as http:
        answers = [await http.post("/login", data={"token": f"cb_guess{number}"}) for number in range(PER_SECOND + 5)]
        known = await http.get("/settings", headers=bearer(token))

    assert [answer.status_code for answer in answers].count(401) == PER_SECOND
    assert {answer.status_code for answer in answers} == {401, 429}
    assert known.status_code == 200, "whoever has a token is not locked out by those who guess"
    assert {(by, what) for by, _, what, _ in refusals} == {("unknown", "POST /login")}
    assert "guess" not in str(refusals)


async def test_what_others_say_about_the_address_is_not_believed(app: Any, refusals: Refusals) -> None:
    claims = {"X-Forwarded-For": "10.9.9.9", "X-Real-IP": "10.9.9.9", "Forwarded": "for=10.9.9.9", "X-Forwarded-Proto": "https"}
    async with client(app, **claims) as http:
        await http.get("/api/v1/workflows")
        for _ in range(PER_SECOND):
            await http.get("/login", headers={"X-Forwarded-For": "10.9.9.8"})
        last = await http.get("/login", headers={"X-Forwarded-For": "10.9.9.7"})

    assert {address for _, address, _, _ in refusals} == {"127.0.0.1"}
    assert last.status_code == 429
    assert "proxy_headers=False" in inspect.getsource(entry._listen)


async def test_refusals_say_who_where_what_and_why_and_hold_no_token(app: Any, token: str, tmp_path: Path, refusals: Refusals) -> None:
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
        ("me", f"POST {start}", "foreign_origin"),
        ("me", f"POST {start}", "header_missing"),
        ("unknown", "GET /api/v1/workflows", "not_signed_in"),
    ]
    assert not [secret for secret in (token, viewer, "cb_wrong", hashed(token)) if secret in str(refusals)]


@pytest.mark.parametrize("refused", [{"Origin": "https://evil.example"}, {"Content-Length": "9999999"}])
async def test_the_rate_comes_before_origin_and_size_and_of_many_refusals_one_is_audited(
    token: str, tmp_path: Path, refusals: Refusals, monkeypatch: pytest.MonkeyPatch, refused: dict[str, str]
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(doors, "time", clock)
    async with client(build(tmp_path / "tokens", refusals, clock), **refused) as http:
        told = [(await http.post("/api/v1/workflows/ingress/start", headers=bearer(token))).status_code for _ in range(PER_SECOND + 30)]
        assert told[PER_SECOND:] == [429] * 30 and not set(told[:PER_SECOND]) & {429, 500}
        assert [(by, code) for by, _, _, code in refusals[PER_SECOND:]] == [("me", "too_many_requests")]

        unknown = [(await http.post("/api/v1/workflows/ingress/start")).status_code for _ in range(PER_SECOND + 30)]
        assert unknown[PER_SECOND:] == [429] * 30
        assert [by for by, *_ in refusals[PER_SECOND + 1 :]] == ["unknown"] * (PER_SECOND + 1), "another name, another first"

        clock.advance(doors.TELL_EVERY_S)
        before = len(refusals)
        for _ in range(PER_SECOND + 30):
            await http.post("/api/v1/workflows/ingress/start", headers=bearer(token))
        assert len(refusals) == before + PER_SECOND + 1, "ten seconds later one more is told"


async def test_a_question_above_the_rate_is_audited_as_well(app: Any, token: str, refusals: Refusals) -> None:
    async with client(app) as http:
        answers = [await http.get("/api/v1/workflows", headers=bearer(token)) for _ in range(PER_SECOND + 10)]

    assert answers[-1].status_code == 429
    assert [(by, what, code) for by, _, what, code in refusals] == [("me", "GET /api/v1/workflows", "too_many_requests")]


async def test_who_sends_many_names_does_not_free_the_one_who_is_slowed_down() -> None:
    rates = Rates(FakeClock())
    while not rates.take("guesser"):
        pass
    for number in range(MOST_NAMES - 1):
        rates.take(f"address {number}")

    assert rates.take("guesser") > 0
    rates.take("one more")
    assert rates.take("guesser") > 0, "only who was longest away is forgotten"
    assert len(rates._left) == MOST_NAMES


async def test_a_path_in_the_audit_is_cut(app: Any, token: str, refusals: Refusals) -> None:
    async with client(app) as http:
        await http.post("/api/v1/" + "x" * 5000, headers=bearer(token))
        await http.get("/api/v1/" + "x" * 5000)

    assert [(code, len(what)) for _, _, what, code in refusals] == [("http_404", 205), ("not_signed_in", 204)]


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://]x[", "://", "null", "", "http://[bridge.example]", "http://\xff"])
async def test_an_origin_that_cannot_be_read_is_refused(app: Any, token: str, origin: str) -> None:
    async with client(app) as http:
        answers = [
            await http.request(
                method, path, headers=[(b"Origin", origin.encode("latin-1")), (b"Authorization", f"Bearer {token}".encode())]
            )
            for method, path in (("GET", "/settings"), ("POST", "/api/v1/workflows/ingress/start"), ("POST", "/login"))
        ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(403, "foreign_origin")}
    for answer in answers:
        check_headers(answer)


@pytest.mark.parametrize("host", ["[", "[::1", "]x[", "", "a b", "evil.example", "[evil]", "localhost@evil.example", "\xff"])
async def test_a_host_that_cannot_be_read_is_refused_without_tokens_and_leads_nowhere_with_them(app: Any, token: str, host: str) -> None:
    raw = [(b"Host", host.encode("latin-1"))]
    async with client(build(None)) as http:
        opened = [await http.get(path, headers=raw) for path in ("/settings", "/api/v1/workflows", "/healthz")]
    async with client(app) as http:
        closed = await http.get("/api/v1/workflows", headers=raw)

    assert {(answer.status_code, answer.json()["code"]) for answer in opened} == {(403, "foreign_host")}
    assert closed.status_code == 401


@pytest.mark.parametrize("host", ["x/healthz?", "x/static/#", "x/login?"])
async def test_a_host_does_not_stand_in_for_the_path(app: Any, host: str) -> None:
    async with client(app, Host=host) as http:
        assert (await http.get("/settings")).status_code == 303
        assert (await http.get("/api/v1/workflows")).status_code == 401


async def test_sign_ins_are_audited_with_the_name_and_without_the_token(app: Any, token: str, refusals: Refusals) -> None:
    async with client(app) as http:
        await http.get("/login")
        await http.post("/login", data={"token": "cb_guess", "privacy": "yes"})
        await http.post("/login", data={"token": token})
        await http.post("/login", data={"token": token, "privacy": "yes"})

    assert refusals == [
        ("unknown", "127.0.0.1", "POST /login", "http_401"),
        ("me", "127.0.0.1", "POST /login", "http_422"),
        ("me", "127.0.0.1", "POST /login", "done"),
    ]
