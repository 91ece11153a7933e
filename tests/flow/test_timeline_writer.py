"""The egress handler against the Dynamics stand-in over HTTP, with a clock of our own."""

from __future__ import annotations

import random

import pytest
from structlog.testing import capture_logs

from bridge.flow.ports import Result
from bridge.kafka.avro import Encoder, load_schema
from bridge.model.clock import SystemClock
from bridge.model.errors import HaltError, ParkError, RejectError, RetryError
from bridge.model.events import Record
from sandbox.dynamics.tables import Column
from sandbox.web import Fault
from tests.flow.timeline import NOBODY, a_rig


async def test_an_event_is_one_activity_however_often_it_comes() -> None:
    async with a_rig() as rig:
        handler = await rig.handler()
        results = [(await rig.write(handler, rig.event()))[0] for _ in range(3)]

        assert [result.outcome for result in results if isinstance(result, Result)] == ["created", "unchanged", "unchanged"]
        (row,) = rig.sandbox.timeline(rig.person)
        assert (row["activitytypecode"], row["subject"]) == ("adobe_emailsend", "Campaign Name: CAMP2010; Delivery Name: DM200")
        assert (row["adobe_mirrorpageurl"], row["statecode"]) == ("https://mirror.example/1", 0)


async def test_activities_are_completed_where_the_setting_says_so() -> None:
    async with a_rig(DYNAMICS_COMPLETION="completed") as rig:
        handler = await rig.handler()
        first = await rig.write(handler, rig.event())
        again = await rig.write(handler, rig.event())

        (row,) = rig.sandbox.timeline(rig.person)
        assert (row["statecode"], row["statuscode"]) == (1, 2)
        assert [each.outcome for each in (*first, *again) if isinstance(each, Result)] == ["created", "unchanged"]


async def test_one_without_a_contact_among_a_hundred_waits_alone_and_goes_when_the_contact_has_come() -> None:
    async with a_rig() as rig:
        handler = await rig.handler()
        events = [rig.event(number, contact_key=NOBODY if number == 50 else rig.person) for number in range(100)]
        results = await rig.write(handler, *events)

        parked = [number for number, result in enumerate(results) if isinstance(result, ParkError)]
        assert parked == [50]
        assert isinstance(results[50], ParkError) and results[50].code == "contact_missing"
        assert len(rig.sandbox.timeline(rig.person)) == 99
        rig.sandbox.upsert("contact", {"contactid": NOBODY, "lastname": "Late"})
        (late,) = await rig.write(handler, events[50])
        assert isinstance(late, Result) and late.outcome == "created"


async def test_a_token_that_is_revoked_in_the_middle_is_replaced() -> None:
    async with a_rig() as rig:
        handler = await rig.handler()
        await rig.write(handler, rig.event(1))
        rig.sandbox.tokens.revoke()
        results = await rig.write(handler, *(rig.event(number) for number in range(2, 30)))

        assert {result.outcome for result in results if isinstance(result, Result)} == {"created"}
        assert len(rig.sandbox.timeline(rig.person)) == 29


async def test_a_page_with_status_200_is_no_answer_to_a_batch() -> None:
    async with a_rig() as rig:
        handler = await rig.handler()
        page = "<html><body>We will be back soon</body></html>"
        rig.sandbox.ledger.faults.append(Fault("status", "POST", "batch", 200, page, "text/html", times=1))
        (refused,) = await rig.write(handler, rig.event(1))

        assert isinstance(refused, RetryError) and refused.code == "bad_answer"


async def test_a_batch_that_is_too_large_for_a_proxy_is_sent_one_by_one() -> None:
    async with a_rig() as rig:
        handler = await rig.handler()
        rig.sandbox.ledger.faults.append(Fault("status", "POST", "batch", 413, "<html>too large</html>", "text/html", times=1))
        events = [rig.event(number) for number in range(5)]
        refused = await rig.write(handler, *events)
        asked = rig.sandbox.ledger.requests["POST $batch"]
        written = await rig.write(handler, *events)

        assert {(type(each), getattr(each, "status", 0)) for each in refused} == {(RetryError, 413)}
        assert {each.outcome for each in written if isinstance(each, Result)} == {"created"}
        assert rig.sandbox.ledger.requests["POST $batch"] - asked > 1  # half of ten would have been one


async def test_one_event_that_is_too_large_for_a_proxy_is_no_refusal_of_dynamics() -> None:
    async with a_rig() as rig:
        handler = await rig.handler()
        rig.sandbox.ledger.faults.append(Fault("status", "POST", "batch", 413, "<html>too large</html>", "text/html", times=1))
        (refused,) = await rig.write(handler, rig.event(1))

        assert isinstance(refused, RetryError) and (refused.code, refused.attempts is not None) == ("bad_answer", True)


async def test_everything_that_is_missing_is_named_at_once_with_the_way_out() -> None:
    async with a_rig() as rig:
        rig.sandbox.remove_table("adobe_emailopen")
        rig.sandbox.remove_column("adobe_emailurlclick", "adobe_trackingurl")
        with pytest.raises(HaltError) as halted:
            await rig.handler()

        assert (halted.value.code, halted.value.origin) == ("target_tables_missing", "target")
        for named in ("adobe_emailopen", "DYNAMICS_OPEN_TABLE", "adobe_trackingurl", "DYNAMICS_TRACKING_URL_COLUMN"):
            assert named in str(halted.value)


async def test_columns_in_which_texts_will_be_cut_are_named_once() -> None:
    async with a_rig(DYNAMICS_DELIVERY_COLUMN="xyz_name") as rig:
        for table in ("adobe_emailsend", "adobe_emailopen", "adobe_emailurlclick", "adobe_emailbounce"):
            rig.sandbox.add_column(table, Column("xyz_name", "String", "Name", length=99 if table == "adobe_emailopen" else 100))
            rig.sandbox.remove_column(table, "adobe_mirrorpageurl")
            rig.sandbox.add_column(table, Column("adobe_mirrorpageurl", "String", "Mirror Page URL", length=2000))
        with capture_logs() as lines:
            await rig.handler()

        warned = [(line["log_level"], line["table"], line["column"]) for line in lines if line["event"] == "column_short"]
        assert warned == [("warning", "adobe_emailopen", "xyz_name"), ("warning", "adobe_emailurlclick", "adobe_trackingurl")]


@pytest.mark.parametrize("path", ["Attributes", "contact"])
async def test_metadata_that_are_refused_are_the_targets_fault(path: str) -> None:
    async with a_rig() as rig:
        rig.sandbox.ledger.faults.append(Fault("status", "GET", path, 400, '{"error":{"code":"0x80060888"}}', "application/json"))
        with pytest.raises(HaltError) as halted:
            await rig.handler()

        assert (halted.value.code.partition("_")[0], halted.value.origin) == ("target", "target")


async def test_tables_and_columns_have_the_names_of_the_settings() -> None:
    async with a_rig(DYNAMICS_SEND_TABLE="xyz_sent", DYNAMICS_SEND_DATE_COLUMN="xyz_when") as rig:
        rig.sandbox.rename_table("adobe_emailsend", "xyz_sent", "xyz_sentset")
        rig.sandbox.rename_column("xyz_sent", "adobe_datesent", "xyz_when")
        await rig.write(await rig.handler(), rig.event())

        (row,) = rig.sandbox.timeline(rig.person)
        assert (row["activitytypecode"], row["xyz_when"]) == ("xyz_sent", "2026-03-01T12:00:00Z")


async def test_a_start_gets_through_although_the_limits_are_small() -> None:
    async with a_rig(SystemClock()) as rig:  # the stand-in's windows pass in real time
        rig.sandbox.settings.change({"throttle": True, "limit_requests": 8, "window_s": 0.2, "retry_after_growth_s": 0.0})

        assert await rig.handler()


async def test_a_letter_of_the_reader_is_read_with_settings_and_selection_as_they_are() -> None:
    async with a_rig() as rig:
        handler = await rig.handler()
        value = (
            b'{"type":"directMarketing.emailOpened","eventid":"e1","data":{"xdm:timestamp":"2026-03-01T12:00:00Z","acs":{"externalId":"%s"}}}'
            % rig.person.encode()
        )
        letter = Record("egress.email-events", 0, 1, 0, b"e1", value)
        event = await handler.decode(letter)
        with pytest.raises(RejectError) as switched_off:
            await (await rig.handler("send", "click")).decode(letter)

        assert (event.kind, event.contact_key) == ("open", rig.person)
        assert (switched_off.value.code, switched_off.value.stage) == ("not_this_event", "map")


async def test_an_event_travels_through_avro_as_it_is() -> None:
    async with a_rig() as rig:
        handler, schema, event = await rig.handler(), load_schema("EmailEvent"), rig.event(random.randrange(99))
        value = Encoder(schema, rig.registry.register("egress.email-events-value", schema)).encode(event)

        assert await handler.decode(Record("egress.email-events", 0, 1, 0, rig.person.encode(), value)) == event
