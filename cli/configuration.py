"""`bridge config get|set|diff|history|restore|plan`. `apply` and `edit` have modules of their own and share this group."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import typer

from cli import yamlfile
from cli.api import SLOW_TIMEOUT_S, Answer, Api, path
from cli.arguments import Comment, File, Json, MaybeFile, Name, connect
from cli.differences import difference, difference_table, filled
from cli.exit_codes import NO, Failure, Refusal
from cli.planview import plan_parts, takes_away_line
from cli.screen import Screen, clean, table, warn, when

group = typer.Typer(help="Configurations: show, change, compare, restore, try out.", no_args_is_help=True)
Sample = Annotated[int, typer.Option("--sample", min=1, max=1000, help="How many rows of each table to look at.")]
NEXT_START = "It takes effect at the next stop and start."


def add(app: typer.Typer) -> None:
    app.add_typer(group, name="config")


@group.command()
def get(
    ctx: typer.Context,
    workflow: Name,
    running: Annotated[bool, typer.Option("--running", help="The configuration that runs, not the saved one.")] = False,
    format: Annotated[Literal["yaml", "json"], typer.Option("--format", help="The file's format.")] = "yaml",
    as_json: Json = False,
) -> None:
    """Print a configuration as the file that `config apply` takes."""
    body = saved(connect(ctx), workflow).body
    if as_json:
        Screen(True).show(body)
        return
    if running and body["running"] is None:
        raise Failure(NO, f"{workflow} does not run.")
    config = body["running"]["config"] if running else body["config"]
    if format == "json":
        print(json.dumps({"workflow": workflow, "config": config}, indent=2))
    else:
        print(yamlfile.dumped(workflow, config), end="")


@group.command(name="set")
def set_(
    ctx: typer.Context,
    workflow: Name,
    file: File,
    revision: Annotated[int | None, typer.Option("--revision", help="The revision it was made from; the saved one if left out.")] = None,
    comment: Comment = None,
    as_json: Json = False,
) -> None:
    """Save a file as it is, without a question."""
    api, screen = connect(ctx), Screen(as_json)
    _, config = yamlfile.read(file, workflow)
    etag = saved(api, workflow).etag if revision is None else f'"{revision}"'
    body = save(api, workflow, config, etag, comment)
    screen.tell(f"Saved as revision {body['revision']}. {NEXT_START}")
    screen.show(body)


@group.command()
def diff(ctx: typer.Context, workflow: Name, file: MaybeFile = None, as_json: Json = False) -> None:
    """What differs between the running and the saved configuration or, with a file, between the saved one and the file."""
    body = saved(connect(ctx), workflow).body
    if file is not None:
        entries = difference(body["config"], filled(workflow, yamlfile.read(file, workflow)[1]))
    elif body["running"] is None:
        entries = []
    else:
        entries = difference(body["running"]["config"], body["config"])
    screen = Screen(as_json)
    if not entries and file is None and body["running"] is None:
        screen.tell(f"{workflow} does not run: nothing to compare the saved configuration with.")
    elif not entries:
        screen.tell("No difference.")
    screen.show({"diff": entries}, *([difference_table(entries)] if entries else []))


@group.command()
def history(ctx: typer.Context, workflow: Name, as_json: Json = False) -> None:
    """All revisions, newest first."""
    body = connect(ctx).get(path("workflows", workflow, "config", "revisions"))
    rows = [(each["revision"], when(each["saved_at"]), each["saved_by"], each["comment"]) for each in body["revisions"]]
    Screen(as_json).show(body, table(["REVISION", "SAVED", "BY", "COMMENT"], rows))


@group.command()
def restore(
    ctx: typer.Context,
    workflow: Name,
    revision: Annotated[int, typer.Argument(help="As `config history` lists it.", show_default=False)],
    comment: Comment = None,
    as_json: Json = False,
) -> None:
    """Save an earlier revision again, as a new one."""
    where = path("workflows", workflow, "config", "revisions", str(revision), "restore")
    body = connect(ctx).post(where, {"comment": comment} if comment else None)
    screen = Screen(as_json)
    screen.tell(f"Revision {revision} is saved again as revision {body['revision']}. {NEXT_START}")
    say_taken(workflow, body)
    screen.show(body)


@group.command()
def plan(ctx: typer.Context, workflow: Name, file: MaybeFile = None, sample: Sample = 100, as_json: Json = False) -> None:
    """What a configuration of ingress would do to a sample of rows. Writes nothing. The saved configuration if no file is given."""
    api = connect(ctx)
    config = saved(api, workflow).body["config"] if file is None else yamlfile.read(file, workflow)[1]
    body = planned(api, workflow, config, sample)
    Screen(as_json).show(body, *plan_parts(body))


def saved(api: Api, workflow: str) -> Answer:
    """The saved configuration with its ETag."""
    return api.call("GET", path("workflows", workflow, "config"))


def save(api: Api, workflow: str, config: Mapping[str, Any], etag: str | None, comment: str | None) -> dict[str, Any]:
    """Saves over the revision with this ETag; the new one. Raises Failure; a 412 says what somebody else has saved."""
    body: dict[str, Any] = {"config": config} | ({"comment": comment} if comment else {})
    headers = {"If-Match": etag} if etag else {}
    try:
        made: dict[str, Any] = api.call("PUT", path("workflows", workflow, "config"), body, headers=headers).body
    except Refusal as refusal:
        if refusal.status == 412:
            raise _conflict(api, workflow, refusal, config) from refusal
        raise
    say_taken(workflow, made)
    return made


def say_taken(workflow: str, answer: Mapping[str, Any]) -> None:
    """What a save or a start of ingress takes away, if it does."""
    if workflow == "ingress" and "takes_away" in answer and (line := takes_away_line(answer["takes_away"])):
        warn(line)


def validated(api: Api, workflow: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """`{"valid", "errors", "warnings"}`."""
    found: dict[str, Any] = api.post(path("workflows", workflow, "config", "validate"), {"config": config})
    return found


def planned(api: Api, workflow: str, config: Mapping[str, Any], sample: int) -> dict[str, Any]:
    """What the configuration would do. Raises Refusal, with 503 if a system is away."""
    where = path("workflows", workflow, "config", "plan")
    found: dict[str, Any] = api.post(where, {"config": config, "sample": sample}, timeout_s=SLOW_TIMEOUT_S)
    return found


def _conflict(api: Api, workflow: str, refusal: Refusal, ours: Mapping[str, Any]) -> Failure:
    """What to say after a 412: who saved meanwhile, and how their configuration differs from ours."""
    theirs = saved(api, workflow).body
    entries = difference(theirs["config"], filled(workflow, ours))
    lines = [f"{each['path']}: theirs {json.dumps(each['from'])}, ours {json.dumps(each['to'])}" for each in entries]
    who = f"Revision {theirs['revision']} was saved by {theirs['saved_by']} at {when(theirs['saved_at'])}."
    return Failure(refusal.exit_code, *refusal.lines, clean(who), *(lines or ["It is equal to ours."]))
