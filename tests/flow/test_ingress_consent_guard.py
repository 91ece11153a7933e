"""consent.md rule 7 at ingress: how many opt-outs may be taken back and profiles deleted in an hour, whoever counts and however often."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from bridge.memory import MemoryGuard
from bridge.model.errors import RetryError
from sandbox.web import Fault
from tests.flow.consenting import (
    DELETING,
    EMAIL,
    MAPPING,
    PEOPLE,
    PHONE,
    another,
    consent_rig,
    flag,
    let_go,
    minute,
    proofs,
    row,
    stored,
)
from tests.flow.handling import VEHICLES, Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with consent_rig() as made:
        made.limit = 2
        yield made


async def opted_out(rig: Rig, *people: str) -> None:
    for key in people:
        await rig.apply(row(rig, key, donotemail=True))
    minute(rig)


def lowered(rig: Rig, *people: str) -> list[bool]:
    return [not flag(rig, EMAIL, key) for key in people]


def there(rig: Rig, *people: str) -> list[bool]:
    return [rig.sandbox.get("profile", key) is not None for key in people]


async def test_what_goes_beyond_the_limit_is_held_and_nothing_else_is(rig: Rig) -> None:
    people = PEOPLE[:5]
    await opted_out(rig, *people)

    for key in people:
        await rig.apply(row(rig, key, firstname="Anna", donotphone=True))

    assert lowered(rig, *people) == [True, True, False, False, False]
    assert [stored(rig, key)["firstName"] for key in people] == ["Anna"] * 5
    assert [flag(rig, PHONE, key) for key in people] == [True] * 5
    held = proofs(rig, guard="held")
    assert [(decision.contact_key, dict(decision.flags), headers["kind"]) for decision, headers in held] == [
        (key, {EMAIL: False}, "release") for key in people[2:]
    ]


async def test_an_import_that_empties_the_column_stops_at_the_limit(rig: Rig) -> None:
    rig.limit = 10
    await opted_out(rig, *PEOPLE)

    for key in PEOPLE:
        await rig.apply(row(rig, key))

    assert sum(lowered(rig, *PEOPLE)) == 10
    assert len(proofs(rig, guard="held", kind="release")) == len(PEOPLE) - 10


async def test_opt_outs_are_neither_counted_nor_held(rig: Rig) -> None:
    rig.limit = 0

    await opted_out(rig, *PEOPLE[:5])

    assert lowered(rig, *PEOPLE[:5]) == [False] * 5
    assert rig.guard.entries == []


async def test_what_is_kept_is_not_counted(rig: Rig) -> None:
    for key in PEOPLE[:5]:
        rig.sandbox.put("profile", {"externalId": key, EMAIL: True})
        await rig.apply(row(rig, key))
    await opted_out(rig, *PEOPLE[5:7])

    for key in PEOPLE[5:7]:
        await rig.apply(row(rig, key))

    assert lowered(rig, *PEOPLE[:7]) == [False] * 5 + [True] * 2


async def test_the_same_change_counts_once(rig: Rig) -> None:
    one, two, three = PEOPLE[:3]
    await opted_out(rig, one, two, three)
    before, event = rig.known[one], row(rig, one)

    for _ in range(4):  # a crash before the state was kept, each time
        rig.known[one] = before
        await rig.apply(event)
    await rig.apply(row(rig, two))
    await rig.apply(row(rig, three))

    assert lowered(rig, one, two, three) == [True, True, False]


async def test_a_change_whose_write_failed_counts_once(rig: Rig) -> None:
    one, two, three = PEOPLE[:3]
    await opted_out(rig, one, two, three)
    event = row(rig, one)
    rig.sandbox.ledger.faults.append(Fault("status", "PATCH", status=503, times=4))

    for _ in range(4):
        with pytest.raises(RetryError):
            await rig.apply(event)
    await rig.apply(event)
    await rig.apply(row(rig, two))
    await rig.apply(row(rig, three))

    assert lowered(rig, one, two, three) == [True, True, False]


async def test_a_held_change_that_comes_again_stays_held(rig: Rig) -> None:
    rig.limit = 0
    await opted_out(rig, PEOPLE[0])
    before, event = rig.known[PEOPLE[0]], row(rig, PEOPLE[0])
    await rig.apply(event)
    rig.known[PEOPLE[0]] = before
    rig.limit = 100

    await rig.apply(event)

    assert lowered(rig, PEOPLE[0]) == [False]


@pytest.mark.parametrize("together", [True, False], ids=["two at once", "one after the other"])
async def test_several_instances_count_together(rig: Rig, together: bool) -> None:
    people = PEOPLE[:6]
    other = await another(rig)
    for number, key in enumerate(people):
        await opted_out(other if number % 2 else rig, key)
    if not together:
        people = people[0::2] + people[1::2]

    for key in people:
        await (rig if key in rig.known else other).apply(row(rig, key))

    assert lowered(rig, *people) == [True, True, False, False, False, False]


async def test_a_restart_does_not_begin_to_count_again(rig: Rig) -> None:
    one, two, three = PEOPLE[:3]
    await opted_out(rig, one, two, three)
    await rig.apply(row(rig, one))
    await rig.apply(row(rig, two))
    rig.guard = MemoryGuard(rig.clock, rig.guard.entries)
    await rig.build(MAPPING)

    await rig.apply(row(rig, three))

    assert lowered(rig, one, two, three) == [True, True, False]


async def test_the_next_hour_has_its_own_limit_and_what_is_held_stays_held(rig: Rig) -> None:
    people = PEOPLE[:5]
    await opted_out(rig, *people)
    for key in people[:3]:
        await rig.apply(row(rig, key))
    minute(rig, 61)

    await rig.apply(row(rig, people[2], firstname="Anna"))
    await rig.apply(row(rig, people[3]))

    assert lowered(rig, *people[:4]) == [True, True, False, True]
    assert stored(rig, people[2])["firstName"] == "Anna"


async def test_deletes_beyond_the_limit_are_held(rig: Rig) -> None:
    people = PEOPLE[:4]
    for key in people:
        await rig.apply(row(rig, key))

    outcomes = [(await rig.apply(row(rig, key, op="delete"))).outcome for key in people]

    assert there(rig, *people) == [False, False, True, True]
    assert (outcomes[:2], "deleted" in outcomes[2:]) == (["deleted"] * 2, False)
    held = proofs(rig, guard="held", kind="delete")
    assert [(decision.contact_key, dict(decision.flags), decision.rule, headers["flags"]) for decision, headers in held] == [
        (key, {}, "deleted-in-dynamics", "delete") for key in people[2:]
    ]


async def test_a_filter_that_deletes_stops_at_the_limit() -> None:
    async with consent_rig(DELETING) as rig:
        rig.limit = 3
        for key in PEOPLE[:10]:
            await rig.apply(row(rig, key))

        for key in PEOPLE[:10]:
            await rig.apply(row(rig, key, lane="resync", address1_city="Bergen"))

        assert sum(there(rig, *PEOPLE[:10])) == 7
        held = proofs(rig, guard="held", kind="delete")
        assert {decision.rule for decision, _ in held} == {"filtered-out"}
        assert len(held) == 7


async def test_deletes_of_several_instances_and_after_a_restart_count_together(rig: Rig) -> None:
    people = PEOPLE[:5]
    for key in people:
        await rig.apply(row(rig, key))
    other = await another(rig)
    other.known = rig.known

    await rig.apply(row(rig, people[0], op="delete"))
    await other.apply(row(rig, people[1], op="delete"))
    await other.apply(row(rig, people[2], op="delete"))
    third = await another(rig)
    third.known = rig.known
    await third.apply(row(rig, people[3], op="delete"))

    assert there(rig, *people) == [False, False, True, True, True]


async def test_a_delete_that_comes_again_counts_once(rig: Rig) -> None:
    one, two, three = PEOPLE[:3]
    for key in (one, two, three):
        await rig.apply(row(rig, key))
    before, event = rig.known[one], row(rig, one, op="delete")

    for _ in range(4):
        rig.known[one] = before
        await rig.apply(event)
    await rig.apply(row(rig, two, op="delete"))
    await rig.apply(row(rig, three, op="delete"))

    assert there(rig, one, two, three) == [False, False, True]


async def test_lowers_and_deletes_and_each_table_have_limits_of_their_own() -> None:
    async with consent_rig(MAPPING, VEHICLES) as rig:
        rig.limit = 1
        one, two = PEOPLE[:2]
        await opted_out(rig, one, two)
        await rig.apply(rig.vehicle(new_contactid=two))

        await rig.apply(row(rig, one))
        await rig.apply(row(rig, one, op="delete"))
        await rig.apply(rig.vehicle(op="delete"))

        assert there(rig, one, two) == [False, True]
        assert rig.sandbox.rows("cusVehicle") == []
        assert proofs(rig, guard="held") == []


async def test_what_was_released_is_not_counted_against_others(rig: Rig) -> None:
    """An admin lets go what is held; whether the hour is full or not, it goes."""
    people = PEOPLE[:5]
    await opted_out(rig, *people)
    for key in people:
        await rig.apply(row(rig, key))

    for key in people[2:4]:
        await let_go(rig, key=key)

    assert lowered(rig, *people) == [True, True, True, True, False]
