"""What an event of the journal means (F160–F171): kind, whose, when, the same again or another one; and the activity that tells of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.dynamics.activities import ActivityTable
from bridge.model.errors import RejectError
from bridge.model.events import EmailEvent, Kind
from sandbox.campaign import CampaignSandbox
from services.egress.activity import Activities, activity_id, shortened, wanted_tables
from services.egress.payload import KINDS, Dropped, Payloads, _moment
from services.egress.pointers import Pointers
from services.egress.settings import EventSettings, TimelineSettings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PERSON = "11111111-2222-4333-8444-555555555555"
PAYLOADS = Payloads(EventSettings())


def delivered(envelope: str = "cloudevents", **members: Any) -> Any:
    """One event as the journal of the stand-in gives it."""
    sandbox = CampaignSandbox()
    sandbox.settings.change({"journal_envelope": envelope})
    sandbox.emit([{"kind": "send", "external_id": PERSON, "at": "2026-03-01T11:30:00+00:00"} | members])
    return sandbox.journal()[0]["event"]


def read(event: Any, *kinds: Kind) -> EmailEvent | Dropped:
    return PAYLOADS.read(event, kinds or KINDS, NOON)


def found(event: Any) -> EmailEvent:
    result = read(event)
    assert isinstance(result, EmailEvent)
    return result


@pytest.mark.parametrize("envelope", ["cloudevents", "pipeline"])
def test_a_payload_that_is_a_text_of_json_is_the_same_event(envelope: str) -> None:
    event = delivered(envelope, kind="click", campaign="CAMP2010", delivery="DM200", url="https://shop.example/x")
    as_text = {
        **event,
        ("data" if envelope == "cloudevents" else "body"): json.dumps(event["data" if envelope == "cloudevents" else "body"]),
    }

    assert found(as_text) == found(event)


def test_half_an_emoji_in_a_text_of_json_is_made_storable_like_all_others() -> None:
    """The answer's own texts are mended where it comes in; in this one it is an escape yet."""
    event = delivered(kind="send", campaign="CAMP2010")

    told = found({**event, "data": json.dumps(event["data"]).replace("CAMP2010", r"Hi \ud83d")})

    assert told.campaign_name == "Hi \ufffd"


@pytest.mark.parametrize("text", ["", "no JSON", "{", "null", "7", "[" * 100_000, '{"a": NaN}'])
def test_a_payload_that_is_another_text_is_refused_as_one_without_a_contact(text: str) -> None:
    with pytest.raises(RejectError) as caught:
        read({**delivered(), "data": text})

    assert caught.value.code == "contact_key_missing"


def test_a_profile_that_is_not_from_dynamics_is_known_in_a_text_of_json_too() -> None:
    event = delivered(external_id="")

    assert PAYLOADS.names_nobody({**event, "data": json.dumps(event["data"])})


@pytest.mark.parametrize(
    "value",
    [
        *(1_772_364_600, "1772364600", 1_772_364_600.25, "1772364600.25", 1_772_364_600_250, "1772364600250"),
        *(1_772_364_600_250_000, 1_772_364_600_250_000_000, "2026-03-01T11:30:00.25Z", " 2026-03-01 12:30:00+01:00 "),
    ],
)
def test_a_number_is_seconds_or_a_part_of_one_by_its_size(value: Any) -> None:
    moment = _moment(Decimal(str(value)) if isinstance(value, float) else value)

    assert moment is not None
    assert moment.replace(microsecond=0) == datetime(2026, 3, 1, 11, 30, tzinfo=UTC)
    assert moment.microsecond in (0, 250_000)


@pytest.mark.parametrize("value", [0, "0", -1, "-5", True, None, "", "soon", "\xb2", [], {}, "1" * 400, 10**400])
def test_what_is_no_time_is_not_the_year_1970(value: Any) -> None:
    assert _moment(value) is None


@pytest.mark.parametrize("envelope", ["cloudevents", "pipeline"])
def test_f162_what_an_event_carries_in_either_envelope(envelope: str) -> None:
    event = found(delivered(envelope, kind="click", campaign="CAMP2010", delivery="DM200", url="https://shop.example/x"))

    assert (event.kind, event.contact_key, event.campaign_name, event.delivery_name) == ("click", PERSON, "CAMP2010", "DM200")
    assert (event.occurred_at, event.observed_at) == (datetime(2026, 3, 1, 11, 30, tzinfo=UTC), NOON)
    assert event.tracking_url == "https://shop.example/x"
    assert event.mirror_page_url


def test_f170_only_a_click_has_an_address_that_was_clicked() -> None:
    kinds: tuple[Kind, ...] = ("send", "open", "bounce")
    assert [found(delivered(kind=kind)).tracking_url for kind in kinds] == [None, None, None]


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"kind": "delivered"}, "other_event"),
        ({"kind": "unsubscribe"}, "other_event"),
        ({"kind": "soft_bounce"}, "other_event"),
        *[({"member": member}, "not_real") for member in ("proof", "test", "seed", "control")],
    ],
)
def test_f161_what_belongs_on_no_timeline_is_dropped_with_its_reason(members: dict[str, Any], why: str) -> None:
    assert read(delivered(**members)) == Dropped(why)  # type: ignore[arg-type]


def test_f161_a_bounce_is_hard_by_its_payload_whatever_its_code() -> None:
    event = delivered(kind="bounce")
    assert found(event).kind == "bounce"
    marketing = event["data"]["xdm:directMarketing"]
    marketing["xdm:bounces"] = marketing.pop("xdm:nonDeliverables")

    assert read(event) == Dropped("soft_bounce")


def test_f160_only_selected_kinds() -> None:
    assert read(delivered(kind="open"), "send", "click") == Dropped("not_selected")


@pytest.mark.parametrize(("key", "code"), [(None, "contact_key_missing"), ("", "contact_key_missing"), ("C-4711", "contact_key_unusable")])
def test_an_event_without_a_contact_is_refused_with_the_reason_and_no_value(key: str | None, code: str) -> None:
    with pytest.raises(RejectError) as refused:
        read(delivered(external_id=key))

    assert (refused.value.code, refused.value.stage) == (code, "map")
    assert "4711" not in str(refused.value)


def test_the_same_occurrence_is_the_same_event_however_it_is_delivered() -> None:
    same = {"kind": "open", "tracking_log_id": "77"}
    ids = {found(delivered(**same)).event_id, found(delivered("pipeline", **same)).event_id, found(delivered(**same, id="other")).event_id}

    assert len(ids) == 1


def test_other_occurrences_are_other_events() -> None:
    base = {"kind": "open", "tracking_log_id": "77"}
    others = [
        base,
        base | {"tracking_log_id": "78"},
        base | {"at": "2026-03-01T11:30:01+00:00"},
        base | {"kind": "click"},
        base | {"external_id": PERSON.replace("1", "2")},
    ]

    assert len({found(delivered(**each)).event_id for each in others}) == len(others)


def test_without_a_line_of_the_log_the_envelopes_id_counts() -> None:
    first, again, other = delivered(id="a"), delivered(id="a"), delivered(id="b")
    for event in (first, again, other):
        event["data"]["acs"]["broadLogId"] = ""

    assert found(first).event_id == found(again).event_id != found(other).event_id


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["acs", "externalId", "xdm:timestamp", "timestamp", "x/delivery", "data", "message", "proofMember"])
    return st.dictionaries(names, inner, max_size=4)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner) | _objects(inner))


@given(JSON)
def test_whatever_lies_in_the_journal_is_dropped_or_refused(event: Any) -> None:
    outcomes: list[object] = [read(event)]
    try:
        outcomes.append(read({"type": "directMarketing.emailOpened", "data": event}))
    except RejectError as exc:
        outcomes.append(exc)

    assert isinstance(outcomes[0], Dropped)
    assert isinstance(outcomes[1], EmailEvent | Dropped | RejectError)


def test_a_name_matches_behind_its_prefix_unless_two_would() -> None:
    at = Pointers("/delivery/name")
    assert at.first({"https://ns.example/delivery": {"xdm:name": "DM1"}}) == "DM1"
    assert at.first({"a:delivery": {"name": "x"}, "b:delivery": {"name": "y"}}) is None
    assert at.first({"delivery": {"name": "own"}, "b:delivery": {"name": "y"}}) == "own"


# -- the activity -----------------------------------------------------------------------------------------------------------------


def table(kind: Kind, completed: int | None = None, **lengths: int) -> ActivityTable:
    name = wanted_tables(TimelineSettings())[kind].name
    return ActivityTable(name, f"{name}s", "activityid", f"regardingobjectid_contact_{name}", "contacts", lengths, completed, False)


def body(kind: Kind, **lengths: int) -> dict[str, Any]:
    event = found(delivered(kind=kind, campaign="CAMP2010", delivery="DM200", url="https://shop.example/" + "x" * 40))
    return dict(Activities(TimelineSettings(), {kind: table(kind, **lengths)}, "/api/data/v9.2/").create(event)[0].body)


def test_f164_f166_subject_regarding_and_columns() -> None:
    sent = body("send")

    assert sent["subject"] == "Campaign Name: CAMP2010; Delivery Name: DM200"
    assert sent["regardingobjectid_contact_adobe_emailsend@odata.bind"] == f"/contacts({PERSON})"
    assert (sent["adobe_campaignname"], sent["adobe_deliveryname"]) == ("CAMP2010", "DM200")
    assert sent["adobe_datesent"] == "2026-03-01T11:30:00Z"
    assert "adobe_trackingurl" not in sent
    assert body("click")["adobe_trackingurl"].startswith("https://shop.example/")


def test_lengths_of_columns_are_respected() -> None:
    cut = body("click", subject=20, adobe_trackingurl=30)

    assert (len(cut["subject"]), len(cut["adobe_trackingurl"])) == (20, 30)


@given(st.text(max_size=30), st.integers(1, 20))
def test_no_text_is_longer_than_dynamics_counts_nor_broken(text: str, length: int) -> None:
    cut = shortened(text, length)

    assert len(cut.encode("utf-16-le")) <= 2 * length
    assert not any(ord(each) < 32 for each in cut)


def test_the_id_of_an_activity_comes_from_its_event_and_completion_goes_with_it() -> None:
    event = found(delivered())
    create, complete = Activities(TimelineSettings(), {"send": table("send", completed=2)}, "/crm/api/data/v9.2/").create(event)

    assert create.body["activityid"] == activity_id(event.event_id) == activity_id(found(delivered()).event_id)
    assert (create.method, create.path) == ("POST", "/crm/api/data/v9.2/adobe_emailsends")
    assert (complete.method, complete.path, complete.body) == ("PATCH", "$1", {"statecode": 1, "statuscode": 2})
