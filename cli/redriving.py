"""`bridge dead-letters list|groups|show|redrive|discard` and `bridge record`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.text import Text

from cli.api import Api, path
from cli.arguments import Json, Name, Yes, connect
from cli.exit_codes import NOT_FOUND, USAGE, Failure, Refusal
from cli.lists import ListByDefault
from cli.screen import Screen, cell, clean, confirm, table, when

PAGE = 100
group = typer.Typer(cls=ListByDefault, help="Records that were set aside, and what becomes of them.", no_args_is_help=True)
Ids = Annotated[list[str] | None, typer.Option("--id", help="This one, as `dead-letters list` names it; may be given several times.")]
Fingerprint = Annotated[str | None, typer.Option("--fingerprint", help="Those with this cause, as `dead-letters groups` names it.")]
All = Annotated[bool, typer.Option("--all", help="All that are open.")]


def add(app: typer.Typer) -> None:
    app.add_typer(group, name="dead-letters")
    app.command()(record)


@group.command(name="list")
def list_(
    ctx: typer.Context,
    workflow: Name,
    fingerprint: Fingerprint = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="How many to show.")] = None,
    after: Annotated[str | None, typer.Option("--after", help="Go on after this one.")] = None,
    as_json: Json = False,
) -> None:
    """Dead letters, newest first."""
    where = path("workflows", workflow, "dead-letters")
    body = connect(ctx).get(where, fingerprint=fingerprint, limit=limit, after=after)
    rows = [
        (each["id"], each["key"], each["table"], each["code"], each["reason"], when(each["when"]), each["attempts"], _state(each))
        for each in body["dead_letters"]
    ]
    foot = f"\n{len(rows)} of {body['total']}" + (f"; go on with --after {body['next']}" if body["next"] else "")
    headings = ["ID", "KEY", "TABLE", "CODE", "REASON", "WHEN", "ATTEMPTS", "STATE"]
    Screen(as_json).show(body, table(headings, rows), Text(clean(foot)))


@group.command()
def groups(ctx: typer.Context, workflow: Name, as_json: Json = False) -> None:
    """Dead letters by cause, with what to do."""
    body = connect(ctx).get(path("workflows", workflow, "dead-letters", "groups"))
    parts = [_group(each) for each in body["groups"]]
    Screen(as_json).show(body, *(parts or [Text("There are no dead letters.")]))


@group.command()
def show(
    ctx: typer.Context,
    workflow: Name,
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `dead-letters list` names it.", show_default=False)],
    values: Annotated[bool, typer.Option("--values", help="With the record's values (needs the role admin).")] = False,
    as_json: Json = False,
) -> None:
    """One dead letter."""
    letter = _found(connect(ctx), workflow, letter_id, values)
    rows = [(name, letter[name]) for name in letter if name != "value"]
    parts = [table(["MEMBER", "VALUE"], rows)]
    if values:
        parts.append(table(["VALUE OF THE RECORD"], [(Text(clean(json.dumps(letter.get("value"), indent=2, ensure_ascii=False))),)]))
    Screen(as_json).show(letter, *parts)


@group.command()
def redrive(
    ctx: typer.Context, workflow: Name, ids: Ids = None, fingerprint: Fingerprint = None, every: All = False, as_json: Json = False
) -> None:
    """Try records again. Those that were dealt with already are passed over."""
    body = connect(ctx).post(path("workflows", workflow, "dead-letters", "redrive"), _chosen(ids, fingerprint, every))
    screen = Screen(as_json)
    screen.tell(f"{body['redriven']} sent again, {body['skipped']} passed over.")
    screen.show(body)


@group.command()
def discard(
    ctx: typer.Context,
    workflow: Name,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept.", show_default=False)],
    ids: Ids = None,
    fingerprint: Fingerprint = None,
    every: All = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Give records up for good. Those that were dealt with already are passed over."""
    chosen = _chosen(ids, fingerprint, every)
    what = (
        f"{len(ids)} dead letters" if ids else f"all dead letters with the fingerprint {fingerprint}" if fingerprint else "all dead letters"
    )
    api = connect(ctx)
    confirm(f"Give up {what} of {workflow}?", yes)
    body = api.post(path("workflows", workflow, "dead-letters", "discard"), chosen | {"reason": reason})
    screen = Screen(as_json)
    screen.tell(f"{body['discarded']} given up, {body['skipped']} passed over.")
    screen.show(body)


def record(
    ctx: typer.Context,
    workflow: Name,
    key: Annotated[str, typer.Argument(help="The record's key, such as a contactid.", show_default=False)],
    source: Annotated[str | None, typer.Option("--table", help="Its table, such as contact.")] = None,
    as_json: Json = False,
) -> None:
    """Where a record is: every hop of its last version."""
    try:
        body = connect(ctx).get(path("workflows", workflow, "records", key), table=source)
    except Refusal as refusal:
        if refusal.code != "never_seen":
            raise
        raise Failure(NOT_FOUND, f"{workflow} has never seen a record with the key {key}.", *refusal.lines) from refusal
    facts = [(name, body[name]) for name in ("key", "table", "version", "outcome", "target_status", "attempts")]
    facts += [("read", when(body["read_at"])), ("settled", when(body["settled_at"]))]
    names = ("hop", "topic", "partition", "offset", "version", "outcome", "status", "attempts")
    hops = [(*(hop[name] for name in names), when(hop["at"])) for hop in body["hops"]]
    headings = [*(name.upper() for name in names), "AT"]
    Screen(as_json).show(body, table(["RECORD", ""], facts), Text(""), table(headings, hops))


def _chosen(ids: list[str] | None, fingerprint: str | None, every: bool) -> dict[str, Any]:
    """The body that chooses. Raises USAGE unless exactly one way was given."""
    given: dict[str, Any] = {"ids": ids} if ids else {}
    given |= {"fingerprint": fingerprint} if fingerprint is not None else {}
    given |= {"all": True} if every else {}
    if len(given) != 1:
        raise Failure(USAGE, "Give exactly one of --id, --fingerprint and --all.")
    return given


def _found(api: Api, workflow: str, letter_id: str, values: bool) -> dict[str, Any]:
    """The API lists pages only. Values are asked for the letter's page alone, not for all pages before it. Raises NOT_FOUND."""
    letter, after = _search(api, workflow, letter_id, None, False)
    if values and letter is not None:
        letter, _ = _search(api, workflow, letter_id, after, True)
    if letter is None:
        raise Failure(NOT_FOUND, f"There is no dead letter {letter_id} of {workflow}.")
    return letter


def _search(api: Api, workflow: str, letter_id: str, after: str | None, values: bool) -> tuple[dict[str, Any] | None, str | None]:
    """The letter, and after which one its page begins."""
    while True:
        wanted = "true" if values else None
        page = api.get(path("workflows", workflow, "dead-letters"), after=after, limit=PAGE, values=wanted)
        for each in page["dead_letters"]:
            if each["id"] == letter_id:
                return each, after
        if page["next"] is None:
            return None, None
        after = page["next"]


def _state(letter: dict[str, Any]) -> str:
    state = str(letter["state"])
    return f"{state}, was re-driven {letter['redriven']}×" if letter["redriven"] else state


def _group(each: dict[str, Any]) -> Text:
    lines = [
        f"{each['fingerprint']}  {each['code']}: {each['count']} ({each['open']} open), {when(each['first'])} to {when(each['last'])}",
        f"  Cause: {each['cause']}",
        f"  Cure: {each['cure']}",
        f"  Sample: {each['sample']['id']}, key {cell(each['sample']['key']).plain}: {each['sample']['reason']}",
    ]
    return Text(clean("\n".join(lines)))
