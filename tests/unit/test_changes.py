"""bridge.dynamics.changes and metadata against the stand-in: values by type, labels, events (dataverse.md §3, §6)."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from bridge.dynamics.changes import TrackedTable, version
from bridge.dynamics.client import DynamicsClient
from bridge.model.errors import RetryError
from bridge.model.events import ChangeEvent, Value
from sandbox.dynamics import DynamicsSandbox
from sandbox.web import Fault
from tests.unit.fakes import NOON, tracked


async def the_event(table: TrackedTable) -> ChangeEvent:
    """Of the only row there is."""
    (row,) = (await table.page(None)).rows
    return table.upsert(row, "live", NOON)


async def read(client: DynamicsClient, sandbox: DynamicsSandbox, column: str, value: Any, table: str = "new_vehicle") -> ChangeEvent:
    sandbox.upsert(table, {column: value})
    return await the_event(await tracked(client, table, column))


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("new_name", "Volvo", "Volvo"),
        ("new_price", 12500.5, "12500.5"),
        ("new_price", 5000000, "5000000"),
        ("new_weight", 1250.25, "1250.25"),
        ("new_range", 512.125, 512.125),
        ("new_mileage", 42, 42),
        ("new_active", True, True),
        ("new_active", False, False),
        ("new_fueltype", 100000001, 100000001),
        ("new_features", "1,3", "1,3"),
        ("new_registered", "1980-05-17", "1980-05-17"),
        ("new_servicedue", "2016-09-28T22:57:53Z", "2016-09-28T22:57:53Z"),
        ("statecode", 0, 0),
    ],
)
async def test_a_value_is_carried_as_its_type_asks(
    client: DynamicsClient, sandbox: DynamicsSandbox, column: str, value: Any, expected: Value
) -> None:
    (carried,) = (await read(client, sandbox, column, value)).fields.values()

    same_number = isinstance(expected, str) and column in ("new_price", "new_weight")
    assert type(carried) is type(expected)
    assert (float(str(carried)) == float(str(expected))) if same_number else carried == expected


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((column, value) for column in ("new_mileage", "new_price", "new_name") for value in ([], {}, ["x"], {"a": 1})),
        *(("new_mileage", value) for value in (2**63, -(2**63) - 1, 10**400)),
    ],
)
async def test_what_is_no_value_of_a_column_is_no_answer(client: DynamicsClient, sandbox: DynamicsSandbox, column: str, value: Any) -> None:
    """A structure went out as the text of it; a number beyond 64 bits ended the run."""
    sandbox.upsert("new_vehicle", {})
    table = await tracked(client, "new_vehicle", column)
    (row,) = (await table.page(None)).rows

    with pytest.raises(RetryError) as caught:
        table.upsert({**row, column: value}, "live", NOON)

    assert caught.value.code == "bad_answer"


@pytest.mark.parametrize(
    "told", [{"@odata.etag": 'W/"9' + "9" * 30 + '"'}, {"versionnumber": "soon"}, {"versionnumber": [7]}, {"versionnumber": {}}]
)
def test_a_version_that_is_none_is_no_answer(told: dict[str, Any]) -> None:
    with pytest.raises(RetryError) as caught:
        version(told)

    assert caught.value.code == "bad_answer"


async def test_money_is_a_decimal_text_that_is_never_a_float(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    event = await read(client, sandbox, "new_price", 0.1)

    assert isinstance(event.fields["new_price"], str)
    assert set(event.fields["new_price"]) <= set("0123456789.-")


async def test_a_lookup_is_carried_under_its_logical_name(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    contact = sandbox.upsert("contact", {"lastname": "Owner"})

    event = await read(client, sandbox, "new_contactid", contact)

    assert event.fields == {"new_contactid": contact}


async def test_an_empty_column_is_there_as_null(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    sandbox.upsert("new_vehicle", {})

    event = await the_event(await tracked(client, "new_vehicle", "new_name", "new_price", "new_contactid", "new_features"))

    assert event.fields == {"new_name": None, "new_price": None, "new_contactid": None, "new_features": None}
    assert event.labels == {}


@pytest.mark.parametrize(
    ("column", "value", "label"),
    [
        ("new_fueltype", 100000001, "Diesel"),
        ("new_features", "1,3", "Navigation, Sunroof"),
        ("new_features", "2", "Towbar"),
        ("statecode", 0, "Active"),
        ("statuscode", 1, "Active"),
    ],
)
async def test_a_choice_carries_its_display_value_from_the_metadata(
    client: DynamicsClient, sandbox: DynamicsSandbox, column: str, value: Any, label: str
) -> None:
    assert (await read(client, sandbox, column, value)).labels == {column: label}


async def test_choices_of_all_kinds_in_one_table_have_their_labels(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    sandbox.upsert("contact", {"lastname": "Ada", "gendercode": 2, "familystatuscode": 1})

    event = await the_event(await tracked(client, "contact", "lastname", "gendercode", "familystatuscode", "statecode"))

    assert event.labels == {"gendercode": "Female", "familystatuscode": "Single", "statecode": "Active"}


async def test_an_option_the_metadata_does_not_know_has_no_display_value(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    sandbox.upsert("new_vehicle", {})
    table = await tracked(client, "new_vehicle", "new_fueltype", "new_features")
    (row,) = (await table.page(None)).rows

    event = table.upsert({**row, "new_fueltype": 7, "new_features": "1,9"}, "live", NOON)

    assert (event.fields, event.labels) == ({"new_fueltype": 7, "new_features": "1,9"}, {})


async def test_an_event_tells_key_version_and_times(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    key = sandbox.upsert("contact", {"lastname": "Ada", "contactid": str(uuid4()).upper()})

    event = await the_event(await tracked(client, "contact", "lastname"))

    stored = sandbox.rows("contact")[0]
    assert (event.table, event.key, event.op, event.lane) == ("contact", key.lower(), "upsert", "live")
    assert event.version == stored["versionnumber"]
    assert event.changed_at is not None
    assert event.changed_at.strftime("%Y-%m-%dT%H:%M:%SZ") == stored["modifiedon"]
    assert event.observed_at == NOON


async def test_modifiedon_is_a_field_only_when_it_is_mapped(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    sandbox.upsert("contact", {"lastname": "Ada"})

    plain = await the_event(await tracked(client, "contact", "lastname"))
    mapped = await the_event(await tracked(client, "contact", "lastname", "modifiedon"))

    assert (set(plain.fields), set(mapped.fields)) == ({"lastname"}, {"lastname", "modifiedon"})
    assert mapped.changed_at is not None


@pytest.mark.parametrize("read", ["page", "rows", "row"])
@pytest.mark.parametrize("missing", ["lastname", "modifiedon", "_parentcustomerid_value", "contactid"])
async def test_a_row_that_lacks_what_was_asked_for_is_a_fault_of_the_answer(
    client: DynamicsClient, sandbox: DynamicsSandbox, read: str, missing: str
) -> None:
    """To take it for an empty value would wipe out what it is."""
    key = str(uuid4())
    table = await tracked(client, "contact", "lastname", "parentcustomerid")
    row = {
        "@odata.etag": 'W/"7"',
        "contactid": key,
        "lastname": None,
        "_parentcustomerid_value": None,
        "modifiedon": "2026-03-01T12:00:00Z",
    }
    row.pop(missing)
    body = json.dumps(row if read == "row" else {"value": [row]})
    sandbox.ledger.faults.append(Fault("status", "GET", "contacts", 200, body, "application/json", times=1))

    with pytest.raises(RetryError) as caught:
        await (table.page(None) if read == "page" else table.rows(None) if read == "rows" else table.row(key))

    assert caught.value.code == "bad_answer"
    assert "contact" in str(caught.value) and missing in str(caught.value)


async def test_keys_are_listed_without_the_columns(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    key = sandbox.upsert("contact", {"lastname": "Ada"})
    table = await tracked(client, "contact", "lastname")

    (found, link) = await table.keys(None)

    assert (found, link) == ([(key, sandbox.rows("contact")[0]["versionnumber"])], None)


@pytest.mark.parametrize(
    ("row", "expected"),
    [({"@odata.etag": 'W/"915244"'}, 915244), ({"versionnumber": 7}, 7), ({"@odata.etag": "", "versionnumber": 8}, 8), ({}, None)],
)
def test_the_version_is_the_number_of_the_etag(row: dict[str, Any], expected: int | None) -> None:
    assert version(row) == expected
