"""Ingress from end to end: changes in Dynamics appear in Campaign, through real Kafka, controlled over REST."""

from __future__ import annotations

from tests.e2e.stack import Stack, contacts, vehicles


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
