"""The feed of contacts' opt-out flags against the Dynamics stand-in: a full read, what it missed, then changes (dataverse.md §4)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from bridge.dynamics.changes import TrackedTable
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.metadata import read_table
from bridge.errors import HaltError, RetryError
from bridge.events import OptStatusObserved
from bridge.flow.reader import Step
from bridge.memory import MemoryLog, MemoryPublisher
from bridge.rooms import DynamicsSettings
from bridge.settings import load
from sandbox.dynamics import DynamicsSandbox
from sandbox.dynamics.tables import Column
from sandbox.web import Fault, serving
from services.optin.contact_feed import CURSOR, RESTARTS, TOPIC, ContactFeed
from tests.clock import FakeClock

TABLE, PAGE = "contact", 2
FLAGS = ["donotemail", "donotphone"]
INTERVAL_S = 5


@dataclass
class Rig:
    """A feed and what it brought out. `asked`: all requests for contacts, `happens`: page of a tracked read → what happens after it."""

    sandbox: DynamicsSandbox
    settings: DynamicsSettings
    clock: FakeClock = field(default_factory=FakeClock)
    log: MemoryLog = field(default_factory=MemoryLog)
    cursor: Mapping[str, Any] | None = None
    asked: list[httpx.Request] = field(default_factory=list)
    happens: dict[int, Callable[[], object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        hooks = {"response": [self._answered]}
        self.client = DynamicsClient(self.settings, self.clock, httpx.AsyncClient(event_hooks=hooks))

    async def _answered(self, response: httpx.Response) -> None:
        if not response.request.url.path.endswith("/contacts"):
            return
        self.asked.append(response.request)
        pages = [each for each in self.asked if "track-changes" in each.headers["prefer"]]
        if response.request in pages and (change := self.happens.pop(len(pages), None)):
            change()

    async def start(self, columns: list[str] | None = None) -> None:
        """A new feed object, as after a restart: it goes on from the cursor that was published last."""
        tracked = TrackedTable(self.client, await read_table(self.client, TABLE, columns or FLAGS), PAGE)
        self.feed = ContactFeed(tracked, self.clock, poll_interval_s=INTERVAL_S, produced_by="optin-reader/test")
        self.publisher = MemoryPublisher(self.log)
        self.cursor = self.log.cursors.get(CURSOR)

    async def step(self) -> Step:
        """One step, published with its cursor."""
        step = await self.feed.step(self.cursor)
        await self.publisher.publish(step.events, CURSOR, step.cursor)
        self.cursor = step.cursor
        return step

    async def until(self, phase: str) -> None:
        """Steps, one at least, until the cursor is in this phase."""
        for _ in range(50):
            await self.step()
            if self.cursor is not None and self.cursor["phase"] == phase:
                return
        raise AssertionError(f"never came to {phase}")

    async def loaded(self) -> None:
        """Through the load; its events are forgotten."""
        await self.start()
        await self.until("live")
        self.log.events.clear()

    async def poll(self) -> list[OptStatusObserved]:
        """A whole run of a delta; its events."""
        before = len(self.log.events)
        while not (await self.step()).wait_s:
            pass
        return [each.event for each in self.log.events[before:]]

    def people(self, n: int) -> list[str]:
        """That many new contacts, in the order in which Dynamics pages them."""
        return sorted(self.sandbox.upsert(TABLE, {"lastname": f"L{i:03}"}) for i in range(n))

    def tick(self, key: str, **flags: bool) -> None:
        """A salesperson ticks a box."""
        self.sandbox.upsert(TABLE, {"contactid": key, **(flags or {"donotemail": True})})

    def row(self, key: str) -> dict[str, Any]:
        return next(row for row in self.sandbox.rows(TABLE) if row["contactid"] == key)

    def keys(self) -> list[str]:
        return [each.key for each in self.log.events]

    def lanes(self) -> list[str]:
        return [dict(each.headers)["origin-lane"].decode() for each in self.log.events]

    def refuse(self, path: str, times: int | None = None, skip: int = 0) -> None:
        """Dynamics does not know these links any more."""
        body = '{"error": {"code": "0x80040203", "message": "Malformed XML in the Paging Cookie"}}'
        self.sandbox.ledger.faults.append(Fault("status", "GET", path, 400, body, "application/json", times=times, skip=skip))

    def image(self) -> dict[str, Any]:
        """What somebody knows who has heard all events, the latest version of each contact."""
        held: dict[str, tuple[int, Any]] = {}
        for each in self.log.events:
            version = int(dict(each.headers)["source-version"])
            if version >= held.get(each.key, (0, None))[0]:
                held[each.key] = version, each.event.flags["donotemail"]["value"]
        return {key: value for key, (_, value) in held.items()}

    def truth(self) -> dict[str, Any]:
        return {row["contactid"]: row["donotemail"] for row in self.sandbox.rows(TABLE)}


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    sandbox = DynamicsSandbox()
    async with serving(sandbox.app()) as url:
        environment = {
            "DYNAMICS_URL": url,
            "DYNAMICS_TENANT_ID": "sandbox-tenant",
            "DYNAMICS_CLIENT_ID": "sandbox-client",
            "DYNAMICS_CLIENT_SECRET": "sandbox-secret",
            "DYNAMICS_TOKEN_URL": f"{url}/sandbox-tenant/oauth2/v2.0/token",
        }
        made = Rig(sandbox, load(DynamicsSettings, environment))
        try:
            yield made
        finally:
            await made.client.close()


async def test_the_first_read_brings_every_contact_page_by_page(rig: Rig) -> None:
    people = rig.people(5)
    await rig.start()

    pages = [[each.key for each in (await rig.step()).events] for _ in range(4)]

    assert pages == [[], people[:2], people[2:4], people[4:]]
    assert set(rig.lanes()) == {"initial"}
    assert rig.cursor is not None
    assert (rig.cursor["phase"], rig.cursor["rows"], rig.cursor["total"]) == ("again", 5, 5)


async def test_an_observation_has_the_flags_and_the_time_of_the_record(rig: Rig) -> None:
    (person,) = rig.people(1)
    rig.tick(person, donotphone=True)
    await rig.start()
    await rig.until("again")

    (out,) = rig.log.events

    row = rig.row(person)
    flags = {"donotemail": {"value": False, "changed_at": None}, "donotphone": {"value": True, "changed_at": None}}
    assert (out.topic, out.key) == (TOPIC, person)
    assert out.event == OptStatusObserved(person, "dynamics", flags, datetime.fromisoformat(row["modifiedon"]), rig.clock.now())


async def test_every_event_carries_the_headers_of_the_contract(rig: Rig) -> None:
    (person,) = rig.people(1)
    await rig.start()
    await rig.until("again")

    (out,) = rig.log.events

    headers = dict(out.headers)
    assert headers["source-version"] == str(rig.row(person)["versionnumber"]).encode()
    assert (headers["origin-lane"], headers["produced-by"]) == (b"initial", b"optin-reader/test")
    assert len(headers["traceparent"].split(b"-")) == 4


async def test_an_empty_flag_is_left_out(rig: Rig) -> None:
    people = rig.people(2)
    rig.sandbox.add_column(TABLE, Column("new_optout", "Boolean"))  # rows that were there before have nothing in it
    rig.tick(people[1], new_optout=True)
    await rig.start([*FLAGS, "new_optout"])
    await rig.until("again")

    flags = {each.key: each.event.flags for each in rig.log.events}

    assert set(flags[people[0]]) == set(FLAGS)
    assert flags[people[1]]["new_optout"] == {"value": True, "changed_at": None}


async def test_nothing_is_asked_for_but_the_mapped_columns_and_the_time(rig: Rig) -> None:
    """No name, no address: the key comes by itself, the version for what is read outside of tracking."""
    rig.people(3)
    await rig.loaded()
    await rig.poll()

    for request in rig.asked:
        (asked,) = parse_qs(urlsplit(str(request.url)).query)["$select"]
        more = set() if "track-changes" in request.headers["prefer"] else {"versionnumber"}
        assert set(asked.split(",")) == {*FLAGS, "modifiedon"} | more
    assert all(f"odata.maxpagesize={PAGE}" in request.headers["prefer"] for request in rig.asked)


async def test_after_the_read_come_changes_and_new_contacts_live(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()
    rig.tick(people[0])
    (born,) = rig.people(1)

    events = await rig.poll()

    assert {each.contact_key: each.flags["donotemail"]["value"] for each in events} == {people[0]: True, born: False}
    assert set(rig.lanes()) == {"live"}


async def test_a_run_of_many_changes_comes_in_pages_without_a_wait(rig: Rig) -> None:
    people = rig.people(5)
    await rig.loaded()
    for person in people:
        rig.tick(person)

    steps = [await rig.step() for _ in range(4)]

    assert [len(step.events) for step in steps] == [2, 2, 1, 0]
    assert [step.wait_s for step in steps] == [0, 0, 1, 1.5]


async def test_deletes_concern_nobody(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()
    rig.sandbox.delete(TABLE, people[0])
    rig.tick(people[1])

    assert [each.contact_key for each in await rig.poll()] == [people[1]]


async def test_a_contact_that_goes_during_the_read_is_no_trouble(rig: Rig) -> None:
    people = rig.people(4)

    def change() -> None:
        rig.sandbox.delete(TABLE, people[0])
        rig.sandbox.delete(TABLE, people[3])

    rig.happens[1] = change
    await rig.start()

    await rig.until("live")
    await rig.poll()

    assert rig.keys()[:3] == people[:3]
    assert {people[3]}.isdisjoint(rig.keys())


async def test_an_empty_table_is_read_and_polled(rig: Rig) -> None:
    await rig.loaded()

    assert await rig.poll() == []
    (person,) = rig.people(1)
    assert [each.contact_key for each in await rig.poll()] == [person]


@pytest.mark.parametrize("page", [1, 2, 3])
async def test_what_changes_behind_the_read_is_observed_afterwards(rig: Rig, page: int) -> None:
    """Dynamics' first token reflects the last page: an opt-out of a contact read before it would be lost."""
    rig.sandbox.settings.first_load_gap = "lost"
    people = rig.people(6)
    born = "00000000-0000-4000-8000-000000000000"

    def change() -> None:
        rig.tick(people[0])
        rig.sandbox.upsert(TABLE, {"contactid": born, "donotemail": True})

    rig.happens[page] = change
    await rig.start()

    await rig.until("live")
    await rig.poll()

    assert rig.image() == rig.truth()
    assert rig.image()[people[0]] is rig.image()[born] is True


async def test_the_second_look_passes_over_what_the_first_page_has_shown_as_it_is(rig: Rig) -> None:
    people = rig.people(2)
    rig.happens[1] = lambda: rig.tick(people[1])
    await rig.start()

    await rig.until("live")

    assert list(zip(rig.keys(), rig.lanes(), strict=True)) == [(people[0], "initial"), (people[1], "initial"), (people[1], "live")]


async def test_what_changes_during_the_second_look_comes_with_the_first_poll(rig: Rig) -> None:
    people = rig.people(4)
    await rig.start()
    await rig.until("again")
    await rig.step()
    rig.tick(people[0])

    await rig.until("live")
    await rig.poll()

    assert rig.image() == rig.truth()


@pytest.mark.parametrize("steps", range(1, 8))
async def test_a_restart_goes_on_where_it_was(rig: Rig, steps: int) -> None:
    people = rig.people(5)
    rig.happens[1] = lambda: rig.tick(people[0])
    await rig.start()
    for _ in range(steps):
        await rig.step()

    await rig.start()
    while (rig.cursor or {})["phase"] != "live":
        await rig.step()
    await rig.poll()

    assert rig.keys()[:5] == people
    assert rig.image() == rig.truth()


@pytest.mark.parametrize("status", [400, 410])
async def test_expired_tracking_reads_all_again_as_a_resync(rig: Rig, status: int) -> None:
    rig.sandbox.settings.expired_status = status  # type: ignore[assignment]
    people = rig.people(3)
    await rig.loaded()
    rig.tick(people[0])
    rig.sandbox.expire_tokens()

    await rig.until("again")

    assert (rig.keys(), set(rig.lanes())) == (people, {"resync"})
    await rig.until("live")
    assert rig.image() == rig.truth()


async def test_tracking_that_expires_during_the_first_read_begins_it_again_in_its_lane(rig: Rig) -> None:
    people = rig.people(5)
    await rig.start()
    await rig.step()
    await rig.step()
    body = '{"error": {"code": "0x80044352", "message": "Version stamp associated with the client has expired."}}'
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "skiptoken", 400, body, "application/json", times=1))

    await rig.until("again")

    assert (rig.keys(), set(rig.lanes())) == ([*people[:2], *people], {"initial"})


async def test_another_mapping_reads_all_again_as_a_resync(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()

    await rig.start(["donotemail", "donotfax"])
    await rig.until("again")

    assert (rig.keys(), set(rig.lanes())) == (people, {"resync"})
    assert all(set(each.event.flags) == {"donotemail", "donotfax"} for each in rig.log.events)


async def test_a_mapping_that_changes_during_the_read_begins_it_again(rig: Rig) -> None:
    people = rig.people(3)
    await rig.start()
    await rig.step()
    await rig.step()

    await rig.start(["donotfax"])
    await rig.until("again")

    assert rig.keys() == [*people[:2], *people]
    assert [set(each.event.flags) for each in rig.log.events] == [set(FLAGS)] * 2 + [{"donotfax"}] * 3


async def test_the_order_of_the_mapping_does_not_count(rig: Rig) -> None:
    rig.people(3)
    await rig.loaded()

    await rig.start(FLAGS[::-1])

    assert await rig.poll() == []


async def test_a_refused_page_link_of_a_run_goes_back_to_its_delta_link(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()
    for person in people:
        rig.tick(person)
    rig.refuse("skiptoken", times=1)

    await rig.poll()

    assert rig.keys() == [*people[:2], *people]
    assert set(rig.lanes()) == {"live"}


async def test_refused_page_links_of_runs_that_ended_well_do_not_add_up(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()

    for day in range(RESTARTS + 2):
        for person in people:
            rig.tick(person, donotemail=day % 2 == 0)
        rig.refuse("skiptoken", times=1)
        await rig.poll()

    assert rig.image() == rig.truth()


async def test_a_page_link_that_is_always_refused_halts(rig: Rig) -> None:
    people = rig.people(4)
    await rig.loaded()
    for person in people:
        rig.tick(person)
    rig.refuse("skiptoken")

    with pytest.raises(HaltError) as caught:
        await rig.poll()

    assert caught.value.code == "source_query_refused"


async def test_a_refused_page_link_of_the_read_begins_it_again_three_times_at_most(rig: Rig) -> None:
    people = rig.people(5)
    rig.refuse("skiptoken")
    await rig.start()

    with pytest.raises(HaltError):
        await rig.until("again")

    assert rig.keys() == people[:2] * (RESTARTS + 1)
    assert set(rig.lanes()) == {"initial"}


async def test_a_refused_link_of_the_second_look_begins_that_look_again(rig: Rig) -> None:
    people = rig.people(4)
    await rig.start()
    await rig.until("again")
    rig.refuse("skiptoken", times=1)

    await rig.until("live")

    assert (rig.keys()[:4], rig.lanes()[:4]) == (people, ["initial"] * 4)
    assert rig.image() == rig.truth()


async def test_a_refused_delta_link_reads_all_again_as_a_resync(rig: Rig) -> None:
    people = rig.people(3)
    await rig.loaded()
    rig.tick(people[0])
    rig.refuse("deltatoken", times=1)

    await rig.until("again")

    assert (rig.keys(), set(rig.lanes())) == (people, {"resync"})


async def test_a_column_that_is_gone_halts(rig: Rig) -> None:
    rig.sandbox.add_column(TABLE, Column("new_optout", "Boolean"))
    await rig.start([*FLAGS, "new_optout"])
    await rig.until("live")

    rig.sandbox.remove_column(TABLE, "new_optout")

    with pytest.raises(HaltError):
        await rig.until("again")


@pytest.mark.parametrize("body", ["{}", ""])
async def test_an_empty_answer_is_no_change_and_the_delta_link_stays(rig: Rig, body: str) -> None:
    people = rig.people(2)
    await rig.loaded()
    before = (rig.cursor or {})["delta_link"]
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "deltatoken", 200, body, "application/json", times=1))

    assert await rig.poll() == []
    assert (rig.cursor or {})["delta_link"] == before
    rig.tick(people[0])
    assert [each.contact_key for each in await rig.poll()] == [people[0]]


async def test_dynamics_that_is_away_is_waited_for_and_nothing_is_lost(rig: Rig) -> None:
    people = rig.people(2)
    await rig.loaded()
    rig.tick(people[0])
    rig.sandbox.ledger.faults.append(Fault("status", "GET", "deltatoken", 503, times=1))

    with pytest.raises(RetryError):
        await rig.step()

    assert [each.contact_key for each in await rig.poll()] == [people[0]]


async def test_a_table_without_change_tracking_halts_when_its_last_page_has_no_link(rig: Rig) -> None:
    rig.people(1)
    await rig.start()
    await rig.step()
    rig.sandbox.settings.not_enabled = "missing_link"
    rig.sandbox.store.tables[TABLE].tracked = False

    with pytest.raises(HaltError) as caught:
        await rig.until("again")

    assert caught.value.code == "change_tracking_off"
