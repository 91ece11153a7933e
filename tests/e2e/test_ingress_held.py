"""What the consent guard holds of ingress, with all services: kept in Kafka, released and discarded by a person, and nothing else waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.kafka.settings import KafkaSettings
from tests.e2e.helpers import run
from tests.e2e.stack import Stack, contacts, running

FIELDS = {"lastname": "lastName", "donotemail": "blackListEmail"}


@pytest.fixture
async def careful(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Stack]:
    """One delete and one lower an hour may pass."""
    async with running(kafka_settings, tmp_path, DELETE_LIMIT="1", OPTIN_RELEASE_LIMIT="1") as stack:
        yield stack


def profiles(stack: Stack) -> dict[str, dict[str, Any]]:
    return {row["externalId"]: row for row in stack.campaign.rows("profile")}


def out(stack: Stack, keys: list[str]) -> list[bool]:
    return [bool(profiles(stack)[each]["blackListEmail"]) for each in keys]


async def items(stack: Stack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await stack.get("/workflows/ingress/held"))["items"]
    return found


async def until_held(stack: Stack, number: int) -> list[dict[str, Any]]:
    async def so_many() -> bool:
        return bool((await stack.workflow())["backlog"]["held"] == number)

    await stack.until(so_many, f"{number} are held", 40)
    return await items(stack)


async def settle(stack: Stack, what: str, *ids: str) -> dict[str, int]:
    answer = await stack.http.post(f"/api/v1/workflows/ingress/held/{what}", json={"ids": list(ids), "reason": "a test"})
    assert answer.status_code == 202, answer.text
    found: dict[str, int] = answer.json()
    return found


async def outcomes(stack: Stack, key: str) -> list[tuple[str, int | None]]:
    """Newest first."""
    found = (await stack.get(f"/workflows/ingress/decisions?contact={key}"))["decisions"]
    return [(each["outcome"], each["status"]) for each in found]


async def test_deletes_beyond_the_limit_are_held_until_a_person_releases_or_discards_them(careful: Stack) -> None:
    people = [careful.dynamics.upsert("contact", {"lastname": f"Number {each}"}) for each in range(5)]
    await run(careful, contacts(fields={"lastname": "lastName"}, apply_deletes=True))
    await careful.until(lambda: _is(len(profiles(careful)) == 5), "all are there", 40)
    for each in people[:4]:
        careful.dynamics.delete("contact", each)

    held = await until_held(careful, 3)
    careful.dynamics.upsert("contact", {"contactid": people[4], "lastname": "Married"})
    await careful.until(lambda: _is(profiles(careful)[people[4]]["lastName"] == "Married"), "the others go on", 40)

    assert {(each["kind"], each["table"], each["rule"], *each["flags"]) for each in held} == {
        ("delete", "contact", "deleted-in-dynamics", "delete")
    }
    assert len(profiles(careful)) == 4
    assert (await careful.workflow())["reason"]["code"] == "releases_held"
    first, second, third = held
    assert await settle(careful, "release", first["id"]) == {"released": 1, "discarded": 0, "skipped": 0}
    await careful.until(lambda: _is(first["key"] not in profiles(careful)), "the released one is gone", 40)
    assert await settle(careful, "discard", second["id"]) == {"released": 0, "discarded": 1, "skipped": 0}
    await careful.until_caught_up()
    assert [each["id"] for each in await until_held(careful, 1)] == [third["id"]]
    assert {second["key"], third["key"], people[4]} == set(profiles(careful))
    assert await outcomes(careful, first["key"]) == [("executed", 200), ("released", None)]
    assert await outcomes(careful, second["key"]) == [("discarded", None)]


async def test_opt_outs_taken_back_beyond_the_limit_are_held_and_released_with_their_evidence(careful: Stack) -> None:
    people = [careful.dynamics.upsert("contact", {"lastname": f"Number {each}", "donotemail": False}) for each in range(3)]
    await run(careful, contacts(fields=FIELDS))
    await careful.until(lambda: _is(len(profiles(careful)) == 3), "all are there", 40)
    for value in (True, False):
        for each in people:
            careful.dynamics.upsert("contact", {"contactid": each, "donotemail": value})
        if value:
            await careful.until(lambda: _is(all(out(careful, people))), "all are opted out", 40)

    held = await until_held(careful, 2)

    assert sum(out(careful, people)) == 2
    for item in held:
        words = item["words"]["blackListEmail"]
        assert (item["kind"], item["flags"], words["campaign"], words["dynamics"]) == ("release", ["blackListEmail"], True, False)
        assert words["dynamics_from"].startswith("version ")
    await settle(careful, "release", held[0]["id"])
    await careful.until(lambda: _is(not profiles(careful)[held[0]["key"]]["blackListEmail"]), "the released one is opted in", 40)
    careful.dynamics.upsert("contact", {"contactid": held[1]["key"], "donotemail": True})
    assert await until_held(careful, 0) == [], "a newer word has made it void"
    assert profiles(careful)[held[1]["key"]]["blackListEmail"]
    assert (await outcomes(careful, held[0]["key"]))[0][0] == "executed"


async def _is(value: bool) -> bool:
    return value
