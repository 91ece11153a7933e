"""The Adobe I/O Events journal of one registration: a page of events at a time (campaign.md §8.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urljoin

import httpx

from bridge.campaign.client import credential
from bridge.campaign.settings import CampaignSettings, JournalSettings
from bridge.http.answers import bad_answer, is_page, parse_object, refusal, where
from bridge.http.gate import Gate, Pause
from bridge.http.session import Session
from bridge.http.transport import build_client
from bridge.model.clock import Clock
from bridge.model.errors import BridgeError, HaltError, RetryError

LINK = re.compile(r"<([^>]*)>([^<]*)")
NEXT = re.compile(r";\s*rel\s*=\s*\"?next(?=[\"\s;,]|$)", re.IGNORECASE)
Start = Literal["oldest", "latest"]


@dataclass(frozen=True, slots=True)
class JournalPage:
    """`events` as the journal gives them: `(position, event)`; `next_link` leads to what comes after them, None if the journal did not say.
    `retry_after_s`: when to ask again, if the journal is at its end and says so."""

    events: Sequence[tuple[str, Any]]
    next_link: str | None
    retry_after_s: float | None


class JournalClient:
    """One per process. Its links are followed to the configured origin only."""

    def __init__(
        self,
        journal: JournalSettings,
        campaign: CampaignSettings,
        clock: Clock,
        client: httpx.AsyncClient | None = None,
        *,
        pause: Pause | None = None,
    ) -> None:
        self._journal = journal
        self._session = Session(
            client or build_client(campaign.request_timeout_s, 2),
            journal.url,
            campaign.token_url,
            credential(campaign),
            Gate(1, clock, pause=pause),
            clock,
            origin="source",
            headers={"x-api-key": campaign.client_id, "x-ims-org-id": campaign.org_id, "Accept": "application/json"},
        )
        self.close = self._session.close

    @property
    def ahead_s(self) -> float | None:
        """By how much our clock was ahead at the last answer."""
        return self._session.ahead_s

    def first(self, start: Start) -> str:
        """The address to begin at."""
        url = httpx.URL(self._journal.url)
        more = {"latest": "true"} if start == "latest" else {"limit": str(self._journal.page_size)}
        return str(url.copy_merge_params(more))

    def after(self, position: str) -> str:
        """The address to go on at, for an answer without a link."""
        return str(httpx.URL(self._journal.url).copy_merge_params({"since": position, "limit": str(self._journal.page_size)}))

    async def page(self, link: str) -> JournalPage:
        """Raises RetryError (away, busy) or HaltError: `journal_expired` where what comes next has been deleted."""
        url = self._session.url(link)
        response = await self._session.call(lambda: self._session.request("GET", url))
        if response.status_code == 204:
            return JournalPage((), self._next(response, url), self._session.retry_after_s(response))
        if response.status_code != 200:
            raise _error(response, self._session.retry_after_s(response))
        answer = parse_object(response)
        events, page = answer.get("events"), answer.get("_page") or {}
        if (
            not isinstance(events, list)
            or not isinstance(page, dict)
            or not all(isinstance(each, dict) and "event" in each for each in events)
        ):
            raise bad_answer(response, "the answer is no page of events", "I/O Events")
        found = [(str(each.get("position") or ""), each["event"]) for each in events]
        last = str(page.get("last") or (found[-1][0] if found else ""))
        return JournalPage(found, self._next(response, url) or (self.after(last) if last else None), None)

    def _next(self, response: httpx.Response, asked: str) -> str | None:
        """Raises HaltError for a link to another host, before it is kept as the position, which would be followed for ever."""
        link = next_link(response, asked)
        return None if link is None else self._session.url(link)


def next_link(response: httpx.Response, asked: str) -> str | None:
    """Where `rel="next"` leads, whether each link has a header line of its own or all are in one; relative to what was asked for."""
    for line in response.headers.get_list("link"):
        for target, parameters in LINK.findall(line):
            if NEXT.search(parameters):
                return _joined(asked, target) if target.startswith("/") else str(target)
    return None


def _joined(asked: str, target: str) -> str:
    try:
        return urljoin(asked, target)
    except ValueError:  # whoever follows it finds out
        return target


def _error(response: httpx.Response, retry_after: float | None) -> BridgeError:
    """Only what the journal or the gateway before it says is a refusal; the page of a proxy is waited out."""
    status, text = response.status_code, f"I/O Events: {where(response)}"
    if status == 410 and not is_page(response) and b"expired" in response.content:
        return HaltError(
            f"{text}: the events after our position have expired, some are lost for ever",
            code="journal_expired",
            hint="Stop the workflow, choose where to go on: PUT /workflows/egress/cursors/journal with position oldest (what is still "
            "there) or latest (only what is new), then start again.",
            origin="source",
            status=status,
        )
    if status in (408, 429) or status >= 500:
        return RetryError(text, code="source_busy", status=status, retry_after_s=retry_after)
    if status < 400 or not isinstance(refusal(response), dict):
        return bad_answer(response, "the answer is not the journal's", "I/O Events")
    if status in (401, 403):
        hint = (
            "Check the Adobe credential, CAMPAIGN_ORG_ID, that its project has the I/O Events of Campaign, and that CAMPAIGN_SCOPES "
            "names the scopes for them: adobeio_api, event_receiver_api."
        )
        return HaltError(text, code="source_refused", hint=hint, origin="source", status=status)
    hint = "Check CAMPAIGN_JOURNAL_URL: the registration's journal, as the Adobe Developer Console shows it."
    return HaltError(text, code="journal_missing", hint=hint, origin="source", status=status)
