"""Held items as an admin sees them (consent.md, *API*): what is open in both topics of decisions, and what releasing one publishes."""

from __future__ import annotations

from bridge.model.events import ChangeEvent, Record, event_headers
from tests.faults.consent.kafka import Clock, Kafka
from tests.faults.consent.readers import CHANGES

DECISIONS = ("ingress.decisions", "optin.decisions")


def open_items(kafka: Kafka) -> list[Record]:
    """The records that are held. One of the same key and flags that is not, or that voids it, has ended it."""
    found: dict[tuple[str, bytes | None, bytes | None, str], Record] = {}
    for topic in DECISIONS:
        for record in kafka.topics[topic]:
            about = (topic, record.key, record.header("target"))
            flags = set(filter(None, (record.header("flags") or b"").decode().split(",")))
            voids = (record.header("voids") or b"").decode()
            if voids:
                flags |= {"delete"} if voids == "delete" else {each[3] for each in found if each[:3] == about and each[3] != "delete"}
            for flag in flags:
                found.pop((*about, flag), None)
                if record.header("guard") == b"held":
                    found[*about, flag] = record
    return list({(each.topic, each.offset): each for each in found.values()}.values())


def release(kafka: Kafka, held: Record, clock: Clock) -> None:
    """An admin has released it: the writer carries it out, unless something newer has made it void."""
    key = (held.key or b"").decode()
    if held.topic == "optin.decisions":
        kept = [header for header in held.headers if header[0] != "guard"]
        kafka.append(Record(held.topic, 0, -1, 0, held.key, held.value, (*kept, ("guard", b"released"))))
        return
    event = ChangeEvent("contact", key, "upsert", "live", None, None, clock.now())
    told = [
        ("guard", b"released"),
        *((name, held.header(name) or b"") for name in ("kind", "flags")),
        ("held", f"0-{held.offset}".encode()),
    ]
    kafka.publish(CHANGES, key, event, [*event_headers("live", "", "control/sim"), *told])
