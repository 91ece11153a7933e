"""Tokens on the command line, and settings that control does not start with (control-api.md, Access; environment.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.test_api_access import control


def test_a_token_is_printed_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    made = control("token", "new", "--role", "viewer", "--name", "anna", CONTROL_TOKENS_FILE=str(file))
    token = made.stdout.strip()

    assert made.returncode == 0
    assert len(made.stdout.splitlines()) == 1 and len(token) >= 32
    assert token not in made.stderr
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0, "only its owner may read the file"

    listed = control("token", "list", CONTROL_TOKENS_FILE=str(file))
    assert "anna" in listed.stdout and "viewer" in listed.stdout
    kept = [each["sha256"] for each in json.loads(file.read_text())["tokens"]]
    assert kept
    assert not [secret for secret in (token, *kept) if secret in listed.stdout + listed.stderr]

    again = control("token", "new", "--role", "admin", "--name", "anna", CONTROL_TOKENS_FILE=str(file))
    assert again.returncode != 0 and not again.stdout
    assert control("token", "new", "--role", "king", "--name", "x", CONTROL_TOKENS_FILE=str(file)).returncode != 0
    assert control("token", "revoke", "--name", "nobody", CONTROL_TOKENS_FILE=str(file)).returncode != 0


def test_the_tokens_file_can_be_given_after_the_command(tmp_path: Path) -> None:
    file = tmp_path / "tokens"

    made = control("token", "new", "--role", "viewer", "--name", "anna", "--file", str(file))

    assert made.returncode == 0, made.stderr
    assert made.stdout.strip() and file.exists()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"tokens": [{"name": "x"}]}', '{"tokens": [{"name":"x","role":"king","sha256":"0"}]}', None]
)
def test_a_broken_tokens_file_ends_control_with_78(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "tokens"
    if content is not None:
        file.write_text(content)

    ended = control(CONTROL_TOKENS_FILE=str(file), CONTROL_PORT="1", STATE_DIR=str(tmp_path))

    assert ended.returncode == 78, ended.stderr
    assert "CONTROL_TOKENS_FILE" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.com"])
def test_without_tokens_only_a_loopback_address_is_listened_on(tmp_path: Path, host: str) -> None:
    ended = control(CONTROL_HOST=host, CONTROL_PORT="1", STATE_DIR=str(tmp_path))

    assert ended.returncode == 78, ended.stderr
    assert "CONTROL_HOST" in ended.stderr and host in ended.stderr and "Traceback" not in ended.stderr
