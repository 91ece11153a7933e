"""`python -m benchmarks.sizes`: bytes of what lies in each topic, by the product's own encoders; the figures of docs/operations.md."""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bridge.consent.words import Order, Pair, Side, Status, Word
from bridge.kafka.avro import Encoder, load_schema
from bridge.kafka.local_part import LocalPart
from bridge.model.config import default_ingress
from bridge.model.desired import Heartbeat
from bridge.model.events import ChangeEvent, EmailEvent, OptStatusDecided, OptStatusObserved, System, event_headers
from bridge.model.state import Digests, Known
from services.optin.status import StatusCodec

NOW = datetime(2026, 3, 1, 12, 0, 0, 123000, UTC)
CONTACT = "0a1b2c3d-1111-4222-8333-444455556666"
SYSTEMS: tuple[System, System] = ("campaign", "dynamics")
OVERHEAD = 12  # of a record in a Kafka batch, about: lengths, deltas, attributes
TEXTS = (
    "Ada",
    "Maria",
    "Lovelace-Byron",
    "ada.lovelace@example.com",
    "+47 22 12 34 56",
    "+47 912 34 567",
    "",
    "Karl Johans gate 22",
    "0159",
    "Oslo",
    "",
)
EXACT = ("emailaddress1", "fax", "mobilephone", "telephone1")
FILES = 20_000  # records of the sqlite file that is measured
URL = "https://mirror.example.campaign.adobe.com/res/img/" + "a" * 90


def change(columns: int) -> ChangeEvent:
    """A row with so many columns; the default mapping has eleven."""
    names = default_ingress().tables[0].columns()
    fields = {f"new_column{n}" if n >= len(names) else names[n]: TEXTS[n % len(TEXTS)] or None for n in range(columns)}
    return ChangeEvent("contact", CONTACT, "upsert", "live", 915244, NOW, NOW, fields, exact=[name for name in EXACT if fields.get(name)])


def known(columns: int) -> Known:
    """As the ingress writer keeps it: of the default mapping, or of fields with names as custom resources have them."""
    names = [field.target for field in default_ingress().tables[0].fields]
    if columns > len(names):
        names = [f"cusField{n}" for n in range(columns)]
    digests = Digests("key").of(dict.fromkeys(names[:columns], "text"))
    return Known(
        version=915244,
        exists=True,
        visible=True,
        outcome="updated",
        digests=digests,
        topic="ingress.changes.contact",
        partition=3,
        offset=1200345,
        status=200,
        read_at=NOW.isoformat(),
        settled_at=NOW.isoformat(),
    )


def consent(flags: int) -> Known:
    """As the resolver keeps it, of flags that both systems have shown, with what was said of them in both."""
    pairs = tuple(Pair(f"donotcontact{n}", f"blackListChannel{n}") for n in range(flags))
    campaign, dynamics = (_side(system, [pair.name(system) for pair in pairs]) for system in SYSTEMS)
    return StatusCodec(Digests("key"), pairs).known(CONTACT, Status(campaign, dynamics, NOW))


def _side(system: System, names: Sequence[str]) -> Side:
    origin = "d365_optout_20260301_120000.csv row 123456" if system == "campaign" else "version 915244"
    return Side(Order(915244, NOW, NOW), dict.fromkeys(names, True), dict.fromkeys(names, Word(True, NOW, origin)))


def record(key: str, value: bytes, headers: bool = True) -> int:
    head = event_headers("live", "915244", "ingress-reader/ingress-reader-1") if headers else []
    return OVERHEAD + len(key) + len(value) + sum(len(name) + len(text) + 2 for name, text in head)


def encoded(schema: str, event: object) -> bytes:
    return Encoder(load_schema(schema), 7).encode(event)


def on_disk(value: bytes) -> float:
    """Bytes of a record in the local copy."""
    with tempfile.TemporaryDirectory() as folder:
        part = LocalPart(Path(folder) / "part.sqlite")
        for _ in range(FILES):
            part.put(f"contact/{uuid.uuid4()}", value)
        part.close()
        with sqlite3.connect(part.path) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return part.path.stat().st_size / FILES


def main() -> int:
    flag = {f"blackListChannel{n}": {"value": True, "changed_at": NOW} for n in range(5)}
    inputs = {name: {"campaign": True, "campaign_changed_at": NOW, "dynamics": False, "dynamics_changed_at": NOW} for name in flag}
    email = EmailEvent(str(uuid.uuid4()), "click", CONTACT, "CMP1234", "DM56789", NOW, URL, URL, NOW)
    observed = OptStatusObserved(CONTACT, "campaign", flag, NOW, NOW)
    decided = OptStatusDecided(CONTACT, "dynamics", dict.fromkeys(flag, True), "opted-out-in-campaign", inputs, NOW)
    beat = Heartbeat("ingress", "writer", "ingress-writer-1", "RUNNING", 3, 7, NOW.isoformat(), "0.1.0")
    sizes = {
        "ChangeEvent, 11 columns": record(CONTACT, encoded("ChangeEvent", change(11))),
        "ChangeEvent, 50 columns": record(CONTACT, encoded("ChangeEvent", change(50))),
        "ChangeEvent, delete": record(CONTACT, encoded("ChangeEvent", replace(change(0), op="delete"))),
        "EmailEvent, click": record(CONTACT, encoded("EmailEvent", email)),
        "OptStatusObserved, 5 flags": record(CONTACT, encoded("OptStatusObserved", observed)),
        "OptStatusDecided, 5 flags": record(CONTACT, encoded("OptStatusDecided", decided)),
        "ingress.state, 11 fields": record(f"contact/{CONTACT}", known(11).to_json(), False),
        "ingress.state, 50 fields": record(f"contact/{CONTACT}", known(50).to_json(), False),
        "egress.state": record(CONTACT, replace(known(0), topic="egress.email-events").to_json(), False),
        "optin.state, resolver, 5 flags": record(CONTACT, consent(5).to_json(), False),
        "local copy of ingress.state, 11 fields": round(on_disk(known(11).to_json())),
        "local copy of ingress.state, 50 fields": round(on_disk(known(50).to_json())),
        "local copy of optin.state, resolver, 5 flags": round(on_disk(consent(5).to_json())),
        "heartbeat": record(beat.key, json.dumps(beat.to_json()).encode(), False),
    }
    for name, size in sizes.items():
        print(f"{name:40} {size:6,d} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
