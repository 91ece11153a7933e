"""Several instances of each service share the work, and losing or ending one loses nothing and reorders nothing."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from sandbox.web import Fault
from tests.e2e.helpers import eventually, everything_passed, heartbeat, kept, messages, run
from tests.e2e.stack import Stack, contacts, mapping

CATEGORIES = mapping("new_category", "cusNote", ("new_categoryid", "cusNoteId"), {"new_name": "cusName"})


def slow(stack: Stack, seconds: float) -> None:
    """From now on each call about profiles takes so long."""
    stack.campaign.ledger.faults.append(Fault("latency", path="/profile", seconds=seconds))


def written(stack: Stack, instance: str) -> int:
    return int(heartbeat(stack, "writer", instance).get("counters", {}).get("written", 0))


async def two_of_each(stack: Stack, **reader: str) -> None:
    """Two readers and two writers run."""
    for number in (1, 2):
        stack.service("reader", f"reader-{number}", **reader)
        stack.service("writer", f"writer-{number}")

    async def four() -> bool:
        services = (await stack.workflow())["services"]
        return [each["status"] for each in services] == ["RUNNING"] * 4

    await stack.start()
    await stack.until(four, "all four instances run", 30)


def versions(stack: Stack, key: str) -> list[int]:
    """The numbers in the last names written to one profile, in order."""
    names = [(write["fields"] or {}).get("lastName") for write in kept(stack, "profile", key)]
    return [int(name.split()[1]) for name in names if name]


async def test_two_writers_and_two_readers_share_the_work(stack: Stack) -> None:
    stack.campaign.add_resource("cusNote", key="cusNoteId", fields=[{"name": "cusNoteId"}, {"name": "cusName"}])
    stack.campaign.publish()
    await stack.configure(contacts(), CATEGORIES)
    await two_of_each(stack)
    await everything_passed(stack)

    stack.dynamics.load(contacts=300, seed=4)
    notes = [stack.dynamics.upsert("new_category", {"new_name": f"Note {n}"}) for n in range(30)]
    await stack.until_equal()
    await eventually(stack, lambda: all(stack.campaign.get("cusNote", key) for key in notes), "all notes arrive")

    await eventually(stack, lambda: min(written(stack, "writer-1"), written(stack, "writer-2")) > 20, "both writers have written", 10)

    def feeds() -> list[str]:
        return sorted(name for number in (1, 2) for name in heartbeat(stack, "reader", f"reader-{number}").get("feeds", {}))

    await eventually(stack, lambda: feeds() == ["contact", "new_category"], f"each table has one reader ({feeds()})", 10)
    assert [write["status"] for write in stack.campaign.writes()] == [201] * 331


def owners(stack: Stack) -> list[int]:
    """Numbers of the readers that own a table, by their heartbeats."""
    return [number for number in (1, 2) if heartbeat(stack, "reader", f"reader-{number}").get("feeds")]


async def test_a_writer_and_a_reader_killed_in_a_load_lose_and_reorder_nothing(stack: Stack) -> None:
    keys = [stack.dynamics.upsert("contact", {"lastname": "Version 0"}) for _ in range(400)]
    await stack.configure(contacts(apply_deletes=True))
    slow(stack, 0.1)
    await two_of_each(stack, DYNAMICS_PAGE_SIZE="50")
    await eventually(stack, lambda: len(stack.campaign.rows("profile")) > 40, "some are written")
    owner = (await eventually(stack, lambda: owners(stack), "a reader tells of its tables"))[0]

    for version in range(1, 4):
        for key in keys[::10]:
            stack.dynamics.upsert("contact", {"contactid": key, "lastname": f"Version {version}"})
        if version == 1:
            stack.processes["writer-1"].kill()
            stack.processes[f"reader-{owner}"].kill()
        await asyncio.sleep(0.7)
    stack.dynamics.delete("contact", keys[1])
    await stack.until_equal()
    await stack.until_caught_up()

    for key in keys[::10]:
        assert (stack.campaign.get("profile", key) or {})["lastName"] == "Version 3"
        assert all(older <= newer for older, newer in pairwise(versions(stack, key))), versions(stack, key)
    assert (await stack.workflow())["status"] == "RUNNING"


async def test_a_writer_that_joins_and_one_that_leaves_change_nothing(stack: Stack) -> None:
    keys = [stack.dynamics.upsert("contact", {"lastname": "Version 0"}) for _ in range(300)]
    slow(stack, 0.1)
    await run(stack, contacts())
    await eventually(stack, lambda: len(stack.campaign.rows("profile")) > 20, "some are written")

    stack.service("writer", "writer-2")
    for version in range(1, 6):
        for key in keys[:20]:
            stack.dynamics.upsert("contact", {"contactid": key, "lastname": f"Version {version}"})
        if version == 4:
            assert await stack.processes["writer-1"].terminate() == 0
        await asyncio.sleep(0.7)
    await stack.until_equal()
    await stack.until_caught_up()

    for key in keys[:20]:
        assert all(older <= newer for older, newer in pairwise(versions(stack, key))), versions(stack, key)
    created = [write["key"] for write in stack.campaign.writes("profile") if write["status"] == 201]
    assert sorted(created) == sorted(keys)
    assert [write for write in stack.campaign.writes("profile") if write["status"] >= 400] == []


async def test_a_killed_writer_started_again_at_once_takes_over_where_it_was(stack: Stack) -> None:
    stack.dynamics.load(contacts=400, seed=6)
    slow(stack, 0.05)
    await run(stack, contacts())
    await eventually(stack, lambda: len(stack.campaign.rows("profile")) > 50, "some are written")

    stack.processes["writer-1"].kill()
    stack.service("writer")

    await stack.until_equal()
    await stack.until_caught_up()
    assert len(stack.campaign.rows("profile")) == 400


@pytest.mark.parametrize("role", ["reader", "writer", "control"])
async def test_sigterm_under_load_ends_with_0_within_10_s(stack: Stack, role: str) -> None:
    stack.dynamics.load(contacts=400, seed=6)
    stack.dynamics.ledger.faults.append(Fault("latency", path="contacts", seconds=0.3))
    slow(stack, 0.2)
    await run(stack, contacts(), reader={"DYNAMICS_PAGE_SIZE": "20"})
    await eventually(stack, lambda: len(stack.campaign.rows("profile")) > 20, "some are written")
    started = time.monotonic()

    code = await stack.processes[f"{role}-1"].terminate(within_s=10)

    assert (code, time.monotonic() - started < 10) == (0, True)
    if role == "writer":
        before = len(stack.campaign.rows("profile"))
        events = len(await asyncio.to_thread(messages, stack.kafka, "ingress.replay.contact"))
        assert before <= events
    stack.dynamics.ledger.faults.clear()
    stack.campaign.ledger.faults.clear()
    stack.service(role)
    await stack.until_status("RUNNING", 20)
    await stack.until_equal()
    await stack.until_caught_up()
    created = [write["key"] for write in stack.campaign.writes("profile") if write["method"] == "POST"]
    assert len(created) == len(set(created)) == 400
