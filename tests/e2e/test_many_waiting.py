"""Thousands of changes that wait while something else happens to the same records: none of them is lost in what they are merged into."""

from __future__ import annotations

from typing import Any

from sandbox.web import Fault
from tests.e2e.helpers import eventually, everything_passed, run_through, service_logs
from tests.e2e.stack import Stack, contacts

MANY = 5_000
CITY = {"source": "address1_city", "target": "location.city", "apply_updates": False}  # moves only with a load or a replay (F120)
NAMES = {"firstname": "firstName", "lastname": "lastName"}


def people(stack: Stack) -> list[str]:
    return [stack.dynamics.upsert("contact", {"firstname": "Ann", "lastname": f"L{n}", "address1_city": "Oslo"}) for n in range(MANY)]


def wrong(stack: Stack, keys: list[str], **fields: str) -> list[str]:
    """Which of these profiles do not hold these values."""

    def held(profile: dict[str, Any] | None, name: str) -> Any:
        return profile and (profile["location"]["city"] if name == "city" else profile[name])

    return [key for key in keys if any(held(stack.campaign.get("profile", key), name) != value for name, value in fields.items())]


async def test_a_column_that_is_added_while_many_changes_wait_reaches_every_record(stack: Stack) -> None:
    """The changes of before lack the column, and have the versions that the rows have which are read again for it: both wait, in the live
    and in the replay lane, when the writer comes."""
    keys = people(stack)
    await run_through(stack, contacts(fields=NAMES))
    stack.processes["writer-1"].kill()
    for key in keys:
        stack.dynamics.upsert("contact", {"contactid": key, "firstname": "Anna", "address1_city": "Bergen"})

    async def waiting() -> bool:
        return bool((await stack.workflow())["backlog"]["records"] >= MANY)

    await stack.until(waiting, "the changes wait", 60)
    await stack.stop(wait=False)
    await eventually(stack, lambda: service_logs(stack).count('"run_stopped"') >= 1, "the reader stops")
    await stack.configure(contacts(fields={**NAMES, "address1_city": "location.city"}))
    await stack.start(wait=False)
    await eventually(stack, lambda: service_logs(stack).count('"load_finished"') >= 2, "all rows are read again", 60)

    stack.service("writer")
    await stack.until_status("RUNNING")
    workflow = await stack.until_caught_up(120)

    assert wrong(stack, keys, firstName="Anna", city="Bergen") == []
    assert workflow["counters"]["dead_lettered"] == 0


async def test_a_replay_of_many_with_live_changes_over_it_brings_what_only_it_brings(stack: Stack) -> None:
    keys = people(stack)
    fields = [{"source": source, "target": target} for source, target in NAMES.items()]
    await run_through(stack, {**contacts(), "fields": [*fields, CITY]})
    for key in keys:
        stack.dynamics.upsert("contact", {"contactid": key, "address1_city": "Bergen"})
    await everything_passed(stack)
    assert wrong(stack, keys, city="Oslo") == []

    stack.campaign.ledger.faults.append(slow := Fault("latency", "PATCH", seconds=0.1, times=2_000))  # most wait, in both lanes
    answer = await stack.http.post("/api/v1/workflows/ingress/tables/contact/replay", json={"when": "now"})
    assert answer.status_code == 202, answer.text
    for turn in range(4):
        for key in keys[turn::4]:
            stack.dynamics.upsert("contact", {"contactid": key, "firstname": "Anna"})
        await eventually(stack, lambda turn=turn: slow.struck > 100 * turn, "calls go on meanwhile")  # type: ignore[misc]
    await eventually(stack, lambda: '"replay_finished"' in service_logs(stack), "the replay is read", 60)
    await everything_passed(stack, 120)
    assert wrong(stack, keys, firstName="Anna", city="Bergen") == []
