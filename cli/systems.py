"""`bridge test`, `restored`, `audit`, `whoami`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cli.api import SLOW_TIMEOUT_S, path
from cli.arguments import Json, connect
from cli.exit_codes import NO
from cli.screen import Screen, table, when

System = Annotated[Literal["dynamics", "campaign"], typer.Argument(metavar="dynamics|campaign", show_default=False)]


def add(app: typer.Typer) -> None:
    app.command(name="test")(check)
    app.command()(restored)
    app.command()(audit)
    app.command()(whoami)


def check(ctx: typer.Context, system: System, as_json: Json = False) -> None:
    """Check the connection to a system, step by step. Exit code 1 if a check failed."""
    body = connect(ctx).post(path("systems", system, "test"), timeout_s=SLOW_TIMEOUT_S)
    rows = [(each["name"], each["status"], each["message"], each["hint"]) for each in body["checks"]]
    Screen(as_json).show(body, table(["CHECK", "RESULT", "", "WHAT TO DO"], rows))
    if not body["ok"] or any(each["status"] == "failed" for each in body["checks"]):
        raise typer.Exit(NO)


def restored(
    ctx: typer.Context,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Say that Dynamics was restored from a backup, copied or moved: everything is read and compared again."""
    body = connect(ctx).post(path("systems", "dynamics", "restored"), {"reason": reason})
    screen = Screen(as_json)
    screen.tell("ingress and optin read everything again: those that run at once, the others when they are started.")
    screen.show(body)


def audit(
    ctx: typer.Context,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="How many to show.")] = None,
    after: Annotated[str | None, typer.Option("--after", help="Go on after this one.")] = None,
    as_json: Json = False,
) -> None:
    """Who did what, newest first."""
    body = connect(ctx).get("/audit", limit=limit, after=after)
    rows = [(when(each["at"]), each["by"], each["address"], each["workflow"], each["what"], each["result"]) for each in body["entries"]]
    screen = Screen(as_json)
    screen.show(body, table(["AT", "BY", "FROM", "WORKFLOW", "WHAT", "RESULT"], rows))
    if body["next"] and not as_json:
        screen.tell(f"Go on with --after {body['next']}")


def whoami(ctx: typer.Context, as_json: Json = False) -> None:
    """Whose token this is, and what it may do."""
    body = connect(ctx).get("/me")
    Screen(as_json).show(body, f"{body['name']} ({body['role']})")
