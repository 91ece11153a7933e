"""Workflows as they change: over the stream of events, or by asking every second while there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from typing import Any

from cli.api import Api, path
from cli.exit_codes import PROBLEM, UNREACHABLE, Failure

POLL_S = 1.0
STREAM_AGAIN_S = 30.0  # a stream that broke at once is not asked for again before


def snapshot(api: Api, workflow: str | None) -> list[dict[str, Any]]:
    """All workflows, or the one that is named."""
    if workflow is not None:
        return [api.get(path("workflows", workflow))]
    found: list[dict[str, Any]] = api.get("/workflows")["workflows"]
    return found


def updates(api: Api, workflow: str | None, stream: bool = True) -> Iterator[dict[str, Any] | Failure]:
    """Every workflow once, then each whenever it has changed, without end. A Failure says that control is away for now. Without `stream`
    it asks every second, and a new time is a change, too.

    Raises Failure when the first question is not answered, or control refuses a later one."""
    known: dict[str, Any] = {}
    seen = _without_times if stream else _as_it_is
    yield from _news(snapshot(api, workflow), known, seen)
    stream_at = 0.0 if stream else inf
    while True:
        if time.monotonic() >= stream_at:
            stream_at = time.monotonic() + STREAM_AGAIN_S
            with suppress(Failure):
                yield from _streamed(api, workflow, known)
        try:
            yield from _news(snapshot(api, workflow), known, seen)
        except Failure as failure:
            if failure.exit_code not in (UNREACHABLE, PROBLEM):
                raise
            yield failure
        time.sleep(POLL_S)


def _streamed(api: Api, workflow: str | None, known: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with api.events() as events:
        yield from _news(snapshot(api, workflow), known, _without_times)  # asked when the stream is open: nothing is missed in between
        for name, document in events:
            if name == "workflow" and isinstance(document, dict) and workflow in (None, document.get("id")):
                yield from _news([document], known, _without_times)


def _news(documents: list[dict[str, Any]], known: dict[str, Any], seen: Callable[[dict[str, Any]], Any]) -> Iterator[dict[str, Any]]:
    """Those that differ from what is known in what is `seen` of them."""
    for document in documents:
        now = seen(document)
        if known.get(document["id"]) != now:
            known[document["id"]] = now
            yield document


def _as_it_is(document: dict[str, Any]) -> dict[str, Any]:
    return document


def _without_times(document: dict[str, Any]) -> dict[str, Any]:
    """Without the times that go on while nothing happens, as control leaves them out for its stream."""
    backlog = {name: value for name, value in document["backlog"].items() if name not in ("as_of", "oldest_age_s")}
    services = [{name: value for name, value in each.items() if name != "heartbeat_at"} for each in document["services"]]
    return document | {"backlog": backlog, "services": services}
