"""Options that are added to a picklist while its table is read: their labels are used at once (dataverse.md §2, §6)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.model.errors import RetryError
from bridge.model.events import ChangeEvent
from sandbox.dynamics.tables import Column
from sandbox.web import Fault
from services.ingress.options import AGAIN_S, BETWEEN_S
from tests.flow.feeding import REPLAY, Rig, during, serving_rig
from tests.unit.control_app import logging_as

METHOD, HOBBIES = "preferredcontactmethodcode", "new_hobbies"
WHATSAPP, SIGNAL = 100_000_000, 100_000_001


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with serving_rig(tmp_path) as made:
        made.sandbox.add_column("contact", Column(HOBBIES, "MultiSelectPicklist", options={1: "Chess", 2: "Go"}))
        made.columns = ["lastname", METHOD, HOBBIES]
        yield made


def a_person(rig: Rig, method: int = 2, **more: Any) -> str:
    return rig.sandbox.upsert("contact", {"lastname": "Meyer", METHOD: method, **more})


def asked(rig: Rig) -> int:
    """How many questions about metadata Dynamics was asked."""
    return rig.sandbox.ledger.requests["GET EntityDefinitions"]


def holding(rig: Rig, key: str, value: Any, column: str = METHOD) -> None:
    """The row holds an option that the metadata do not have: one that was deleted."""
    rig.sandbox.upsert("contact", {"contactid": key, "lastname": f"L{value}"})
    rig.sandbox.store.data["contact"].rows[key][column] = value


def labels(events: list[ChangeEvent]) -> list[str | None]:
    return [event.labels.get(METHOD) for event in events]


async def test_the_label_of_an_option_that_was_just_added_goes_out_with_the_first_row_that_holds_it(rig: Rig) -> None:
    person = a_person(rig)
    await rig.loaded()
    rig.sandbox.settings.metadata_lag_s = 30.0
    rig.sandbox.add_option("contact", METHOD, WHATSAPP, "WhatsApp")
    rig.sandbox.upsert("contact", {"contactid": person, METHOD: WHATSAPP})

    (event,) = await rig.poll()

    assert (event.fields[METHOD], event.labels[METHOD]) == (WHATSAPP, "WhatsApp")


async def test_a_second_option_that_is_added_right_after_the_first_has_its_label_too(rig: Rig) -> None:
    person = a_person(rig)
    await rig.loaded()
    for value, label in ((WHATSAPP, "WhatsApp"), (SIGNAL, "Signal")):
        rig.sandbox.add_option("contact", METHOD, value, label)
        rig.sandbox.upsert("contact", {"contactid": person, METHOD: value})
        assert labels(await rig.poll()) == [label]


async def test_an_option_among_several_choices_is_learned_as_well(rig: Rig) -> None:
    person = a_person(rig)
    await rig.loaded()
    rig.sandbox.add_option("contact", HOBBIES, 3, "Bridge")
    rig.sandbox.upsert("contact", {"contactid": person, HOBBIES: "1,3"})

    (event,) = await rig.poll()

    assert event.labels[HOBBIES] == "Chess, Bridge"


async def test_an_option_that_is_added_during_a_load_is_learned_there(rig: Rig) -> None:
    a_person(rig)
    await rig.start()
    await rig.step()
    rig.sandbox.add_option("contact", METHOD, WHATSAPP, "WhatsApp")
    a_person(rig, WHATSAPP)

    await rig.until("live")

    assert sorted(str(each.event.labels[METHOD]) for each in rig.log.of(REPLAY)) == ["Email", "WhatsApp"]


async def test_an_option_is_learned_with_a_row_that_only_the_reconciliation_sees_even_if_dynamics_is_away_meanwhile(rig: Rig) -> None:
    rig.people(3)
    await rig.start()

    def late() -> None:
        rig.sandbox.add_option("contact", METHOD, WHATSAPP, "WhatsApp")
        rig.sandbox.upsert("contact", {"contactid": "00000000-0000-4000-8000-000000000001", "lastname": "Late", METHOD: WHATSAPP})
        rig.sandbox.ledger.faults.append(Fault("status", "GET", "PicklistAttributeMetadata", 503, times=1))

    during(rig, 1, late)
    with pytest.raises(RetryError):
        await rig.until("live")
    await rig.until("live")

    assert [each.event.labels[METHOD] for each in rig.log.events if each.event.fields.get("lastname") == "Late"] == ["WhatsApp"]


async def test_an_option_is_learned_with_a_row_that_was_looked_up_since_a_page_deletes_it(rig: Rig) -> None:
    people = [a_person(rig), a_person(rig)]
    await rig.loaded()
    for person in people:
        rig.sandbox.delete("contact", person)
    await rig.start()
    rig.cursor = {**(rig.cursor or {}), "page_link": (rig.cursor or {})["delta_link"]}  # in the middle of a run: deletes are looked up
    rig.sandbox.add_option("contact", METHOD, WHATSAPP, "WhatsApp")
    during(rig, 1, lambda: rig.sandbox.upsert("contact", {"contactid": people[0], "lastname": "again", METHOD: WHATSAPP}))

    events = await rig.poll()

    assert {(event.op, event.labels.get(METHOD)) for event in events} == {("upsert", "WhatsApp"), ("delete", None)}


async def test_an_option_is_learned_in_a_replay(rig: Rig) -> None:
    person = a_person(rig)
    await rig.loaded()
    await rig.poll()
    rig.sandbox.add_option("contact", METHOD, WHATSAPP, "WhatsApp")
    rig.sandbox.store.data["contact"].rows[person][METHOD] = WHATSAPP  # a row that no delta shows
    rig.ask()

    assert labels(await rig.replayed()) == ["WhatsApp"]


async def test_a_page_waits_while_the_options_cannot_be_asked_for_and_nothing_of_it_is_lost(rig: Rig) -> None:
    people = [a_person(rig), a_person(rig)]
    await rig.loaded()
    rig.sandbox.add_option("contact", METHOD, WHATSAPP, "WhatsApp")
    for person in people:
        rig.sandbox.upsert("contact", {"contactid": person, METHOD: WHATSAPP})
    rig.sandbox.delete("contact", people[1])
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "PicklistAttributeMetadata", 503, times=1))

    with pytest.raises(RetryError):
        await rig.step()
    assert rig.log.events == []
    events = await rig.poll()

    assert {(event.key, event.op, event.labels.get(METHOD)) for event in events} == {
        (people[0], "upsert", "WhatsApp"),
        (people[1], "delete", None),
    }


async def test_options_that_dynamics_refuses_to_tell_do_not_stop_the_rows(rig: Rig) -> None:
    person = a_person(rig)
    await rig.loaded()
    rig.refuse("PicklistAttributeMetadata")
    holding(rig, person, 7)

    (event,) = await rig.poll()

    assert (event.fields[METHOD], event.labels) == (7, {})


async def test_an_option_that_does_not_exist_goes_out_as_its_number_and_is_asked_for_once(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    person = a_person(rig)
    await rig.loaded()
    before = asked(rig)
    with logging_as("json"):
        for _ in range(5):
            holding(rig, person, 7)
            (event,) = await rig.poll()
            assert (event.fields[METHOD], event.labels) == (7, {})
            rig.clock.advance(BETWEEN_S + 1)
    once = asked(rig) - before

    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [line for line in found if line["event"] == "option_unknown"]
    assert once == 2  # one for each kind of choice that is mapped
    assert [(line["table"], line["columns"], line["options"]) for line in told] == [("contact", [METHOD], 1)]
    assert "7" not in str([line["columns"] for line in told])


async def test_an_option_that_does_not_exist_is_asked_for_again_later(rig: Rig) -> None:
    person = a_person(rig)
    await rig.loaded()
    holding(rig, person, WHATSAPP)
    assert labels(await rig.poll()) == [None]
    rig.sandbox.add_option("contact", METHOD, WHATSAPP, "WhatsApp")

    rig.clock.advance(AGAIN_S + 1)
    holding(rig, person, WHATSAPP)

    assert labels(await rig.poll()) == ["WhatsApp"]


async def test_ever_other_options_that_do_not_exist_are_asked_for_once_a_minute_at_most(rig: Rig) -> None:
    person = a_person(rig)
    await rig.loaded()
    before = asked(rig)

    for value in range(1000, 1012):
        holding(rig, person, value)
        await rig.poll()
        rig.clock.advance(BETWEEN_S / 6)

    assert asked(rig) - before == 2 * 2  # in two minutes, for two kinds of choice


async def test_known_options_are_never_asked_for_again(rig: Rig) -> None:
    person = a_person(rig)
    rig.sandbox.add_option("contact", METHOD, SIGNAL, None)
    await rig.loaded()
    before = asked(rig)

    for value in (1, 2, SIGNAL):
        rig.sandbox.upsert("contact", {"contactid": person, METHOD: value, HOBBIES: "1,2"})
        await rig.poll()

    assert asked(rig) == before


async def test_a_label_that_is_null_is_no_label(rig: Rig) -> None:
    person = a_person(rig)
    rig.sandbox.add_option("contact", METHOD, SIGNAL, None)
    rig.sandbox.add_option("contact", HOBBIES, 3, None)
    await rig.loaded()
    rig.sandbox.upsert("contact", {"contactid": person, METHOD: SIGNAL, HOBBIES: "1,3"})

    (event,) = await rig.poll()

    assert (event.fields[METHOD], event.fields[HOBBIES], event.labels) == (SIGNAL, "1,3", {})
