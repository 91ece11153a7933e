"""The journal feed against the Campaign stand-in over HTTP: pages, ends, expiry, foreign links, dead letters."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.campaign.journal import JournalClient
from bridge.campaign.settings import CampaignSettings, JournalSettings
from bridge.flow.reader import Cursor, Feed
from bridge.flow.waits import LetterLimit
from bridge.http.gate import Pause
from bridge.memory import MemoryLog, MemoryPublisher
from bridge.model.errors import HaltError, RetryError
from bridge.model.events import EmailEvent, Kind
from bridge.model.settings import load
from bridge.observe.metrics import Metrics
from sandbox.campaign import CampaignSandbox
from sandbox.web import Fault, serving
from services.egress.journal_feed import CURSOR, JournalFeed
from services.egress.payload import KINDS, Payloads
from services.egress.settings import EventSettings
from tests.clock import FakeClock

PERSON = "11111111-2222-4333-8444-555555555555"


class Rig:
    def __init__(self, sandbox: CampaignSandbox, url: str) -> None:
        self.sandbox, self.url, self.clock = sandbox, url, FakeClock()
        environment = {
            "CAMPAIGN_URL": f"{url}/sandbox",
            "CAMPAIGN_CLIENT_ID": "sandbox-campaign",
            "CAMPAIGN_CLIENT_SECRET": "sandbox-secret",
            "CAMPAIGN_ORG_ID": "sandbox@AdobeOrg",
            "CAMPAIGN_TOKEN_URL": f"{url}/ims/token/v3",
            "CAMPAIGN_JOURNAL_URL": f"{url}{sandbox.journal_path}",
            "CAMPAIGN_JOURNAL_PAGE_SIZE": "10",
        }
        self.metrics = Metrics("egress", "reader", self.clock)
        rooms = load(JournalSettings, environment), load(CampaignSettings, environment)
        self.client = JournalClient(*rooms, self.clock, pause=Pause(self.metrics.meter("journal")))

    def feed(self, *selected: Kind, journal: str = "ours", in_a_row: int = 100) -> JournalFeed:
        return JournalFeed(
            self.client,
            Payloads(EventSettings()),
            selected or KINDS,
            LetterLimit(in_a_row, 0.5),
            self.clock,
            journal=journal,
            topic_prefix="t.",
            revision=3,
            produced_by="egress-reader/one",
            poll_interval_s=5,
        )

    def send(self, number: int, **more: Any) -> None:
        self.sandbox.emit([{"kind": "send", "external_id": PERSON, **more} for _ in range(number)])


@asynccontextmanager
async def a_rig(**settings: Any) -> AsyncIterator[Rig]:
    sandbox = CampaignSandbox()
    sandbox.settings.change(settings)
    async with serving(sandbox.app()) as url:
        rig = Rig(sandbox, url)
        try:
            yield rig
        finally:
            await rig.client.close()


async def all_of(feed: JournalFeed, cursor: Cursor | None = None) -> tuple[list[Any], Cursor | None, float]:
    """What steps bring until the journal is at its end; the cursor then, and the wait."""
    found: list[Any] = []
    for _ in range(50):
        step = await feed.step(cursor)
        found += step.events
        cursor = step.cursor
        if step.wait_s:
            return found, cursor, step.wait_s
    raise AssertionError("the journal has no end")


@pytest.mark.parametrize("links", ["lines", "joined"])
async def test_every_event_once_and_then_only_what_is_new(links: str) -> None:
    async with a_rig(journal_links=links) as rig:
        feed = rig.feed()
        rig.send(25)
        found, cursor, wait_s = await all_of(feed)
        rig.send(3)
        later, _, _ = await all_of(rig.feed(), cursor)

        assert (len(found), len(later), wait_s) == (25, 3, 10)
        assert len({each.event.event_id for each in [*found, *later]}) == 28
        assert all(isinstance(each.event, EmailEvent) and each.key == PERSON for each in found)
        assert {name for name, _ in found[0].headers} == {"traceparent", "origin-lane", "source-version", "produced-by", "event-id"}


async def test_a_redelivery_gives_the_same_ids() -> None:
    async with a_rig(journal_duplicates=0.5, journal_shuffle=True) as rig:
        rig.sandbox.traffic(seed=4, mails=30, keys=[PERSON])
        rig.sandbox.redeliver(seed=5)
        rig.sandbox.redeliver(seed=6)
        found, _, _ = await all_of(rig.feed())

        assert len(found) >= 3 * len({each.event.event_id for each in found})


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_the_journal_says_when_to_ask_again(form: str) -> None:
    async with a_rig(journal_retry_after_form=form, journal_retry_after_s=7.0) as rig:
        rig.send(1)
        _, _, wait_s = await all_of(rig.feed())

        assert 6 <= wait_s <= 8


async def test_expired_events_halt_with_the_choice_there_is() -> None:
    async with a_rig() as rig:
        rig.send(5)
        _, cursor, _ = await all_of(rig.feed())
        rig.send(5)
        rig.sandbox.expire(keep=2)
        with pytest.raises(HaltError) as halted:
            await rig.feed().step(cursor)

        assert halted.value.code == "journal_expired"
        assert "oldest" in halted.value.hint and "latest" in halted.value.hint
        assert len((await all_of(rig.feed(), {"position": "oldest"}))[0]) == 2
        assert len((await all_of(rig.feed(), {"position": "latest"}))[0]) == 0


async def test_latest_begins_with_what_comes_after_it() -> None:
    async with a_rig() as rig:
        rig.send(5)
        none, cursor, _ = await all_of(rig.feed(), {"position": "latest"})
        rig.send(2)

        assert (len(none), len((await all_of(rig.feed(), cursor))[0])) == (0, 2)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_journal_that_refuses_us_halts_and_names_the_scopes(status: int) -> None:
    async with a_rig() as rig:
        body = json.dumps({"error_code": f"{status}013", "message": "no"})
        rig.sandbox.ledger.faults.append(Fault("status", "GET", "^/events", status, body, "application/json"))
        with pytest.raises(HaltError) as halted:
            await rig.feed().step(None)

        assert (halted.value.code, halted.value.status) == ("source_refused", status)
        assert {"CAMPAIGN_ORG_ID", "CAMPAIGN_SCOPES", "adobeio_api", "event_receiver_api"} <= set(re.findall(r"\w+", halted.value.hint))


async def test_a_position_of_another_journal_means_nothing() -> None:
    async with a_rig() as rig:
        rig.send(5)
        _, cursor, _ = await all_of(rig.feed())

        assert len((await all_of(rig.feed(journal="another"), cursor))[0]) == 5


async def test_a_link_to_another_host_is_neither_followed_nor_kept_and_its_page_comes_again() -> None:
    async with a_rig(journal_foreign_next=True) as rig:
        rig.send(1)
        with pytest.raises(HaltError) as halted:
            await rig.feed().step(None)
        rig.sandbox.settings.change({"journal_foreign_next": False})
        step = await rig.feed().step(None)

        assert halted.value.code == "foreign_link"
        assert len(step.events) == 1


async def test_a_busy_journal_is_waited_for_and_a_revoked_token_replaced() -> None:
    async with a_rig() as rig:
        rig.send(1)
        await rig.feed().step(None)
        rig.sandbox.revoke_tokens()
        assert len((await rig.feed().step(None)).events) == 1
        rig.sandbox.settings.change({"journal_calls_per_second": 0.001})
        outcomes = await asyncio.gather(*(rig.feed().step(None) for _ in range(3)), return_exceptions=True)

        assert isinstance(outcomes[-1], RetryError)


async def test_what_has_no_contact_is_kept_as_it_came_with_the_reason() -> None:
    async with a_rig() as rig:
        rig.send(2)
        rig.send(1, external_id=None)
        feed = rig.feed()
        found, _, _ = await all_of(feed)

        letters = [each for each in found if each.topic == "egress.dead-letters"]
        assert (len(found), len(letters), feed.counted["dead_lettered"]) == (3, 1, 1)
        facts = {name: value.decode() for name, value in letters[0].headers}
        assert json.loads(letters[0].event) == rig.sandbox.journal()[2]["event"]
        assert (facts["dlq.topic"], facts["dlq.offset"], facts["dlq.code"]) == ("t.egress.email-events", "-1", "contact_key_missing")
        assert (facts["dlq.stage"], facts["dlq.revision"]) == ("map", "3")


async def run(feed: JournalFeed, log: MemoryLog) -> HaltError:
    """Until it halts; begins at the cursor that was kept."""
    with pytest.raises(HaltError) as halted:
        await Feed(CURSOR, feed, MemoryPublisher(log), log.cursors.get(CURSOR), FakeClock(), random.Random(3)).run()
    return halted.value


async def test_nothing_but_poison_halts_before_it_fills_the_dead_letters_and_every_start_makes_progress() -> None:
    async with a_rig() as rig:
        rig.send(19, external_id="no id of a contact")
        rig.send(11)
        log = MemoryLog()
        first = await run(rig.feed(in_a_row=5), log)

        assert (first.code, [each.topic for each in log.events]) == ("too_many_dead_letters", ["egress.dead-letters"] * 10)
        second = await run(rig.feed(in_a_row=5), log)
        assert (second.code, len(log.events)) == ("too_many_dead_letters", 20)
        rest, _, _ = await all_of(rig.feed(in_a_row=5), log.cursors[CURSOR])
        assert [each.topic for each in log.events] == ["egress.dead-letters"] * 19 + ["egress.email-events"]
        assert [each.topic for each in rest] == ["egress.email-events"] * 10


async def test_events_of_profiles_that_are_not_from_dynamics_do_not_halt_however_many_they_are() -> None:
    async with a_rig() as rig:
        rig.send(30, external_id=None)
        feed = rig.feed(in_a_row=5)
        found, _, _ = await all_of(feed)

        assert [each.topic for each in found] == ["egress.dead-letters"] * 30
        assert feed.counted["dead_lettered"] == 30


async def test_a_page_that_brings_nothing_is_behind_us_at_once() -> None:
    async with a_rig() as rig:
        rig.send(3, kind="open")
        step = await rig.feed("send").step(None)
        at_its_end = await rig.feed("send").step(step.cursor)

        assert (list(step.events), step.consumed, at_its_end.consumed) == ([], True, False)


async def test_what_is_dropped_is_counted_by_reason() -> None:
    async with a_rig() as rig:
        rig.send(2)
        rig.send(3, kind="open")
        rig.send(4, member="proof")
        feed = rig.feed("send")
        found, _, _ = await all_of(feed)

        assert (len(found), dict(feed.counted)) == (2, {"not_selected": 3, "not_real": 4})


async def test_questions_to_the_journal_are_counted_and_their_token_is_not() -> None:
    async with a_rig() as rig:
        step = await rig.feed().step(None)
        await rig.feed().step(step.cursor)

        told = rig.metrics.exposition().decode()

    assert 'bridge_calls_total{result="ok",system="journal"} 2.0' in told
    assert 'bridge_call_seconds_count{system="journal"} 2.0' in told
