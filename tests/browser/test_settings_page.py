"""Settings: connections without secrets, their tests, addresses to allow-list (F32, F33, F47 to F69)."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Locator, Page, expect

from sandbox.web import Fault
from tests.browser.browsing import Visits, words
from tests.browser.conftest import Guarded
from tests.e2e.stack import Stack

pytestmark = pytest.mark.asyncio(loop_scope="session")
PATH = "/settings"
DYNAMICS, ADOBE, SFTP = "Microsoft Dynamics 365 Credentials", "Adobe (API) Credentials", "Optional Adobe Campaign SFTP Settings"
SECRET = "sandbox-secret"
CHECKS = ["token", "identity", "permissions", "change-tracking", "contact-point-consent", "journal", "sftp", "clock"]


def section(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def setting(page: Page, name: str, label: str) -> Locator:
    """The row of one setting."""
    return section(page, name).get_by_role("row").filter(has=page.get_by_role("rowheader", name=label, exact=True))


async def test_f47_f48_f50_f51_the_dynamics_connection(idle: Stack, visits: Visits) -> None:
    page = await visits.page(PATH)
    await expect(page.get_by_role("heading", name=DYNAMICS)).to_be_visible()
    for label, value in (("Client ID", "sandbox-client"), ("Tenant", "sandbox-tenant"), ("URL", idle.dynamics_url)):
        await expect(setting(page, DYNAMICS, label)).to_contain_text(value)
        await expect(setting(page, DYNAMICS, label)).to_contain_text("DYNAMICS_")


async def test_f49_no_secret_is_ever_in_the_page_or_in_what_it_asks_for(visits: Visits) -> None:
    page = await visits.page()
    seen: list[str] = []
    async with page.expect_response(re.compile("/systems/campaign$")):
        page.on("response", lambda answer: seen.append(answer.url) if "/systems/" in answer.url else None)
        await page.goto(PATH)
    for name in (DYNAMICS, ADOBE):
        await expect(setting(page, name, "Client Secret")).to_contain_text(words("set", "A secret is never shown"))
    assert SECRET not in await page.content()
    for url in set(seen):
        assert SECRET not in await (await page.request.get(url)).text()


async def test_f52_f54_f57_f60_the_adobe_connection(idle: Stack, visits: Visits) -> None:
    page = await visits.page(PATH)
    await expect(page.get_by_role("heading", name=ADOBE)).to_be_visible()
    shown = {"Client ID": "sandbox-campaign", "Organization ID": "sandbox@AdobeOrg", "URL": f"{idle.campaign_url}/sandbox"}
    for label, value in shown.items():
        await expect(setting(page, ADOBE, label)).to_contain_text(value)


async def test_f53_oauth_is_the_one_type_of_authentication_and_f55_f56_f58_f59_are_not_needed_for_it(visits: Visits) -> None:
    page = await visits.page(PATH)
    await expect(setting(page, ADOBE, "Auth type")).to_contain_text(words("Oauth", "JWT has been switched off"))
    for label in ("Technical Account ID", "Technical Account Email", "adobe.io Integration ID", "adobe.io Org ID"):
        await expect(setting(page, ADOBE, label)).to_contain_text("not needed for OAuth")


async def test_f61_f62_f63_f64_f66_f68_f69_the_sftp_settings_are_optional(visits: Visits) -> None:
    page = await visits.page(PATH)
    part = section(page, SFTP)
    await expect(part).to_contain_text(words("Needed only for opt-in/out from Campaign", "logs"))
    await expect(part).to_contain_text(words("d365_loads/exports", "You are responsible for the data"))
    for label in ("SFTP Host", "SFTP User", "SFTP Key"):
        await expect(setting(page, SFTP, label)).to_contain_text("not set")
    await expect(setting(page, SFTP, "SFTP Host")).to_contain_text("campaign.adobe.com")
    await expect(setting(page, SFTP, "Do you want to export logs to your Adobe Campaign SFTP?")).to_contain_text("No")


async def test_f65_addresses_to_allow_list_have_copy_buttons(idle: Stack, visits: Visits) -> None:
    page = await visits.page(PATH)
    part = section(page, "Addresses to allow-list")
    host = idle.dynamics_url.removeprefix("http://")
    await expect(part).to_contain_text(host)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await part.get_by_role("button", name=f"Copy {host}", exact=True).click()
    await expect(page.get_by_role("region", name="Messages")).to_contain_text(f"{host} is in the clipboard")
    assert await page.evaluate("navigator.clipboard.readText()") == host


async def test_f67_nothing_is_saved_here_since_settings_come_from_the_environment(visits: Visits) -> None:
    """Instead of the original's Save: every setting names the variable it comes from."""
    page = await visits.page(PATH)
    await expect(page.get_by_role("main")).to_contain_text(words("environment variables", "no secret passes through this page"))
    await expect(setting(page, ADOBE, "Client Secret")).to_contain_text("CAMPAIGN_CLIENT_SECRET")
    await expect(page.get_by_role("button", name="Save")).to_have_count(0)


async def test_f33_the_page_says_to_configure_a_stage_first(visits: Visits) -> None:
    page = await visits.page(PATH)
    await expect(page.get_by_role("main")).to_contain_text(words("stage or development instance first", "then production"))


@pytest.mark.parametrize(("name", "system"), [(DYNAMICS, "Microsoft Dynamics 365"), (ADOBE, "Campaign")])
async def test_test_connection_names_every_check(visits: Visits, name: str, system: str) -> None:
    page = await visits.page(PATH)
    await page.get_by_role("button", name=f"Test connection to {system}", exact=True).click()
    part = section(page, name)
    await expect(part).to_contain_text(f"The connection to {system} works")
    told = [re.split(r"\s", each)[0] for each in await part.get_by_role("listitem").all_inner_texts()]
    assert told == CHECKS
    await expect(part.get_by_role("listitem").first).to_contain_text("ok")
    await expect(part).to_contain_text("skipped")
    await expect(part).to_contain_text("Connected")


async def test_f32_unable_to_connect_is_told_with_the_failed_check_and_its_hint(idle: Stack, visits: Visits) -> None:
    page = await visits.page(PATH)
    await expect(page.get_by_role("main")).to_contain_text(words("Unable to connect", "normal before they are filled"))
    refusal = '{"error": "invalid_client"}'
    for path in ("oauth2", "/api/data/"):  # a token that control has still is not taken any more either
        idle.dynamics.ledger.faults.append(Fault("status", path=path, status=401, body=refusal, content_type="application/json"))
    await page.get_by_role("button", name="Test connection to Microsoft Dynamics 365").click()
    part = section(page, DYNAMICS)
    await expect(part).to_contain_text("The connection to Microsoft Dynamics 365 does not work yet")
    await expect(part.get_by_role("listitem").filter(has_text="failed").first).to_contain_text(re.compile("client.secret", re.IGNORECASE))
    await expect(part).to_contain_text("Unable to connect")
    idle.dynamics.ledger.faults.clear()
    await page.get_by_role("button", name="Test connection to Microsoft Dynamics 365").click()
    await expect(part).to_contain_text("The connection to Microsoft Dynamics 365 works")


async def test_a_viewer_sees_settings_and_may_not_test(guarded: Guarded, guarded_visits: Visits) -> None:
    _, page = await guarded.signed_in(guarded_visits, "viewer")
    await page.goto(PATH)
    await expect(setting(page, DYNAMICS, "Tenant")).to_contain_text("sandbox-tenant")
    await expect(page.get_by_role("button", name="Test connection to Campaign")).to_be_disabled()
    await expect(section(page, ADOBE)).to_contain_text("This needs the role operator")
    assert SECRET not in await page.content()
