"""The handler of Opt In/Out against both stand-ins over HTTP: only what differs is written, and nobody is overruled unseen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bridge.campaign.client import CampaignClient
from bridge.campaign.settings import CampaignSettings
from bridge.consent.words import Pair
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.settings import DynamicsSettings
from bridge.kafka.avro import Decoder, Encoder, load_schema
from bridge.memory import MemoryRegistry
from bridge.model.clock import SystemClock
from bridge.model.errors import ParkError, RejectError
from bridge.model.events import Headers, OptStatusDecided, OptStatusObserved, Record, System
from bridge.model.settings import load
from bridge.model.state import Known
from sandbox.campaign import CampaignSandbox
from sandbox.dynamics import DynamicsSandbox
from sandbox.dynamics.tables import APP_USER
from sandbox.web import serving
from services.optin.contacts import Basis, Contacts
from services.optin.handler import Decided, OptinHandler
from services.optin.observing import Observing
from services.optin.profiles import Profiles

PAIRS = (Pair("donotemail", "blackListEmail"), Pair("donotphone", "blackListPhone"))
NOBODY = "99999999-2222-4333-8444-555555555555"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class Rig:
    """`observed`: what the writer has told the resolver, with the version it names."""

    def __init__(self, dynamics: DynamicsSandbox, campaign: CampaignSandbox, urls: tuple[str, str]) -> None:
        self.dynamics, self.campaign = dynamics, campaign
        self.observed: list[tuple[OptStatusObserved, int | None]] = []
        self.own: list[bool] = []
        self.registry = MemoryRegistry()
        there = {"DYNAMICS_URL": urls[0], "DYNAMICS_TENANT_ID": "sandbox-tenant", "DYNAMICS_CLIENT_ID": "sandbox-client"}
        there |= {"DYNAMICS_CLIENT_SECRET": "sandbox-secret", "DYNAMICS_TOKEN_URL": f"{urls[0]}/sandbox-tenant/oauth2/v2.0/token"}
        here = {"CAMPAIGN_URL": f"{urls[1]}/sandbox", "CAMPAIGN_CLIENT_ID": "sandbox-campaign", "CAMPAIGN_ORG_ID": "sandbox@AdobeOrg"}
        here |= {"CAMPAIGN_CLIENT_SECRET": "sandbox-secret", "CAMPAIGN_TOKEN_URL": f"{urls[1]}/ims/token/v3"}
        clock = SystemClock()
        self.clients = (
            DynamicsClient(load(DynamicsSettings, there), clock, origin="target"),
            CampaignClient(load(CampaignSettings, here), clock),
        )
        decoder = Decoder(self.registry, load_schema("OptStatusDecided"), OptStatusDecided)
        observing = Observing(PAIRS, self._observe, clock)
        contacts = Contacts(self.clients[0], "contacts", [pair.dynamics for pair in PAIRS], APP_USER.lower(), observing)
        profiles = Profiles(self.clients[1], self.clients[0], observing)
        self.noted: list[tuple[str, Sequence[str], str, int | None]] = []
        self.handler = OptinHandler(contacts, profiles, observing, decoder, self._note, clock, park_budget_s=3600)
        self.person = dynamics.upsert("contact", {"lastname": "Lovelace"})
        campaign.put("profile", {"externalId": self.person, "lastName": "Lovelace"})

    async def _observe(self, event: OptStatusObserved, version: int | None, *, own: bool) -> None:
        self.observed.append((event, version))
        self.own.append(own)

    async def _note(self, contact: str, places: Sequence[str], outcome: str, status: int | None) -> None:
        self.noted.append((contact, places, outcome, status))

    def decision(self, target: System, contact: str = "", at: datetime | None = None, **flags: bool) -> OptStatusDecided:
        """Made for what Dynamics has to take back, in the knowledge that it is there."""
        known = {"campaign": None, "campaign_changed_at": None, "dynamics_changed_at": None}
        inputs = {name: {**known, "dynamics": not value if target == "dynamics" else None} for name, value in flags.items()}
        return OptStatusDecided(contact or self.person, target, flags, "rule", inputs, at or datetime.now(UTC))

    async def write(self, target: System, known: Known | None = None, **facts: Any) -> str:
        """By a decision that knows the contact as it is."""
        version = next(row["versionnumber"] for row in self.dynamics.rows("contact") if row["contactid"] == self.person)
        return (await self.handler.write(decided(self.decision(target, **facts), version), known)).outcome

    def patches(self) -> list[dict[str, Any]]:
        there = [each["body"] for each in self.dynamics.writes("contact") if each["method"] == "PATCH"]
        return there + [each["fields"] for each in self.campaign.writes("profile") if each["method"] == "PATCH"]


def decided(decision: OptStatusDecided, version: int | None) -> Decided:
    return Decided(decision, basis=dict.fromkeys(decision.flags, Basis(version, None)))


@asynccontextmanager
async def a_rig() -> AsyncIterator[Rig]:
    dynamics, campaign = DynamicsSandbox(), CampaignSandbox()
    async with serving(dynamics.app()) as one, serving(campaign.app()) as other:
        rig = Rig(dynamics, campaign, (one, other))
        try:
            yield rig
        finally:
            for client in rig.clients:
                await client.close()


async def test_only_the_flags_that_differ_are_written() -> None:
    async with a_rig() as rig:
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotphone": True})
        rig.campaign.opt_out(rig.person, "blackListPhone", True)

        outcomes = [
            await rig.write("dynamics", donotemail=True, donotphone=True),
            await rig.write("campaign", blackListEmail=True, blackListPhone=True),
            await rig.write("dynamics", donotemail=True, donotphone=True),
            await rig.write("campaign", blackListEmail=True, blackListPhone=True),
        ]

        assert outcomes == ["updated", "updated", "unchanged", "unchanged"]
        assert rig.patches() == [{"donotemail": True}, {"blackListEmail": True}]


async def test_a_write_to_dynamics_is_read_back_so_that_it_is_no_change_of_somebodys() -> None:
    async with a_rig() as rig:
        await rig.write("dynamics", donotemail=True)

        ((event, version),) = rig.observed
        row = next(row for row in rig.dynamics.rows("contact") if row["contactid"] == rig.person)
        assert (event.system, event.flags["donotemail"]["value"], version) == ("dynamics", True, row["versionnumber"])
        assert event.record_changed_at is not None


async def test_a_contact_that_is_gone_is_not_made_again() -> None:
    async with a_rig() as rig:
        assert await rig.write("dynamics", contact=NOBODY, donotemail=True) == "absent"
        assert rig.patches() == []
        assert [row["contactid"] for row in rig.dynamics.rows("contact")] == [rig.person]


async def test_somebody_who_was_faster_makes_the_writer_look_again() -> None:
    async with a_rig() as rig:
        row = await rig.clients[0].row(f"contacts({rig.person})?$select=donotemail,modifiedon")
        assert row is not None
        rig.dynamics.upsert("contact", {"contactid": rig.person, "lastname": "King"})

        with pytest.raises(Exception, match="somebody was faster") as caught:
            await rig.clients[0].patch(f"contacts({rig.person})?$select=donotemail", {"donotemail": True}, row["@odata.etag"])
        assert getattr(caught.value, "code", "") == "changed_meanwhile"
        assert await rig.write("dynamics", donotemail=True) == "updated"


async def test_an_opt_out_that_the_decision_did_not_know_is_observed_not_overwritten() -> None:
    async with a_rig() as rig:
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True})
        decision = rig.decision("dynamics", donotemail=False)
        inputs = {"donotemail": {**decision.inputs["donotemail"], "dynamics": False}}

        result = await rig.handler.write(Decided(replace(decision, inputs=inputs)), None)

        assert (result.outcome, rig.patches(), rig.own) == ("observed_again", [], [False])
        assert rig.observed[0][0].flags["donotemail"]["value"] is True


async def test_a_contact_that_was_edited_after_the_decision_is_observed_but_for_our_own_last_write() -> None:
    async with a_rig() as rig:
        earlier = datetime.now(UTC) - timedelta(seconds=5)
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True})
        version = next(row["versionnumber"] for row in rig.dynamics.rows("contact"))
        decision = rig.decision("dynamics", at=earlier, donotemail=False)

        unknown = await rig.handler.write(decided(decision, version - 1), None)
        written = Known(times={"version": str(version), "over": str(version - 1)})
        ours = await rig.handler.write(decided(decision, version - 1), written)
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True})
        latest = next(row["versionnumber"] for row in rig.dynamics.rows("contact"))
        known = await rig.handler.write(decided(decision, latest), None)

        assert [each.outcome for each in (unknown, ours, known)] == ["observed_again", "updated", "updated"]
        assert ours.known is not None and int(ours.known.times["version"]) > version
        assert ours.known.times["over"] == str(version - 1)


async def test_a_version_that_comes_twice_is_told_by_its_time() -> None:
    """Dynamics was restored: its versions start over."""
    async with a_rig() as rig:
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True})
        version = next(row["versionnumber"] for row in rig.dynamics.rows("contact"))
        decision, long_ago = rig.decision("dynamics", donotemail=False), datetime(2026, 1, 1, tzinfo=UTC)

        result = await rig.handler.write(Decided(decision, basis=dict.fromkeys(decision.flags, Basis(version, long_ago))), None)

        assert (result.outcome, rig.patches()) == ("observed_again", [])


async def test_so_is_a_version_that_we_once_wrote_ourselves() -> None:
    async with a_rig() as rig:
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True})
        version = next(row["versionnumber"] for row in rig.dynamics.rows("contact"))
        decision = rig.decision("dynamics", donotemail=False)
        before = {"version": str(version), "over": str(version - 1), "changed": "2026-01-01T00:00:00+00:00"}

        result = await rig.handler.write(decided(decision, version - 1), Known(times=before))

        assert (result.outcome, rig.patches()) == ("observed_again", [])


async def test_an_opt_out_is_not_taken_away_if_campaign_says_no_again_by_now() -> None:
    async with a_rig() as rig:
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True, "donotphone": True})
        rig.campaign.opt_out(rig.person, "blackListEmail", True)

        outcome = await rig.write("dynamics", donotemail=False, donotphone=False)

        assert outcome == "updated"
        assert rig.patches() == [{"donotphone": False}]
        assert ("campaign", True) in [(event.system, event.flags.get("blackListEmail", {}).get("value")) for event, _ in rig.observed]


async def test_campaign_is_never_told_to_take_an_opt_out_away() -> None:
    async with a_rig() as rig:
        rig.campaign.opt_out(rig.person, "blackListEmail", True)

        assert await rig.write("campaign", blackListEmail=False) == "observed_again"
        assert rig.patches() == []
        assert rig.observed[0][0].flags["blackListEmail"]["value"] is True


async def test_what_somebody_changed_in_campaign_meanwhile_is_observed_not_overwritten() -> None:
    async with a_rig() as rig:
        rig.campaign.opt_out(rig.person, "blackListEmail", True)
        rig.campaign.opt_out(rig.person, "blackListEmail", False)

        assert await rig.write("campaign", blackListEmail=True) == "observed_again"
        ((event, _),) = rig.observed
        seen = event.flags["blackListEmail"]
        decision = rig.decision("campaign", blackListEmail=True)
        inputs = {"blackListEmail": {**decision.inputs["blackListEmail"], "campaign_changed_at": seen["changed_at"]}}
        result = await rig.handler.write(Decided(replace(decision, inputs=inputs)), None)

        assert (seen["value"], result.outcome) == (False, "updated")


async def test_an_opt_out_waits_for_its_profile_and_is_let_go_when_nobody_has_come() -> None:
    async with a_rig() as rig:
        with pytest.raises(ParkError) as parked:
            await rig.write("campaign", contact=NOBODY, blackListEmail=True)

        assert parked.value.code == "profile_missing"
        assert parked.value.waits_for == {f"{NOBODY}/campaign"}, "its own key: the decision after its creation is written at once"
        assert await rig.write("campaign", contact=NOBODY, at=datetime.now(UTC) - timedelta(hours=2), blackListEmail=True) == "absent"
        assert await rig.write("campaign", contact=NOBODY, blackListEmail=False) == "absent"


async def test_a_decision_that_was_superseded_changes_nothing() -> None:
    async with a_rig() as rig:
        first = await rig.handler.write(Decided(rig.decision("dynamics", donotemail=True)), None)
        assert first.known is not None

        assert await rig.write("dynamics", known=first.known, at=LONG_AGO, donotemail=False) == "stale"
        assert await rig.write("dynamics", known=first.known, at=LONG_AGO, donotphone=True) == "updated"
        assert rig.patches() == [{"donotemail": True}, {"donotphone": True}]


async def test_what_is_held_is_not_written() -> None:
    async with a_rig() as rig:
        rig.dynamics.upsert("contact", {"contactid": rig.person, "donotemail": True})

        result = await rig.handler.write(Decided(rig.decision("dynamics", donotemail=False), held=True), None)

        assert (result.outcome, result.known, rig.patches()) == ("held", None, [])


async def test_a_flag_that_cannot_be_written_is_a_dead_letter() -> None:
    async with a_rig() as rig:
        rig.dynamics.remove_column("contact", "donotphone")

        with pytest.raises(RejectError) as rejected:
            await rig.write("dynamics", donotphone=True)

        assert rejected.value.code == "flag_refused"


def record(headers: Headers, key: str = "k", offset: int = 7) -> Record:
    return Record("optin.decisions", 0, offset, 0, key.encode(), b"", headers)


async def test_opt_outs_go_first_and_what_is_held_is_a_job_of_its_own() -> None:
    async with a_rig() as rig:
        handler, target = rig.handler, ("target", b"dynamics")
        out, back = record([target, ("decides", b"opt-out")]), record([target, ("decides", b"opt-in")])
        held = record([target, ("decides", b"opt-in"), ("guard", b"held")])

        assert (handler.route(out).live, handler.route(back).live) == (True, False)
        assert handler.route(out).key == handler.route(back).key == "k/dynamics"
        assert handler.route(held).key != handler.route(back).key
        assert {handler.route(each).state_key for each in (out, back, held)} == {"k/dynamics"}


async def test_decisions_that_wait_are_merged_flag_by_flag_the_later_one_counts() -> None:
    async with a_rig() as rig:
        now = datetime.now(UTC)
        first = Decided(rig.decision("dynamics", at=now, donotemail=True, donotphone=True))
        second = Decided(rig.decision("dynamics", at=now + timedelta(seconds=1), donotemail=False))

        for one, other in ((first, second), (second, first)):
            merged, newer = rig.handler.merge(one, other)
            assert merged.event.flags == {"donotemail": False, "donotphone": True}
            assert newer is (other is second)


async def test_a_decision_of_another_contact_than_its_record_is_refused() -> None:
    async with a_rig() as rig:
        schema = load_schema("OptStatusDecided")
        value = Encoder(schema, rig.registry.register("optin.decisions-value", schema)).encode(rig.decision("dynamics", donotemail=True))

        with pytest.raises(RejectError) as rejected:
            await rig.handler.decode(replace(record([], key=NOBODY), value=value))
        decoded = await rig.handler.decode(replace(record([], key=rig.person), value=value))

        assert rejected.value.code == "misplaced"
        assert decoded.event.flags == {"donotemail": True}


async def test_the_outcome_of_a_copy_is_told_of_the_decision_it_is_a_copy_of() -> None:
    """It was published again while it waited for its profile."""
    async with a_rig() as rig:
        decision = rig.decision("campaign", blackListEmail=True)
        encoder = Encoder(load_schema("OptStatusDecided"), rig.registry.register("x", load_schema("OptStatusDecided")))
        headers = (("target", b"campaign"), ("parked-since", b"1772362800000"), ("parked-from", b"2-17"))
        copy = Record("optin.decisions", 2, 99, 0, decision.contact_key.encode(), encoder.encode(decision), headers)

        await rig.handler.write(await rig.handler.decode(copy), None)

        assert [list(places) for _, places, _, _ in rig.noted] == [["2-17"]]
