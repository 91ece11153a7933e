"""services.control.api.access: tokens, roles, rates, and where a request may come from."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from starlette.requests import Request

from bridge.model.settings import SettingsError
from services.control.api import token_command
from services.control.api.access import COOKIE, OPEN, Access, Principal, Rates, Tokens, hashed
from services.control.api.problems import Refused
from tests.clock import FakeClock

AT = "2026-01-01T00:00:00Z"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def request(method: str = "GET", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in ({"host": "127.0.0.1:8080"} | headers).items()]
    return Request({"type": "http", "method": method, "path": "/", "headers": raw, "query_string": b""})


def test_a_token_is_kept_as_a_digest_only_and_readable_by_its_owner_only(file: Path) -> None:
    token = Tokens(file).add("ci", "operator", AT)

    text = file.read_text()
    assert token not in text
    assert json.loads(text)["tokens"] == [{"name": "ci", "role": "operator", "sha256": hashed(token), "created": AT}]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(token) >= 40


def test_a_name_is_taken_once(file: Path) -> None:
    Tokens(file).add("ci", "viewer", AT)

    with pytest.raises(SettingsError, match="ci already"):
        Tokens(file).add("ci", "admin", AT)


def test_the_file_is_read_again_when_it_changes(file: Path) -> None:
    first = Tokens(file).add("first", "viewer", AT)
    known = Tokens(file)
    assert known.find(first) == Principal("first", "viewer")

    second = Tokens(file).add("second", "admin", AT)
    assert known.find(second) == Principal("second", "admin")

    Tokens(file).revoke("first")
    assert known.find(first) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"tokens": [{"name": "x"}]}', '{"tokens": [{"name": "x", "role": "root", "sha256": "", "created": ""}]}']
)
def test_a_file_that_has_become_unreadable_lets_nobody_in(file: Path, text: str) -> None:
    token = Tokens(file).add("ci", "admin", AT)
    known = Tokens(file)
    file.write_text(text)

    assert known.find(token) is None
    with pytest.raises(SettingsError, match="CONTROL_TOKENS_FILE"):
        known.entries()


def test_a_file_that_is_gone_lets_nobody_in(file: Path) -> None:
    token = Tokens(file).add("ci", "admin", AT)
    known = Tokens(file)
    file.unlink()

    assert known.find(token) is None


def test_the_command_prints_a_token_once_on_stdout(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert token_command.main(["--file", str(file), "new", "--role", "viewer", "--name", "me"]) == 0

    token = capsys.readouterr().out.strip()
    assert Tokens(file).find(token) == Principal("me", "viewer")

    assert token_command.main(["--file", str(file), "list"]) == 0
    listed = capsys.readouterr().out
    assert listed.startswith("me\tviewer\t")
    assert token not in listed and hashed(token) not in listed


def test_the_command_revokes(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = Tokens(file).add("me", "viewer", AT)

    assert token_command.main(["--file", str(file), "revoke", "--name", "me"]) == 0
    assert token_command.main(["--file", str(file), "revoke", "--name", "me"]) == 1
    assert Tokens(file).find(token) is None


def test_the_command_needs_to_know_the_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("CONTROL_TOKENS_FILE", raising=False)

    assert token_command.main(["list"]) == 78
    assert "CONTROL_TOKENS_FILE" in capsys.readouterr().err


@pytest.mark.parametrize(("role", "may"), [("viewer", "viewer"), ("operator", "viewer operator"), ("admin", "viewer operator admin")])
def test_a_role_includes_the_lesser_ones(role: str, may: str) -> None:
    who = Principal("x", role)  # type: ignore[arg-type]

    assert [each for each in ("viewer", "operator", "admin") if who.may(each)] == may.split()


def test_twenty_requests_a_second_and_no_more() -> None:
    clock = FakeClock()
    rates = Rates(clock)

    assert [rates.take("a") for _ in range(20)] == [0.0] * 20
    assert rates.take("a") == pytest.approx(0.05)
    assert rates.take("b") == 0.0
    clock.advance(0.5)
    assert [rates.take("a") for _ in range(11)].count(0.0) == 10


def test_a_refused_rate_says_how_long_to_wait(file: Path) -> None:
    access = Access(Tokens(file), FakeClock())
    for _ in range(20):
        access.limit("a")

    with pytest.raises(Refused) as told:
        access.limit("a")
    assert (told.value.status, told.value.headers) == (429, {"Retry-After": "1"})


def test_whoever_has_a_token_is_known_by_header_or_cookie(file: Path) -> None:
    token = Tokens(file).add("me", "operator", AT)
    access = Access(Tokens(file), FakeClock())

    assert access.who(request(authorization=f"Bearer {token}")) == Principal("me", "operator")
    assert access.who(request(cookie=f"{COOKIE}={token}")) == Principal("me", "operator", by_cookie=True)
    for wrong in ({}, {"authorization": f"Bearer {token}x"}, {"authorization": f"Basic {token}"}, {"cookie": f"{COOKIE}=x"}):
        assert access.who(request(**wrong)) is None


def test_without_a_tokens_file_everybody_on_this_machine_may_do_everything() -> None:
    assert Access(None, FakeClock()).who(request()) == OPEN


def test_a_change_by_cookie_needs_our_header(file: Path) -> None:
    access = Access(Tokens(file), FakeClock())
    by_cookie, by_token = Principal("me", "admin", by_cookie=True), Principal("me", "admin")

    access.check_header(by_token, request("POST"), "POST")
    access.check_header(by_cookie, request("GET"), "GET")
    access.check_header(by_cookie, request("POST", x_requested_with="bridge"), "POST")
    with pytest.raises(Refused, match="X-Requested-With"):
        access.check_header(by_cookie, request("POST"), "POST")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:1", "[::1]:8080", "localhost"])
def test_loopback_names_are_ours(host: str) -> None:
    Access(None, FakeClock()).check_origin(request(host=host, origin=f"http://{host}"), "POST")


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},  # DNS rebinding
        {"host": ""},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_requests_that_another_site_had_the_browser_send_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Refused) as told:
        Access(None, FakeClock()).check_origin(request("POST", **headers), "POST")
    assert told.value.status == 403


def test_behind_a_proxy_the_host_is_the_proxys(file: Path) -> None:
    Access(Tokens(file), FakeClock()).check_origin(request("POST", host="bridge.example", origin="https://bridge.example"), "POST")
