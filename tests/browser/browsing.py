"""Browsers for the tests: pages that write down everything they complain about, and what is looked for on many of them."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, WebError, async_playwright, expect

ARGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--no-first-run",
]
INGRESS, EGRESS, OPTIN = "Microsoft Dynamics 365 to Campaign", "Campaign to Microsoft Dynamics 365", "Opt In/Out"
TELL_CSP = """addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} blocked ${event.blockedURI}`));"""
expect.set_options(timeout=10_000)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The installed Chromium; none is downloaded."""
    program = shutil.which("chromium")
    assert program, "Chromium is needed for the tests of the pages (Debian: apt-get install chromium)"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, headless=True, args=ARGS)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visits:
    """Browser contexts of one test. `complaints`: errors on the console and of scripts, requests that failed or went elsewhere."""

    browser: Browser
    origin: str
    complaints: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    async def page(self, path: str = "/", accepted: bool = True, **options: Any) -> Page:
        """A page of a browser of its own. `accepted`: on a server without tokens the privacy notice is accepted first."""
        context = await self.browser.new_context(base_url=self.origin, **options)
        self.contexts.append(context)
        context.set_default_timeout(10_000)
        await context.add_init_script(TELL_CSP)
        context.on("console", self._console)
        context.on("weberror", self._script)
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        page = await context.new_page()
        await page.goto(path)
        notice = page.get_by_role("button", name="Accept and continue")
        if accepted and urlsplit(page.url).path != "/login":
            await notice.click()
        return page

    def expects(self, *patterns: str) -> None:
        """These complaints (regular expressions) belong to the test."""
        self.allowed += patterns

    async def end(self) -> None:
        for context in self.contexts:
            await context.close()

    def unexpected(self) -> list[str]:
        return [each for each in self.complaints if not any(re.search(pattern, each) for pattern in self.allowed)]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"console {message.type}: {message.text} ({message.location.get('url')})")

    def _script(self, error: WebError) -> None:
        self.complaints.append(f"script: {error.error}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self.origin + "/", "data:", "blob:")):
            self.complaints.append(f"foreign request: {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # left, or closed by the page itself
            self.complaints.append(f"failed: {request.method} {request.url} {request.failure}")


async def sign_in(page: Page, token: str) -> None:
    """On the page of sign-in, as somebody who is here for the first time."""
    await page.goto("/login")
    await page.get_by_label("Token").fill(token)
    await page.get_by_label("I have read and accept the privacy notice").check()
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name="Workflows", level=1)).to_be_visible()


def row(page: Page, workflow: str) -> Locator:
    """The row of a workflow on the first page."""
    return page.get_by_role("row").filter(has=page.get_by_role("link", name=f"Edit {workflow}", exact=True))


def start(page: Page, workflow: str = INGRESS) -> Locator:
    return page.get_by_role("button", name=f"Start {workflow}", exact=True)


def stop(page: Page, workflow: str = INGRESS) -> Locator:
    return page.get_by_role("button", name=f"Stop {workflow}", exact=True)


def messages(page: Page) -> Locator:
    """The region in which pages say what happened."""
    return page.get_by_role("region", name="Messages")


async def saved(page: Page) -> None:
    """Until the page says that it has saved."""
    await expect(messages(page)).to_contain_text(re.compile(r"Saved as revision \d+"))


async def pick(page: Page, label: str, name: str) -> None:
    """Chooses from one of the searchable lists."""
    box = page.get_by_role("combobox", name=label, exact=True)
    await box.click()
    await box.fill(name)
    await page.get_by_role("listbox", name=label, exact=True).get_by_role("option", name=re.compile(rf"^{re.escape(name)}(\s|$)")).click()
    await expect(box).to_have_value(name)


async def save(page: Page) -> None:
    """Presses Save, until the page says that it has saved."""
    await page.get_by_role("button", name="Save", exact=True).click()
    await saved(page)


def words(*texts: str) -> re.Pattern[str]:
    """Text in which these words come in this order."""
    return re.compile(".*".join(re.escape(each) for each in texts), re.DOTALL)
