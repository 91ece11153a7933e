"""`bridge held list|release|discard` and `bridge decisions`."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.text import Text

from services.control.cli.api import Api, path
from services.control.cli.failures import USAGE, Failure
from services.control.cli.options import Json, Yes, connect
from services.control.cli.screen import Screen, clean, confirm, table, when

HELD, DECISIONS = path("workflows", "optin", "held"), path("workflows", "optin", "decisions")
IN_A_FILE = 1000  # decisions of one answer
group = typer.Typer(help="Decisions of Opt In/Out that wait for an administrator.", no_args_is_help=True)
Contacts = Annotated[list[str] | None, typer.Option("--contact", help="What is held of this contact; may be given several times.")]
All = Annotated[bool, typer.Option("--all", help="All that is held.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept.", show_default=False)]
Limit = Annotated[int | None, typer.Option("--limit", min=1, max=1000, help="How many to show.")]
After = Annotated[str | None, typer.Option("--after", help="Go on after this one.")]


def add(app: typer.Typer) -> None:
    app.add_typer(group, name="held")
    app.command()(decisions)


@group.command(name="list")
def list_(ctx: typer.Context, limit: Limit = None, after: After = None, as_json: Json = False) -> None:
    """Decisions that take an opt-out away and wait for an administrator, oldest first."""
    body = connect(ctx).get(HELD, limit=limit, after=after)
    rows = [(each["contact"], each["target"], flags(each["flags"]), each["rule"], when(each["since"])) for each in body["held"]]
    foot = f"\n{len(rows)} of {body['total']}" + (f"; go on with --after {body['next']}" if body["next"] else "")
    Screen(as_json).show(body, table(["CONTACT", "TARGET", "WOULD BECOME", "RULE", "SINCE"], rows), Text(foot))


@group.command()
def release(
    ctx: typer.Context, reason: Reason, contacts: Contacts = None, every: All = False, yes: Yes = False, as_json: Json = False
) -> None:
    """Opt people in: what is held of them goes to the writer. What has been decided anew meanwhile is passed over."""
    chosen = _chosen(contacts, every)
    api = connect(ctx)
    confirm(f"Release {_named(contacts)}? These people are then opted in, and may be mailed.", yes)
    _settle(api, "release", "released", chosen | {"reason": reason}, as_json)


@group.command()
def discard(
    ctx: typer.Context, reason: Reason, contacts: Contacts = None, every: All = False, yes: Yes = False, as_json: Json = False
) -> None:
    """Leave people opted out: what is held of them is given up for good."""
    chosen = _chosen(contacts, every)
    api = connect(ctx)
    confirm(f"Discard {_named(contacts)}? The opt-outs stay until the flag changes in either system.", yes)
    _settle(api, "discard", "discarded", chosen | {"reason": reason}, as_json)


def decisions(
    ctx: typer.Context,
    contact: Annotated[str | None, typer.Option("--contact", help="Of this contact only; what was written is told then.")] = None,
    limit: Limit = None,
    after: After = None,
    file: Annotated[str | None, typer.Option("--csv", help="All of them into this file, a line for each flag; - for stdout.")] = None,
    as_json: Json = False,
) -> None:
    """What Opt In/Out decided: rule, what both systems said, and what came of it. Newest first."""
    if file is not None:
        if as_json or limit is not None or after is not None:
            raise Failure(USAGE, "--csv is for all decisions: it goes with --contact only.")
        _save(file, _lines(connect(ctx), contact))
        return
    body = connect(ctx).get(DECISIONS, contact=contact, limit=limit, after=after)
    screen = Screen(as_json)
    screen.show(body, Text(clean("\n".join(line for each in body["decisions"] for line in _told(each)) or "No decision is kept.")))
    if body["next"] and not as_json:
        screen.tell(f"Go on with --after {body['next']}")


def flags(found: dict[str, bool]) -> str:
    """`blackListEmail opted out`, several by comma."""
    return ", ".join(f"{name} {_word(value)}" for name, value in found.items())


def _word(value: bool | None) -> str:
    return "never seen" if value is None else "opted out" if value else "opted in"


def _told(decision: dict[str, Any]) -> Iterator[str]:
    """A decision, and below it what each system said, with the flag's name where there are several."""
    target, inputs = decision["target"] or "(cannot be read)", decision["inputs"]
    what = f"{when(decision['decided_at'])}  {decision['contact']}  {target}: {flags(decision['flags'])}"
    yield f"{what}  {decision['rule']}, {decision['outcome']}"
    for system in ("campaign", "dynamics"):
        for name, each in inputs.items():
            since = when(each[f"{system}_changed_at"])
            words = _word(each[system]) + (f" since {since}" if since else "")
            yield f"    {system}: {f'{name} ' if len(inputs) > 1 else ''}{words}"


def _chosen(contacts: list[str] | None, every: bool) -> dict[str, Any]:
    """The body that chooses. Raises USAGE unless exactly one way was given."""
    if bool(contacts) == every:
        raise Failure(USAGE, "Give either --contact or --all.")
    return {"all": True} if every else {"contacts": contacts}


def _named(contacts: list[str] | None) -> str:
    if not contacts:
        return "all held decisions"
    return f"what is held of {contacts[0] if len(contacts) == 1 else f'{len(contacts)} contacts'}"


def _settle(api: Api, what: str, past: str, body: dict[str, Any], as_json: bool) -> None:
    answer = api.post(f"{HELD}/{what}", body)
    screen = Screen(as_json)
    screen.tell(f"{answer[past]} {past}, {answer['skipped']} passed over.")
    screen.show(answer)


def _lines(api: Api, contact: str | None) -> Iterator[list[str]]:
    """The header, then a line for each flag of each decision. Control gives so many decisions at a time, the id of each first."""
    after: str | None = None
    while True:
        head, *lines = csv.reader(io.StringIO(api.text(DECISIONS, "text/csv", contact=contact, limit=IN_A_FILE, after=after)))
        if after is None:
            yield head
        yield from lines
        if not lines:
            return
        after = lines[-1][0]


def _save(file: str, lines: Iterator[list[str]]) -> None:
    """Into a file, or to stdout. The file is left alone if control refuses. Raises USAGE if it cannot be written."""
    head = next(lines)
    if file == "-":
        _written(sys.stdout, head, lines)
        return
    try:
        with Path(file).open("w", encoding="utf-8", newline="") as out:
            count = _written(out, head, lines)
    except OSError as exc:
        raise Failure(USAGE, f"The file {file} cannot be written: {exc.strerror or type(exc).__name__}") from exc
    except Failure as failure:
        raise Failure(failure.exit_code, *failure.lines, f"The file {file} is not complete.") from failure
    Screen(True).tell(f"{count} lines in {file}.")


def _written(out: TextIO, head: list[str], lines: Iterator[list[str]]) -> int:
    """How many lines, without the header."""
    writer, count = csv.writer(out), 0
    writer.writerow(head)
    for line in lines:
        writer.writerow(map(clean, line))
        count += 1
    return count
