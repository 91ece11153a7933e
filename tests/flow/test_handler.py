"""The ingress handler against the Campaign stand-in: which calls a change makes, and what is known afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Any

import pytest

from bridge.kafka.avro import Encoder, load_schema
from bridge.model.errors import ParkError, RejectError, RetryError
from bridge.model.events import Record
from bridge.model.state import Known
from sandbox.web import Fault
from services.ingress.decide import change
from tests.flow.handling import CAR, CONTACTS, PERSON, VEHICLES, Rig, in_oslo, serving_rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    async with serving_rig(CONTACTS, VEHICLES) as made:
        yield made


async def test_a_new_contact_is_created_with_one_call(rig: Rig) -> None:
    result = await rig.apply(rig.contact(lastname=None))

    assert (result.outcome, rig.calls()) == ("created", [("POST", 201)])
    (write,) = rig.sandbox.writes()
    assert write["fields"] == {"externalId": PERSON, "firstName": "Ann", "location": {"city": "Oslo"}}
    assert rig.known[PERSON].exists


async def test_a_change_writes_the_changed_fields_only(rig: Rig) -> None:
    await rig.apply(rig.contact())

    result = await rig.apply(rig.contact(firstname="Anna", address1_city=None))

    assert result.outcome == "updated"
    assert rig.sandbox.writes()[-1]["method"] == "PATCH"
    assert rig.sandbox.writes()[-1]["fields"] == {"firstName": "Anna", "location": {"city": ""}}
    stored = rig.sandbox.get("profile", PERSON)
    assert stored is not None
    assert (stored["firstName"], stored["lastName"], stored["location"]["city"]) == ("Anna", "Smith", "")


async def test_what_did_not_change_costs_no_call(rig: Rig) -> None:
    await rig.apply(rig.contact())

    result = await rig.apply(rig.contact())

    assert (result.outcome, len(rig.calls())) == ("unchanged", 1)
    assert rig.known[PERSON].version == 102


async def test_an_older_event_never_overwrites_a_newer_one(rig: Rig) -> None:
    await rig.apply(rig.contact(version=500))

    result = await rig.apply(rig.contact(version=499, lane="replay", firstname="Old"))

    assert (result.outcome, len(rig.calls())) == ("stale", 1)


async def test_of_two_that_wait_the_newer_version_names_the_record(rig: Rig) -> None:
    """Whichever arrived first: it is the one that state and dead letters name."""
    old, new = (rig.handler.change(replace(rig.contact(), version=version)) for version in (5, 9))

    assert [rig.handler.merge(*pair)[1] for pair in ((old, new), (new, old), (new, new))] == [True, False, True]


async def test_a_profile_that_was_there_before_is_adopted(rig: Rig) -> None:
    rig.sandbox.put("profile", {"externalId": PERSON, "firstName": "Ann", "lastName": "Old"})

    result = await rig.apply(rig.contact())

    assert result.outcome == "updated"
    assert [method for method, _ in rig.calls()] == ["POST", "PATCH"]
    assert rig.sandbox.writes()[-1]["fields"] == {"lastName": "Smith", "location": {"city": "Oslo"}}


async def test_a_profile_written_before_a_crash_is_adopted_without_a_write(rig: Rig) -> None:
    await rig.apply(rig.contact())
    rig.known.clear()

    result = await rig.apply(rig.contact())

    assert result.outcome == "unchanged"
    assert [method for method, _ in rig.calls()] == ["POST", "POST"]
    assert (await rig.apply(rig.contact())).outcome == "unchanged"
    assert len(rig.calls()) == 2


async def test_a_profile_deleted_in_campaign_is_created_again_when_its_contact_changes(rig: Rig) -> None:
    await rig.apply(rig.contact())
    rig.sandbox.remove("profile", PERSON)

    result = await rig.apply(rig.contact(firstname="Anna"))

    assert result.outcome == "created"
    stored = rig.sandbox.get("profile", PERSON)
    assert stored is not None
    assert (stored["firstName"], stored["lastName"]) == ("Anna", "Smith")


async def test_a_refused_value_is_a_reject_without_the_value(rig: Rig) -> None:
    rig.sandbox.settings.refuse = [{"resource": "profile", "field": "lastName", "contains": "Smith"}]

    with pytest.raises(RejectError) as caught:
        await rig.apply(rig.contact())

    assert "Smith" not in str(caught.value)


async def test_a_child_without_its_parent_is_created_and_hidden(rig: Rig) -> None:
    result = await rig.apply(rig.vehicle())

    assert result.outcome == "created"
    stored = rig.sandbox.get("cusVehicle", CAR)
    assert stored is not None
    assert stored["hidden"]
    assert not rig.known[CAR].visible


async def test_a_change_of_a_hidden_child_waits_until_its_parent_is_there(rig: Rig) -> None:
    await rig.apply(rig.vehicle())
    changed = rig.vehicle(new_name="Corsa")

    for _ in range(3):
        with pytest.raises(ParkError) as caught:
            await rig.apply(changed)
        assert caught.value.code == "parent_missing"
    await rig.apply(rig.contact())
    result = await rig.apply(changed)

    assert result.outcome == "updated"
    stored = rig.sandbox.get("cusVehicle", CAR)
    assert stored is not None
    assert (stored["cusName"], stored["hidden"]) == ("Corsa", False)
    assert rig.known[CAR].visible


async def test_a_child_says_what_it_may_wait_for_and_a_parent_that_it_is_there(rig: Rig) -> None:
    await rig.apply(rig.vehicle())
    with pytest.raises(ParkError) as caught:
        await rig.apply(rig.vehicle(new_name="Corsa"))

    assert caught.value.waits_for == {PERSON}
    assert (await rig.apply(rig.contact())).made == PERSON
    assert (await rig.apply(rig.contact(firstname="Anna"))).made == ""


async def test_a_waiting_child_costs_one_call_a_try(rig: Rig) -> None:
    await rig.apply(rig.vehicle())
    changed = rig.vehicle(new_name="Corsa")

    for _ in range(4):
        with pytest.raises(ParkError):
            await rig.apply(changed)

    assert [method for method, _ in rig.calls()] == ["POST", "PATCH", "POST", "PATCH", "PATCH", "PATCH"]


async def test_a_hidden_child_from_before_waits_to_be_adopted(rig: Rig) -> None:
    await rig.apply(rig.vehicle())
    rig.known.clear()
    again = rig.vehicle(new_name="Corsa")

    with pytest.raises(ParkError):
        await rig.apply(again)
    await rig.apply(rig.contact())
    result = await rig.apply(again)

    assert result.outcome == "updated"


async def test_a_delete_is_one_call(rig: Rig) -> None:
    await rig.apply(rig.contact())

    result = await rig.apply(rig.contact(op="delete"))

    assert (result.outcome, rig.calls()[-1]) == ("deleted", ("DELETE", 200))
    assert rig.sandbox.get("profile", PERSON) is None
    assert (rig.known[PERSON].exists, rig.known[PERSON].gone, rig.known[PERSON].digests) == (False, True, {})


@pytest.mark.parametrize("outcome", ["filtered", "dead_lettered"])
async def test_a_delete_reaches_what_an_earlier_integration_made(rig: Rig, outcome: str) -> None:
    """Else a person's data would stay in Campaign for ever."""
    rig.sandbox.put("profile", {"externalId": PERSON, "firstName": "Anna"})
    rig.known[PERSON] = Known(version=1, outcome=outcome)

    result = await rig.apply(rig.contact(op="delete"))

    assert (result.outcome, rig.sandbox.get("profile", PERSON)) == ("deleted", None)


async def test_a_delete_of_what_never_was_in_campaign_is_absent_and_uses_up_no_limit(rig: Rig) -> None:
    rig.known[PERSON] = Known(version=1, outcome="filtered")

    result = await rig.apply(rig.contact(op="delete"))
    again = await rig.apply(rig.contact(op="delete"))

    assert (result.outcome, again.outcome, rig.calls()) == ("absent", "unchanged", [])


ONCE: dict[str, Any] = {**CONTACTS, "fields": [*CONTACTS["fields"][:2], {**CONTACTS["fields"][2], "apply_updates": False}]}


async def test_a_replay_that_was_overtaken_brings_what_only_it_brings() -> None:
    async with serving_rig(ONCE) as rig:
        await rig.apply(rig.contact(version=1, lane="initial"))
        replayed = rig.contact(version=5, lane="replay", firstname="Old", address1_city="Bergen")
        await rig.apply(rig.contact(version=6, firstname="Live", address1_city="Bergen"))

        result = await rig.apply(replayed)
        profile = rig.sandbox.get("profile", PERSON) or {}
        assert (result.outcome, profile["firstName"], profile["location"]["city"]) == ("updated", "Live", "Bergen")
        assert (await rig.apply(replayed)).outcome == "stale"


async def test_a_replay_that_was_overtaken_does_not_make_a_profile_of_older_values() -> None:
    async with serving_rig(ONCE) as rig:
        await rig.apply(rig.contact(version=1, lane="initial"))
        await rig.apply(rig.contact(version=6, firstname="Live"))
        rig.sandbox.remove("profile", PERSON)

        result = await rig.apply(rig.contact(version=5, lane="replay", firstname="Old", address1_city="Bergen"))

        assert (result.outcome, rig.sandbox.get("profile", PERSON)) == ("stale", None)


TAKEN = (
    "A 'Profile' with the same key 'ann@example.com' already exists. PGS-220000 PostgreSQL error: ERROR:  duplicate key value violates "
    'unique constraint "nmsrecipient_email" DETAIL:  Key (semail)=(ann@example.com) already exists.'
)


async def test_a_second_unique_key_that_is_taken_is_no_parent_that_is_missing(rig: Rig) -> None:
    """Profiles have no parents: it would have waited for a day."""
    rig.sandbox.ledger.faults.append(Fault("status", "POST", status=500, body=TAKEN))

    with pytest.raises(RetryError) as caught:
        await rig.apply(rig.contact())

    assert (caught.value.code, caught.value.attempts, isinstance(caught.value, ParkError)) == ("duplicate_key", 3, False)
    assert "ann" not in str(caught.value)


async def test_a_child_that_was_given_up_is_looked_for_again(rig: Rig) -> None:
    """Its parent may have come since."""
    assert rig.handler._records._hidden._hidden == set()
    rig.handler._records._hidden.is_hidden(f"contact/{PERSON}")

    rig.handler.rejected(rig.handler.change(rig.contact()), None)

    assert rig.handler._records._hidden._hidden == set()


@pytest.mark.parametrize("by", ["delete", "filter"])
async def test_a_parent_goes_after_what_happened_to_its_children(by: str) -> None:
    """Campaign hides a child whose parent is gone, and then its own change or delete finds nothing."""
    contacts = {**CONTACTS, "filter": {**in_oslo(), "delete_filtered_out": True}}
    async with serving_rig(contacts, VEHICLES) as rig:
        await rig.apply(rig.contact())
        await rig.apply(rig.vehicle())
        gone = rig.contact(op="delete") if by == "delete" else rig.contact(address1_city="Bergen")
        gone = replace(gone, observed_at=rig.clock.now())
        rig.settled = rig.clock.now() + timedelta(seconds=9)  # what the next poll of the other table brings is not written
        rig.clock.advance(30)
        for _ in range(2):
            with pytest.raises(ParkError) as caught:
                await rig.apply(gone)
            assert caught.value.code == "children_first"
        await rig.apply(rig.vehicle(op="delete"))
        rig.settled += timedelta(seconds=1)

        result = await rig.apply(gone)

        assert result.outcome == ("deleted" if by == "delete" else "filtered")
        assert rig.waited_for[0] == ["new_vehicle"]
        assert (rig.sandbox.get("profile", PERSON), rig.sandbox.get("cusVehicle", CAR)) == (None, None)


async def test_a_parent_waits_until_all_tables_have_been_polled_once_more(rig: Rig) -> None:
    await rig.apply(rig.contact())
    gone = replace(rig.contact(op="delete"), observed_at=rig.clock.now())
    rig.clock.advance(9.9)
    with pytest.raises(ParkError):
        await rig.apply(gone)
    rig.clock.advance(0.1)
    with pytest.raises(ParkError):
        await rig.write(replace(rig.handler.change(gone), polled_every_s=30.0))

    assert (await rig.apply(gone)).outcome == "deleted"


@pytest.mark.parametrize("late_s", [0, 3 * 3600])
async def test_a_parent_does_not_wait_for_ever(rig: Rig, late_s: float) -> None:
    """What was seen hours ago, while the writer was away, waits as well: all of it is still to come."""
    await rig.apply(rig.contact())
    rig.settled = datetime.min.replace(tzinfo=UTC)
    gone = replace(rig.contact(op="delete"), observed_at=rig.clock.now() - timedelta(seconds=late_s))
    for _ in range(2):
        with pytest.raises(ParkError) as caught:
            await rig.apply(gone)
        rig.clock.advance(1800)
    assert caught.value.budget_s == inf

    assert (await rig.apply(gone)).outcome == "deleted"


async def test_a_parent_waits_for_a_clock_that_is_a_little_ahead_and_for_none_that_is_wrong(rig: Rig) -> None:
    await rig.apply(rig.contact())
    rig.settled = datetime.min.replace(tzinfo=UTC)
    gone = rig.contact(op="delete")
    with pytest.raises(ParkError):
        await rig.apply(replace(gone, observed_at=rig.clock.now() + timedelta(seconds=1)))

    assert (await rig.apply(replace(gone, observed_at=rig.clock.now() + timedelta(hours=1)))).outcome == "deleted"


async def test_a_child_waits_for_nobody(rig: Rig) -> None:
    await rig.apply(rig.contact())
    await rig.apply(rig.vehicle())
    rig.settled = datetime.min.replace(tzinfo=UTC)

    assert (await rig.apply(rig.vehicle(op="delete"))).outcome == "deleted"


async def test_a_delete_of_a_child_that_was_seen_once_and_is_hidden_now_is_not_believed(rig: Rig) -> None:
    """Its parent was deleted in Campaign by hand: it would be counted as deleted, and be there again with its parent."""
    await rig.apply(rig.contact())
    await rig.apply(rig.vehicle())
    await rig.apply(rig.vehicle(new_name="Corsa"))
    assert rig.known[CAR].visible
    rig.sandbox.put("profile", {"externalId": "another"})
    rig.sandbox.put("cusVehicle", {"cusVehicleId": "shown", "cusContactId": "another"})
    rig.sandbox.remove("profile", PERSON)

    with pytest.raises(ParkError) as caught:
        await rig.apply(rig.vehicle(op="delete"))

    assert caught.value.code == "parent_missing"
    await rig.apply(rig.contact(firstname="Anna"))
    assert (await rig.apply(rig.vehicle(op="delete"))).outcome == "deleted"
    assert rig.sandbox.get("cusVehicle", CAR) is None


async def test_a_probe_that_is_refused_says_nothing_of_a_child_that_was_seen_once(rig: Rig) -> None:
    await rig.apply(rig.contact())
    await rig.apply(rig.vehicle())
    await rig.apply(rig.vehicle(new_name="Corsa"))
    rig.sandbox.put("cusVehicle", {"cusVehicleId": "shown", "cusContactId": PERSON})
    rig.sandbox.remove("cusVehicle", CAR)
    rig.sandbox.ledger.faults.append(Fault("status", "POST", status=500, body="RST-360011 the property is mandatory"))

    assert (await rig.apply(rig.vehicle(op="delete"))).outcome == "deleted"


async def test_a_delete_of_the_last_child_that_is_gone_already_is_believed(rig: Rig) -> None:
    """Campaign shows no other to learn from, and it has shown this one: to wait for its parent for a day would end in a dead letter."""
    await rig.apply(rig.contact())
    await rig.apply(rig.vehicle())
    await rig.apply(rig.vehicle(new_name="Corsa"))
    rig.sandbox.remove("cusVehicle", CAR)

    assert (await rig.apply(rig.vehicle(op="delete"))).outcome == "deleted"


async def test_a_delete_of_what_is_gone_already_is_done(rig: Rig) -> None:
    await rig.apply(rig.contact())
    rig.sandbox.remove("profile", PERSON)

    result = await rig.apply(rig.contact(op="delete"))

    assert (result.outcome, rig.calls()[-1]) == ("deleted", ("DELETE", 404))
    assert result.known is not None
    assert result.known.status == 404


OTHER_WORDS = ["", "there is no such record", '{"detail": "Not Found"}', "404: Not Found", "<html>Not Found</html>"]


@pytest.mark.parametrize("body", OTHER_WORDS)
async def test_a_delete_that_is_answered_404_in_other_words_is_done(rig: Rig, body: str) -> None:
    await rig.apply(rig.contact())
    rig.sandbox.remove("profile", PERSON)
    rig.sandbox.ledger.faults.append(Fault("status", "DELETE", status=404, body=body))

    assert (await rig.apply(rig.contact(op="delete"))).outcome == "deleted"


@pytest.mark.parametrize("body", OTHER_WORDS)
async def test_a_404_to_a_delete_of_a_record_that_is_there_is_not_believed(rig: Rig, body: str) -> None:
    """A proxy says so as well: the person's data would stay for ever."""
    await rig.apply(rig.contact())
    rig.sandbox.ledger.faults.append(Fault("status", "DELETE", status=404, body=body, times=2))

    for _ in range(2):
        with pytest.raises(RetryError) as caught:
            await rig.apply(rig.contact(op="delete"))
        assert (caught.value.code, caught.value.status) == ("bad_answer", 404)

    assert (await rig.apply(rig.contact(op="delete"))).outcome == "deleted"
    assert rig.sandbox.get("profile", PERSON) is None


async def test_a_delete_of_a_hidden_child_waits_for_its_parent_and_then_succeeds(rig: Rig) -> None:
    await rig.apply(rig.vehicle())
    delete = rig.vehicle(op="delete")

    with pytest.raises(ParkError):
        await rig.apply(delete)
    rig.clock.advance(10)
    with pytest.raises(ParkError):
        await rig.apply(delete)
    await rig.apply(rig.contact())
    result = await rig.apply(delete)

    assert result.outcome == "deleted"
    assert rig.sandbox.get("cusVehicle", CAR) is None


def show_another(rig: Rig) -> None:
    """A vehicle that Campaign shows, with the contact it belongs to."""
    rig.sandbox.put("profile", {"externalId": "c-other"})
    rig.sandbox.put("cusVehicle", {"cusVehicleId": "v-other", "cusName": "Leaf", "cusContactId": "c-other", "cusPrice": 12.5})


async def test_a_delete_of_a_hidden_child_waits_for_its_parent_however_long_at_one_call_a_try(rig: Rig) -> None:
    show_another(rig)
    await rig.apply(rig.vehicle())
    delete = rig.vehicle(op="delete")

    for _ in range(4):
        with pytest.raises(ParkError) as caught:
            await rig.apply(delete)
        assert (caught.value.code, caught.value.budget_s) == ("parent_missing", None)
        rig.clock.advance(3600)

    assert [method for method, _ in rig.calls()] == ["POST", "DELETE", "POST", "DELETE", "DELETE", "DELETE"]
    await rig.apply(rig.contact())
    assert (await rig.apply(delete)).outcome == "deleted"
    assert rig.sandbox.get("cusVehicle", CAR) is None


async def test_a_child_deleted_in_campaign_is_told_from_a_hidden_one_and_nothing_is_left(rig: Rig) -> None:
    """Campaign has never shown it to us, so 'not found' alone could mean either."""
    show_another(rig)
    await rig.apply(rig.vehicle())
    rig.sandbox.remove("cusVehicle", CAR)

    result = await rig.apply(rig.vehicle(op="delete"))

    assert (result.outcome, rig.sandbox.get("cusVehicle", CAR)) == ("deleted", None)
    assert rig.calls()[1:] == [("DELETE", 404), ("POST", 201), ("DELETE", 204)]


@pytest.mark.parametrize("others", [True, False])
async def test_a_delete_whose_answer_was_lost_is_done(rig: Rig, others: bool) -> None:
    if others:
        show_another(rig)
    await rig.apply(rig.contact())
    await rig.apply(rig.vehicle())
    rig.sandbox.ledger.faults.append(Fault(kind="cut_after", method="DELETE", times=1))
    delete = rig.vehicle(op="delete")

    with pytest.raises(RetryError):
        await rig.apply(delete)
    result = await rig.apply(delete)

    assert (result.outcome, rig.sandbox.get("cusVehicle", CAR)) == ("deleted", None)


async def test_a_delete_of_a_hidden_child_whose_answer_was_lost_goes_on_waiting(rig: Rig) -> None:
    show_another(rig)
    await rig.apply(rig.vehicle())
    rig.sandbox.ledger.faults.append(Fault(kind="cut_after", method="DELETE", times=1))
    delete = rig.vehicle(op="delete")

    with pytest.raises(RetryError):
        await rig.apply(delete)
    for _ in range(2):
        with pytest.raises(ParkError):
            await rig.apply(delete)
    await rig.apply(rig.contact())
    await rig.apply(delete)

    assert rig.sandbox.get("cusVehicle", CAR) is None


async def test_a_hidden_child_that_waits_is_not_believed_gone_after_a_lost_answer(rig: Rig) -> None:
    """No other vehicle to be seen: but an earlier try was answered, and that one says more than the lost one."""
    await rig.apply(rig.vehicle())
    delete = rig.vehicle(op="delete")
    with pytest.raises(ParkError):
        await rig.apply(delete)
    rig.sandbox.ledger.faults.append(Fault(kind="cut_after", method="DELETE", times=1))

    with pytest.raises(RetryError):
        await rig.apply(delete)
    with pytest.raises(ParkError):
        await rig.apply(delete)


async def test_an_adopted_record_with_a_decimal_costs_no_write() -> None:
    """Answers are read with exact decimals, 1234567.1 is not exactly the float of that name."""
    priced = {**VEHICLES, "fields": [*VEHICLES["fields"], {"source": "new_price", "target": "cusPrice"}]}
    async with serving_rig(CONTACTS, priced) as rig:
        await rig.apply(rig.contact())
        rig.sandbox.put("cusVehicle", {"cusVehicleId": CAR, "cusName": "Astra", "cusContactId": PERSON, "cusPrice": 1234567.1})

        result = await rig.apply(rig.vehicle(new_price="1234567.1000"))

        assert result.outcome == "unchanged"
        assert "PATCH" not in [method for method, _ in rig.calls()]


async def test_a_refused_event_without_a_version_does_not_forget_the_one_seen(rig: Rig) -> None:
    await rig.apply(rig.contact(version=120))

    refused = rig.handler.rejected(change(replace(rig.contact(), version=None)), rig.known[PERSON])

    assert refused.version == 120


async def test_a_row_deleted_and_created_again_is_created(rig: Rig) -> None:
    await rig.apply(rig.contact())
    await rig.apply(rig.contact(op="delete"))

    assert (await rig.apply(rig.contact(firstname="Again"))).outcome == "created"


async def test_a_row_that_leaves_the_filter_stays_without_the_option() -> None:
    async with serving_rig({**CONTACTS, "filter": in_oslo()}) as rig:
        await rig.apply(rig.contact())

        result = await rig.apply(rig.contact(address1_city="Bergen", firstname="Anna"))

        assert (result.outcome, len(rig.calls())) == ("filtered", 1)
        stored = rig.sandbox.get("profile", PERSON)
        assert stored is not None
        assert stored["firstName"] == "Ann"


async def test_a_row_that_leaves_the_filter_is_deleted_with_the_option() -> None:
    async with serving_rig({**CONTACTS, "filter": {**in_oslo(), "delete_filtered_out": True}}) as rig:
        await rig.apply(rig.contact())

        left = await rig.apply(rig.contact(address1_city="Bergen"))
        again = await rig.apply(rig.contact(address1_city="Bergen", firstname="Anna"))
        back = await rig.apply(rig.contact())

        assert [left.outcome, again.outcome, back.outcome] == ["filtered", "filtered", "created"]
        assert [method for method, _ in rig.calls()] == ["POST", "DELETE", "POST"]


async def test_a_row_that_never_passed_the_filter_costs_no_call() -> None:
    async with serving_rig({**CONTACTS, "filter": {**in_oslo(), "delete_filtered_out": True}}) as rig:
        result = await rig.apply(rig.contact(address1_city="Bergen"))

        assert (result.outcome, rig.calls()) == ("filtered", [])


async def test_deletes_are_ignored_without_the_option() -> None:
    async with serving_rig({**CONTACTS, "apply_deletes": False}) as rig:
        await rig.apply(rig.contact())

        result = await rig.apply(rig.contact(op="delete"))

        assert (result.outcome, len(rig.calls())) == ("delete_ignored", 1)


async def test_an_event_under_another_key_or_table_than_its_own_is_a_reject(rig: Rig) -> None:
    schema = load_schema("ChangeEvent")
    value = Encoder(schema, rig.registry.register("x-value", schema)).encode(rig.contact())
    places = [("ingress.changes.contact", PERSON), ("ingress.changes.contact", CAR), ("ingress.replay.new_vehicle", PERSON)]
    right, *wrong = [Record(topic, 0, 0, 0, key.encode(), value) for topic, key in places]

    decoded = await rig.handler.decode(right)

    assert decoded.event.key == PERSON
    for each in wrong:
        with pytest.raises(RejectError) as caught:
            await rig.handler.decode(each)
        assert (caught.value.code, caught.value.stage) == ("misplaced", "decode")


@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
async def test_a_page_with_status_200_is_no_answer_to_a_write(rig: Rig, method: str) -> None:
    """A gateway in trouble says 200 as well; what it swallowed was not written."""
    if method != "POST":
        await rig.apply(rig.contact())
    event = rig.contact(op="delete") if method == "DELETE" else rig.contact(firstname="Anna")
    page = "<html><body>We will be back soon</body></html>"
    rig.sandbox.ledger.faults.append(Fault("status", method, "/profile", 200, page, "text/html", times=1))

    with pytest.raises(RetryError) as caught:
        await rig.apply(event)

    assert caught.value.code == "bad_answer"
