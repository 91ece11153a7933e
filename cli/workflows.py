"""`bridge status`, `start`, `stop`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from cli.api import Api, path
from cli.arguments import Comment, Json, Name, Timeout, Wait, connect
from cli.configuration import say_taken
from cli.exit_codes import DEGRADED, NO, PROBLEM, UNREACHABLE, Failure
from cli.live import snapshot, updates
from cli.screen import Screen, clean, live, print_json, table, warn, when

ASK_EVERY_S = 0.5
MaybeName = Annotated[str | None, typer.Argument(metavar="[WORKFLOW]", help="ingress, egress or optin; all if left out.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit code 3 if a workflow runs but cannot do its work.")]
Watch = Annotated[bool, typer.Option("--watch", help="Stay, and show every change. With --json: one document a line.")]


def add(app: typer.Typer) -> None:
    app.command()(status)
    app.command()(start)
    app.command()(stop)


def status(ctx: typer.Context, workflow: MaybeName = None, watch: Watch = False, strict: Strict = False, as_json: Json = False) -> None:
    """Status and backlog of the workflows. Exit code 1 if one of them is FAILED; with --strict 3 if one is degraded."""
    api = connect(ctx)
    if watch:
        _watch(api, workflow, as_json)
        return
    found = snapshot(api, workflow)
    Screen(as_json).show(found[0] if workflow else {"workflows": found}, view(found), *([counted(found[0])] if workflow else []))
    if any(each["status"] == "FAILED" for each in found):
        raise typer.Exit(NO)
    if strict and any(each["health"] in ("degraded", "unknown") for each in found):
        raise typer.Exit(DEGRADED)


def start(
    ctx: typer.Context, workflow: Name, comment: Comment = None, wait: Wait = False, timeout: Timeout = 120, as_json: Json = False
) -> None:
    """Start a workflow with the configuration saved now. Starting what runs changes nothing."""
    screen = Screen(as_json)
    screen.show(command(connect(ctx), screen, workflow, "start", comment, timeout if wait else None))


def stop(
    ctx: typer.Context, workflow: Name, comment: Comment = None, wait: Wait = False, timeout: Timeout = 120, as_json: Json = False
) -> None:
    """Stop a workflow. What is in flight is finished, what waits stays in Kafka."""
    screen = Screen(as_json)
    screen.show(command(connect(ctx), screen, workflow, "stop", comment, timeout if wait else None))


def command(api: Api, screen: Screen, workflow: str, what: str, comment: str | None, timeout_s: float | None) -> dict[str, Any]:
    """Starts or stops, and waits for it unless `timeout_s` is None; the workflow then. Raises Failure as `reached` does."""
    document: dict[str, Any] = api.post(path("workflows", workflow, what), {"comment": comment} if comment else None)
    wanted = "RUNNING" if what == "start" else "STOPPED"
    say_taken(workflow, document)
    if timeout_s is not None:
        document = reached(api, workflow, wanted, timeout_s)
    if document["status"] == wanted == document["desired"]:
        screen.tell(f"{workflow} is {wanted}.")
    else:
        screen.tell(f"{workflow} will be {wanted}; it is {document['status']} now.")
    return document


def reached(api: Api, workflow: str, wanted: str, timeout_s: float) -> dict[str, Any]:
    """Until the workflow is RUNNING or STOPPED, as wanted. Raises Failure NO: FAILED, told otherwise by somebody else, or too late."""
    deadline = time.monotonic() + timeout_s
    while True:
        document: dict[str, Any] = {}
        try:
            document = api.get(path("workflows", workflow))
        except Failure as failure:  # control may be restarting meanwhile: the wait is for the workflow
            if failure.exit_code not in (UNREACHABLE, PROBLEM) or time.monotonic() >= deadline:
                raise
        if document and document["desired"] != wanted:
            raise Failure(NO, f"Somebody else has told {workflow} to be {document['desired']} meanwhile.")
        if document and document["status"] == wanted:
            return document
        if document and document["status"] == "FAILED":
            raise Failure(NO, f"{workflow} is FAILED.", *reason_lines(document))
        if time.monotonic() >= deadline:
            raise Failure(NO, f"{workflow} is not {wanted} after {timeout_s:g} s; it is {document['status']}.", *reason_lines(document))
        time.sleep(ASK_EVERY_S)


def _watch(api: Api, workflow: str | None, as_json: bool) -> None:
    """Until Ctrl-C. On a terminal one table that changes, in a pipe a new one each time."""
    known: dict[str, dict[str, Any]] = {}
    if as_json:
        _print_changes(api, workflow)
        return
    with live() as show:
        for each in updates(api, workflow):
            if isinstance(each, Failure):
                show(view(known.values(), each))
            else:
                known[each["id"]] = each
                show(view(known.values()))


def _print_changes(api: Api, workflow: str | None) -> None:
    """Every change as a line of JSON, until Ctrl-C."""
    for each in updates(api, workflow):
        if isinstance(each, Failure):
            warn(str(each))
        else:
            print_json(each, one_line=True)


def view(workflows: Iterable[dict[str, Any]], trouble: Failure | None = None) -> Group:
    """The table, and under it why a workflow is FAILED, what it warns of while it runs, and whether control is away."""
    listed = list(workflows)
    parts: list[RenderableType] = [table(["WORKFLOW", "NAME", "STATUS", "BACKLOG", "DESIRED", "SINCE", "CHANGES"], map(_row, listed))]
    for each in listed:
        if lines := reason_lines(each):
            failed = each["status"] == "FAILED"
            parts.append(Text(f"\n{each['id']}: {'' if failed else 'warning: '}" + "\n".join(lines), style="red" if failed else "yellow"))
    if trouble is not None:
        parts.append(Text("\nNot up to date. " + clean("\n".join(trouble.lines)), style="bold red"))
    return Group(*parts)


def counted(workflow: dict[str, Any]) -> Text:
    """What became of the records since the services started; what is 0 is left out."""
    parts = [f"{name.replace('_', ' ')} {number:,}" for name, number in workflow["counters"].items() if number]
    return Text(f"\nSince the services started: {', '.join(parts) or 'nothing'}.")


def _row(workflow: dict[str, Any]) -> Sequence[Any]:
    changes = "pending" if workflow["pending_changes"] else None if workflow["configured"] else "not configured"
    since = when(workflow["status_since"])
    return workflow["id"], workflow["name"], workflow["status"], waiting(workflow["backlog"]), workflow["desired"], since, changes


def waiting(backlog: dict[str, Any]) -> str:
    """`120 (DRAINING), 3 held`; what is not known is not 0."""
    records, held = backlog["records"], backlog.get("held", 0)
    return f"{'unknown' if records is None else f'{records:,}'} ({backlog['verdict']})" + (f", {held:,} held" if held else "")


def reason_lines(workflow: dict[str, Any]) -> list[str]:
    """Why it is FAILED, or what it warns of, and what to do; nothing if there is nothing to say."""
    reason = workflow.get("reason")
    if not reason:
        return []
    where = f" [{reason['role']}, {reason['code']}]" if reason.get("role") else f" [{reason['code']}]"
    return [clean(f"{reason['message']}{where}"), *([clean(f"What to do: {reason['hint']}")] if reason.get("hint") else [])]
