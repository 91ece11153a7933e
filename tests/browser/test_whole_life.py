"""One story: the first visit, a mapping, a plan, the start, the backlog that falls, an edit, the warning, the restart."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from sandbox.kafka import LocalKafka
from sandbox.web import Fault
from tests.browser.browsing import INGRESS, Visits, pick, row, save, start, stop, words
from tests.browser.conftest import product
from tests.e2e.helpers import eventually
from tests.e2e.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")
VEHICLE = {"new_name": "cusName", "new_plate": "cusPlate", "new_fueltype": "cusFuel", "new_contactid": "cusContactId"}


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """As installed a moment ago, with customers in Dynamics."""
    async with product(kafka, tmp_path_factory.mktemp("fresh")) as stack:
        stack.dynamics.load(contacts=400, vehicles=100, seed=3)
        stack.service("reader")
        stack.service("writer")
        yield stack


async def first_visit(page: Page) -> None:
    await expect(page.get_by_role("region", name="Privacy notice")).to_be_visible()
    await page.get_by_role("button", name="Accept and continue").click()
    await expect(row(page, INGRESS).get_by_role("status")).to_contain_text("STOPPED")
    await page.get_by_role("link", name=f"Edit {INGRESS}", exact=True).click()
    await expect(page.get_by_role("table", name="Mapped tables")).to_contain_text("contact")


async def map_vehicles(page: Page) -> None:
    """Adds the mapping in the dialog, fills it, plans it and saves it."""
    await page.get_by_role("button", name="Add New Mapping").click()
    await pick(page, "Microsoft Dynamics 365 table", "new_vehicle")
    await pick(page, "Campaign table", "cusVehicle")
    await page.get_by_role("dialog").get_by_role("button", name="OK").click()
    await expect(page.get_by_label("Primary key in Dynamics")).to_have_value("new_vehicleid")
    await pick(page, "Key field in Campaign", "cusVehicleId")
    for number, (source, target) in enumerate(VEHICLE.items(), 1):
        await page.get_by_role("button", name="Add new field mapping").click()
        await pick(page, f"Dynamics field, row {number}", source)
        await pick(page, f"Campaign field, row {number}", target)
    await page.get_by_role("button", name="Add New Field Replacement").click()
    line = page.get_by_role("group", name="Replacement 1")
    await line.get_by_label("Dynamics field").select_option("new_fueltype")
    await line.get_by_label("Existing value").select_option("100000000")
    await line.get_by_label("New value").fill("petrol")

    await page.get_by_role("button", name="Plan", exact=True).click()
    plan = page.get_by_role("region", name="Plan")
    await expect(plan).to_contain_text(words("A live sample of 100 records of new_vehicle", "Nothing was written"))
    await expect(plan.get_by_role("definition").first).to_have_text("100")
    await page.get_by_label(re.compile("^Comment")).fill("vehicles too")
    await save(page)


async def backlog_falls(stack: Stack, page: Page) -> None:
    """Starts, and sees the backlog on the page fall to nothing without a reload."""
    stack.campaign.ledger.faults.append(Fault("latency", path="/(profile|cusVehicle)", seconds=0.4))
    await start(page).click()
    await expect(row(page, INGRESS).get_by_role("status")).to_contain_text("RUNNING", timeout=30_000)
    backlog = row(page, INGRESS).get_by_role("cell").nth(1)
    seen: list[int] = []

    async def fallen() -> bool:
        found = re.match(r"\s*([\d,]+) record", await backlog.inner_text())
        if found:
            seen.append(int(found[1].replace(",", "")))
            if len(set(seen)) > 3:
                stack.campaign.ledger.faults.clear()
        return bool(seen) and max(seen) > 0 and seen[-1] == 0

    await stack.until(fallen, "the backlog falls to 0 on the page", 60)
    peak = seen.index(max(seen))
    assert max(seen) > 50 and len(set(seen[peak:])) > 2, seen
    await stack.until_caught_up()


async def edit_while_it_runs(page: Page) -> None:
    await page.goto("/workflows/ingress/tables/new_vehicle")
    await page.get_by_role("button", name="Add new field mapping").click()
    number = len(VEHICLE) + 1
    await pick(page, f"Dynamics field, row {number}", "new_color")
    await pick(page, f"Campaign field, row {number}", "cusColor")
    await save(page)
    await expect(page.get_by_role("region", name="Messages")).to_contain_text("takes effect when the workflow is stopped and started")


async def test_f9_the_whole_life_of_a_mapping(fresh: Stack, browser: Browser) -> None:
    visits = Visits(browser, f"http://127.0.0.1:{fresh.control_port}")
    page = await visits.page(accepted=False)
    await first_visit(page)
    await map_vehicles(page)
    await page.get_by_role("navigation", name="Breadcrumbs").get_by_role("link", name="Workflows").click()
    await backlog_falls(fresh, page)
    vehicles: list[dict[str, Any]] = fresh.campaign.rows("cusVehicle")
    assert len(vehicles) == len(fresh.dynamics.rows("new_vehicle"))
    assert "petrol" in {each["cusFuel"] for each in vehicles} and {each["cusColor"] for each in vehicles} == {""}

    await edit_while_it_runs(page)
    await page.goto("/")
    pending = row(page, INGRESS).get_by_text("Pending changes")
    await pending.click()
    listed = page.get_by_role("table", name=f"Pending changes of {INGRESS}")
    await expect(listed).to_contain_text(words("field mapping to cusColor", "nothing", "new_color"))
    await stop(page).click()
    await expect(row(page, INGRESS).get_by_role("status")).to_contain_text("STOPPED", timeout=20_000)
    await start(page).click()
    await expect(row(page, INGRESS).get_by_role("status")).to_contain_text("RUNNING", timeout=30_000)
    await expect(pending).to_be_hidden()
    await eventually(fresh, lambda: any(each["cusColor"] for each in fresh.campaign.rows("cusVehicle")), "the colours arrive")
    await page.goto("/audit")
    for what in ("start", "stop", "config"):
        await expect(page.get_by_role("table", name="Audit").get_by_role("row", name=re.compile(rf"\b{what}\b")).first).to_be_visible()
    await page.goto("/workflows/ingress")
    await expect(page.get_by_role("region", name="History")).to_contain_text("All revisions (3)")
    await page.get_by_text("All revisions (3)").click()
    await expect(page.get_by_role("table", name="Revisions")).to_contain_text("vehicles too")
    await visits.end()
    assert visits.unexpected() == []
