"""The command line, how it ends: exit codes, problems, tokens, 429, Ctrl-C and broken pipes (docs/cli.md)."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.app import app
from cli.exit_codes import MEANINGS
from sandbox.kafka.local import free_port
from tests.unit.cli_server import ROOT, ControlServer, Reply, bridge, command, environment, problem, serving, workflow

ALL = {"workflows": [workflow(each) for each in ("ingress", "egress", "optin")]}
SECRET = "s3cret-token-of-anna"


@pytest.fixture
def control() -> Iterator[ControlServer]:
    with serving() as server:
        server.on("GET", "/workflows", ALL)
        yield server


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, 4), (403, 4), (404, 6), (405, 8), (409, 5), (412, 5), (413, 8), (422, 8), (428, 8), (500, 9), (502, 9), (503, 9)],
)
def test_every_refusal_has_its_exit_code_and_is_told_on_stderr(control: ControlServer, status: int, code: int) -> None:
    control.on("GET", "/workflows", problem(status, "a_code", "Why it is so.", errors=[{"path": "/x", "code": "c", "message": "bad"}]))

    result = bridge(control, "status", "--json")

    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"Title {status}: Why it is so.\n/x: bad\n"


def test_nobody_answers() -> None:
    result = bridge(f"http://127.0.0.1:{free_port()}", "status")

    assert (result.exit_code, result.stdout) == (3, "")
    assert "cannot be reached" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("reply", [Reply(200, b"<html>"), Reply(302, None, {"Location": "https://elsewhere.example/"})])
def test_somebody_else_answers(control: ControlServer, reply: Reply) -> None:
    control.on("GET", "/workflows", reply)

    result = bridge(control, "status")

    assert result.exit_code == 3
    assert "is not control" in result.stderr


def test_an_error_page_of_a_proxy_is_not_shown(control: ControlServer) -> None:
    control.on("GET", "/workflows", Reply(502, b"<html>inner address 10.0.0.1</html>"))

    result = bridge(control, "status")

    assert (result.exit_code, "10.0.0.1" in result.output) == (9, False)


@pytest.mark.parametrize("args", [["status", "--nothing"], ["nothing"], ["start"], ["dead-letters", "redrive", "ingress"], ["replay"]])
def test_wrong_usage(control: ControlServer, args: list[str]) -> None:
    result = bridge(control, *args)

    assert (result.exit_code, control.requests) == (2, [])


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:8080", "http://", "http://a:b"])
def test_an_address_that_cannot_be_one_is_wrong_usage(url: str) -> None:
    result = bridge(url, "status")

    assert (result.exit_code, "Traceback" in result.output) == (2, False)
    assert "address" in result.stderr


def test_a_429_is_tried_again_after_the_wait_and_given_up_in_the_end(control: ControlServer) -> None:
    busy = problem(429, "too_many_requests")
    control.on(
        "GET", "/workflows", Reply(429, busy.body, {"Retry-After": "0"}), Reply(429, busy.body, {"Retry-After": "1"}), Reply(200, ALL)
    )
    assert bridge(control, "status").exit_code == 0
    assert len(control.requests) == 3

    control.on("GET", "/workflows", Reply(429, busy.body, {"Retry-After": "0"}))
    result = bridge(control, "status")

    assert (result.exit_code, len(control.requests)) == (8, 6)
    assert "Title 429" in result.stderr


def test_a_429_that_asks_for_a_long_wait_is_not_waited_for(control: ControlServer) -> None:
    control.on("GET", "/workflows", Reply(429, problem(429, "too_many_requests").body, {"Retry-After": "3600"}))

    assert bridge(control, "status").exit_code == 8
    assert len(control.requests) == 1


# -- the token --------------------------------------------------------------------------------------------------------------------


def authorization(server: ControlServer) -> str | None:
    return server.requests[-1].headers.get("authorization")


def test_the_token_comes_from_the_environment_or_a_file(control: ControlServer, tmp_path: Path) -> None:
    file, other = tmp_path / "token", tmp_path / "other"
    file.write_text(f"{SECRET}\n")
    other.write_text("other")

    assert bridge(control, "status").exit_code == 0
    assert authorization(control) is None
    assert control.requests[-1].headers["x-requested-with"] == "bridge"
    bridge(control, "status", BRIDGE_TOKEN=SECRET)
    assert authorization(control) == f"Bearer {SECRET}"
    bridge(control, "status", BRIDGE_TOKEN_FILE=str(file))
    assert authorization(control) == f"Bearer {SECRET}"
    bridge(control, "--token-file", str(file), "status", BRIDGE_TOKEN="other", BRIDGE_TOKEN_FILE=str(other))
    assert authorization(control) == f"Bearer {SECRET}"
    bridge(control, "status", BRIDGE_TOKEN="one", BRIDGE_TOKEN_FILE=str(other))
    assert authorization(control) == "Bearer one"


@pytest.mark.parametrize(
    "content", [None, b"", b"  \n", f"{SECRET}\nsecond line".encode(), f"{SECRET}ü".encode(), SECRET.encode() + b"\xff"]
)
def test_a_token_file_that_cannot_be_used_is_wrong_usage(control: ControlServer, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)

    result = bridge(control, "--token-file", str(file), "status")

    assert (result.exit_code, control.requests) == (2, [])
    assert SECRET not in result.output


def test_the_token_is_never_printed(control: ControlServer) -> None:
    control.on("GET", "/workflows", ALL, problem(401, "unauthorized"), Reply(200, b"no json"), problem(500, "internal_error"))

    outputs = [bridge(control, "status", BRIDGE_TOKEN=SECRET).output for _ in range(4)]
    outputs.append(bridge(f"http://user:{SECRET}@127.0.0.1:{free_port()}", "status", BRIDGE_TOKEN=SECRET).output)

    assert not any(SECRET in each for each in outputs)
    assert all(outputs)


def test_the_token_is_not_sent_to_where_a_redirection_leads(control: ControlServer) -> None:
    with serving() as elsewhere:
        control.on("GET", "/workflows", Reply(307, None, {"Location": f"{elsewhere.url}/api/v1/workflows"}))

        assert bridge(control, "status", BRIDGE_TOKEN=SECRET).exit_code == 3
        assert elsewhere.requests == []


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_wrong_usage(control: ControlServer, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)

    result = bridge(control, "--ca-file", str(file), "status")

    assert result.exit_code == 2
    assert "CA file" in result.stderr


# -- the process ------------------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_watch_quietly_with_130(control: ControlServer) -> None:
    with subprocess.Popen(
        command("status", "--watch", "--json"), env=environment(control), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        first = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        errors = process.stderr.read()

    assert (first["id"], process.returncode, errors) == ("ingress", 130, "")


@pytest.mark.parametrize("args", [["status", "--watch", "--json"], ["status", "--watch"], ["status", "--json"], ["status"]])
def test_a_broken_pipe_ends_quietly_with_130(control: ControlServer, args: list[str]) -> None:
    process = subprocess.Popen(command(*args), env=environment(control), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    with process.stderr:
        errors = process.stderr.read()

    assert (process.wait(30), errors) == (130, "")


def test_the_module_is_the_command(control: ControlServer) -> None:
    ended = subprocess.run(command("status", "ingress", "--json"), env=environment(control), capture_output=True, text=True, check=False)

    assert ended.returncode == 6
    assert ended.stderr == "Title 404: There is no such route.\n"
    assert ended.stdout == ""


# -- what is written down ---------------------------------------------------------------------------------------------------------


def commands(group: Any, before: str = "bridge") -> Iterator[tuple[str, Any]]:
    for name, each in group.commands.items():
        if hasattr(each, "commands"):
            yield from commands(each, f"{before} {name}")
        else:
            yield f"{before} {name}", each


def all_commands() -> dict[str, Any]:
    import typer

    return dict(commands(typer.main.get_command(app)))


def test_every_command_is_in_the_page_and_takes_json() -> None:
    page = (ROOT / "docs/cli.md").read_text()

    for name, each in all_commands().items():
        assert name in page, name
        assert each.help, name
        assert any("--json" in option.opts for option in each.params), name


def test_the_commands_of_the_issue_are_there() -> None:
    config = [f"config {each}" for each in "get set diff edit history restore plan apply".split()]
    letters = [f"dead-letters {each}" for each in "list groups show redrive discard".split()]
    wanted = ["status", "start", "stop", *config, "replay", "cursors list", *letters, "record", "test", "backlog"]

    assert {f"bridge {each}" for each in wanted} <= all_commands().keys()


def test_the_exit_codes_are_in_the_page_and_in_the_help() -> None:
    page = (ROOT / "docs/cli.md").read_text()
    listed = {int(code): meaning for code, meaning in re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)}
    help_text = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())

    assert listed == MEANINGS
    assert all(f"{code} {meaning}" in help_text for code, meaning in MEANINGS.items())
