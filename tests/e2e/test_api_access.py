"""Who may do what over the API: tokens, roles, sessions, origins, rates, and what every answer carries (control-api.md, Access)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from bridge.kafka.settings import KafkaSettings
from sandbox.kafka import LocalKafka
from tests.e2e.helpers import new_key, service_logs
from tests.e2e.stack import ROOT, Stack, contacts, running
from tests.e2e.test_control_config import assert_problem

pytestmark = pytest.mark.asyncio(loop_scope="module")
ROLES = ("viewer", "operator", "admin")
API = "/api/v1"
INGRESS = f"{API}/workflows/ingress"
NOTHING: dict[str, Any] = {"ids": ["0-999999"]}
READS = (
    *(f"{API}/workflows", INGRESS, f"{INGRESS}/backlog/history", f"{INGRESS}/config", f"{INGRESS}/config/revisions"),
    *(f"{INGRESS}/config/revisions/1", f"{INGRESS}/tables", f"{INGRESS}/cursors", f"{INGRESS}/dead-letters"),
    *(f"{INGRESS}/dead-letters/groups", f"{INGRESS}/records/{new_key()}", f"{API}/systems/dynamics", f"{API}/systems/campaign/tables"),
    *(f"{API}/systems/dynamics/tables/contact/fields", f"{API}/audit"),
)
OPERATIONS: list[tuple[str, str, str, Any]] = [
    *(("viewer", "GET", path, None) for path in READS),
    ("operator", "POST", f"{INGRESS}/start", None),
    ("operator", "POST", f"{INGRESS}/tables/contact/replay", {"when": "next-start"}),
    ("operator", "DELETE", f"{INGRESS}/tables/contact/replay", None),
    ("operator", "POST", f"{INGRESS}/dead-letters/redrive", NOTHING),
    ("operator", "POST", f"{INGRESS}/stop", None),
    ("admin", "PUT", f"{INGRESS}/config", {"config": {"tables": [contacts()]}}),
    ("admin", "POST", f"{INGRESS}/config/revisions/1/restore", None),
    ("admin", "DELETE", f"{INGRESS}/cursors/contact", None),
    ("admin", "PUT", f"{API}/workflows/egress/cursors/journal", {"position": "oldest"}),
    ("admin", "POST", f"{INGRESS}/dead-letters/discard", {**NOTHING, "reason": "a test"}),
    ("admin", "GET", f"{INGRESS}/dead-letters?values=true", None),
]


def control(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m services.control …`, ended."""
    command = [sys.executable, "-m", "services.control", *arguments]
    given = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **environment}
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=30, check=False)


def new_token(file: Path, role: str, name: str) -> str:
    made = control("token", "new", "--role", role, "--name", name, CONTROL_TOKENS_FILE=str(file))
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


@dataclass
class Guarded:
    """A control with tokens; `tokens` by role."""

    stack: Stack
    file: Path
    tokens: dict[str, str]

    async def ask(self, token: str | None, method: str, path: str, **more: Any) -> httpx.Response:
        """One request with this token, again after a 429 has passed."""
        bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
        headers = {**bearer, **more.pop("headers", {})}
        while True:
            answer = await self.stack.http.request(method, path, headers=headers, **more)
            if answer.status_code != 429:
                return answer
            await asyncio.sleep(float(answer.headers["Retry-After"]))

    async def refusals(self, code: str, what: str) -> list[dict[str, Any]]:
        """The audit's entries of this code about this path, once there is one."""

        async def found() -> list[dict[str, Any]]:
            answer = await self.ask(self.tokens["admin"], "GET", f"{API}/audit?limit=500")
            return [each for each in answer.json()["entries"] if each["result"] == code and what in each["what"]]

        entries: list[dict[str, Any]] = await self.stack.until(found, f"an audit entry {code}", 10)
        return entries


def settings(kafka: LocalKafka) -> KafkaSettings:
    prefix = f"a{uuid.uuid4().hex[:8]}."
    return KafkaSettings(bootstrap_servers=kafka.bootstrap, registry_url=kafka.registry_url, topic_prefix=prefix, partitions=3)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    """Control with tokens, ready, for all tests of the module. Whatever they do, no token may be in a log line."""
    folder = tmp_path_factory.mktemp("guarded")
    file = folder / "tokens"
    made = {role: new_token(file, role, f"the-{role}") for role in ROLES}
    async with running(settings(kafka), folder, wait_for_control=False, CONTROL_TOKENS_FILE=str(file)) as stack:
        one = Guarded(stack, file, made)

        async def ready() -> bool:
            return (await one.ask(made["admin"], "GET", f"{API}/workflows")).status_code == 200

        await stack.until(ready, "control is ready", 30)
        yield one
        assert (logs := service_logs(stack)) and not [role for role, token in made.items() if token in logs]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def unguarded(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Control without tokens, for all tests of the module."""
    async with running(settings(kafka), tmp_path_factory.mktemp("unguarded")) as stack:
        yield stack


async def test_every_operation_needs_its_role(guarded: Guarded) -> None:
    wrong: list[str] = []
    for rank, role in enumerate(ROLES):
        for needed, method, path, body in OPERATIONS:
            answer = await guarded.ask(guarded.tokens[role], method, path, **({} if body is None else {"json": body}))
            allowed = rank >= ROLES.index(needed)
            if allowed == (answer.status_code in (401, 403)) or answer.status_code >= 500:
                wrong.append(f"{role}: {method} {path}: {answer.status_code} {answer.text[:200]}")
            elif not allowed:
                assert_problem(answer, 403)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("token", [None, "wrong", "Bearer"])
async def test_without_a_good_token_nothing_is_told(guarded: Guarded, token: str | None) -> None:
    for _, method, path, body in OPERATIONS[:3] + OPERATIONS[-4:] + [("", "GET", f"{API}/events", None)]:
        answer = await guarded.ask(token, method, path, **({} if body is None else {"json": body}))
        assert_problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer"), path
    for path in ("/healthz", "/readyz"):
        assert (await guarded.ask(token, "GET", path)).status_code == 200


async def test_refusals_are_audited_with_who_from_where_what_and_why(guarded: Guarded) -> None:
    path = f"{API}/workflows/optin/start"  # where no other test of this module asks
    refused = assert_problem(await guarded.ask(guarded.tokens["viewer"], "POST", path), 403)
    unknown = assert_problem(await guarded.ask(None, "POST", path), 401)

    (forbidden,) = await guarded.refusals(refused["code"], path)
    assert (forbidden["by"], forbidden["address"]) == ("the-viewer", "127.0.0.1")
    assert forbidden["workflow"] == path.split("/workflows/")[1].split("/")[0]
    (nobody,) = await guarded.refusals(unknown["code"], path)
    assert nobody["by"] not in guarded.tokens and nobody["address"] == "127.0.0.1"
    assert (await guarded.ask(guarded.tokens["admin"], "GET", f"{API}/workflows/optin")).json()["desired"] == "STOPPED"


async def test_commands_are_audited_with_their_comment_and_pages_go_back(guarded: Guarded) -> None:
    for number, command in enumerate(("start", "stop", "start")):
        answer = await guarded.ask(guarded.tokens["operator"], "POST", f"{INGRESS}/{command}", json={"comment": f"number {number}"})
        assert answer.status_code == 202
    viewer = guarded.tokens["viewer"]

    async def three() -> list[dict[str, Any]]:
        entries = (await guarded.ask(viewer, "GET", f"{API}/audit")).json()["entries"]
        return entries if len(entries) >= 4 and entries[0]["after"]["comment"] == "number 2" else []

    whole = await guarded.stack.until(three, "three commands", 10)
    assert [each["after"]["comment"] for each in whole[:3]] == ["number 2", "number 1", "number 0"], "newest first"
    assert {(each["by"], each["result"], each["workflow"]) for each in whole[:3]} == {("the-operator", "done", "ingress")}
    first = (await guarded.ask(viewer, "GET", f"{API}/audit?limit=2")).json()
    rest = (await guarded.ask(viewer, "GET", f"{API}/audit?limit=2&after={first['next']}")).json()
    assert [each["id"] for each in first["entries"] + rest["entries"]] == [each["id"] for each in whole[:4]]
    await guarded.ask(guarded.tokens["operator"], "POST", f"{INGRESS}/stop")


async def test_the_comment_of_a_command_that_changes_nothing_is_audited_too(unguarded: Stack) -> None:
    for comment in ("first", "again"):
        assert (await unguarded.http.post(f"{INGRESS}/stop", json={"comment": comment})).status_code == 202

    async def last() -> Any:
        return (await unguarded.get("/audit?limit=2"))["entries"]

    entries = await unguarded.until(last, "audited", 10)
    assert (entries[0]["what"], entries[0]["after"]["comment"]) == ("stop", "again")


async def revoke(guarded: Guarded, name: str) -> None:
    ended = await asyncio.to_thread(control, "token", "revoke", "--name", name, CONTROL_TOKENS_FILE=str(guarded.file))
    assert ended.returncode == 0, ended.stderr


async def test_a_revoked_token_is_refused_and_a_new_one_taken_without_a_restart(guarded: Guarded) -> None:
    token = new_token(guarded.file, "viewer", "leaver")

    async def answers(status: int) -> bool:
        return (await guarded.ask(token, "GET", INGRESS)).status_code == status

    await guarded.stack.until(lambda: answers(200), "the new token is taken", 5)
    await revoke(guarded, "leaver")
    await guarded.stack.until(lambda: answers(401), "the token is refused", 5)
    assert (await guarded.ask(guarded.tokens["operator"], "GET", INGRESS)).status_code == 200


async def test_the_event_stream_of_a_revoked_token_ends(guarded: Guarded) -> None:
    token = new_token(guarded.file, "viewer", "listener")
    bearer = {"Authorization": f"Bearer {token}"}
    async with guarded.stack.http.stream("GET", f"{API}/events", headers=bearer, timeout=20) as stream:
        assert stream.status_code == 200
        await revoke(guarded, "listener")
        async with asyncio.timeout(5):
            async for _ in stream.aiter_bytes():
                pass


async def test_a_session_cookie_needs_the_header_for_changes(guarded: Guarded) -> None:
    cookie = {"Cookie": f"bridge_session={guarded.tokens['operator']}"}

    assert (await guarded.ask(None, "GET", INGRESS, headers=cookie)).status_code == 200
    assert_problem(await guarded.ask(None, "POST", f"{INGRESS}/stop", headers=cookie), 403)
    assert_problem(await guarded.ask(None, "POST", f"{INGRESS}/stop", headers=cookie | {"X-Requested-With": "XMLHttpRequest"}), 403)
    assert (await guarded.ask(None, "POST", f"{INGRESS}/stop", headers=cookie | {"X-Requested-With": "bridge"})).status_code == 202
    above = await guarded.ask(
        None, "POST", f"{INGRESS}/dead-letters/discard", headers=cookie | {"X-Requested-With": "bridge"}, json=NOTHING | {"reason": "x"}
    )
    assert_problem(above, 403)
    assert_problem(await guarded.ask(None, "GET", INGRESS, headers={"Cookie": "bridge_session=wrong"}), 401)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example"])
async def test_a_foreign_origin_is_refused(unguarded: Stack, origin: str) -> None:
    assert_problem(await unguarded.http.post(f"{INGRESS}/stop", headers={"Origin": origin}), 403)
    own = str(unguarded.http.base_url).rstrip("/")
    assert (await unguarded.http.post(f"{INGRESS}/stop", headers={"Origin": own})).status_code == 202


async def test_without_tokens_a_foreign_host_is_refused(unguarded: Stack) -> None:
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example"):
        for method, path in (("GET", INGRESS), ("POST", f"{INGRESS}/stop")):
            assert_problem(await unguarded.http.request(method, path, headers={"Host": host}), 403)
    assert (await unguarded.http.get(INGRESS, headers={"Host": f"localhost:{unguarded.control_port}"})).status_code == 200


async def test_a_body_of_one_mebibyte_is_read_and_a_larger_one_is_not(unguarded: Stack) -> None:
    def body(size: int) -> bytes:
        frame = b'{"comment": ""}'
        return frame[:-2] + b"x" * (size - len(frame)) + frame[-2:]

    path, kind = f"{INGRESS}/stop", {"Content-Type": "application/json"}
    assert_problem(await unguarded.http.post(path, content=body(2**20), headers=kind), 422)  # read, and its comment found too long
    assert_problem(await unguarded.http.post(path, content=body(2**20 + 1), headers=kind), 413)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 2**16

    assert_problem(await unguarded.http.post(path, content=pieces(), headers=kind), 413)
    assert (await unguarded.http.post(path)).status_code == 202


async def test_more_than_twenty_requests_a_second_are_put_off_for_this_token_only(guarded: Guarded) -> None:
    async def once(role: str) -> httpx.Response:
        return await guarded.stack.http.get(INGRESS, headers={"Authorization": f"Bearer {guarded.tokens[role]}"})

    answers = await asyncio.gather(*(once("viewer") for _ in range(60)))
    other = await once("operator")
    put_off = [each for each in answers if each.status_code == 429]

    assert put_off and {each.status_code for each in answers} == {200, 429}
    assert sum(each.status_code == 200 for each in answers) >= 20
    assert_problem(put_off[0], 429)
    assert other.status_code == 200
    wait, began = float(put_off[0].headers["retry-after"]), time.monotonic()
    assert 0 < wait <= 2

    async def after_waiting() -> bool:
        return time.monotonic() - began >= wait

    await guarded.stack.until(after_waiting, "the wait is over", 5)
    assert (await once("viewer")).status_code == 200


async def test_every_answer_carries_the_security_headers_and_no_token(guarded: Guarded) -> None:
    admin = guarded.tokens["admin"]
    paths = (INGRESS, f"{API}/nothing", f"{INGRESS}/config", f"{API}/audit", f"{API}/systems/dynamics", "/openapi.json", "/healthz")
    answers = [await guarded.ask(admin, "GET", path) for path in paths]
    answers += [await guarded.ask(None, "GET", INGRESS), await guarded.ask(admin, "POST", f"{INGRESS}/stop", content=b"{")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "unsafe-inline" not in policy and "unsafe-eval" not in policy and "http" not in policy
        assert "frame-ancestors 'none'" in policy and "default-src" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        if answer.url.path.startswith(API):
            assert "no-store" in answer.headers["cache-control"]
        assert admin not in answer.text and admin not in str(answer.headers)
        assert "sandbox-secret" not in answer.text
    assert answers[4].json()["settings"]["client_secret"] == {"set": True}
