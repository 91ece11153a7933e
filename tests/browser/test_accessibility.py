"""Every page, empty, busy and failed, in light, in dark and at 400 px: axe finds nothing serious, nothing scrolls sideways, everything can
be reached by keyboard and the focus is seen."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from sandbox.web import Fault
from tests.browser.browsing import INGRESS, OPTIN, Visits, row
from tests.browser.conftest import DEFAULT, Guarded, put
from tests.browser.deciding import come_back, discard_all, put_held_by_ingress, until_held
from tests.e2e.stack import Stack, contacts, vehicles

pytestmark = pytest.mark.asyncio(loop_scope="session")
PATHS = [
    *("/", "/workflows/ingress", "/workflows/ingress/tables/contact", "/workflows/ingress/tables/new_vehicle?target=cusVehicle"),
    *("/workflows/egress", "/workflows/optin", "/workflows/ingress/dead-letters", "/workflows/ingress/records", "/settings"),
    *("/workflows/egress/records", "/workflows/optin/records", "/audit", "/documentation"),
]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 800}
RUN = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations
  .filter((each) => ["serious", "critical"].includes(each.impact))
  .map((each) => ({ rule: each.id, where: each.nodes.map((node) => `${node.target} ${node.failureSummary}`) }))"""
FILLED = {
    "fields": [*DEFAULT["tables"][0]["fields"], {"source": "gendercode", "target": "gender", "apply_updates": False}],
    "replacements": [{"source": "gendercode", "from": "1", "to": "male"}],
    "filter": {"match": "any", "conditions": [{"field": "statecode", "operator": "eq", "value": 0}], "delete_filtered_out": False},
}
FOCUS = """() => {
  const each = document.activeElement, style = getComputedStyle(each), box = each.getBoundingClientRect();
  const label = each.closest("label");
  const seen = (one) => (one.outlineStyle !== "none" && parseFloat(one.outlineWidth) >= 1) || one.boxShadow !== "none";
  const shown = seen(style) || Boolean(label && seen(getComputedStyle(label)));
  each.dataset.reached = "yes";
  return { what: each.outerHTML.slice(0, 160), body: each === document.body, shown, size: box.width * box.height };
}"""
INTERACTIVE = "a[href], button, input, select, textarea, summary, [tabindex='0']"
UNREACHED = """(selector) => [...document.querySelectorAll(selector)].filter((each) => each.checkVisibility({ visibilityProperty: true })
    && !each.disabled && !each.matches(":disabled") && each.tabIndex >= 0 && !each.dataset.reached
    && !(each.type === "radio" && document.querySelector(`input[name="${each.name}"][data-reached]`)))
  .map((each) => each.outerHTML.slice(0, 160))"""


async def settled(page: Page) -> None:
    """Until everything the page asks for at first is there."""
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    await expect(page.get_by_text(re.compile("^(…|Reading.*)$")).locator("visible=true")).to_have_count(0)
    await expect(page.get_by_role("contentinfo")).to_be_visible()


async def found_by_axe(page: Page, axe: str) -> list[str]:
    """In light, dark and narrow, without loading the page again."""
    await page.evaluate(axe)
    found: list[str] = []
    for name, scheme, size in (
        ("light", "light", WIDE),
        ("dark", "dark", WIDE),
        ("narrow", "light", NARROW),
        ("narrow dark", "dark", NARROW),
    ):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        await page.set_viewport_size(size)  # type: ignore[arg-type]
        violations: list[dict[str, Any]] = await page.evaluate(RUN)
        found += [f"{name}: {each['rule']}: {'; '.join(each['where'])}" for each in violations]
        if size is NARROW:
            wide = await page.evaluate("[document.scrollingElement.scrollWidth, innerWidth]")
            if wide[0] > wide[1]:
                found.append(f"{name}: the page is {wide[0]} px wide in a window of {wide[1]} px")
    return found


async def named(page: Page) -> None:
    """Every control has a name; the page has one heading, a title, a language."""
    nameless = re.compile(r"- (button|link|textbox|combobox|radio|checkbox|switch)(:|$)")
    assert [each for each in (await page.locator("main").aria_snapshot()).splitlines() if nameless.search(each)] == []
    assert await page.get_by_role("heading", level=1).count() == 1
    assert re.fullmatch(".+ – Campaign Bridge", await page.title())
    assert await page.locator("html").get_attribute("lang") == "en"


async def check(page: Page, axe: str) -> None:
    await settled(page)
    found = await found_by_axe(page, axe)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", PATHS)
async def test_axe_finds_nothing_serious_and_nothing_scrolls_sideways(idle: Stack, visits: Visits, axe: str, path: str) -> None:
    await put(idle, "ingress", {"tables": [DEFAULT["tables"][0] | FILLED]})
    await put(idle, "optin", {"direction": "bidirectional", "mappings": [{"source": "donotemail", "target": "blackListEmail"}]})
    await check(await visits.page(path), axe)


@pytest.mark.parametrize("path", ["/", "/workflows/ingress"])
async def test_axe_finds_nothing_serious_when_nothing_is_configured(idle: Stack, visits: Visits, axe: str, path: str) -> None:
    await put(idle, "ingress", {"tables": []})
    await check(await visits.page(path), axe)


async def test_axe_finds_nothing_serious_on_the_page_of_sign_in(guarded: Guarded, guarded_visits: Visits, axe: str) -> None:
    guarded_visits.expects("status of 401")
    page = await guarded_visits.page("/login")
    assert await found_by_axe(page, axe) == []
    await page.get_by_label("Token").fill("wrong")
    await page.get_by_label("I have read and accept the privacy notice").check()
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_be_visible()
    assert await found_by_axe(page, axe) == []


async def test_axe_finds_nothing_serious_for_a_viewer_and_in_the_privacy_notice(
    guarded: Guarded, guarded_visits: Visits, visits: Visits, axe: str
) -> None:
    _, page = await guarded.signed_in(guarded_visits, "viewer")
    await page.goto("/workflows/ingress/tables/contact")
    await check(page, axe)
    await check(await visits.page(accepted=False), axe)


async def test_axe_finds_nothing_serious_while_it_is_busy_with_changes_pending_and_after_it_has_failed(
    live: Stack, live_visits: Visits, axe: str
) -> None:
    page = await live_visits.page()
    await live.start()
    live.campaign.ledger.faults.append(Fault("latency", path="/profile", seconds=2.0))
    live.dynamics.load(contacts=100, vehicles=0, seed=11)
    await put(live, "ingress", {"tables": [contacts(), vehicles()]})
    await row(page, INGRESS).get_by_text("Pending changes").click()
    await page.get_by_text(f"Details of {INGRESS}").first.click()
    await expect(page.get_by_role("table", name=f"Services of {INGRESS}")).to_be_visible()
    busy = await found_by_axe(page, axe)
    await page.goto("/workflows/ingress")
    await settled(page)
    busy += await found_by_axe(page, axe)
    assert not busy, "\n".join(busy)
    live.campaign.ledger.faults.clear()

    live.processes["writer-1"].kill()
    await page.goto("/")
    await expect(row(page, INGRESS).get_by_role("status")).to_contain_text("FAILED", timeout=25_000)
    await check(page, axe)


async def test_axe_finds_nothing_serious_while_ingress_holds_items(idle: Stack, visits: Visits, axe: str) -> None:
    await discard_all(idle, "ingress")
    person, gone, _ = await put_held_by_ingress(idle)
    page = await visits.page(f"/workflows/ingress?contact={person}")
    await expect(page.get_by_role("region", name="Decisions found").get_by_role("row")).to_have_count(2)
    await page.get_by_role("checkbox", name=f"Choose the delete of {gone}").check()
    await named(page)
    await check(page, axe)
    await page.get_by_role("button", name="Release").click()
    await check(page, axe)
    await page.get_by_role("dialog").get_by_label(re.compile("^Reason")).fill("a test")
    await page.get_by_role("dialog").get_by_role("button", name="Release").click()
    await expect(page.get_by_role("dialog", name="Release: are you sure?")).to_be_visible()
    await check(page, axe)
    await discard_all(idle, "ingress")


async def test_axe_finds_nothing_serious_while_decisions_are_held(deciding: Stack, deciding_visits: Visits, axe: str) -> None:
    contact, _ = await come_back(deciding, 2)
    await until_held(deciding, 2)
    page = await deciding_visits.page(f"/workflows/optin?contact={contact}")
    await expect(page.get_by_role("table", name=f"Decisions of {contact}")).to_be_visible()
    await expect(page.get_by_role("checkbox", name=f"Choose {contact}")).to_be_visible()
    await check(page, axe)
    await named(page)
    await page.get_by_role("checkbox", name=f"Choose {contact}").check()
    await page.get_by_role("button", name="Release").click()
    await expect(page.get_by_role("dialog")).to_be_visible()
    assert await found_by_axe(page, axe) == []
    await page.goto("/")
    await expect(row(page, OPTIN).get_by_role("link", name="2 held")).to_be_visible()
    await check(page, axe)
    await page.goto(f"/workflows/optin/records?key={contact}")
    await check(page, axe)


async def test_axe_finds_nothing_serious_in_dialogs_lists_menu_plan_and_errors(idle: Stack, visits: Visits, axe: str) -> None:
    visits.expects("status of 422")
    page = await visits.page("/workflows/ingress")
    for button in ("Add New Mapping", "Replay Data of contact", "Delete mapping contact to profile"):
        await page.get_by_role("button", name=button).click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        assert (button, await found_by_axe(page, axe)) == (button, [])
        await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    await page.get_by_role("button", name="Menu").click()
    assert await found_by_axe(page, axe) == []

    await page.goto("/workflows/ingress/tables/contact")
    await page.get_by_role("button", name="Plan", exact=True).click()
    await expect(page.get_by_role("region", name="Plan")).to_be_visible()
    assert await found_by_axe(page, axe) == []
    await page.get_by_role("button", name="Add new field mapping").click()
    await page.get_by_role("button", name="Save", exact=True).click()
    await expect(page.get_by_role("alert")).to_be_visible()
    await page.get_by_role("combobox", name="Dynamics field, row 12", exact=True).click()
    await expect(page.get_by_role("option").first).to_be_visible()
    assert await found_by_axe(page, axe) == []


@pytest.mark.parametrize("path", PATHS)
async def test_everything_is_named_and_reached_by_tab_with_a_visible_focus(idle: Stack, visits: Visits, path: str) -> None:
    await put(idle, "optin", {"direction": "bidirectional", "mappings": [{"source": "donotemail", "target": "blackListEmail"}]})
    page = await visits.page(path)
    await page.reload()  # the first Tab begins at the top
    await settled(page)
    await expect(page.get_by_role("contentinfo").get_by_role("status")).to_have_text(re.compile("^(Live|)$"))
    faint = []
    for _ in range(150):
        await page.keyboard.press("Tab")
        focus = await page.evaluate(FOCUS)
        if focus["body"]:
            break
        if not focus["shown"] or focus["size"] < 1:
            faint.append(focus["what"])
    assert faint == [], "without a visible focus"
    assert await page.evaluate(UNREACHED, INTERACTIVE) == [], "not reached"
    await named(page)
