"""Do both systems agree, record by record? Written from the contract, without the product's own mapping."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import httpx

Convert = Callable[[Any], Any]


def text(length: int) -> Convert:
    return lambda value: (value or "")[:length]


def number(value: Any) -> float:
    return float(value or 0)


def moment(value: Any) -> str:
    """`2026-01-02T03:04:05Z` → `2026-01-02 03:04:05.000Z`."""
    return f"{value[:10]} {value[11:19]}.000Z" if value else ""


FUEL = {None: "", 100000000: "Petrol", 100000001: "Diesel", 100000002: "Electric"}
CONTACT: Mapping[str, tuple[str, Convert]] = {
    "firstname": ("firstName", text(30)),
    "middlename": ("middleName", text(30)),
    "lastname": ("lastName", text(50)),
    "emailaddress1": ("email", text(128)),
    "telephone1": ("phone", text(32)),
    "mobilephone": ("mobilePhone", text(32)),
    "address1_city": ("location.city", text(255)),
    "gendercode": ("gender", {None: "unknown", 1: "male", 2: "female"}.get),
    "birthdate": ("birthDate", text(10)),
    "donotemail": ("blackListEmail", bool),
}
VEHICLE: Mapping[str, tuple[str, Convert]] = {
    "new_name": ("cusName", text(100)),
    "new_plate": ("cusPlate", text(20)),
    "new_color": ("cusColor", text(30)),
    "new_fueltype": ("cusFuel", FUEL.get),
    "new_price": ("cusPrice", number),
    "new_mileage": ("cusMileage", number),
    "new_registered": ("cusRegistered", text(10)),
    "new_servicedue": ("cusServiceDue", moment),
    "new_active": ("cusActive", bool),
    "new_contactid": ("cusContactId", text(36)),
}


def mappings() -> list[dict[str, Any]]:
    """The ingress configuration that makes the systems agree."""
    contact = _mapping("contact", "profile", "contactid", "externalId", CONTACT)
    contact["replacements"] = [
        {"source": "gendercode", "from": "1", "to": "male"},
        {"source": "gendercode", "from": "2", "to": "female"},
    ]
    vehicle = _mapping("new_vehicle", "cusVehicle", "new_vehicleid", "cusVehicleId", VEHICLE)
    return [contact, {**vehicle, "picklists": "display"}]


def _mapping(source: str, target: str, key: str, target_key: str, fields: Mapping[str, tuple[str, Convert]]) -> dict[str, Any]:
    return {
        "source": source,
        "target": target,
        "key": {"source": key, "target": target_key},
        "fields": [{"source": name, "target": to} for name, (to, _) in fields.items()],
        "apply_deletes": True,
    }


def differences(dynamics: httpx.Client, campaign: httpx.Client) -> tuple[int, list[str]]:
    """How many records were compared, and what differs: missing, left over, or a field's name."""
    wrong: list[str] = []
    compared = 0
    for table, key, resource, target_key, fields in (
        ("contact", "contactid", "profile", "externalId", CONTACT),
        ("new_vehicle", "new_vehicleid", "cusVehicle", "cusVehicleId", VEHICLE),
    ):
        there = {row[key]: row for row in dynamics.get(f"/_admin/tables/{table}/rows").json()["rows"]}
        here = {row[target_key]: row for row in campaign.get(f"/_admin/resources/{resource}/rows").json()["rows"]}
        wrong += [f"{table} {each}: missing in Campaign" for each in there.keys() - here.keys()]
        wrong += [f"{resource} {each}: left over in Campaign" for each in here.keys() - there.keys()]
        for each in there.keys() & here.keys():
            compared += 1
            for name, (to, convert) in fields.items():
                if convert(there[each][name]) != member(here[each], to):
                    wrong.append(f"{table} {each}: {name} differs")
    return compared, wrong


def member(row: Mapping[str, Any], dotted: str) -> Any:
    value: Any = row
    for part in dotted.split("."):
        value = value[part]
    return value
