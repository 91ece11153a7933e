"""Secured columns (systems-2026.md §4, K17): what the application user may do with them is asked before a value of theirs is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from bridge.dynamics.changes import TrackedTable
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.metadata import read_table
from bridge.dynamics.secured import ColumnAccess, Grant, access, checked, secured_columns
from bridge.model.errors import HaltError, RetryError
from sandbox.dynamics import DynamicsSandbox
from sandbox.dynamics.permissions import Permission
from sandbox.web import Fault

EMAIL = "john.doe@example.com"  # cases/D-masked-email.json
MASKED = "jo******@example.com"
NONE, PLAIN = Permission(through=None), Permission()


async def contact(client: DynamicsClient, *columns: str, writes: tuple[str, ...] = ()) -> TrackedTable:
    """As a role has it that reads these columns."""
    described = await read_table(client, "contact", list(columns or ("emailaddress1",)), tracked=False)
    return TrackedTable(client, await checked(client, described, writes), 2)


async def refusal(client: DynamicsClient, *columns: str, writes: tuple[str, ...] = ()) -> HaltError:
    with pytest.raises(HaltError) as caught:
        await contact(client, *columns, writes=writes)
    return caught.value


async def test_where_nothing_is_secured_nothing_is_asked(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    await read_table(client, "contact", ["emailaddress1"])
    before = client.calls

    await contact(client)

    assert client.calls - before == before  # the table, its columns and their formats, as without the check


@pytest.mark.parametrize(
    ("permission", "lacks"),
    [
        (NONE, "read"),
        (Permission(read=0), "read"),
        (Permission(masked=True), "read unmasked"),
        (Permission(masked=True, unmasked=1), "read unmasked"),  # one record at a time: not what a feed reads
        (Permission(through="team", read=0), "read"),
    ],
)
@pytest.mark.parametrize("privileges", ["told", "missing"])
async def test_a_column_that_may_not_be_read_unmasked_stops_the_role(
    client: DynamicsClient, sandbox: DynamicsSandbox, permission: Permission, lacks: str, privileges: str
) -> None:
    sandbox.settings.change({"attribute_privileges": privileges})
    sandbox.secure("contact", "emailaddress1", permission)

    halt = await refusal(client, "lastname", "emailaddress1")

    assert (halt.code, halt.origin) == ("source_column_secured", "source")
    assert f"emailaddress1 ({lacks})" in str(halt) and "contact" in str(halt)
    assert "Read unmasked = All records" in halt.hint and "remove the mapping" in halt.hint


@pytest.mark.parametrize("privileges", ["told", "missing"])
@pytest.mark.parametrize("permission", [PLAIN, Permission(through="team"), Permission(masked=True, unmasked=3)])
async def test_what_a_profile_of_ours_or_of_a_team_allows_is_read_as_it_is(
    client: DynamicsClient, sandbox: DynamicsSandbox, permission: Permission, privileges: str
) -> None:
    sandbox.settings.change({"attribute_privileges": privileges})
    sandbox.secure("contact", "emailaddress1", permission)
    key = sandbox.upsert("contact", {"emailaddress1": EMAIL})
    table = await contact(client)

    first = await table.page(None)
    sandbox.upsert("contact", {"contactid": key, "emailaddress1": f"x{EMAIL}"})
    assert first.delta_link
    delta = await table.page(first.delta_link)
    one, (every, _) = await table.row(key), await table.rows(None)

    assert one is not None
    assert [row["emailaddress1"] for row in [*first.rows, *delta.rows, one, *every]] == [EMAIL, *[f"x{EMAIL}"] * 3]


async def test_without_the_check_a_masked_address_would_be_taken_for_the_persons(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    sandbox.secure("contact", "emailaddress1", Permission(masked=True, unmasked=3))
    sandbox.upsert("contact", {"emailaddress1": EMAIL})

    unchecked = TrackedTable(client, await read_table(client, "contact", ["emailaddress1"]), 2)

    assert [row["emailaddress1"] for row in (await unchecked.page(None)).rows] == [MASKED]


async def test_an_administrator_reads_secured_columns_without_a_profile(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    sandbox.settings.change({"system_administrator": True})
    sandbox.secure("contact", "emailaddress1", NONE)
    sandbox.secure("contact", "donotemail", NONE)

    table = await contact(client, "emailaddress1", "donotemail", writes=("donotemail",))

    assert not table.table.unmasked


async def test_that_an_administrator_reads_a_masked_column_is_not_taken_for_granted(
    client: DynamicsClient, sandbox: DynamicsSandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.settings.change({"system_administrator": True})
    sandbox.secure("contact", "emailaddress1", Permission(masked=True, through=None))

    table = await contact(client)

    assert table.table.unmasked
    assert "column_security_unknown" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("settings", "permission"),
    [
        ({"attribute_privileges": "forbidden", "security_tables": "forbidden"}, NONE),
        ({"attribute_privileges": "missing", "security_tables": "missing"}, NONE),
        ({"attribute_privileges": "told", "security_tables": "missing"}, NONE),  # he may be an administrator
        ({"attribute_privileges": "told", "security_tables": "forbidden"}, PLAIN),  # there may be a masking rule
    ],
)
async def test_what_cannot_be_found_out_is_a_warning_and_stops_nothing(
    client: DynamicsClient,
    sandbox: DynamicsSandbox,
    settings: Mapping[str, Any],
    permission: Permission,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sandbox.settings.change(settings)
    sandbox.secure("contact", "emailaddress1", permission)

    await contact(client)

    printed = "".join(capsys.readouterr())
    assert "column_security_unknown" in printed and "emailaddress1" in printed


async def test_who_may_not_look_at_roles_is_no_administrator(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    sandbox.settings.change({"security_tables": "forbidden"})
    sandbox.secure("contact", "emailaddress1", NONE)

    assert (await refusal(client)).code == "source_column_secured"


async def test_a_flag_that_is_written_needs_update_as_well(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    sandbox.secure("contact", "donotemail", Permission(update=0))

    await contact(client, "donotemail")
    halt = await refusal(client, "donotemail", writes=("donotemail",))

    assert "donotemail (update)" in str(halt)


async def test_a_system_that_is_busy_is_asked_again_and_not_taken_for_unknown(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    sandbox.secure("contact", "emailaddress1", NONE)
    sandbox.ledger.faults.append(Fault("status", "GET", "RetrievePrincipalAttributePrivileges", 503, times=1))

    with pytest.raises(RetryError):
        await contact(client)


async def test_all_secured_columns_of_a_table_can_be_asked_for(client: DynamicsClient, sandbox: DynamicsSandbox) -> None:
    sandbox.secure("contact", "emailaddress1", Permission(masked=True))
    sandbox.secure("contact", "donotemail", PLAIN)
    sandbox.secure("new_vehicle", "new_name", NONE)

    found = await secured_columns(client, "contact")

    assert {name: each.lacks() for name, each in found.items()} == {"emailaddress1": "read unmasked", "donotemail": None}


@pytest.mark.parametrize(
    ("grant", "administrator", "masked", "expected"),
    [
        (Grant(4, 0, 4), False, False, ColumnAccess(True, True, True, False)),
        (Grant(), False, False, ColumnAccess(False, True, False, False)),
        (Grant(4, 1, 0), False, True, ColumnAccess(True, False, False, True)),
        (Grant(4, 3, 0), None, None, ColumnAccess(True, True, None, True)),
        (Grant(4, 0, 4), False, None, ColumnAccess(True, None, True, False)),
        (None, True, False, ColumnAccess(True, True, True, False)),
        (None, False, None, ColumnAccess(None, None, None, False)),
    ],
)
def test_what_is_known_of_a_column_is_yes_no_or_unknown(
    grant: Grant | None, administrator: bool | None, masked: bool | None, expected: ColumnAccess
) -> None:
    assert access(grant, administrator, masked) == expected
