"""`bridge config edit`: the configuration in the editor, until it is right. A draft that was not saved stays on disk."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from cli import yamlfile
from cli.api import Api
from cli.arguments import Comment, Json, Name, connect
from cli.configuration import NEXT_START, group, save, saved, validated
from cli.differences import difference, filled
from cli.exit_codes import NO, NOT_CONFIRMED, USAGE, Failure, found_errors
from cli.screen import Screen, clean, warn

MARK = "#! "  # before the lines that we put at the top
HINT = "Correct this and save the file. Leave it as it is, or empty, to give up."


def add(_: typer.Typer) -> None:
    group.command()(edit)


def edit(ctx: typer.Context, workflow: Name, comment: Comment = None, as_json: Json = False) -> None:
    """Change a configuration in $VISUAL or $EDITOR. Errors come back as comments at the top of the file."""
    api, screen = connect(ctx), Screen(as_json)
    before = saved(api, workflow)
    folder = Path(tempfile.mkdtemp(prefix="bridge-"))  # for our eyes only
    draft = folder / f"{workflow}.yaml"
    try:
        config = _edited(api, workflow, draft, yamlfile.dumped(workflow, before.body["config"]))
        if difference(before.body["config"], filled(workflow, config)):
            body = save(api, workflow, config, before.etag, comment)
            screen.tell(f"Saved as revision {body['revision']}. {NEXT_START}")
        else:
            body = before.body
            screen.tell("Nothing to change.")
    except (Failure, KeyboardInterrupt):
        warn(f"Nothing was saved. The draft is {draft}")
        raise
    shutil.rmtree(folder, ignore_errors=True)
    screen.show(body)


def _edited(api: Api, workflow: str, draft: Path, text: str) -> dict[str, Any]:
    """What the editor was left with, without errors. Raises Failure if the user gives up, or control does not answer."""
    errors: Sequence[str] = []
    while True:
        draft.write_text("".join(f"{MARK}{line}\n" for line in errors) + text, encoding="utf-8")
        _open_editor(draft)
        edited = _without_marks(draft.read_text(encoding="utf-8", errors="replace"))
        draft.write_text(edited, encoding="utf-8")
        if not edited.strip():
            draft.write_text(text, encoding="utf-8")  # what was there before it was emptied
            raise Failure(NOT_CONFIRMED, "The file was left empty.")
        if errors and edited == text:
            raise Failure(NO, "The configuration has errors.", *errors[1:])
        text = edited
        try:
            _, config = yamlfile.parsed(text, workflow)
        except ValueError as exc:
            errors = [HINT, clean(str(exc)).replace("\n", " ")]
            continue
        found = validated(api, workflow, config)
        if found["valid"]:
            return config
        errors = [HINT, *(clean(line).replace("\n", " ") for line in found_errors(found["errors"]))]


def _open_editor(draft: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        ended = subprocess.run([*shlex.split(editor), str(draft)], check=False)
    except (OSError, ValueError) as exc:
        raise Failure(USAGE, f"The editor {editor} cannot be started; set EDITOR.") from exc
    if ended.returncode != 0:
        raise Failure(NOT_CONFIRMED, f"The editor ended with {ended.returncode}.")


def _without_marks(text: str) -> str:
    """Without the lines that we put there; the user's own comments stay."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(MARK))
