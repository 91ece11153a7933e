"""Opt-outs of ingress where things come together or again: merged events, crashes between two steps, records that go and return."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.flow.ports import Result
from bridge.kafka.avro import Encoder, load_schema
from bridge.model.errors import RetryError
from bridge.model.events import ChangeEvent, Lane, Record
from sandbox.web import Fault
from services.ingress.decide import release
from tests.flow.consenting import (
    DELETING,
    EMAIL,
    PHONE,
    WITHOUT_FLAGS,
    consent_rig,
    flag,
    let_go,
    minute,
    proofs,
    row,
    says_no,
    stored,
)
from tests.flow.handling import PERSON, VEHICLES, Rig

LANES: tuple[Lane, ...] = ("live", "initial", "replay", "resync")


class KafkaAway(list[Any]):
    """What is proved while Kafka is away once."""

    def append(self, proof: Any) -> None:
        if not self and not getattr(self, "struck", False):
            self.struck = True
            raise RetryError("Kafka is away", code="unavailable")
        super().append(proof)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with consent_rig() as made:
        yield made


async def together(rig: Rig, waiting: ChangeEvent, arrived: ChangeEvent) -> Result:
    """Both waited for the same call."""
    return await rig.write(rig.handler.merge(rig.handler.change(waiting), rig.handler.change(arrived))[0])


async def opted_out(rig: Rig, **columns: Any) -> None:
    await rig.apply(row(rig))
    minute(rig)
    await rig.apply(row(rig, **(columns or {"donotemail": True})))
    minute(rig)


async def held(rig: Rig, event: ChangeEvent) -> None:
    rig.limit = 0
    await rig.apply(event)
    rig.limit = 100
    minute(rig)


async def released_by_record(rig: Rig, kind: str, flags: str) -> None:
    """As control publishes it (consent.md, API)."""
    event = ChangeEvent("contact", PERSON, "upsert", "live", None, None, rig.clock.now(), {})
    schema = load_schema("ChangeEvent")
    value = Encoder(schema, rig.registry.register("ingress.changes.contact-value", schema)).encode(event)
    headers = [("guard", b"released"), ("kind", kind.encode()), ("flags", flags.encode()), ("held", b"0-0")]
    await rig.write(await rig.handler.decode(Record("ingress.changes.contact", 0, 0, 0, PERSON.encode(), value, headers)))


@pytest.mark.parametrize("lane", LANES[1:])
async def test_a_false_that_is_not_live_takes_nothing_back_beside_a_live_event(rig: Rig, lane: Lane) -> None:
    """Of a live change of another column, and of what a load shows of the row then."""
    await opted_out(rig)
    live, not_live = row(rig, donotemail=True, firstname="Anne"), row(rig, lane=lane, firstname="Anne")

    await together(rig, live, not_live)

    assert (flag(rig), stored(rig)["firstName"]) == (True, "Anne")
    minute(rig)
    await rig.apply(row(rig, firstname="Anna"))
    assert flag(rig)


@pytest.mark.parametrize("lane", LANES[1:])
async def test_a_live_event_makes_no_word_of_the_false_that_a_load_has_shown_before(rig: Rig, lane: Lane) -> None:
    await opted_out(rig)
    not_live, live = row(rig, lane=lane), row(rig, firstname="Anne")

    await together(rig, not_live, live)

    assert (flag(rig), stored(rig)["firstName"]) == (True, "Anne")


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("then", [None, False])
async def test_an_opt_out_is_not_lost_beside_what_is_no_word(rig: Rig, lane: Lane, then: bool | None) -> None:
    """One by one the TRUE is written, and neither an empty column nor a FALSE of a replay takes it back: together as well."""
    await rig.apply(row(rig))
    minute(rig)
    said, later = row(rig, lane=lane, donotemail=True), row(rig, lane="replay", donotemail=then, firstname="Anne")

    await together(rig, said, later)

    assert (flag(rig), stored(rig)["firstName"]) == (True, "Anne")


async def test_an_opt_out_that_waits_with_its_own_end_is_over(rig: Rig) -> None:
    await rig.apply(row(rig))
    minute(rig)

    await together(rig, row(rig, donotemail=True), row(rig))

    assert not flag(rig)


@pytest.mark.parametrize("way", ["deleted", "left the filter"])
async def test_an_opt_out_beside_the_end_of_its_record_comes_back_with_it(way: str) -> None:
    async with consent_rig(DELETING) as rig:
        await rig.apply(row(rig))
        minute(rig)
        said = row(rig, donotemail=True)
        end = row(rig, op="delete") if way == "deleted" else row(rig, donotemail=True, address1_city="Bergen")

        await together(rig, said, end)
        assert rig.sandbox.get("profile", PERSON) is None
        minute(rig)
        await rig.apply(row(rig, donotemail=None))

        assert flag(rig)


async def test_what_was_known_of_a_profile_that_is_gone_comes_back_after_a_delete(rig: Rig) -> None:
    rig.sandbox.put("profile", {"externalId": PERSON, EMAIL: True})
    await rig.apply(row(rig))
    rig.sandbox.remove("profile", PERSON)
    minute(rig)
    await rig.apply(row(rig, op="delete"))
    minute(rig)

    await rig.apply(row(rig))

    assert flag(rig)


@pytest.mark.parametrize("crash", ["answer lost", "killed before the state was kept"])
async def test_a_delete_that_comes_again_forgets_no_opt_out(rig: Rig, crash: str) -> None:
    await rig.apply(row(rig))
    minute(rig)
    says_no(rig)
    minute(rig)
    before, event = rig.known[PERSON], row(rig, op="delete")
    if crash == "answer lost":
        rig.sandbox.ledger.faults.append(Fault("cut_after", "DELETE", times=1))
        with pytest.raises(RetryError):
            await rig.apply(event)
    else:
        await rig.apply(event)
        rig.known[PERSON] = rig.kept.get(PERSON, before)  # what had reached Kafka by then
    assert rig.sandbox.get("profile", PERSON) is None
    await rig.apply(event)
    minute(rig)

    await rig.apply(row(rig))

    assert flag(rig)


@pytest.mark.parametrize("said", [True, False])
async def test_a_proof_that_kafka_did_not_take_at_once_is_made_up_for(rig: Rig, said: bool) -> None:
    """consent.md rule 8: for each decision, when it was written and with which answer."""
    await (rig.apply(row(rig)) if said else opted_out(rig))
    minute(rig)
    rig.proofs = KafkaAway()
    event = row(rig, donotemail=said)

    with pytest.raises(RetryError):
        await rig.apply(event)
    await rig.apply(event)

    assert flag(rig) is said
    assert [dict(decision.flags) for decision, _ in proofs(rig, outcome="written")] == [{EMAIL: said}]


async def test_a_held_lower_is_not_let_go_by_a_crash_and_a_newer_event_beside_it(rig: Rig) -> None:
    await opted_out(rig)
    before, event = rig.known[PERSON], row(rig)
    await held(rig, event)
    rig.known[PERSON] = before
    minute(rig, 61)

    await together(rig, event, row(rig, firstname="Anna"))

    assert (flag(rig), stored(rig)["firstName"]) == (True, "Anna")


async def test_a_release_lets_go_its_own_flags_only(rig: Rig) -> None:
    await opted_out(rig, donotemail=True, donotphone=True)
    await held(rig, row(rig, donotphone=True))
    await held(rig, row(rig))
    assert [headers["flags"] for _, headers in proofs(rig, guard="held")] == [EMAIL, PHONE]

    await released_by_record(rig, "release", EMAIL)

    assert (flag(rig), flag(rig, PHONE)) == (False, True)


async def test_a_release_is_read_from_its_record(rig: Rig) -> None:
    await opted_out(rig)
    await held(rig, row(rig))

    await released_by_record(rig, "release", EMAIL)

    assert not flag(rig)


@pytest.mark.parametrize("first", ["release", "change"])
@pytest.mark.parametrize("again", [True, False])
async def test_a_release_beside_a_change(rig: Rig, first: str, again: bool) -> None:
    """`again`: the change says no once more, and there is nothing to release."""
    await opted_out(rig)
    await held(rig, row(rig))
    let = release(ChangeEvent("contact", PERSON, "upsert", "live", None, None, rig.clock.now(), {}), "release")
    change = rig.handler.change(row(rig, donotemail=again, firstname="Anna"))

    await rig.write((rig.handler.merge(let, change) if first == "release" else rig.handler.merge(change, let))[0])

    assert (flag(rig), stored(rig)["firstName"]) == (again, "Anna")


async def test_an_older_event_does_not_make_a_held_delete_void(rig: Rig) -> None:
    """Only what is newer does."""
    await rig.apply(row(rig))
    late = row(rig, firstname="Late")
    await held(rig, row(rig, op="delete"))

    assert (await rig.apply(late)).outcome == "stale"

    assert proofs(rig, voids="delete") == []
    await let_go(rig, "delete")
    assert rig.sandbox.get("profile", PERSON) is None


async def test_a_held_delete_is_void_when_a_record_without_flags_returns() -> None:
    async with consent_rig(WITHOUT_FLAGS) as rig:
        await rig.apply(row(rig))
        await held(rig, row(rig, op="delete"))

        await rig.apply(row(rig, firstname="Anna"))
        await let_go(rig, "delete")

        assert stored(rig)["firstName"] == "Anna"
        assert len(proofs(rig, voids="delete")) == 1


async def test_a_held_delete_of_another_resource_is_void_when_its_record_returns() -> None:
    async with consent_rig(VEHICLES) as rig:
        rig.sandbox.put("profile", {"externalId": PERSON})
        await rig.apply(rig.vehicle())
        await held(rig, rig.vehicle(op="delete"))

        vehicle = rig.vehicle(new_name="Corsa")
        await rig.apply(vehicle)
        await rig.write(release(ChangeEvent(vehicle.table, vehicle.key, "upsert", "live", None, None, rig.clock.now(), {}), "delete"))

        assert [each["cusName"] for each in rig.sandbox.rows("cusVehicle")] == ["Corsa"]


@pytest.mark.parametrize("lane", LANES[1:])
async def test_what_is_kept_in_a_replay_has_a_proof(rig: Rig, lane: Lane) -> None:
    await opted_out(rig)
    rig.proofs.clear()

    result = await rig.apply(row(rig, lane=lane))

    assert result.more.get("optout_kept") == 1
    ((decision, _),) = proofs(rig, outcome="kept")
    assert decision.inputs[EMAIL]["dynamics"] is False
