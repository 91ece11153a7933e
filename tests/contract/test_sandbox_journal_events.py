"""sandbox.campaign, what is in the I/O Events journal: payloads, envelopes, duplicates, broken events and the traffic."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from sandbox.campaign import CampaignSandbox
from sandbox.web import serving

C = "https://ns.adobe.com/experience/campaign/"
JOURNAL = "/events/organizations/4711/integrations/815/sandbox-registration"


@pytest.fixture
def sandbox() -> CampaignSandbox:
    return CampaignSandbox()


@pytest_asyncio.fixture
async def api(sandbox: CampaignSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(sandbox.app()) as url, httpx.AsyncClient(base_url=url, headers=sandbox.journal_headers()) as client:
        yield client


async def test_s35_a_click_in_a_cloud_event(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.put("profile", {"externalId": "c-1", "email": "ann@example.com"})
    click = {"kind": "click", "external_id": "c-1", "campaign": "2019LoyaltyCamp", "delivery": "DM200", "url": "https://x.example/?a=1"}
    more = {"at": "2026-01-31T10:00:00+00:00", "mirror_page_url": "https://m.example/1", "broad_log_id": "7", "tracking_log_id": "8"}
    [event_id] = sandbox.emit([{**click, **more}])
    [entry] = (await api.get(JOURNAL)).json()["events"]
    event, data = entry["event"], entry["event"].pop("data")

    assert event == {
        "specversion": "1.0",
        "type": "directMarketing.emailClicked",
        "source": "urn:acs:sandbox",
        "id": event_id,
        "time": "2026-01-31T10:00:00+00:00",
        "datacontenttype": "application/json",
        "eventid": event_id,
        "event_id": event_id,
        "recipientclientid": "sandbox-campaign",
        "recipient_client_id": "sandbox-campaign",
    }
    assert (data["xdm:timestamp"], data["xdm:directMarketing"]) == (event["time"], {"xdm:clicks": {"xdm:value": 1}})
    assert data["xdm:channel"] == {"@id": "https://ns.adobe.com/xdm/channels/email"}
    assert data[f"{C}marketingCampaign"]["xdm:campaignName"] == "2019LoyaltyCamp"
    assert (data[f"{C}delivery"]["xdm:deliveryName"], data[f"{C}link"]["xdm:url"]) == ("DM200", "https://x.example/?a=1")
    assert data[f"{C}message"]["xdm:profileSnapshot"] == {"xdm:directMarketingEmail": {"xdm:address": "ann@example.com"}}
    assert data["acs"] == {
        "externalId": "c-1",
        "email": "ann@example.com",
        "mirrorPageUrl": "https://m.example/1",
        "broadLogId": "7",
        "trackingLogId": "8",
    }


async def test_s32_the_same_in_the_pipeline_envelope(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    send = {"kind": "send", "external_id": "c-1", "at": "2026-01-31T10:00:00Z", "id": "11111111-2222-4333-8444-555555555555"}
    sandbox.settings.journal_envelope = "pipeline"
    sandbox.emit([send])
    sandbox.settings.journal_envelope = "cloudevents"
    sandbox.emit([{**send, "broad_log_id": "1000001", "mirror_page_url": None}])
    pipeline, cloud = [entry["event"] for entry in (await api.get(JOURNAL)).json()["events"]]
    header = pipeline["header"]

    assert set(pipeline) == {"header", "body"}
    assert pipeline["body"] == cloud["data"]
    assert header["_adobeio"] == {"eventCode": "directMarketing.emailSent", "imsOrgId": "sandbox@AdobeOrg", "providerMetadata": "acs"}
    assert (header["msgType"], header["msgVersion"], header["imsOrgId"]) == ("xdmEntityProjectionEvent", "1.0.0", "sandbox@AdobeOrg")
    assert (header["msgId"], header["originalTimestamp"]) == (send["id"], 1769853600000)
    assert abs(header["createdAt"] / 1000 - time.time()) < 60
    assert set(header["xdmSchema"]) == {"name", "version"}


@pytest.mark.parametrize(
    ("kind", "code", "metric"),
    [
        ("send", "emailSent", "sends"),
        ("delivered", "emailDelivered", ""),
        ("open", "emailOpened", "opens"),
        ("click", "emailClicked", "clicks"),
        ("bounce", "emailBounced", "nonDeliverables"),
        ("soft_bounce", "emailBouncedSoft", "bounces"),
        ("unsubscribe", "emailUnsubscribed", "unsubscriptions"),
    ],
)
async def test_s35_kinds(api: httpx.AsyncClient, sandbox: CampaignSandbox, kind: str, code: str, metric: str) -> None:
    await api.post("/_admin/journal/emit", json={"events": [{"kind": kind}]})
    [entry] = sandbox.journal()
    event, data = entry["event"], entry["event"]["data"]

    assert event["type"] == f"directMarketing.{code}"
    assert data["xdm:directMarketing"] == ({f"xdm:{metric}": {"xdm:value": 1}} if metric else {})
    assert (f"{C}link" in data, bool(data["acs"]["trackingLogId"])) == (kind == "click", kind in ("open", "click", "unsubscribe"))
    assert (data["acs"]["externalId"], bool(data["acs"]["broadLogId"]), bool(data["acs"]["mirrorPageUrl"])) == ("", True, True)
    assert (event["time"], UUID(event["id"]).version) == (data["xdm:timestamp"], 4)


@pytest.mark.parametrize("member", [None, "proof", "test", "seed", "control"])
def test_s35_who_is_not_a_real_recipient_is_marked(sandbox: CampaignSandbox, member: str | None) -> None:
    sandbox.emit([{"kind": "send", "member": member}])
    message = sandbox.journal()[0]["event"]["data"][f"{C}message"]

    names = {"proof": "xdm:proofMember", "test": "xdm:testMember", "seed": "xdm:seedMember", "control": "xdm:controlGroupMember"}
    assert {name: message[name] for name in names.values()} == {name: each == member for each, name in names.items()}


def test_s32_duplicates_and_order_are_decided_by_the_seed() -> None:
    found = []
    for seed in (1, 1, 2):
        sandbox = CampaignSandbox()
        sandbox.settings.change({"journal_duplicates": 0.2, "journal_shuffle": True, "journal_seed": seed})
        emitted = sandbox.emit([{"kind": "open", "id": str(UUID(int=n, version=4))} for n in range(500)])
        entries = sandbox.journal()
        found.append([entry["event"]["id"] for entry in entries])
        assert set(found[-1]) == set(emitted)
        assert len({entry["position"] for entry in entries}) == len(entries)
        assert 550 < len(entries) < 650
        assert found[-1][: len(emitted)] != emitted

    assert found[0] == found[1] != found[2]


async def test_s32_everything_can_come_again_at_new_positions(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    emitted = sandbox.emit([{"kind": "open"}] * 50)
    end = (await api.get(f"{JOURNAL}?latest=true")).links["next"]["url"]
    again = await api.post("/_admin/journal/redeliver", json={"seed": 3})
    page = [entry["event"]["id"] for entry in (await api.get(end)).json()["events"]]

    assert (again.json(), sorted(page), page != emitted) == ({"events": 50}, sorted(emitted), True)
    assert sandbox.redeliver(shuffle=False) == 100
    assert [entry["event"]["id"] for entry in sandbox.journal()][100:150] == emitted


async def test_broken_events_go_in_as_they_are(api: httpx.AsyncClient) -> None:
    broken: list[Any] = [{}, {"data": None}, "text", [1], {"type": "directMarketing.emailOpened", "data": {"acs": 5}}]
    positions = (await api.post("/_admin/journal/append", json={"events": broken})).json()["positions"]
    read = (await api.get(JOURNAL)).json()["events"]

    assert read == [{"position": position, "event": event} for position, event in zip(positions, broken, strict=True)]
    assert (await api.get("/_admin/journal")).json()["events"] == read


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("emit", {}),
        ("emit", {"events": [{"kind": "send"}, {"kind": "push"}]}),
        ("emit", {"events": [{"kind": "send"}, {"kind": "send", "member": "vip"}]}),
        ("emit", {"events": [{"kind": "send"}, {"kind": "send", "nothing": 1}]}),
        ("emit", {"events": [{"kind": "send"}, {"kind": "send", "at": "yesterday"}]}),
        ("traffic", {"seed": 1, "mails": 10}),
        ("expire", {"all": True}),
    ],
)
async def test_wrong_admin_requests_are_a_400_and_write_nothing(
    api: httpx.AsyncClient, sandbox: CampaignSandbox, name: str, body: dict[str, Any]
) -> None:
    answer = await api.post(f"/_admin/journal/{name}", json=body)

    assert (answer.status_code, "error" in answer.json(), sandbox.journal()) == (400, True, [])


@pytest.mark.parametrize("change", [{"journal_links": "one"}, {"journal_retry_after_form": "x"}, {"journal_envelope": "xml"}])
async def test_wrong_journal_settings_are_refused(api: httpx.AsyncClient, change: dict[str, str]) -> None:
    assert (await api.patch("/_admin/settings", json=change)).status_code == 400


async def test_traffic_is_a_days_worth_of_mail(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    keys = {f"c-{n}" for n in range(200)}
    for key in sorted(keys):
        sandbox.put("profile", {"externalId": key, "email": f"{key}@example.com"})
    sandbox.put("profile", {"email": "nobody@example.com"})
    made = (await api.post("/_admin/journal/traffic", json={"seed": 5, "mails": 5000, "day": "2026-01-31"})).json()
    events = [entry["event"] for entry in sandbox.journal()]
    kinds = Counter(event["type"].removeprefix("directMarketing.email") for event in events)
    members = Counter(name for event in events for name, value in event["data"][f"{C}message"].items() if name.endswith("Member") and value)

    assert (made["events"], len({event["id"] for event in events})) == (len(events), len(events))
    assert kinds["Sent"] == 5000
    shares = {kind: number / 5000 for kind, number in kinds.items()}
    assert 0.012 < shares["Bounced"] < 0.03 and 0.012 < shares["BouncedSoft"] < 0.03
    assert 0.3 < shares["Opened"] < 0.55 and 0.06 < shares["Clicked"] < 0.12
    assert 0 < shares["Unsubscribed"] < 0.01 and 0 < shares["Delivered"] < 0.04
    assert set(members) == {"xdm:proofMember", "xdm:testMember", "xdm:seedMember", "xdm:controlGroupMember"}
    assert {event["data"]["acs"]["externalId"] for event in events} == keys
    assert {event["data"]["acs"]["email"] for event in events} == {f"{key}@example.com" for key in keys}
    times = [event["time"] for event in events]
    assert (times == sorted(times), {time[:10] for time in times}) == (True, {"2026-01-31"})
    assert len({time[11:13] for time in times}) > 18
    assert len({event["data"][f"{C}delivery"]["xdm:deliveryName"] for event in events}) > 5
    assert len({event["data"][f"{C}marketingCampaign"]["xdm:campaignName"] for event in events}) > 3
    assert all(event["data"][f"{C}link"]["xdm:url"] for event in events if event["type"].endswith("Clicked"))


def test_traffic_expects_on_timelines_what_is_no_proof_test_seed_or_control_mail(sandbox: CampaignSandbox) -> None:
    made = sandbox.traffic(7, 2000, keys=["c-1", "c-2"])
    kinds = {"Sent": "send", "Opened": "open", "Clicked": "click", "Bounced": "bounce"}
    counted = Counter[str]()
    reopened = Counter[str]()
    for entry in sandbox.journal():
        event, data = entry["event"], entry["event"]["data"]
        kind = kinds.get(event["type"].removeprefix("directMarketing.email"))
        if kind and not any(value for name, value in data[f"{C}message"].items() if name.endswith("Member")):
            counted[kind] += 1
            reopened[data["acs"]["broadLogId"]] += kind == "open"

    assert made["expected"] == dict(counted)
    assert made["expected"]["send"] < 2000
    assert max(reopened.values()) > 1


def test_traffic_is_the_same_for_a_seed_but_its_events_are_new_ones() -> None:
    found = []
    for seed in (1, 1, 2):
        sandbox = CampaignSandbox()
        sandbox.traffic(seed, 50, keys=["c-1", "c-2"], day="2026-01-31")
        found.append([entry["event"] for entry in sandbox.journal()])

    payloads = [[event["data"] for event in events] for events in found]
    assert payloads[0] == payloads[1] != payloads[2]
    assert not {event["id"] for event in found[0]} & {event["id"] for event in found[1]}
