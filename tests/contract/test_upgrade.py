"""An upgrade: what today's code makes of topics that were written by the first version of each shape.

`first/` holds the schemas as they were first written with; the JSON below is what the first versions kept. Neither is ever changed: what
today's version writes differently gets a shape of its own beside them.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from bridge.campaign.journal import JournalClient
from bridge.campaign.settings import CampaignSettings, JournalSettings
from bridge.consent.words import Pair, Word
from bridge.flow.waits import LetterLimit
from bridge.kafka.avro import Decoder, Encoder, Registry, load_schema
from bridge.kafka.client import Names
from bridge.kafka.follower import Entry
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.state import KafkaState
from bridge.kafka.topics import control_topics, workflow_topics
from bridge.model.desired import Desired, Workflow
from bridge.model.errors import HaltError
from bridge.model.events import ChangeEvent, EmailEvent, OptStatusDecided, OptStatusObserved, Record
from bridge.model.settings import load
from bridge.model.state import Digests, Known
from services.control.rules import actions
from services.control.rules.actions import By
from services.control.topics.archive import Archive
from services.control.topics.letters import record_again
from services.control.topics.store import Store
from services.egress.journal_feed import JournalFeed
from services.egress.payload import Payloads
from services.egress.reader import journal_id
from services.egress.settings import EventSettings
from services.optin.status import StatusCodec
from tests.clock import FakeClock
from tests.contract.broker import latest, make, producing
from tests.flow.feeding import KEY, Rig, serving_rig

FIRST = Path(__file__).parent / "first"
NOW = datetime(2026, 3, 1, 12, 0, 0, 123000, UTC)
AT = "2026-03-01T12:00:00+00:00"
LATER = {"campaign_from": None, "dynamics_from": None}  # members of an input that came later
CONTACT = "0a1b2c3d-1111-4222-8333-444455556666"
EVENTS = [
    ChangeEvent(
        "contact", CONTACT, "upsert", "initial", 915244, NOW, NOW, {"lastname": "L", "n": 1, "on": True, "none": None}, {"n": "one"}
    ),
    ChangeEvent("contact", CONTACT, "delete", "live", None, None, NOW),
    EmailEvent("e", "click", CONTACT, "C", "D", NOW, "https://u.example", None, NOW),
    OptStatusObserved(CONTACT, "campaign", {"blackListEmail": {"value": True, "changed_at": NOW}}, None, NOW),
    OptStatusDecided(
        CONTACT,
        "dynamics",
        {"donotemail": True},
        "campaign-changed",
        {"donotemail": {"campaign": True, "campaign_changed_at": NOW, "dynamics": None, "dynamics_changed_at": None}},
        NOW,
    ),
]

# control.workflows and control.services, control.audit: 0a0455b
CONFIG = {
    "tables": [
        {
            "source": "contact",
            "target": "profile",
            "key": {"source": "contactid", "target": "externalId"},
            "fields": [{"source": "lastname", "target": "lastName", "apply_updates": True}],
            "replacements": [{"source": "lastname", "from": "a", "to": "b"}],
            "filter": {
                "match": "all",
                "conditions": [{"field": "statecode", "operator": "in", "value": [0, 1]}],
                "delete_filtered_out": False,
            },
            "apply_deletes": True,
            "picklists": "technical",
        }
    ]
}
DESIRED = {
    "desired": "RUNNING",
    "generation": 3,
    "revision": 2,
    "config": CONFIG,
    "changed_at": AT,
    "changed_by": "anna",
    "comment": None,
}
REVISION = {"revision": 2, "saved_at": AT, "saved_by": "anna", "comment": None, "config": CONFIG}
EGRESS = {"events": {"send": True, "open": False, "click": True, "bounce": False}}
OPTIN = {"direction": "disabled", "mappings": []}
HEARTBEAT = {
    "workflow": "ingress",
    "role": "reader",
    "instance": "reader-1",
    "status": "RUNNING",
    "generation": 3,
    "revision": 2,
    "since": AT,
    "version": "0.1.0",
    "reason": None,
    "counters": {"read": 5},
    "parked": 0,
    "last_read_at": AT,
    "last_written_at": None,
    "feeds": {},
}
AUDITED = {"at": AT, "by": "anna", "what": "start", "before": {"desired": "STOPPED"}, "after": {"desired": "RUNNING"}, "result": "done"}

# ingress.state: 0a0455b; optin.state: 8e01b12
STATE = {
    "version": 915244,
    "exists": True,
    "gone": False,
    "visible": True,
    "outcome": "updated",
    "digests": {"lastName": "c0ffee"},
    "topic": "ingress.changes.contact",
    "partition": 1,
    "offset": 120,
    "status": 200,
    "attempts": 1,
    "read_at": AT,
    "settled_at": AT,
}

# *.cursors: 0a0455b, bb9d04a
TABLE_CURSOR = (
    *("phase", "lane", "columns", "page_link", "delta_link", "rows", "total"),
    *("starts", "version_seen", "restarts", "started_at", "token_at", "finished_at"),
)
JOURNAL = "https://events.example/events/organizations/1/integrations/2/3"
ADOBE = {
    "CAMPAIGN_URL": "https://mc.example/instance",
    "CAMPAIGN_CLIENT_ID": "key",
    "CAMPAIGN_CLIENT_SECRET": "s",
    "CAMPAIGN_ORG_ID": "1@AdobeOrg",
    "CAMPAIGN_TOKEN_URL": "https://login.example/ims",
    "CAMPAIGN_JOURNAL_URL": JOURNAL,
}

# *.dead-letters: 0a0455b
LETTER = {
    "dlq.topic": "ingress.changes.contact",
    "dlq.partition": "1",
    "dlq.offset": "7",
    "dlq.timestamp": "1767225600000",
    "dlq.workflow": "ingress",
    "dlq.revision": "2",
    "dlq.stage": "map",
    "dlq.code": "not_convertible",
    "dlq.reason": "lastname does not fit",
    "dlq.target-status": "",
    "dlq.attempts": "1",
    "dlq.first-failed-at": AT,
    "dlq.failed-at": AT,
    "dlq.fingerprint": "5f2e5f2e5f2e5f2e",
}


def first(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((FIRST / f"{name}.avsc").read_text())
    return schema


def kind(event: object) -> str:
    return type(event).__name__


@pytest.fixture
def registry(kafka_settings: KafkaSettings) -> Registry:
    return HttpRegistry(kafka_settings)


@pytest.fixture
def subject() -> str:
    return f"{uuid.uuid4().hex}-value"


@pytest.mark.parametrize("event", EVENTS, ids=kind)
async def test_events_of_the_first_schemas_are_read(registry: Registry, subject: str, event: Any) -> None:
    old = await asyncio.to_thread(registry.register, subject, first(kind(event)))
    written = Encoder(first(kind(event)), old).encode(event)
    await asyncio.to_thread(registry.register, subject, load_schema(kind(event)))  # as a service does when it starts

    read = await Decoder(registry, load_schema(kind(event)), type(event)).decode(written)
    if isinstance(event, OptStatusDecided):
        event = replace(event, inputs={name: {**each, **LATER} for name, each in event.inputs.items()})
    assert read == event


@pytest.mark.parametrize("name", ["ChangeEvent", "EmailEvent", "OptStatusObserved", "OptStatusDecided"])
async def test_a_service_of_the_first_version_starts_again_beside_a_newer_one(registry: Registry, subject: str, name: str) -> None:
    newer = deepcopy(load_schema(name))
    newer["fields"].append({"name": "of_tomorrow", "type": ["null", "string"], "default": None, "doc": "New."})

    ids = [await asyncio.to_thread(registry.register, subject, each) for each in (first(name), load_schema(name), newer)]

    assert await asyncio.to_thread(registry.register, subject, first(name)) == ids[0]
    assert len({ids[0], ids[2]}) == 2


async def test_what_a_newer_version_writes_is_read_without_what_is_new_in_it(registry: Registry, subject: str) -> None:
    newer = deepcopy(load_schema("ChangeEvent"))
    newer["fields"].append({"name": "of_tomorrow", "type": ["null", "string"], "default": None, "doc": "New."})
    number = await asyncio.to_thread(registry.register, subject, newer)

    class Tomorrow:
        of_tomorrow = "x"

        def __getattr__(self, name: str) -> Any:
            return getattr(EVENTS[0], name)

    written = Encoder(newer, number).encode(Tomorrow())

    assert await Decoder(registry, load_schema("ChangeEvent"), ChangeEvent).decode(written) == EVENTS[0]


async def test_a_schema_that_could_not_read_the_first_one_is_refused(registry: Registry, subject: str) -> None:
    await asyncio.to_thread(registry.register, subject, first("ChangeEvent"))
    other = deepcopy(load_schema("ChangeEvent"))
    other["fields"].append({"name": "needed", "type": "string", "doc": "Without a default."})

    with pytest.raises(HaltError) as caught:
        await asyncio.to_thread(registry.register, subject, other)

    assert caught.value.code == "schema_incompatible"


async def put(settings: KafkaSettings, topic: str, records: Mapping[str, Any], partition: int | None = None) -> None:
    """As the first version wrote it: JSON by key."""
    async with producing(settings) as producer:
        for key, value in records.items():
            await producer.send(settings.topic_prefix + topic, key.encode(), json.dumps(value).encode(), (), partition)


async def test_state_of_the_first_version_is_known(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    make(kafka_settings, *workflow_topics("ingress"))
    later = {**STATE, "version": 915300, "of_tomorrow": {"a": 1}}
    await put(kafka_settings, "ingress.state", {"contact/1": STATE, "contact/2": later, "contact/3": {"version": 1, "exists": True}}, 1)

    async with producing(kafka_settings) as producer:
        state = KafkaState(kafka_settings, "ingress", tmp_path, producer)
        await state.gain([1])

        assert state.get(1, "contact/1") == Known(**STATE)  # type: ignore[arg-type]
        assert state.get(1, "contact/2") == Known(**{**STATE, "version": 915300})  # type: ignore[arg-type]
        assert state.get(1, "contact/3") == Known(version=1, exists=True)
        state.close()


def test_flags_of_the_first_version_are_known() -> None:
    """Without the times of what was told, and without what the writer read back: those came later."""
    digests = Digests("key")
    kept = {f"{each}:donotemail": digests.one(f"{CONTACT}/{each}:donotemail", True) for each in ("dynamics", "told:dynamics")}
    times = {"dynamics:donotemail": AT, "dynamics:seen": AT, "dynamics": AT, "decided": AT}
    value = json.dumps({**STATE, "version": 7, "digests": kept, "times": times}).encode()

    status = StatusCodec(digests, [Pair("donotemail", "blackListEmail")]).status(CONTACT, Known.from_json(value))

    assert status.dynamics.facts == {"donotemail": True}
    assert status.dynamics.words == {"donotemail": Word(True, datetime.fromisoformat(AT))}
    assert status.dynamics.order is not None and status.dynamics.order.version == 7
    assert status.decided_at == datetime.fromisoformat(AT)


@pytest.fixture
async def store(kafka_settings: KafkaSettings) -> AsyncIterator[Store]:
    """Control, started on the topics of the first version."""
    make(kafka_settings, *control_topics())
    revisions = {"ingress/revisions/2": REVISION, "egress/revisions/1": {**REVISION, "revision": 1, "config": EGRESS}}
    revisions |= {"ingress/revisions/1": {**REVISION, "revision": 1}, "optin/revisions/1": {**REVISION, "revision": 1, "config": OPTIN}}
    await put(kafka_settings, "control.workflows", {**revisions, "ingress": DESIRED})
    await put(kafka_settings, "control.services", {"ingress/reader/reader-1": HEARTBEAT})
    store = Store(kafka_settings, FakeClock(), 120)
    await store.start()
    yield store
    store.close()


async def test_control_goes_on_with_what_the_first_version_was_told(store: Store) -> None:
    desired = store.desired("ingress")

    assert desired == Desired("RUNNING", 3, 2, CONFIG, AT, "anna", None, {}, {})
    assert {workflow: store.saved(workflow).revision for workflow in store.configs()} == {"ingress": 2, "egress": 1, "optin": 1}
    assert store.saved("ingress").config.model_dump(mode="json", by_alias=True) == CONFIG
    assert [(beat.heartbeat.role, beat.heartbeat.counters) for beat in store.beats("ingress")] == [("reader", {"read": 5})]


async def test_a_workflow_that_the_first_version_started_can_be_stopped(store: Store, kafka_settings: KafkaSettings) -> None:
    await store.run(actions.stop("ingress", By("anna", None, AT), None))

    kept = latest(kafka_settings, "control.workflows")["ingress"]
    assert (kept["desired"], kept["generation"], kept["config"]) == ("STOPPED", 4, CONFIG)


async def test_a_table_goes_on_at_the_cursor_of_the_first_version(tmp_path: Path) -> None:
    async with serving_rig(tmp_path) as rig:
        people = rig.people(3)
        await rig.loaded()
        cursor = rig.log.cursors[KEY]
        assert set(TABLE_CURSOR) <= cursor.keys()
        rig.log.cursors[KEY] = {name: cursor[name] for name in TABLE_CURSOR}
        rig.rename(people[1], "changed")
        await rig.start()

        events = await rig.poll()

        assert [(each.key, each.lane) for each in events] == [(people[1], "live")]


async def test_a_load_that_the_first_version_began_is_finished(tmp_path: Path) -> None:
    async with serving_rig(tmp_path) as rig:
        people = rig.people(5)
        await rig.start()
        for _ in range(2):
            await rig.step()
        await _first_shape(rig)

        await rig.until("live")

        assert set(rig.image()) == set(people)
        assert rig.cursor is not None and rig.cursor["lane"] == "initial"


async def _first_shape(rig: Rig) -> None:
    cursor = rig.log.cursors[KEY]
    assert cursor["phase"] == "load" and cursor["page_link"]
    rig.log.cursors[KEY] = {name: cursor[name] for name in TABLE_CURSOR if name in cursor}
    await rig.start()


async def test_the_journal_is_asked_after_the_position_of_the_first_version() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "login.example":
            return httpx.Response(200, json={"access_token": "t", "expires_in": 3600})
        asked.append(str(request.url))
        return httpx.Response(204)

    clock, campaign = FakeClock(), load(CampaignSettings, ADOBE)
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    link = f"{JOURNAL}?since=p9"
    feed = JournalFeed(
        JournalClient(load(JournalSettings, ADOBE), campaign, clock, http),
        Payloads(load(EventSettings, {})),
        ["send"],
        LetterLimit(100, 0.5),
        clock,
        journal=journal_id(JOURNAL),
        topic_prefix="",
        revision=1,
        produced_by="egress-reader/test",
        poll_interval_s=5,
    )

    step = await feed.step({"phase": "live", "journal": journal_id(JOURNAL), "link": link, "position": "p9", "token_at": AT})

    assert asked == [link]
    assert (step.cursor or {})["position"] == "p9"
    await http.aclose()


def test_letters_and_audit_of_the_first_version_are_listed_and_a_letter_goes_back() -> None:
    archive, headers = Archive(""), [(name, value.encode()) for name, value in LETTER.items()]
    archive.complete = lambda: True
    told = archive.followed()
    told["ingress.dead-letters"]([Entry(CONTACT, b"bytes", 0, True, 0, 4, headers)])
    told["control.audit"]([Entry("ingress", json.dumps(AUDITED).encode(), 0, True, 0, 1, ())])
    workflow: Workflow = "ingress"

    (letter,) = archive.letters(workflow, None, 10)
    again = record_again(Record("ingress.dead-letters", 0, 4, 0, CONTACT.encode(), b"bytes", headers), Names(KafkaSettings()), workflow)

    assert (letter["id"], letter["table_name"], letter["code"], letter["state"], letter["redriven"]) == (
        "0-4",
        "contact",
        "not_convertible",
        "open",
        0,
    )
    assert again is not None and (again.topic, again.partition, again.value) == ("ingress.changes.contact", 1, b"bytes")
    assert [entry["what"] for _, _, entry in archive.audit(None, 10)] == ["start"]
    archive.close()
