"""What happens on the way to both systems: networks that break in every manner, answers that are lost, late, halved, refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sandbox.web import Fault, Kind, Ledger
from tests.faults.conftest import Begun
from tests.faults.proxy import Proxy
from tests.faults.world import IN_FLIGHT, World
from tests.faults.worlds import WORLDS

TIMEOUTS = {"CAMPAIGN_REQUEST_TIMEOUT_S": "3", "DYNAMICS_REQUEST_TIMEOUT_S": "3"}
IN_A_ROW = 3  # each failure doubles the wait before the next call
SIDES = [(workflow, system) for workflow in WORLDS for system in ("dynamics", "campaign")]

BREAKS: dict[str, Callable[[Proxy], None]] = {
    "reset": Proxy.reset,
    "cut": Proxy.cut,
    "half closed": Proxy.half_close,
    "silent upwards": lambda proxy: proxy.silence("up"),
    "silent downwards": lambda proxy: proxy.silence("down"),
    "slow": lambda proxy: setattr(proxy, "delay_s", 0.4),
}


def ledgers(world: World) -> list[Ledger]:
    return [world.stack.dynamics.ledger, world.stack.campaign.ledger]


async def struck(world: World, *faults: Fault) -> None:
    """Until both systems have answered so as often as they should."""
    made = [(ledger, Fault(**vars(fault))) for ledger in ledgers(world) for fault in faults]
    for ledger, fault in made:
        ledger.faults.append(fault)

    async def all_of_them() -> bool:
        return all(fault.struck == fault.times for _, fault in made)

    await world.stack.until(all_of_them, f"both systems strike: {[vars(fault) for _, fault in made]}", 90)


@pytest.mark.takes(45)
@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize(("workflow", "system"), SIDES)
async def test_a_network_that_breaks(begun: Begun, workflow: str, system: str, how: str) -> None:
    """Three times, for a few seconds each; a silent one until every call has run into its time limit."""
    world = await begun(workflow, **TIMEOUTS)
    proxy = world.proxies[system]
    async with world.pouring():
        for _ in range(3):
            await world.at_work()
            await world.a_while(1)
            BREAKS[how](proxy)
            world.may_repeat += IN_FLIGHT * (2 if how.startswith("silent") else 1)
            await asyncio.sleep(5 if how.startswith("silent") else 3)
            proxy.reset()
            proxy.heal()
    await world.settled()
    assert proxy.connections > 1


@pytest.mark.takes(45)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_answers_lost_after_what_was_asked_had_been_done(begun: Begun, workflow: str) -> None:
    world = await begun(workflow, **TIMEOUTS)
    kinds: tuple[Kind, ...] = ("cut_after", "status_after", "half")
    async with world.pouring():
        for kind in (*kinds, *kinds):
            await world.at_work()
            await struck(world, Fault(kind, times=IN_A_ROW, skip=world.rng.randint(0, 5)))
            world.may_repeat += 2 * IN_A_ROW
    await world.settled()


@pytest.mark.takes(45)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_answers_that_stall(begun: Begun, workflow: str) -> None:
    world = await begun(workflow, **TIMEOUTS)
    world.may_repeat += 2 * IN_A_ROW
    async with world.pouring():
        await struck(world, Fault("stall", times=IN_A_ROW, seconds=20, skip=world.rng.randint(0, 5)))
    await world.settled()


def soon() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


ASKED: dict[str, Callable[[], dict[str, str]]] = {
    "seconds": lambda: {"Retry-After": "1.5"},
    "a date": lambda: {"Retry-After": soon()},
    "nothing": dict,
    "a past date": lambda: {"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"},
    "less than nothing": lambda: {"Retry-After": "-5"},
    "nonsense": lambda: {"Retry-After": "in a while"},
}


@pytest.mark.takes(45)
@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_storms_of_429(begun: Begun, workflow: str, asked: str) -> None:
    """Three of them, each until both systems have refused three calls: without a word on how long, the wait doubles with each."""
    world = await begun(workflow, **TIMEOUTS)
    world.stack.campaign.settings.change({"early_grace_ms": 500.0})  # for calls that were on their way, in a process that is busy
    async with world.pouring():
        for _ in range(3):
            await world.at_work()
            await struck(world, Fault("status", status=429, headers=ASKED[asked](), times=IN_A_ROW))
    await world.settled()
    assert world.stack.campaign.counts()["early_calls"] == 0, "a wait that Campaign asked for was not kept"


@pytest.mark.takes(45)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_bursts_of_5xx_and_pages_of_html(begun: Begun, workflow: str) -> None:
    """Nothing is set aside for them: it is the system that is wrong, not the record."""
    page = "<html><body>Bad gateway</body></html>"
    world = await begun(workflow, **TIMEOUTS)
    async with world.pouring():
        for status in (500, 502, 503, 504, 200):
            await world.at_work()
            await struck(world, Fault("status", status=status, body=page, content_type="text/html", times=IN_A_ROW))
    await world.settled()
