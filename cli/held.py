"""`bridge held list|release|discard` and `bridge decisions`, of ingress and of Opt In/Out."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.text import Text

from cli.api import Api, path
from cli.arguments import Json, Yes, connect
from cli.exit_codes import USAGE, Failure
from cli.screen import Screen, clean, confirm, table, when

IN_A_FILE = 1000  # decisions of one answer
group = typer.Typer(help="What the consent guard holds: opt-outs to be taken away, and deletes.", no_args_is_help=True)
Which = Annotated[str, typer.Argument(metavar="[WORKFLOW]", help="ingress or optin; optin if left out.", show_default=False)]
Ids = Annotated[list[str] | None, typer.Option("--id", help="This item, as `held list` names it; may be given several times.")]
Contacts = Annotated[list[str] | None, typer.Option("--contact", help="What is held of this contact; may be given several times.")]
All = Annotated[bool, typer.Option("--all", help="All that the workflow holds.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept.", show_default=False)]
Limit = Annotated[int | None, typer.Option("--limit", min=1, max=1000, help="How many to show.")]
After = Annotated[str | None, typer.Option("--after", help="Go on after this one.")]


def add(app: typer.Typer) -> None:
    app.add_typer(group, name="held")
    app.command()(decisions)


@group.command(name="list")
def list_(ctx: typer.Context, workflow: Which = "optin", limit: Limit = None, after: After = None, as_json: Json = False) -> None:
    """Opt-outs that would be taken away, and deletes in Campaign, that wait for an administrator; oldest first."""
    body = connect(ctx).get(path("workflows", workflow, "held"), limit=limit, after=after)
    lines = [each for item in body["items"] for each in _item(item)]
    foot = f"\n{len(body['items'])} of {body['total']}" + (f"; go on with --after {body['next']}" if body["next"] else "")
    Screen(as_json).show(body, table(["ID", "KIND", "RECORD", "TARGET", "WOULD BECOME", "RULE", "SINCE"], lines), Text(foot))


@group.command()
def release(
    ctx: typer.Context,
    reason: Reason,
    workflow: Which = "optin",
    ids: Ids = None,
    contacts: Contacts = None,
    every: All = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Carry out what is held: people are opted in, records are deleted. What has been decided again meanwhile is passed over."""
    chosen = _chosen(ids, contacts, every)
    api = connect(ctx)
    deletes = "Records are then deleted in Campaign where that is held; other" if workflow == "ingress" else "These"
    confirm(f"Release {_named(workflow, chosen)}? {deletes} people are then opted in, and may be mailed.", yes)
    _settle(api, workflow, "release", "released", chosen | {"reason": reason}, as_json)


@group.command()
def discard(
    ctx: typer.Context,
    reason: Reason,
    workflow: Which = "optin",
    ids: Ids = None,
    contacts: Contacts = None,
    every: All = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Leave opt-outs and records as they are: what is held is given up for good."""
    chosen = _chosen(ids, contacts, every)
    api = connect(ctx)
    confirm(f"Discard {_named(workflow, chosen)}? Opt-outs and records stay until there is a new word or change.", yes)
    _settle(api, workflow, "discard", "discarded", chosen | {"reason": reason}, as_json)


def decisions(
    ctx: typer.Context,
    workflow: Which = "optin",
    contact: Annotated[str | None, typer.Option("--contact", help="Of this contact only.")] = None,
    limit: Limit = None,
    after: After = None,
    file: Annotated[str | None, typer.Option("--csv", help="All of them into this file, a line for each flag; - for stdout.")] = None,
    as_json: Json = False,
) -> None:
    """What was decided on opt-outs: rule, what both systems said and where it was read, what came of it and when. Newest first."""
    where = path("workflows", workflow, "decisions")
    if file is not None:
        if as_json or limit is not None or after is not None:
            raise Failure(USAGE, "--csv is for all decisions: it goes with --contact only.")
        _save(file, _lines(connect(ctx), where, contact))
        return
    body = connect(ctx).get(where, contact=contact, limit=limit, after=after)
    screen = Screen(as_json)
    screen.show(body, Text(clean("\n".join(line for each in body["decisions"] for line in _told(each)) or "No decision is kept.")))
    if body["next"] and not as_json:
        screen.tell(f"Go on with --after {body['next']}")


def flags(found: dict[str, bool]) -> str:
    """`blackListEmail opted out`, several by comma."""
    return ", ".join(f"{name} {_word(value)}" for name, value in found.items())


def _word(value: bool | None) -> str:
    return "never seen" if value is None else "opted out" if value else "opted in"


def _item(item: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """A line for the item, and below it one for what each system said of each flag."""
    would = "deleted" if item["kind"] == "delete" else flags(dict.fromkeys(item["flags"], False))
    record = item["key"] if item["table"] == "contact" else f"{item['table']} {item['key']}"
    rule = item["rule"] or "(cannot be read)"
    yield item["id"], item["kind"], record, item["target"], would, rule, when(item["since"])
    for name, words in item["words"].items():
        for system in ("campaign", "dynamics"):
            yield "", "", "", f"  {system}", f"{name} {_said(words, system)}", "", ""


def _said(words: dict[str, Any], system: str) -> str:
    """`opted in since 2026-03-31 12:00:00Z (d365_optout_1.csv row 12)`."""
    since, place = when(words[f"{system}_changed_at"]), words.get(f"{system}_from")
    return _word(words[system]) + (f" since {since}" if since else "") + (f" ({place})" if place else "")


def _told(decision: dict[str, Any]) -> Iterator[str]:
    """A decision, and below it what each system said, with the flag's name where there are several, and what came of it."""
    target, inputs = decision["target"] or "(cannot be read)", decision["inputs"]
    about = decision["contact"] if decision["table"] == "contact" else f"{decision['table']} {decision['contact']}"
    would = "delete" if decision["kind"] == "delete" else flags(decision["flags"])
    yield f"{when(decision['decided_at'])}  {about}  {target}: {would}  {decision['rule']}, {decision['outcome']}"
    for system in ("campaign", "dynamics"):
        for name, each in inputs.items():
            yield f"    {system}: {f'{name} ' if len(inputs) > 1 else ''}{_said(each, system)}"
    status, written = decision["status"], when(decision["written_at"])
    if told := [*([f"written {written}"] if written else []), *([f"answered {status}"] if status is not None else [])]:
        yield f"    {', '.join(told)}"


def _chosen(ids: list[str] | None, contacts: list[str] | None, every: bool) -> dict[str, Any]:
    """The body that chooses. Raises USAGE unless exactly one way was given."""
    ways: dict[str, Any] = {"ids": ids, "contacts": contacts, "all": every}
    if len(given := {name: value for name, value in ways.items() if value}) != 1:
        raise Failure(USAGE, "Give one of --id, --contact and --all.")
    return given


def _named(workflow: str, chosen: dict[str, Any]) -> str:
    if "all" in chosen:
        return f"all that {workflow} holds"
    if "ids" in chosen:
        return f"held item {chosen['ids'][0]}" if len(chosen["ids"]) == 1 else f"{len(chosen['ids'])} held items"
    people = chosen["contacts"]
    return f"what is held of {people[0] if len(people) == 1 else f'{len(people)} contacts'}"


def _settle(api: Api, workflow: str, what: str, past: str, body: dict[str, Any], as_json: bool) -> None:
    answer = api.post(path("workflows", workflow, "held", what), body)
    screen = Screen(as_json)
    screen.tell(f"{answer[past]} {past}, {answer['skipped']} passed over.")
    screen.show(answer)


def _lines(api: Api, where: str, contact: str | None) -> Iterator[list[str]]:
    """The header, then a line for each flag of each decision. Control gives so many decisions at a time, the id of each first."""
    after: str | None = None
    while True:
        head, *lines = csv.reader(io.StringIO(api.text(where, "text/csv", contact=contact, limit=IN_A_FILE, after=after)))
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
