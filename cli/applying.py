"""`bridge config apply`: a file in a repository becomes the saved configuration. Doing it twice changes nothing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import yamlfile
from cli.api import Api
from cli.arguments import Comment, File, Json, Timeout, Yes, connect
from cli.configuration import NEXT_START, group, planned, save, saved, validated
from cli.differences import difference, difference_table, filled
from cli.exit_codes import NO, Failure, Refusal, found_errors
from cli.planview import plan_parts
from cli.screen import Screen, confirm, warn
from cli.workflows import command

SAMPLE = 100


def add(_: typer.Typer) -> None:
    group.command()(apply)


def apply(
    ctx: typer.Context,
    file: File,
    yes: Yes = False,
    comment: Comment = None,
    restart: Annotated[bool, typer.Option("--restart", help="Stop and start the workflow, so that it takes effect now.")] = False,
    timeout: Timeout = 120,
    as_json: Json = False,
) -> None:
    """Save a file if it differs from what is saved: shows the difference and the plan, and asks."""
    api, screen = connect(ctx), Screen(as_json)
    workflow, config = yamlfile.read(file)
    before = saved(api, workflow)
    entries = difference(before.body["config"], filled(workflow, config))
    if entries:
        _check(api, workflow, config)
        _preview(api, screen, workflow, config, entries)
        confirm(f"Save this as the configuration of {workflow}{' and restart it' if restart else ''}?", yes)
        body = save(api, workflow, config, before.etag, comment)
        screen.tell(f"Saved as revision {body['revision']}." + ("" if restart else f" {NEXT_START}"))
    else:
        body = before.body
        screen.tell("Nothing to change.")
        restart = restart and bool(body["diff"])  # saved earlier, and not running yet
        if restart:
            confirm(f"Restart {workflow}, so that what was saved before takes effect?", yes)
    if restart:
        command(api, screen, workflow, "stop", comment, timeout)
        command(api, screen, workflow, "start", comment, timeout)
    screen.show(body)


def _check(api: Api, workflow: str, config: dict[str, Any]) -> None:
    """Says the warnings. Raises Failure NO with the errors."""
    found = validated(api, workflow, config)
    for line in found_errors(found["warnings"]):
        warn(f"Warning: {line}")
    if not found["valid"]:
        raise Failure(NO, "The configuration has errors; nothing was saved.", *found_errors(found["errors"]))


def _preview(api: Api, screen: Screen, workflow: str, config: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    """The difference and, for ingress, the plan. A plan that cannot be had is said, and is no reason not to go on."""
    screen.show(None, difference_table(entries))
    if workflow != "ingress":
        return
    try:
        screen.show(None, "", *plan_parts(planned(api, workflow, config, SAMPLE)))
    except Refusal as refusal:
        warn(f"There is no plan: {refusal.lines[0]}")
