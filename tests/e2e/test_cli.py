"""The command line `bridge` against the real control, with real services behind it (docs/cli.md)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from bridge.kafka.settings import KafkaSettings
from tests.e2e.stack import ROOT, Stack, contacts, running


class Cli:
    """Runs `bridge` as a process against a stack's control."""

    def __init__(self, stack: Stack, **environment: str) -> None:
        self._environment = {**stack.environment, "BRIDGE_URL": f"http://127.0.0.1:{stack.control_port}", **environment}

    async def ends(self, *args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "services.control.cli", *args]
        return await asyncio.to_thread(
            subprocess.run, command, env=self._environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )

    async def __call__(self, *args: str, ends_with: int = 0) -> subprocess.CompletedProcess[str]:
        ended = await self.ends(*args)
        assert ended.returncode == ends_with, (args, ended.returncode, ended.stdout, ended.stderr)
        return ended

    async def json(self, *args: str, ends_with: int = 0) -> Any:
        return json.loads((await self(*args, "--json", ends_with=ends_with)).stdout)


def write(file: Path, config: dict[str, Any]) -> str:
    file.write_text(yaml.safe_dump({"workflow": "ingress", "config": config}))
    return str(file)


async def test_start_and_stop_with_wait(stack: Stack) -> None:
    bridge = Cli(stack)
    stack.service("reader")
    stack.service("writer")

    listed = await bridge.json("status")
    assert [(each["id"], each["status"]) for each in listed["workflows"]] == [(each, "STOPPED") for each in ("ingress", "egress", "optin")]

    running = await bridge.json("start", "ingress", "--wait", "--comment", "a test")
    assert (running["status"], running["desired"]) == ("RUNNING", "RUNNING")
    assert "RUNNING" in (await bridge("status", "ingress")).stdout
    assert "│" in (await bridge("backlog", "ingress", "--minutes", "1")).stdout
    assert (await bridge.json("backlog", "ingress"))["samples"]

    assert "ingress is STOPPED." in (await bridge("stop", "ingress", "--wait")).stdout
    assert (await stack.workflow())["status"] == "STOPPED"
    refused = await bridge("start", "egress", "--wait", ends_with=5)
    assert "save a configuration first" in refused.stderr


async def test_a_configuration_is_applied_once(stack: Stack, tmp_path: Path) -> None:
    bridge = Cli(stack)
    file = write(tmp_path / "ingress.yaml", {"tables": [contacts()]})

    assert "Nothing was done" in (await bridge("config", "apply", "-f", file, ends_with=7)).stderr
    assert (await bridge.json("config", "apply", "-f", file, "--yes"))["revision"] == 2
    for _ in range(2):
        assert (await bridge("config", "apply", "-f", file)).stdout == "Nothing to change.\n"
    assert (await stack.get("/workflows/ingress/config"))["revision"] == 2

    got = tmp_path / "got.yaml"
    got.write_text((await bridge("config", "get", "ingress")).stdout)
    assert (await bridge("config", "apply", "-f", str(got))).stdout == "Nothing to change.\n"
    assert await bridge.json("config", "diff", "ingress", "-f", file) == {"diff": []}

    twice = write(tmp_path / "twice.yaml", {"tables": [contacts(), contacts()]})
    refused = await bridge("config", "apply", "-f", twice, "--yes", ends_with=1)
    assert "/tables/1/source: table contact is mapped already" in refused.stderr
    assert (await stack.get("/workflows/ingress/config"))["revision"] == 2


async def test_somebody_else_has_saved_meanwhile(stack: Stack, tmp_path: Path) -> None:
    bridge = Cli(stack)
    file = write(tmp_path / "ingress.yaml", {"tables": [contacts()]})
    await stack.configure(contacts(apply_deletes=True))

    refused = await bridge("config", "set", "ingress", "-f", file, "--revision", "1", ends_with=5)

    assert "Revision 2 was saved by" in refused.stderr
    assert "/tables/0/apply_deletes: theirs true, ours false" in refused.stderr
    assert (await bridge.json("config", "set", "ingress", "-f", file))["revision"] == 3
    assert [each["revision"] for each in (await bridge.json("config", "history", "ingress"))["revisions"]] == [3, 2, 1]
    assert (await bridge.json("config", "restore", "ingress", "2"))["config"]["tables"][0]["apply_deletes"] is True


async def test_a_token_may_do_what_its_role_allows(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    tokens, file = tmp_path / "tokens", tmp_path / "token"
    make = [sys.executable, "-m", "services.control", "token", "--file", str(tokens), "new", "--role", "viewer", "--name", "anna"]
    made = await asyncio.to_thread(subprocess.run, make, cwd=ROOT, capture_output=True, text=True, check=True)
    file.write_text(made.stdout)
    async with running(kafka_settings, tmp_path, wait_for_control=False, CONTROL_TOKENS_FILE=str(tokens)) as stack:
        bridge = Cli(stack, BRIDGE_TOKEN_FILE=str(file))

        async def known() -> bool:
            return (await bridge.ends("whoami")).returncode == 0

        await stack.until(known, "control knows the token", 30)
        assert await bridge.json("whoami") == {"name": "anna", "role": "viewer"}
        refused = await bridge("start", "ingress", ends_with=4)
        nobody = await Cli(stack)("status", ends_with=4)

    token = file.read_text().strip()
    assert token not in refused.stdout + refused.stderr + nobody.stderr
