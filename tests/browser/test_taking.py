"""Save and Start ask twice, with the numbers, when a filter would delete more in Campaign than the limit of the consent guard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from bridge.kafka.client import Names
from bridge.kafka.partitioner import partition_for
from bridge.kafka.producer import KafkaProducer
from bridge.model.state import Known
from sandbox.kafka import LocalKafka
from sandbox.web import Fault
from tests.browser.browsing import INGRESS, Visits, saved, start, words
from tests.browser.conftest import DEFAULT, _visiting, product, put, until_ready
from tests.e2e.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")
MAPPING = "/workflows/ingress/tables/contact"
NOBODY = {"match": "all", "conditions": [{"field": "lastname", "operator": "eq", "value": "Nobody"}], "delete_filtered_out": False}
TOLD = words("contact: about 12 records would be deleted in Campaign", "up to 3 within an hour go through")


@pytest_asyncio.fixture(loop_scope="session")
async def careful(kafka: LocalKafka, tmp_path: Path) -> AsyncIterator[Stack]:
    """All contacts are in Campaign, and a filter leaves all of them out; it does not delete yet. Three deletes an hour may pass."""
    async with product(kafka, tmp_path, DELETE_LIMIT="3") as stack:
        await until_ready(stack)
        keys = [row["contactid"] for row in stack.dynamics.rows("contact")]
        for each in keys:
            stack.campaign.put("profile", {"externalId": each, "lastName": "Somebody"})
        await _written(stack, keys)
        await put(stack, "ingress", {"tables": [DEFAULT["tables"][0] | {"filter": NOBODY}]})
        yield stack


@pytest_asyncio.fixture(loop_scope="session")
async def careful_visits(browser: Browser, careful: Stack) -> AsyncIterator[Visits]:
    async for each in _visiting(browser, careful):
        yield each


async def _written(stack: Stack, keys: list[str]) -> None:
    """As the writer notes what it has brought to Campaign."""
    producer, topic = KafkaProducer(stack.kafka), Names(stack.kafka).topic("ingress.state")
    there = Known(version=1, exists=True, visible=True).to_json()
    try:
        sent = (producer.send(topic, f"contact/{each}".encode(), there, (), partition_for(each.encode(), 3)) for each in keys)
        await asyncio.gather(*sent)
    finally:
        producer.close()


async def asked_twice(page: Page, doing: str) -> None:
    first = page.get_by_role("dialog", name=f"{doing}: more than the limit would be taken away")
    await expect(first).to_contain_text(TOLD)
    await first.get_by_role("button", name="Go on").click()
    second = page.get_by_role("dialog", name=f"{doing}: are you sure?")
    await expect(second).to_contain_text(TOLD)
    await second.get_by_role("button", name=f"{doing} all the same").click()


async def given_up(page: Page) -> None:
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text(TOLD)
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)


async def test_save_and_start_ask_twice_before_more_is_deleted_than_the_limit(careful: Stack, careful_visits: Visits) -> None:
    page = await careful_visits.page(MAPPING)
    revision = (await careful.workflow())["saved_revision"]
    await page.get_by_role("group", name="Do you want to delete records").get_by_label("Yes").check()
    await expect(page.locator("#filter-options")).to_contain_text(words("Note:", "more than 3 within an hour are held"))
    save = page.get_by_role("button", name="Save", exact=True)
    await save.click()
    await given_up(page)
    assert (await careful.workflow())["saved_revision"] == revision

    await page.get_by_role("button", name="Plan", exact=True).click()
    await expect(page.get_by_role("region", name="Plan")).to_contain_text(TOLD)
    await save.click()
    await asked_twice(page, "Save")
    await saved(page)
    assert (await careful.workflow())["saved_revision"] == revision + 1

    await page.goto("/")
    await start(page, INGRESS).click()
    await given_up(page)
    assert (await careful.workflow())["desired"] == "STOPPED"
    await start(page, INGRESS).click()
    await asked_twice(page, "Start")
    await careful.until(lambda: _desired(careful), "it is asked to run")
    assert careful.campaign.writes() == [], "nothing was deleted yet: no writer runs"


async def test_save_does_not_ask_where_the_filter_deletes_nothing_new(careful: Stack, careful_visits: Visits) -> None:
    page = await careful_visits.page(MAPPING)
    await page.get_by_role("group", name="Apply deletes").get_by_label("Yes").check()
    await page.get_by_role("button", name="Save", exact=True).click()
    await saved(page)


async def test_start_asks_once_where_nobody_can_tell_how_many(careful: Stack, careful_visits: Visits) -> None:
    deleting = DEFAULT["tables"][0] | {"filter": NOBODY | {"delete_filtered_out": True}}
    await put(careful, "ingress", {"tables": [deleting]})
    careful.dynamics.ledger.faults.append(Fault("cut_before"))
    careful_visits.expects("status of 503")
    page = await careful_visits.page()
    await start(page, INGRESS).click()
    dialog = page.get_by_role("dialog", name="Start without a plan?")
    await expect(dialog).to_contain_text(words("How many would be deleted cannot be told", "A filter deletes"), timeout=60_000)
    assert (await careful.workflow())["desired"] == "STOPPED"
    await dialog.get_by_role("button", name="Start all the same").click()
    await careful.until(lambda: _desired(careful), "it is asked to run")


async def _desired(stack: Stack) -> bool:
    return bool((await stack.workflow())["desired"] == "RUNNING")
