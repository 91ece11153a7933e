"""`bridge replay`, `tables`, `cursors`: what is read, and from where."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from cli.api import path
from cli.arguments import Json, Name, Yes, connect
from cli.exit_codes import USAGE, Failure
from cli.lists import ListByDefault
from cli.screen import Screen, cell, confirm, duration, table, when

group = typer.Typer(cls=ListByDefault, help="Up to where each table has been read.", no_args_is_help=True)
Table = Annotated[str, typer.Argument(metavar="TABLE", help="A mapped table of Dynamics, such as contact.", show_default=False)]


def add(app: typer.Typer) -> None:
    app.command()(replay)
    app.command()(tables)
    app.add_typer(group, name="cursors")


def replay(
    ctx: typer.Context,
    source: Table,
    now: Annotated[bool, typer.Option("--now", help="Beside the live changes, without a stop.")] = False,
    next_start: Annotated[bool, typer.Option("--next-start", help="When the workflow is started next (this is the default).")] = False,
    changed_since: Annotated[str | None, typer.Option(help="Only rows changed since then (RFC 3339; UTC if no zone is given).")] = None,
    key: Annotated[list[str] | None, typer.Option("--key", help="Only this row; may be given several times.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Disarm or cancel the replay of the table.")] = False,
    as_json: Json = False,
) -> None:
    """Send the rows of an ingress table to Campaign once more."""
    if now and next_start:
        raise Failure(USAGE, "Give either --now or --next-start.")
    if cancel and (now or next_start or changed_since or key):
        raise Failure(USAGE, "--cancel goes with no other option.")
    where, screen = path("workflows", "ingress", "tables", source, "replay"), Screen(as_json)
    if cancel:
        screen.show(connect(ctx).call("DELETE", where).body)
        screen.tell(f"No replay of {source} is waiting or running any more.")
        return
    body: dict[str, Any] = {"when": "now" if now else "next-start"}
    if changed_since:
        body["changed_since"] = _time(changed_since)
    if key:
        body["keys"] = key
    answer = connect(ctx).post(where, body)
    begins = "begins now" if now else "begins at the next start of ingress"
    screen.tell(f"The replay of {source} {begins}; `bridge tables` shows how far it is.")
    screen.show(answer)


def tables(ctx: typer.Context, as_json: Json = False) -> None:
    """The mapped tables of ingress, and how far each has been read."""
    body = connect(ctx).get(path("workflows", "ingress", "tables"))
    headings = ["TABLE", "TARGET", "PHASE", "ROWS READ", "CURSOR AGE", "TRACKING LEFT", "PROGRESS", "REPLAY"]
    Screen(as_json).show(body, table(headings, map(_row, body["tables"])))


@group.command(name="list")
def list_(ctx: typer.Context, workflow: Name, as_json: Json = False) -> None:
    """The cursors of a workflow."""
    body = connect(ctx).get(path("workflows", workflow, "cursors"))
    rows = [(each["name"], each["system"], when(each["updated_at"]), each["position"]) for each in body["cursors"]]
    Screen(as_json).show(body, table(["CURSOR", "SYSTEM", "UPDATED", "POSITION"], rows))


@group.command()
def delete(
    ctx: typer.Context,
    workflow: Name,
    cursor: Annotated[str, typer.Argument(help="As `cursors list` names it.", show_default=False)],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Forget up to where a table was read: the next start reads all of it. The workflow has to be STOPPED."""
    api, screen = connect(ctx), Screen(as_json)
    confirm(f"Delete the cursor {cursor} of {workflow}? The next start reads that table from the beginning.", yes)
    answer = api.call("DELETE", path("workflows", workflow, "cursors", cursor)).body
    screen.tell(f"The cursor {cursor} is deleted; the next start reads that table from the beginning.")
    screen.show(answer)


@group.command()
def journal(
    ctx: typer.Context,
    workflow: Annotated[str, typer.Argument(metavar="WORKFLOW", help="egress.", show_default=False)],
    position: Annotated[Literal["oldest", "latest"], typer.Argument(metavar="oldest|latest", show_default=False)],
    as_json: Json = False,
) -> None:
    """Set where egress reads Campaign's journal from. latest passes over what is there now. The workflow has to be STOPPED."""
    answer = connect(ctx).call("PUT", path("workflows", workflow, "cursors", "journal"), {"position": position}).body
    screen = Screen(as_json)
    screen.tell(f"The next start of {workflow} reads the journal from the {position} event on.")
    screen.show(answer)


def _row(each: dict[str, Any]) -> tuple[Any, ...]:
    days = each["change_tracking_days_left"]
    return (
        each["source"],
        each["target"],
        each["phase"],
        each["rows_read"],
        duration(each["cursor_age_s"]),
        cell(None) if days is None else f"{days:.1f} d",
        _progress(each["progress"]),
        _replay(each),
    )


def _progress(found: dict[str, Any] | None) -> str | None:
    if found is None:
        return None
    total = "?" if found["total"] is None else f"{found['total']:,}"
    eta = duration(found["eta_s"])
    return f"{found['kind']} {found['done']:,} of {total}" + (f", done in {eta}" if eta else "")


def _replay(each: dict[str, Any]) -> str | None:
    found = each["replay"]
    if found is None:
        return "armed" if each["replay_armed"] else None
    some = f", {found['keys']} keys" if found["keys"] is not None else ""
    since = f", changed since {when(found['changed_since'])}" if found["changed_since"] else ""
    return f"{found['state']} ({found['when']}{some}{since})"


def _time(text: str) -> str:
    """As the API wants it, with a zone. Raises USAGE."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as exc:
        raise Failure(USAGE, f"{text} is not a time; it looks like 2026-03-31T12:00:00Z") from exc
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()
