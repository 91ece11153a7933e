"""The frame around every page: header, selectors, menu, breadcrumbs, About, Sign out, privacy notice, sign-in (F31, F34 to F46)."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.browsing import INGRESS, Visits, sign_in, words
from tests.browser.conftest import INSTANCE, ORG, Guarded

pytestmark = pytest.mark.asyncio(loop_scope="session")
ENTRIES = ["Settings", "Audit", "Documentation", "Customer Care", "About", "Sign out"]


async def open_menu(page: Page) -> None:
    await expect(page.get_by_role("contentinfo").get_by_text("Live")).to_be_visible()  # the scripts are there: a click before is lost
    await page.get_by_role("button", name="Menu").click()
    await expect(page.get_by_role("navigation", name="Menu")).to_be_visible()


async def test_f31_f199_on_the_first_visit_the_privacy_notice_is_accepted_before_anything_is_commanded(visits: Visits) -> None:
    page = await visits.page(accepted=False)
    notice = page.get_by_role("region", name="Privacy notice")
    await expect(notice).to_contain_text("personal data")
    await expect(notice).to_contain_text("privacy request")

    await page.get_by_role("button", name=f"Start {INGRESS}").click()

    await expect(page.get_by_role("region", name="Messages")).to_contain_text("Accept the privacy notice")
    await expect(page.get_by_role("button", name=f"Stop {INGRESS}")).to_be_hidden()
    await page.get_by_role("button", name="Accept and continue").click()
    await expect(notice).to_be_hidden()
    await page.reload()
    await expect(page.get_by_role("heading", name="Workflows", level=1)).to_be_visible()
    await expect(notice).to_be_hidden()


async def test_f31_f42_with_tokens_the_notice_is_accepted_once_at_sign_in_and_sign_out_lets_another_sign_in(
    guarded: Guarded, guarded_visits: Visits
) -> None:
    name, token = guarded.token("viewer")
    page = await guarded_visits.page("/workflows/ingress")
    await expect(page).to_have_url(re.compile(r"/login$"))
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page).to_have_url(re.compile(r"/login$"))  # the browser asks for the tick
    await sign_in(page, token)
    cookie = next(each for each in await page.context.cookies() if each.get("value") == token)
    assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Strict")
    assert token not in await page.content() and token not in await page.evaluate("document.cookie + JSON.stringify(localStorage)")

    await open_menu(page)
    await expect(page.get_by_role("button", name="Sign out")).to_contain_text(name)
    await page.get_by_role("button", name="Sign out").click()
    await expect(page).to_have_url(re.compile(r"/login$"))
    assert not [each for each in await page.context.cookies() if each.get("value") == token]

    other, token = guarded.token("admin")
    await expect(page.get_by_label("I have read and accept the privacy notice")).to_have_count(0)
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Sign in").click()
    await open_menu(page)
    await expect(page.get_by_role("button", name="Sign out")).to_contain_text(other)


async def test_a_token_that_is_not_known_is_refused_in_words(guarded_visits: Visits) -> None:
    guarded_visits.expects("status of 401")
    page = await guarded_visits.page("/login")
    await page.get_by_label("Token").fill("cb_not-a-token")
    await page.get_by_label("I have read and accept the privacy notice").check()
    await page.keyboard.press("Enter")

    await expect(page.get_by_role("alert")).to_contain_text("not known")
    await expect(page.get_by_label("Token")).to_have_attribute("aria-invalid", "true")
    await expect(page.get_by_label("Token")).to_have_value("")


async def test_f34_f35_f37_the_header_tells_the_product_and_the_one_org_and_instance_it_configures(visits: Visits) -> None:
    page = await visits.page()
    for path in ("/", "/settings", "/workflows/egress"):
        await page.goto(path)
        header = page.get_by_role("banner")
        await expect(header).to_contain_text("Adobe Campaign Standard integration with Microsoft Dynamics 365")
        await expect(header).to_contain_text(words("ORG", ORG))
        await expect(header).to_contain_text(words("INSTANCE", INSTANCE))
    await page.get_by_role("link", name="Campaign Bridge").click()
    await expect(page).to_have_url(re.compile(r"/$"))


@pytest.mark.parametrize(
    ("label", "here", "other", "href"),
    [("ORG", ORG, "Other Org", "https://other.example.com/"), ("INSTANCE", INSTANCE, "stage", "https://stage.example.com/")],
)
async def test_f36_f37_a_selector_looks_read_only_and_becomes_a_drop_down_on_hover(
    visits: Visits, label: str, here: str, other: str, href: str
) -> None:
    page = await visits.page()
    selector = page.get_by_role("button", name=re.compile(rf"{label}\s+{here}"))
    link = page.get_by_role("link", name=other)
    await expect(link).to_be_hidden()
    assert await selector.evaluate("(each) => getComputedStyle(each).borderTopColor") in ("rgba(0, 0, 0, 0)", "transparent")

    await selector.hover()
    await expect(link).to_be_visible()
    await expect(link).to_have_attribute("href", href)
    await page.mouse.move(5, 600)
    await expect(link).to_be_hidden()

    await selector.focus()
    await page.keyboard.press("Enter")
    await expect(link).to_be_visible()
    await page.keyboard.press("Tab")
    await expect(link).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(link).to_be_hidden()
    await expect(selector).to_be_focused()


async def test_f38_the_menu_is_at_the_right_of_the_header_and_works_by_keyboard(visits: Visits) -> None:
    page = await visits.page()
    control = page.get_by_role("button", name="Menu")
    box, header = await control.bounding_box(), await page.get_by_role("banner").bounding_box()
    assert box and header and box["x"] + box["width"] > header["x"] + header["width"] - 60

    await control.focus()
    await page.keyboard.press("Enter")
    await expect(control).to_have_attribute("aria-expanded", "true")
    for entry in ENTRIES:
        await page.keyboard.press("Tab")
        focused = page.locator(":focus")
        await expect(focused).to_contain_text(entry)
        await expect(focused).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("navigation", name="Menu")).to_be_hidden()
    await expect(control).to_be_focused()
    await expect(control).to_have_attribute("aria-expanded", "false")

    await open_menu(page)
    await page.get_by_role("heading", name="Workflows", level=1).click()
    await expect(page.get_by_role("navigation", name="Menu")).to_be_hidden()


@pytest.mark.parametrize(
    ("entry", "path", "heading"),
    [("Settings", "/settings", "Settings"), ("Documentation", "/documentation", "Documentation"), ("Audit", "/audit", "Audit")],
)
async def test_f39_f40_the_menu_leads_to(visits: Visits, entry: str, path: str, heading: str) -> None:
    page = await visits.page("/workflows/optin")
    await open_menu(page)
    await page.get_by_role("link", name=entry, exact=True).click()
    await expect(page).to_have_url(re.compile(f"{path}$"))
    await expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()


async def test_f41_the_menu_leads_to_customer_care(visits: Visits) -> None:
    page = await visits.page()
    await open_menu(page)
    await page.get_by_role("link", name="Customer Care").click()
    await expect(page.get_by_role("heading", name="Customer Care")).to_be_in_viewport()


async def test_f42_without_tokens_sign_out_says_why_there_is_none(visits: Visits) -> None:
    page = await visits.page()
    await open_menu(page)
    await page.get_by_role("button", name="Sign out").click()
    dialog = page.get_by_role("dialog", name="Sign out")
    await expect(dialog).to_contain_text("CONTROL_TOKENS_FILE")
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)


async def test_f43_about_tells_application_version_and_copyright(visits: Visits) -> None:
    page = await visits.page()
    await open_menu(page)
    await page.get_by_role("button", name="About").press("Enter")
    dialog = page.get_by_role("dialog", name="About")
    await expect(dialog).to_contain_text(re.compile(r"Campaign Bridge\s+\d+\.\d+\.\d+"))
    await expect(dialog).to_contain_text("Copyright")
    await expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await expect(page.get_by_role("button", name="Menu")).to_be_focused()


async def test_f44_f45_breadcrumbs_lead_back_and_the_page_itself_is_no_link(visits: Visits) -> None:
    page = await visits.page("/workflows/ingress/tables/contact")
    crumbs = page.get_by_role("navigation", name="Breadcrumbs")
    await expect(crumbs.get_by_role("listitem")).to_have_text(["Workflows", INGRESS, "Edit Table Mapping"])
    await expect(crumbs.get_by_role("link")).to_have_text(["Workflows", INGRESS])
    await expect(crumbs.get_by_text("Edit Table Mapping")).to_have_attribute("aria-current", "page")

    await crumbs.get_by_role("link", name=INGRESS).click()
    await expect(page).to_have_url(re.compile(r"/workflows/ingress$"))
    await expect(crumbs.get_by_role("link")).to_have_text(["Workflows"])
    await crumbs.get_by_role("link", name="Workflows").click()
    await expect(page).to_have_url(re.compile(r"/$"))
    await expect(crumbs).to_have_count(0)


async def test_f46_add_edit_and_delete_carry_the_same_icons_everywhere(visits: Visits) -> None:
    page = await visits.page("/workflows/ingress")
    add = page.get_by_role("button", name="Add New Mapping")
    edit = page.get_by_role("link", name=re.compile("Edit mapping contact"))
    delete = page.get_by_role("button", name=re.compile("Delete mapping contact"))
    drawn = [await each.locator("svg use").get_attribute("href") for each in (add, edit, delete)]
    assert len(set(drawn)) == 3 and None not in drawn
    for each in (add, edit, delete):
        await expect(each.locator("svg")).to_have_attribute("aria-hidden", "true")

    await edit.click()
    add_field = page.get_by_role("button", name="Add new field mapping")
    delete_field = page.get_by_role("button", name=re.compile("(Delete|Remove).*firstname")).first
    assert [await each.locator("svg use").get_attribute("href") for each in (add_field, delete_field)] == [drawn[0], drawn[2]]


async def test_the_first_tab_offers_to_skip_the_header(visits: Visits) -> None:
    page = await visits.page()
    await page.goto("/settings")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("main")).to_be_focused()


async def test_a_page_that_is_not_there_says_so(visits: Visits) -> None:
    visits.expects("status of 404")
    page = await visits.page("/workflows/nothing/records")
    await expect(page.get_by_role("heading", name="Not found")).to_be_visible()
    await page.get_by_role("link", name="Go to the workflows").click()
    await expect(page).to_have_url(re.compile(r"/$"))
