"""DynamicsClient.patch: one row is changed if it is still as it was read (dataverse.md §7.4), against the Dynamics stand-in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.dynamics.changes import version
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.errors import QueryRefused
from bridge.dynamics.settings import DynamicsSettings
from bridge.model.errors import HaltError, RetryError
from bridge.model.settings import load
from sandbox.dynamics import DynamicsSandbox
from sandbox.web import Fault, serving
from tests.clock import FakeClock

NOBODY = "60c4e274-0d87-e711-80e5-00155db19e6d"


@pytest.fixture
def sandbox() -> DynamicsSandbox:
    return DynamicsSandbox()


@pytest.fixture
async def client(sandbox: DynamicsSandbox) -> AsyncIterator[DynamicsClient]:
    async with serving(sandbox.app()) as url:
        environment = {
            "DYNAMICS_URL": url,
            "DYNAMICS_TENANT_ID": "sandbox-tenant",
            "DYNAMICS_CLIENT_ID": "sandbox-client",
            "DYNAMICS_CLIENT_SECRET": "sandbox-secret",
            "DYNAMICS_TOKEN_URL": f"{url}/sandbox-tenant/oauth2/v2.0/token",
        }
        made = DynamicsClient(load(DynamicsSettings, environment), FakeClock(), origin="target")
        try:
            yield made
        finally:
            await made.close()


@pytest.fixture
def person(sandbox: DynamicsSandbox) -> str:
    return sandbox.upsert("contact", {"lastname": "x", "donotphone": True})


def path(key: str) -> str:
    return f"contacts({key})?$select=donotemail,donotphone,modifiedon"


async def etag(client: DynamicsClient, key: str) -> str:
    row = await client.row(path(key))
    assert row is not None
    return str(row["@odata.etag"])


def row(sandbox: DynamicsSandbox) -> dict[str, Any]:
    (found,) = sandbox.rows("contact")
    return found


async def test_the_row_is_shown_as_it_is_after_the_change(client: DynamicsClient, sandbox: DynamicsSandbox, person: str) -> None:
    before = await etag(client, person)
    sandbox.advance(10)

    shown = await client.patch(path(person), {"donotemail": True}, before)

    now = row(sandbox)
    assert shown is not None
    assert (shown["donotemail"], shown["donotphone"], shown["modifiedon"]) == (True, True, now["modifiedon"])
    assert version(shown) == now["versionnumber"]
    assert shown["@odata.etag"] != before
    assert "lastname" not in shown


async def test_only_what_was_given_is_written(client: DynamicsClient, sandbox: DynamicsSandbox, person: str) -> None:
    await client.patch(path(person), {"donotemail": True}, await etag(client, person))

    (written,) = sandbox.writes("contact", person)
    assert (row(sandbox)["lastname"], row(sandbox)["donotphone"]) == ("x", True)
    assert "donotphone" not in str(written)


async def test_its_etag_is_good_for_the_next_change(client: DynamicsClient, sandbox: DynamicsSandbox, person: str) -> None:
    shown = await client.patch(path(person), {"donotemail": True}, await etag(client, person))
    assert shown is not None

    await client.patch(path(person), {"donotemail": False}, shown["@odata.etag"])

    assert row(sandbox)["donotemail"] is False


async def test_any_version_will_do_for_a_star(client: DynamicsClient, sandbox: DynamicsSandbox, person: str) -> None:
    await client.patch(path(person), {"donotemail": True}, "*")

    assert row(sandbox)["donotemail"] is True


async def test_a_server_that_does_not_show_the_row_has_changed_it(client: DynamicsClient, sandbox: DynamicsSandbox, person: str) -> None:
    sandbox.ledger.faults.append(Fault("status_after", "PATCH", status=204))

    assert await client.patch(path(person), {"donotemail": True}, await etag(client, person)) == {}
    assert row(sandbox)["donotemail"] is True


@pytest.mark.parametrize("version", ["*", 'W/"1"'])
async def test_a_row_that_is_gone_is_not_created_again(client: DynamicsClient, sandbox: DynamicsSandbox, version: str) -> None:
    assert await client.patch(path(NOBODY), {"donotemail": True}, version) is None
    assert sandbox.rows("contact") == []


async def test_a_row_that_is_deleted_after_it_was_read_is_gone(client: DynamicsClient, sandbox: DynamicsSandbox, person: str) -> None:
    before = await etag(client, person)
    sandbox.delete("contact", person)

    assert await client.patch(path(person), {"donotemail": True}, before) is None


async def test_a_row_that_somebody_has_changed_is_left_alone(client: DynamicsClient, sandbox: DynamicsSandbox, person: str) -> None:
    before = await etag(client, person)
    sandbox.upsert("contact", {"contactid": person, "donotphone": False})

    with pytest.raises(RetryError) as caught:
        await client.patch(path(person), {"donotemail": True}, before)

    assert (caught.value.code, caught.value.status) == ("changed_meanwhile", 412)
    assert (row(sandbox)["donotemail"], row(sandbox)["donotphone"]) == (False, False)


async def test_a_token_that_is_refused_is_renewed_once(client: DynamicsClient, sandbox: DynamicsSandbox, person: str) -> None:
    before = await etag(client, person)
    sandbox.ledger.faults.append(Fault("status", "PATCH", status=401, times=1))

    assert await client.patch(path(person), {"donotemail": True}, before)
    assert len(sandbox.writes("contact", person)) == 1


async def test_a_limit_that_is_reached_is_waited_for_as_bidden(client: DynamicsClient, person: str, sandbox: DynamicsSandbox) -> None:
    before = await etag(client, person)
    sandbox.ledger.faults.append(Fault("status", "PATCH", status=429, headers={"Retry-After": "7"}, times=1))

    with pytest.raises(RetryError) as caught:
        await client.patch(path(person), {"donotemail": True}, before)

    assert (caught.value.code, caught.value.retry_after_s) == ("target_busy", 7)


async def test_a_missing_right_halts(client: DynamicsClient, person: str, sandbox: DynamicsSandbox) -> None:
    before = await etag(client, person)
    body = '{"error": {"code": "0x80040220", "message": "SecLib::CheckPrivilege failed"}}'
    sandbox.ledger.faults.append(Fault("status", "PATCH", status=403, body=body, content_type="application/json"))

    with pytest.raises(HaltError) as caught:
        await client.patch(path(person), {"donotemail": True}, before)

    assert (caught.value.code, caught.value.origin) == ("target_forbidden", "target")


async def test_a_column_that_does_not_exist_is_refused(client: DynamicsClient, person: str) -> None:
    with pytest.raises(QueryRefused):
        await client.patch(path(person), {"new_nothing": True}, "*")


async def test_a_404_of_something_before_dynamics_does_not_say_that_the_row_is_gone(
    client: DynamicsClient, person: str, sandbox: DynamicsSandbox
) -> None:
    sandbox.ledger.faults.append(Fault("status", "PATCH", status=404, body="<html>proxy</html>", content_type="text/html"))

    with pytest.raises(RetryError) as caught:
        await client.patch(path(person), {"donotemail": True}, "*")

    assert caught.value.code == "bad_answer"


@pytest.mark.parametrize("kind", ["cut_before", "cut_after"])
async def test_a_connection_that_breaks_is_told_as_such_whether_it_was_written_or_not(
    client: DynamicsClient, person: str, sandbox: DynamicsSandbox, kind: Any
) -> None:
    before = await etag(client, person)
    sandbox.ledger.faults.append(Fault(kind, "PATCH", times=1))

    with pytest.raises(RetryError) as caught:
        await client.patch(path(person), {"donotemail": True}, before)

    assert caught.value.code != "changed_meanwhile"
    assert row(sandbox)["donotemail"] is (kind == "cut_after")


async def test_a_table_that_takes_no_etag_is_changed_without_one(client: DynamicsClient, sandbox: DynamicsSandbox, person: str) -> None:
    body = '{"error": {"code": "0x8006088D", "message": "Optimistic concurrency isn\'t enabled for entity type contact."}}'
    sandbox.ledger.faults.append(Fault("status", "PATCH", status=400, body=body, content_type="application/json", times=1))

    shown = await client.patch(path(person), {"donotemail": True}, await etag(client, person))

    assert shown is not None
    assert shown["donotemail"] is True
