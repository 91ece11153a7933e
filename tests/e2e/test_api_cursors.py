"""The readers' positions, the backlog over time, and the live events (control-api.md, Cursors; Live)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.web import Fault
from tests.e2e.helpers import eventually, everything_passed, headers_of, messages, run, run_through
from tests.e2e.stack import Stack, contacts
from tests.e2e.test_control_config import assert_problem

API = "/api/v1"
INGRESS = f"{API}/workflows/ingress"
JOURNAL = f"{API}/workflows/egress/cursors/journal"


async def initial_rows(stack: Stack) -> int:
    """How many rows have come as an initial load."""
    found = await asyncio.to_thread(messages, stack.kafka, "ingress.replay.contact")
    return sum(headers_of(message)["origin-lane"] == "initial" for message in found)


async def test_a_forgotten_cursor_makes_the_next_start_read_from_the_beginning(stack: Stack) -> None:
    for number in range(12):
        stack.dynamics.upsert("contact", {"lastname": f"Number {number}"})
    await run_through(stack, contacts())
    loaded, rows = await initial_rows(stack), len(stack.dynamics.rows("contact"))
    (cursor,) = (await stack.get("/workflows/ingress/cursors"))["cursors"]
    assert (cursor["name"], cursor["system"]) == ("contact", "dynamics")
    assert "http" not in json.dumps(cursor["position"]), "links carry filters"
    refused = assert_problem(await stack.http.delete(f"{INGRESS}/cursors/contact"), 409)
    assert refused["detail"]
    assert_problem(await stack.http.delete(f"{INGRESS}/cursors/nowhere"), 404)

    await stack.stop()
    gone = await stack.http.delete(f"{INGRESS}/cursors/contact")
    assert (gone.status_code, gone.json()["cursors"]) == (202, [])

    async def forgotten() -> bool:
        return bool((await stack.get("/workflows/ingress/cursors"))["cursors"] == [])

    await stack.until(forgotten, "it is not listed any more", 5)
    assert_problem(await stack.http.delete(f"{INGRESS}/cursors/contact"), 404)
    await stack.start()
    await everything_passed(stack)
    assert await initial_rows(stack) >= loaded + rows
    assert stack.differences() == []
    created = [write["key"] for write in stack.campaign.writes("profile") if write["status"] == 201]
    assert len(created) == len(set(created))


async def test_the_journal_can_be_set_to_its_ends_while_egress_is_stopped(stack: Stack) -> None:
    for position in ("oldest", "latest", "latest"):
        answer = await stack.http.put(JOURNAL, json={"position": position})
        assert answer.status_code == 202, answer.text

        async def told(wanted: str = position) -> bool:
            listed = (await stack.get("/workflows/egress/cursors"))["cursors"]
            return [(each["name"], each["position"]) for each in listed] == [("journal", {"position": wanted})]

        await stack.until(told, f"the journal is at {position}", 5)
    wrong: list[dict[str, Any]] = [{}, {"position": "middle"}, {"position": 3}, {"position": "oldest", "at": 1}]
    for body in wrong:
        assert_problem(await stack.http.put(JOURNAL, json=body), 422)
    assert_problem(await stack.http.get(f"{API}/workflows/nothing/cursors"), 404)
    saved = await stack.http.get(f"{API}/workflows/egress/config")
    config = {"config": {"events": {"send": True, "open": False, "click": False, "bounce": False}}}
    await stack.http.put(f"{API}/workflows/egress/config", json=config, headers={"If-Match": saved.headers["etag"]})
    assert (await stack.http.post(f"{API}/workflows/egress/start")).status_code == 202
    assert_problem(await stack.http.put(JOURNAL, json={"position": "oldest"}), 409)


async def test_the_backlog_over_time_has_what_was_told(stack: Stack) -> None:
    stack.campaign.ledger.faults.append(Fault("latency", method="POST", path="/profile", seconds=0.5))
    stack.dynamics.load(contacts=300, seed=5)
    await run(stack, contacts())

    async def waiting() -> bool:
        return int((await stack.workflow())["backlog"]["records"] or 0) > 20

    await stack.until(waiting, "some wait", 20)
    told = (await stack.workflow())["backlog"]["records"]
    stack.campaign.ledger.faults.clear()
    await stack.until_caught_up()
    samples = (await stack.get("/workflows/ingress/backlog/history?minutes=5"))["samples"]
    times = [datetime.fromisoformat(each["at"]) for each in samples]
    assert times == sorted(times) and len(times) > 3
    assert max(each["records"] or 0 for each in samples) >= told
    assert samples[-1]["records"] == 0
    for wrong in ("0", "-1", "x"):
        assert_problem(await stack.http.get(f"{INGRESS}/backlog/history?minutes={wrong}"), 422)


@dataclass
class Listener:
    """What has come over one stream: (when, workflow) of every event, and when comments came."""

    began: float = field(default_factory=time.monotonic)
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    comments: list[float] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)

    def take(self, line: str) -> None:
        now = time.monotonic()
        if line.startswith("event:"):
            self.kinds.add(line.partition(":")[2].strip())
        elif line.startswith("data:"):
            self.events.append((now, json.loads(line.partition(":")[2])))
        elif line.startswith(":"):
            self.comments.append(now)

    def of(self, workflow: str) -> list[tuple[float, dict[str, Any]]]:
        return [each for each in self.events if each[1]["id"] == workflow]

    def last(self, workflow: str) -> dict[str, Any]:
        return self.of(workflow)[-1][1]


@asynccontextmanager
async def listening(stack: Stack) -> AsyncIterator[Listener]:
    """A client of the events, until the block ends."""
    async with stack.http.stream("GET", f"{API}/events", timeout=30) as stream:
        assert stream.status_code == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        listener = Listener()

        async def listen() -> None:
            async for line in stream.aiter_lines():
                listener.take(line)

        task = asyncio.create_task(listen())
        try:
            yield listener
        finally:
            task.cancel()


async def test_events_tell_the_state_at_once_and_changes_soon_but_never_twice_a_second(stack: Stack) -> None:
    for role in ("reader", "writer"):
        stack.service(role)
    await stack.configure(contacts())
    async with listening(stack) as heard, listening(stack) as other:
        await eventually(stack, lambda: len(heard.events) >= 3 and len(other.events) >= 3, "the state of all three", 2)
        assert [each[1]["id"] for each in heard.events[:3]] == ["ingress", "egress", "optin"]
        assert heard.kinds == {"workflow"}
        asked = await stack.workflow()
        assert heard.last("ingress").keys() == asked.keys()

        await stack.start(wait=False)
        await eventually(stack, lambda: heard.last("ingress")["desired"] == "RUNNING", "told that it is wanted", 5)
        await stack.until_status("RUNNING")
        await eventually(stack, lambda: heard.last("ingress")["status"] == "RUNNING", "told that it runs", 5)
        loaded = stack.dynamics.load(contacts=1500, seed=9)["contacts"]
        await eventually(stack, lambda: len(stack.campaign.rows("profile")) == loaded, "all are written", 40)
        await eventually(stack, lambda: heard.last("ingress")["counters"]["written"] == loaded, "the last count is told", 5)
        await stack.stop()
        await eventually(stack, lambda: heard.last("ingress")["status"] == "STOPPED", "told that it is stopped", 5)
        for listener in (heard, other):
            moments = [each[0] for each in listener.of("ingress")]
            assert len(moments) >= 5
            seconds = moments[-1] - moments[0]
            assert len(moments) <= seconds + 2, f"{len(moments)} events in {seconds:.1f} s"


async def test_a_quiet_stream_gets_a_comment_every_fifteen_seconds(stack: Stack) -> None:
    async with listening(stack) as heard:
        await eventually(stack, lambda: heard.comments, "a comment", 17)
        assert len(heard.events) >= 3
