"""A record that is made wakes those that wait for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.flow.ports import Result
from bridge.model.state import Known
from tests.clock import HandClock
from tests.flow.writing import Rig, no_parent, record, turns, until

DAY_S = 86_400.0


@asynccontextmanager
async def waiting_child() -> AsyncIterator[Rig]:
    """A child has been tried in vain, and its parent is offered next."""
    rig = Rig(park_budget_s=DAY_S, clock=HandClock())
    waits = no_parent()
    waits.waits_for = frozenset({"parent"})
    rig.handler.always["child"] = lambda: waits
    rig.handler.script["parent"] = [Result("created", Known(exists=True), made="parent")]
    async with rig.running():
        rig.offer(record("child", 0))
        await until(lambda: rig.writer.parked() == 1)
        yield rig


async def test_a_parent_that_is_made_wakes_those_that_wait_for_it() -> None:
    async with waiting_child() as rig:
        del rig.handler.always["child"]

        rig.offer(record("parent", 1))
        await until(lambda: rig.handler.called() == ["child", "parent", "child"])
        await turns()
        rig.clock.advance(60)
        await turns()

        assert rig.handler.ended["child"] == ["child0"]


async def test_one_that_was_woken_in_vain_waits_for_its_own_time() -> None:
    async with waiting_child() as rig:
        rig.offer(record("parent", 1))
        await until(lambda: rig.handler.called() == ["child", "parent", "child"])
        await turns()

        rig.clock.advance(0.6)  # the first wait would be over, the second is not
        await turns()
        assert len(rig.handler.calls) == 3
        rig.clock.advance(1)
        await until(lambda: len(rig.handler.calls) == 4)
