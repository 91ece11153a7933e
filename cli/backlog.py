"""`bridge backlog`: a graph of what waits."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.text import Text

from cli.api import Api, path
from cli.arguments import Json, Name, connect
from cli.exit_codes import Failure
from cli.graph import GraphPoint, graph
from cli.live import updates
from cli.screen import clean, console, duration, live, print_json, warn
from cli.workflows import Watch, waiting

WIDEST = 120
KEPT = 4 * 3600  # samples: an hour's history, and what comes while we watch
Minutes = Annotated[int, typer.Option("--minutes", min=1, max=60, help="How much of the past to show.")]


def add(app: typer.Typer) -> None:
    app.command()(backlog)


def backlog(ctx: typer.Context, workflow: Name, watch: Watch = False, minutes: Minutes = 60, as_json: Json = False) -> None:
    """What waits to be written, as a graph; `?` where Kafka could not be asked. --json: the samples; with --watch the backlogs."""
    api = connect(ctx)
    if watch and as_json:
        _print_backlogs(api, workflow)
        return
    history = api.get(path("workflows", workflow, "backlog", "history"), minutes=minutes)
    points = deque((GraphPoint(_time(each["at"]), each["records"]) for each in history["samples"]), maxlen=KEPT)
    if watch:
        _watch(api, workflow, minutes, points)
    elif as_json:
        print_json(history)
    else:
        console().print(view(api.get(path("workflows", workflow)), points, minutes))


def _watch(api: Api, workflow: str, minutes: int, points: deque[GraphPoint]) -> None:
    """Until Ctrl-C. In a pipe a new graph each time."""
    last: dict[str, Any] = {}
    with live() as show:
        for each in updates(api, workflow, stream=False):  # the stream tells changes; a graph needs every second
            if isinstance(each, Failure):
                show(view(last, points, minutes, each))
            else:
                last = each
                _append(points, each["backlog"])
                show(view(last, points, minutes))


def _print_backlogs(api: Api, workflow: str) -> None:
    for each in updates(api, workflow, stream=False):
        if isinstance(each, Failure):
            warn(str(each))
        else:
            print_json(each["backlog"], one_line=True)


def _append(points: deque[GraphPoint], found: dict[str, Any]) -> None:
    """The sample of this moment, unless it is in the history already."""
    if found["as_of"] is None:
        return
    point = GraphPoint(_time(found["as_of"]), found["records"])
    if not points or point.at > points[-1].at:
        points.append(point)


def view(workflow: dict[str, Any], points: deque[GraphPoint], minutes: int, trouble: Failure | None = None) -> Group:
    """The numbers, the graph, and whether control is away."""
    found = workflow["backlog"]
    rate, eta = found["drain_rate_per_s"], duration(found["eta_s"])
    facts = [f"{workflow['name']}: {waiting(found)}"]
    if found["records"] != 0:
        facts.append("rate unknown" if rate is None else f"{rate:g}/s")
        facts.append(f"done in {eta}" if eta else "no estimate")
    if found["oldest_age_s"] is not None:
        facts.append(f"oldest {duration(found['oldest_age_s'])}")
    lines = graph(list(points), minutes, min(console().width, WIDEST))
    parts = [Text(clean(", ".join(facts))), Text("\n".join(lines), no_wrap=True)]
    if trouble is not None:
        parts.append(Text("Not up to date. " + clean("\n".join(trouble.lines)), style="bold red"))
    return Group(*parts)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
