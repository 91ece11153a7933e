"""Made-up people and their vehicles, the same for the same seed, and random edits to them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

from sandbox.dynamics.store import Store
from sandbox.dynamics.tables import OTHER_USER
from sandbox.dynamics.values import raw

_FIRST = (
    "Anna Ben Carla David Elena Farid Grace Hugo Ines Jonas Karin Liam Maria Noah Olga Pierre Rosa Sven Tara Victor "
    "Zoë François Łukasz Søren Jürgen Ángela Björn Chloé Dvořák Немо 美咲 Aïcha"
).split()
_LAST = (
    "Smith Jones Miller Garcia Rossi Dubois Novak Larsen Silva Kowalski Tanaka Okafor Patel Müller Weiß Núñez O'Neill "
    "Strömberg Çelik Đorđević Håkansson Lefèvre van-der-Berg 山田 Иванова"
).split()
_LONG = ("Maximiliana-Theodora-Alexandrina-Josephine", "Wolfeschlegelsteinhausenbergerdorff-Oberkirch")
_PLACES = (
    ("Springfield", "Illinois", "USA", "62701"), ("Leeds", "West Yorkshire", "United Kingdom", "LS1 4DY"),
    ("Köln", "Nordrhein-Westfalen", "Germany", "50667"), ("Nîmes", "Gard", "France", "30000"),
    ("São Paulo", "SP", "Brazil", "01310-100"), ("Gdańsk", "Pomorskie", "Poland", "80-001"),
    ("Turin", "Piemonte", "Italy", "10121"), ("Aarhus", "Midtjylland", "Denmark", "8000"),
)  # fmt: skip
_STREETS = "Main Street|Station Road|Rue des Écoles|Gartenstraße|Via Roma|Park Avenue|Long Lane".split("|")
_DOMAINS = ("example.com", "example.org", "mail.example.net")
_MODELS = "Astra Corsa Leaf Golf Model-S Clio Panda Octavia Transit Duster".split()
_COLORS = "red blue black white silver green".split()


def guid(rng: Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


def contact(rng: Random) -> dict[str, Any]:
    """One contact: about 8 % inactive, some nulls, rarely a first name over 30 characters."""

    def maybe(make: Callable[[], Any], filled: float) -> Any:
        return make() if rng.random() < filled else None

    first = _LONG[0] if rng.random() < 0.004 else rng.choice(_FIRST)
    last = _LONG[1] if rng.random() < 0.004 else rng.choice(_LAST)
    city, state, country, code = rng.choice(_PLACES)
    mailbox = f"{first[:30]}.{last[:30]}".encode("ascii", "ignore").decode().lower().replace("'", "").strip(".") or "someone"
    street = f"{rng.randint(1, 400)} {rng.choice(_STREETS)}"
    return {
        "firstname": maybe(lambda: first, 0.97),
        "lastname": last,
        "emailaddress1": maybe(lambda: f"{mailbox}.{rng.randint(1, 99999)}@{rng.choice(_DOMAINS)}", 0.95),
        "mobilephone": maybe(lambda: f"+{rng.randint(1, 99)} {rng.randint(100, 999)} {rng.randint(100000, 999999)}", 0.7),
        "telephone1": maybe(lambda: f"+1-555-{rng.randint(1000, 9999)}", 0.5),
        "jobtitle": maybe(lambda: rng.choice(("Engineer", "Buyer", "Teacher", "Gérant", "Nurse")), 0.4),
        "birthdate": maybe(lambda: f"{rng.randint(1940, 2005)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}", 0.8),
        "gendercode": maybe(lambda: rng.randint(1, 2), 0.8),
        "familystatuscode": maybe(lambda: rng.randint(1, 4), 0.5),
        "numberofchildren": maybe(lambda: rng.randint(0, 4), 0.4),
        "creditlimit": maybe(lambda: round(rng.uniform(100, 50000), 2), 0.3),
        "donotemail": rng.random() < 0.05,
        "donotbulkemail": rng.random() < 0.1,
        "donotphone": rng.random() < 0.1,
        "donotpostalmail": rng.random() < 0.05,
        "address1_line1": street + (" - second courtyard, staircase B, fourth floor, on the left" * (rng.random() < 0.01)),
        "address1_city": city,
        "address1_stateorprovince": maybe(lambda: state, 0.8),
        "address1_country": country,
        "address1_postalcode": code,
        **({"statecode": 1, "statuscode": 2} if rng.random() < 0.08 else {}),
    }


def vehicle(rng: Random, owners: list[str]) -> dict[str, Any]:
    features = [str(n) for n in (1, 2, 3) if rng.random() < 0.4]
    model, day = rng.choice(_MODELS), f"{rng.randint(2008, 2024)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    return {
        "new_name": f"{model} {rng.randint(1, 9)}.{rng.randint(0, 9)}",
        "new_plate": f"{rng.choice('ABCDEFGH')}{rng.choice('KLMNPRST')}-{rng.randint(1000, 9999)}",
        "new_color": rng.choice(_COLORS) if rng.random() < 0.9 else None,
        "new_fueltype": 100_000_000 + rng.randint(0, 2),
        "new_price": round(rng.uniform(900, 60000), 2),
        "new_weight": round(rng.uniform(700, 2600), 2),
        "new_range": round(rng.uniform(200, 1100), 3),
        "new_mileage": rng.randint(0, 300_000),
        "new_registered": day,
        "new_servicedue": f"2025-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T{rng.randint(7, 17):02}:30:00Z",
        "new_active": rng.random() < 0.9,
        "new_features": ",".join(features) or None,
        "new_contactid": rng.choice(owners) if owners and rng.random() < 0.95 else None,
    }


def load(store: Store, contacts: int, vehicles: int, seed: int) -> dict[str, int]:
    """Adds generated rows, or writes them again when the same seed was loaded before."""
    rng = Random(seed)
    for _ in range(contacts):
        store.put("contact", guid(rng), contact(rng), OTHER_USER)
    owners = list(store.data["contact"].ids)
    for _ in range(vehicles):
        store.put("new_vehicle", guid(rng), vehicle(rng, owners), OTHER_USER)
    return {"contacts": contacts, "vehicles": vehicles}


def _touchable(store: Store, table: str) -> list[str]:
    data = store.data[table]
    return data.ids if table == "contact" else [key for key in data.ids if data.rows[key]["new_contactid"] in store.data["contact"].rows]


def churn(store: Store, seed: int, updates: int, inserts: int, deletes: int) -> dict[str, Any]:
    """Random edits, four of five to contacts: `{"updates": n, .., "ids": {"updated": {table: [..]}}}`.

    A contact that has vehicles stays, and vehicles without a contact are left alone: Campaign hides children without their parent for ever,
    and what becomes of those is a test of its own.
    """
    rng = Random(seed)
    done: dict[str, dict[str, list[str]]] = {kind: {"contact": [], "new_vehicle": []} for kind in ("updated", "inserted", "deleted")}
    kinds = ["updated"] * updates + ["inserted"] * inserts + ["deleted"] * deletes
    rng.shuffle(kinds)
    for kind in kinds:
        table = "contact" if rng.random() < 0.8 else "new_vehicle"
        table = table if store.data[table].ids or kind == "inserted" else "contact"
        ids, people = _touchable(store, table), store.data["contact"].ids
        if kind != "inserted" and not ids:
            continue
        if kind == "deleted" and table == "contact":
            parents = {row["new_contactid"] for row in store.data["new_vehicle"].rows.values()}
            ids = [each for each in ids if each not in parents] or ids
        key = guid(rng) if kind == "inserted" else rng.choice(ids)
        if kind == "deleted":
            store.drop(table, key)
        else:
            values = contact(rng) if table == "contact" else vehicle(rng, people)
            if values.get("new_contactid", "") is None and people:
                values["new_contactid"] = rng.choice(people)
            if kind == "updated":
                values = {name: values[name] for name in rng.sample(sorted(values), 3) if name != "statuscode"}
            store.put(table, key, raw(store, store.tables[table], values), OTHER_USER)
        done[kind][table].append(key)
    counts = {
        name: sum(map(len, done[kind].values())) for name, kind in (("updates", "updated"), ("inserts", "inserted"), ("deletes", "deleted"))
    }
    return {**counts, "ids": done}
