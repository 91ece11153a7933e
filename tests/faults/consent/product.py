"""The product's own code for each role of ingress and Opt In/Out, put together with twins for what it calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from bridge.campaign.metadata import Resource
from bridge.campaign.settings import ExportSettings
from bridge.consent.profiles import ahead_ms
from bridge.consent.words import Pair
from bridge.flow.waits import LetterLimit
from bridge.mapping.convert import TargetField
from bridge.mapping.rows import Mapper
from bridge.model.config import TableMapping
from bridge.model.events import Headers, OptStatusDecided, OptStatusObserved, event_headers
from bridge.model.settings import load
from bridge.model.state import Digests
from services.ingress.children import Children
from services.ingress.consent import Consent
from services.ingress.dry import NoConsent
from services.ingress.handler import IngressHandler
from services.ingress.optin import Flags, OptIn
from services.ingress.target import Target
from services.optin.contacts import Contacts
from services.optin.export import Export
from services.optin.export_rows import BadExport
from services.optin.handler import OptinHandler
from services.optin.merged import Merged
from services.optin.observing import Observing
from services.optin.profiles import Profiles
from services.optin.resolving import CARRIED, Resolving
from services.optin.status import StatusCodec
from tests.faults.consent.campaign import FLAGS, Campaign, CampaignCalls
from tests.faults.consent.dynamics import COLUMNS, US, Dynamics, DynamicsCalls
from tests.faults.consent.exports import File
from tests.faults.consent.kafka import START, Clock, Decoder, Kafka, LedgerGuard, Life, State
from tests.faults.consent.readers import OBSERVATIONS
from tests.faults.consent.running import PARK_BUDGET_S, Letters
from tests.faults.consent.setup import Setup

FIELDS = {"firstname": "firstName", "address1_city": "location.city", "new_gender": "gender"}
NEVER = LetterLimit(10_000, 1.1)
EXPORTS = {
    "CAMPAIGN_SFTP_HOST": "sftp",
    "CAMPAIGN_SFTP_USER": "bridge",
    "CAMPAIGN_SFTP_KEY_FILE": "key",
    "CAMPAIGN_SFTP_KNOWN_HOSTS_FILE": "hosts",
}


@cache
def export_settings(zone: str | None) -> ExportSettings:
    return load(ExportSettings, EXPORTS | ({"CAMPAIGN_EXPORT_TIME_ZONE": zone} if zone else {}))


@cache
def target(setup_part: tuple[Any, ...], mapped: tuple[int, ...]) -> Target:
    """The contact mapping; a few hundred different ones serve all histories."""
    flags, has_flags, filtered, delete_filtered_out, apply_deletes = setup_part
    pairs = [(COLUMNS[each], flags[each]) for each in mapped] if has_flags else []
    table = TableMapping.model_validate(
        {
            "source": "contact",
            "target": "profile",
            "key": {"source": "contactid", "target": "externalId"},
            "fields": [{"source": source, "target": to} for source, to in [*FIELDS.items(), *pairs]],
            "filter": {
                "conditions": [{"field": "address1_city", "operator": "eq", "value": "Oslo"}] if filtered else [],
                "delete_filtered_out": delete_filtered_out,
            },
            "apply_deletes": apply_deletes,
        }
    )
    texts = {name: TargetField(name, "string", length=60) for name in ("externalId", *FIELDS.values())}
    fields = texts | {name: TargetField(name, "boolean", raw_type="boolean") for name in FLAGS}
    resource = Resource("profile", "profileAndServicesExt/profile", fields)
    return Target(table, resource, fields, Mapper(table, fields))


class Limits:
    """See services.ingress.consent.Limits."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def lowers(self) -> int:
        return 100 if self._setup.lower_limit is None else self._setup.lower_limit

    def deletes(self, table: str) -> int:
        return 500 if self._setup.delete_limit is None else self._setup.delete_limit


class Product:
    """Makes each role again, as a process does that begins: for the flags that are mapped now, with the secrets of now."""

    def __init__(self, setup: Setup, kafka: Kafka, dynamics: Dynamics, campaign: Campaign, folder: Path) -> None:
        self._setup, self._kafka, self._dynamics, self._campaign, self._folder = setup, kafka, dynamics, campaign, folder
        self.clock = Clock(kafka.time, setup.ours)
        self.mapped: tuple[int, ...] = (0, 1)
        self.secrets = {"ingress": "first", "optin": "first"}  # of the digests

    def ingress_columns(self) -> tuple[str, ...]:
        flags = tuple(COLUMNS[each] for each in self.mapped) if self._setup.ingress_has_flags else ()
        return (*FIELDS, *flags)

    def pairs(self) -> tuple[Pair, ...]:
        return tuple(Pair(COLUMNS[each], self._setup.flags[each]) for each in self.mapped)

    def rows(self, file: File) -> Iterator[OptStatusObserved]:
        """What the product reads in an export; nothing where the whole file is bad."""
        path = self._folder / "export"
        path.write_bytes(file.content())
        flags = [pair.campaign for pair in self.pairs()]
        made = START + timedelta(milliseconds=file.made)
        export = Export(path, flags, export_settings(self._setup.zone), made, name=file.name)
        with suppress(BadExport):
            for _ in export.surveyed():
                pass
            measured = ahead_ms((self.clock.ahead_ms - self._campaign.clock.ahead_ms) / 1000)
            for row in export.rows(0, self.clock.now()):
                if row.event is not None:
                    yield replace(row.event, ahead_ms=measured)

    def resolver(self, life: Life) -> Resolving:
        kafka, pairs = self._kafka, self.pairs()

        async def publish(decision: OptStatusDecided, headers: Headers) -> None:
            life.step()
            kafka.publish("optin.decisions", decision.contact_key, decision, headers)
            life.step()

        async def observe(event: OptStatusObserved) -> None:
            life.step()
            headers = [*event_headers("live", "", "optin-resolver/sim"), (CARRIED, b"1")]
            kafka.publish(OBSERVATIONS, event.contact_key, event, headers)
            life.step()

        direction = "campaign-to-dynamics" if self._setup.direction == "campaign-to-dynamics" else "bidirectional"
        return Resolving(
            Decoder(kafka),  # type: ignore[arg-type]
            State(kafka.states["optin"], life),
            StatusCodec(Digests(self.secrets["optin"]), pairs),
            pairs,
            direction,  # type: ignore[arg-type]
            LedgerGuard(kafka, life),
            publish,
            Merged(pairs, direction, "carry", observe),  # type: ignore[arg-type]
            Letters(kafka, life),
            NEVER,
            self.clock,
            limit=self._setup.lower_limit,
            partitions=1,
            produced_by="optin-resolver/sim",
        )

    def ingress_handler(self, life: Life) -> IngressHandler:
        setup, kafka = self._setup, self._kafka
        part = (setup.flags, setup.ingress_has_flags, setup.filtered, setup.delete_filtered_out, setup.apply_deletes)
        calls = CampaignCalls(self._campaign, life, self.clock)

        async def prove(decision: OptStatusDecided, headers: Mapping[str, str]) -> None:
            life.step()
            told = [(name, value.encode()) for name, value in headers.items()]
            kafka.publish("ingress.decisions", decision.contact_key, decision, told)
            life.step()

        async def observe(event: OptStatusObserved) -> None:
            life.step()
            kafka.publish(OBSERVATIONS, event.contact_key, event, event_headers("live", "", "ingress-writer/sim"))
            life.step()

        flags = Flags()
        flags.names = frozenset(pair.campaign for pair in self.pairs()) if setup.optin_runs else frozenset()
        consent = Consent(calls, LedgerGuard(kafka, life), prove, Limits(setup), self.clock)
        decoder: Any = Decoder(kafka)
        optin = OptIn(observe, self.clock, flags)
        keep = State(kafka.states["ingress"], life).put
        targets, digests = {"contact": target(part, self.mapped)}, Digests(self.secrets["ingress"])
        return IngressHandler(targets, calls, decoder, digests, consent, optin, self.clock, keep, Children({}, NoConsent(), self.clock))

    def optin_handler(self, life: Life) -> OptinHandler:
        kafka, pairs = self._kafka, self.pairs()

        async def observe(event: OptStatusObserved, version: int | None, *, own: bool) -> None:
            life.step()
            headers = [
                *event_headers("live", "" if version is None else str(version), "optin-writer/sim"),
                *([("read-back", b"1")] if own else []),
            ]
            kafka.publish(OBSERVATIONS, event.contact_key, event, headers)
            life.step()

        async def note(contact: str, places: Sequence[str], outcome: str, status: int | None) -> None:
            life.step()

        dynamics: Any = DynamicsCalls(self._dynamics, life, self.clock)
        campaign: Any = CampaignCalls(self._campaign, life, self.clock)
        observing = Observing(pairs, observe, self.clock)
        contacts = Contacts(dynamics, "contacts", [pair.dynamics for pair in pairs], US, observing)
        profiles = Profiles(campaign, dynamics, observing)
        decoder: Any = Decoder(kafka)
        return OptinHandler(contacts, profiles, observing, decoder, note, self.clock, park_budget_s=PARK_BUDGET_S)
