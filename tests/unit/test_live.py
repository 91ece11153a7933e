"""services.control.api.live_stream: what listeners are told, and how seldom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from bridge.model.desired import WORKFLOWS, Workflow
from bridge.model.errors import RetryError
from services.control.api import live_stream as live_module
from services.control.api.live_stream import COMMENT, Listener, Live
from services.control.models.workflow_json import BacklogOut, CountersOut, WorkflowOut
from tests.clock import FakeClock


class Views:
    """What the API would show. `records`: the backlog of every workflow; None: Kafka does not answer."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.records: int | None = 0

    def __call__(self, workflow: Workflow) -> WorkflowOut:
        if self.records is None:
            raise RetryError("away", code="kafka_unavailable")
        now = self.clock.now()
        backlog = BacklogOut(
            records=self.records, verdict="IDLE", oldest_age_s=None, drain_rate_per_s=None, eta_s=None, as_of=now, parked=0, groups=[]
        )
        return WorkflowOut(
            id=workflow,
            name=workflow,
            status="STOPPED",
            desired="STOPPED",
            status_since=datetime(2026, 1, 1, tzinfo=UTC),
            reason=None,
            health="stopped",
            configured=True,
            pending_changes=False,
            saved_revision=1,
            running_revision=None,
            backlog=backlog,
            services=[],
            counters=CountersOut(),
            last_read_at=None,
            last_written_at=None,
        )


async def told(events: AsyncIterator[bytes]) -> list[str]:
    """Ids of the workflows in the next chunk."""
    chunk = await asyncio.wait_for(anext(events), 5)
    return [json.loads(line.removeprefix("data: "))["id"] for line in chunk.decode().splitlines() if line.startswith("data: ")]


async def test_a_listener_hears_of_every_workflow_at_once_and_then_of_changes_only() -> None:
    clock = FakeClock()
    views = Views(clock)
    live = Live(views, clock)
    live._look()
    events = live.listen()

    assert (await anext(events)).startswith(b"retry:")
    assert await told(events) == list(WORKFLOWS)

    clock.advance(1)
    live._look()  # only as_of has moved
    views.records = 5
    live._look()
    live._look()
    assert await told(events) == list(WORKFLOWS)


async def test_a_slow_listener_gets_the_last_state_not_the_history() -> None:
    listener = Listener({})
    for number in range(100):
        listener.tell("ingress", b"event: workflow\ndata: %d\n\n" % number)

    events = listener.events()
    await anext(events)

    assert await anext(events) == b"event: workflow\ndata: 99\n\n"


async def test_nothing_is_told_while_nothing_is_known() -> None:
    clock = FakeClock()
    views = Views(clock)
    views.records = None
    live = Live(views, clock)

    live._look()

    events = live.listen()
    await anext(events)
    views.records = 1
    live._look()
    assert await told(events) == list(WORKFLOWS)


async def test_listeners_that_go_are_forgotten() -> None:
    clock = FakeClock()
    live = Live(Views(clock), clock)
    events = live.listen()
    await anext(events)
    assert len(live._listeners) == 1

    await events.aclose()  # type: ignore[attr-defined]

    assert len(live._listeners) == 0
    assert not live.full


async def test_a_comment_comes_now_and_then_whether_there_are_events_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "CHECK_EVERY_S", 0.005)
    monkeypatch.setattr(live_module, "COMMENT_EVERY_S", 0.02)
    listener = Listener({})
    events = listener.events()
    await anext(events)

    silent = [await anext(events) for _ in range(50)]
    busy = b""
    while COMMENT not in busy:
        listener.tell("ingress", b"event: workflow\n\n")
        busy += await anext(events)
        await asyncio.sleep(0.001)

    assert set(silent) == {b"", COMMENT}
    assert 0 < silent.count(COMMENT) < 20
    assert busy.count(b"event: workflow") > 1
