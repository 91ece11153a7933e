"""Ad hoc."""
from __future__ import annotations
import asyncio
from tests.e2e.helpers import eventually
from tests.e2e.stack import Stack
from tests.e2e.test_mapping_parents import hidden_vehicle
async def test_late_parent(stack: Stack) -> None:
    car, owner = await hidden_vehicle(stack)
    stack.dynamics.delete("new_vehicle", car)
    await asyncio.sleep(100)
    w = await stack.workflow()
    print("BACKLOG", w["backlog"]["records"], w["backlog"]["parked"], w["counters"])
    stack.dynamics.upsert("contact", {"contactid": owner, "lastname": "Owner"})
    await eventually(stack, lambda: stack.campaign.get("profile", owner), "x")
    await asyncio.sleep(15)
    print("VEHICLE", stack.campaign.get("cusVehicle", car))
    print(stack.campaign.writes("cusVehicle", car))
