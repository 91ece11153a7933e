"""Ingress from end to end: changes in Dynamics appear in Campaign, through real Kafka, controlled over REST."""

from __future__ import annotations

from typing import Any

from tests.e2e.stack import Stack, contacts, mapping, vehicles


async def test_f141_f142_f143_initial_load_then_changes_then_deletes(stack: Stack) -> None:
    """F141, F142 (inactive contacts included) and F143."""
    stack.campaign.settings.cardinality = {"cusVehicle.cusOwner": "0or1"}  # churn deletes owners: their vehicles would stay hidden
    stack.dynamics.load(contacts=300, vehicles=60, seed=3)
    await stack.configure(contacts(apply_deletes=True), vehicles(apply_deletes=True))
    stack.service("reader")
    stack.service("writer")

    await stack.start()
    await stack.until_equal()
    inactive = [row["contactid"] for row in stack.dynamics.rows("contact") if row["statecode"] == 1]
    assert inactive
    assert all(stack.campaign.get("profile", key) for key in inactive)

    stack.dynamics.churn(seed=4, updates=50, inserts=20, deletes=10)
    await stack.until_equal()
    workflow = await stack.until_caught_up()
    assert workflow["status"] == "RUNNING"
    assert workflow["backlog"]["verdict"] == "IDLE"
    assert stack.campaign.counts()["unknown_routes"] == []
    assert stack.dynamics.ledger.unknown_routes == []


async def test_f72_f148_f149_linked_and_unlinked_tables_flow_side_by_side(stack: Stack) -> None:
    """F72, F148, F149, F155: contacts, vehicles that belong to them, and a table without links, each to one resource of its own."""
    owner = stack.dynamics.upsert("contact", {"lastname": "Owner"})
    car = stack.dynamics.upsert("new_vehicle", {"new_name": "Car", "new_contactid": owner})
    category = stack.dynamics.upsert("new_category", {"new_name": "Estate"})
    unlinked = mapping("new_category", "cusCategory", ("new_categoryid", "cusCategoryId"), {"new_name": "cusName"})
    await stack.configure(contacts(), vehicles(), unlinked)
    stack.service("reader")
    stack.service("writer")

    await stack.start()

    async def all_there() -> bool:
        wanted = (("profile", owner), ("cusVehicle", car), ("cusCategory", category))
        return all(stack.campaign.get(resource, key) for resource, key in wanted)

    await stack.until(all_there, "one record of each table")  # the backlog is 0 as well before anything has been read
    await stack.until_caught_up()

    assert held(stack, "profile", owner)["lastName"] == "Owner"
    assert held(stack, "cusVehicle", car)["cusContactId"] == owner
    assert held(stack, "cusCategory", category)["cusName"] == "Estate"


async def test_f144_f145_f156_changes_stream_without_a_schedule_and_nothing_flows_back(stack: Stack) -> None:
    """F144, F145, F156: one start, then every change by itself; Dynamics is only ever read."""
    await stack.configure(contacts())
    stack.service("reader")
    stack.service("writer")
    await stack.start()

    for name in ("first", "second", "third"):
        key = stack.dynamics.upsert("contact", {"lastname": name})
        stack.campaign.put("profile", {"externalId": f"not-ours-{name}", "lastName": "Elsewhere"})

        await stack.until(lambda key=key: here(stack, key), f"{name} arrives", 30)  # type: ignore[misc]

    asked = {request.split(" ")[0] for request in stack.dynamics.ledger.requests}
    assert asked <= {"GET", "POST"}
    assert [request for request in stack.dynamics.ledger.requests if request.startswith("POST") and "token" not in request] == []
    assert {row["lastname"] for row in stack.dynamics.rows("contact")} == {"first", "second", "third"}


async def here(stack: Stack, key: str) -> bool:
    return any(row["externalId"] == key for row in stack.campaign.rows("profile"))


def held(stack: Stack, resource: str, key: str) -> dict[str, Any]:
    found = stack.campaign.get(resource, key)
    assert found is not None
    return found
