"""What happens to the processes: killed at any moment and at the worst ones, held up, asked to end, coming and going."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.faults.conftest import ALL, Begun
from tests.faults.world import IN_FLIGHT, LAUNCHER, World
from tests.faults.worlds import WORLDS

ROUNDS = {"ingress": 40, "egress": 30, "optin": 30} if ALL else dict.fromkeys(WORLDS, 5)
ROLES = [(workflow, role) for workflow, world in WORLDS.items() for role in world.roles]
HELD_UP_S = 13.0  # the session timeout is 10 s

# The worst moments: where the process dies, and at the most how often it came there before.
READING = [("begin", 6), ("commit", 6), ("committed", 6)]  # inside a chain of pages; before and after the end of a page's transaction
WRITING = [("produce:.state", 20), ("offsets", 3)]  # after the answer, before it is known; known, before the offsets are committed
POINTS = {
    ("ingress", "reader"): READING,
    ("ingress", "writer"): WRITING,
    ("egress", "reader"): READING,
    ("egress", "writer"): WRITING,
    ("optin", "reader"): [("produce:.observations", 20), ("produce:.cursors", 3)],
    ("optin", "resolver"): [("produce:.decisions", 10), ("produce:.state", 10), ("offsets", 3)],
    ("optin", "writer"): [("produce:.observations", 5), ("offsets", 3)],
}
NAMED = [(*roles, *point) for roles, points in POINTS.items() for point in points]


@pytest.mark.takes(50, always=True)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_killed_at_random_moments(begun: Begun, workflow: str) -> None:
    world = await begun(workflow)
    async with world.pouring():
        for _ in range(ROUNDS[workflow]):
            await world.at_work()
            await world.a_while(1.5)
            role = world.rng.choice(world.roles)
            world.kill(role)
            world.start(role)
    await world.settled()


@pytest.mark.takes(35)
@pytest.mark.parametrize(("workflow", "role", "point", "most"), NAMED)
async def test_killed_at_the_worst_moment(begun: Begun, workflow: str, role: str, point: str, most: int) -> None:
    world = await begun(workflow)
    await world.end(role)
    world.launchers[role] = LAUNCHER
    nth = world.rng.randint(1, most)
    dying = world.start(role, FAULT_AT=point, FAULT_NTH=str(nth))
    del world.launchers[role]
    world.may_repeat += IN_FLIGHT
    async with world.pouring():
        assert await asyncio.wait_for(asyncio.to_thread(dying.popen.wait), 60) == -9, f"{point} was not met {nth} times"
        world.start(role)
        await world.at_work()
    await world.settled()


@pytest.mark.takes(35)
@pytest.mark.parametrize("applied", [False, True])
async def test_killed_while_a_batch_of_dynamics_is_under_way(begun: Begun, applied: bool) -> None:
    """`applied`: Dynamics has done all of it, and nobody hears; else nothing of it has been done when the writer dies."""
    world = await begun("egress")
    cost, latency = (50.0, 0.0) if applied else (5.0, 500.0)
    async with world.pouring():
        for _ in range(3):
            world.stack.dynamics.settings.change({"operation_cost_ms": cost, "latency_ms": latency})
            await under_way(world)
            world.kill("writer")
            world.stack.dynamics.settings.change({"operation_cost_ms": 5.0, "latency_ms": 0.0})
            world.start("writer")
            await world.at_work()
    await world.settled()


async def under_way(world: World) -> None:
    """Until a new batch has begun, and some of it may be done."""
    ledger = world.stack.dynamics.ledger
    before = ledger.requests["POST $batch"]

    async def begun_one() -> bool:
        return ledger.requests["POST $batch"] > before

    await world.stack.until(begun_one, "a batch begins")
    await world.a_while(0.2)


@pytest.mark.takes(45)
@pytest.mark.parametrize(("workflow", "role"), ROLES)
async def test_held_up_longer_than_its_session_while_another_takes_over(begun: Begun, workflow: str, role: str) -> None:
    """What comes back is a zombie: its partitions are somebody else's, and it must not write."""
    world = await begun(workflow)
    world.start(role, 2)
    async with world.pouring():
        await world.at_work()
        await world.a_while(3)
        world.pause(role)
        world.may_repeat += IN_FLIGHT
        await asyncio.sleep(HELD_UP_S)
        await world.at_work()
        world.resume(role)
        await asyncio.sleep(3)
    await world.settled()


@pytest.mark.takes(45)
@pytest.mark.parametrize(("workflow", "role"), ROLES)
async def test_held_up_alone_is_told_and_goes_on(begun: Begun, workflow: str, role: str) -> None:
    world = await begun(workflow)
    async with world.pouring():
        await world.at_work()
        world.pause(role)
        world.may_repeat += IN_FLIGHT
        failed = await world.stack.until_status("FAILED", 16)
        await asyncio.sleep(2)
        world.resume(role)
        await world.stack.until_status("RUNNING", 30)
        await world.at_work()
    assert failed["reason"]["code"] == "service_silent"
    await world.settled()


@pytest.mark.takes(50)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_asked_to_end_under_load_nothing_is_written_again(begun: Begun, workflow: str) -> None:
    """Each role twice: out within 10 s with 0, and not one repeated write."""
    world = await begun(workflow)
    async with world.pouring():
        for role in (*world.roles, *world.roles):
            await world.at_work()
            await world.end(role)
            await world.a_while(1)
            world.start(role)
    await world.settled()


@pytest.mark.takes(100)
@pytest.mark.timeout(400)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_an_instance_comes_or_goes_every_two_seconds(begun: Begun, workflow: str) -> None:
    """For a minute. Those who go are asked to, or not: half of them are killed."""
    world = await begun(workflow)
    there: set[str] = set()
    ends = time.monotonic() + 60
    async with world.pouring():
        while time.monotonic() < ends:
            role = world.rng.choice(world.roles)
            if role not in there:
                world.start(role, 2)
                there.add(role)
            else:
                there.remove(role)
                if world.rng.random() < 0.5:
                    world.kill(role, 2)
                else:
                    await world.end(role, 2)
            await asyncio.sleep(2)
    for role in there:
        await world.end(role, 2)
    await world.settled()


@pytest.mark.takes(70)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_stopped_and_started_all_the_time(begun: Begun, workflow: str) -> None:
    """By hand, and by two hands: what counts is the last command, and nothing is written again."""
    world = await begun(workflow)
    async with world.pouring():
        for _ in range(12):
            await world.a_while(2.5)
            await world.stack.stop(wait=world.rng.random() < 0.5)
            await world.a_while(1.5)
            await world.stack.start(wait=world.rng.random() < 0.5)
    await world.settled()
