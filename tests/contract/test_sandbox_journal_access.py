"""sandbox.campaign, who may read the I/O Events journal, how fast, and what is counted of it, over real HTTP."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import httpx
import pytest
import pytest_asyncio

from sandbox.campaign import CampaignSandbox
from sandbox.web import serving

JOURNAL = "/events/organizations/4711/integrations/815/sandbox-registration"
DAY_S = 86400


@pytest.fixture
def sandbox() -> CampaignSandbox:
    return CampaignSandbox()


@pytest_asyncio.fixture
async def api(sandbox: CampaignSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(sandbox.app()) as url, httpx.AsyncClient(base_url=url, headers=sandbox.journal_headers()) as client:
        yield client


async def test_s33_key_token_and_organization_are_checked_in_this_order(sandbox: CampaignSandbox) -> None:
    good = sandbox.journal_headers()
    key = {"X-Api-Key": good["X-Api-Key"]}
    without = {name: value for name, value in good.items() if name != "x-ims-org-id"}
    tries = [{}, {"X-Api-Key": "x"}, key, {**key, "Authorization": "Bearer x"}, without, {**good, "x-ims-org-id": "other@AdobeOrg"}]

    async with serving(sandbox.app()) as url, httpx.AsyncClient(base_url=url) as client:
        answers = [await client.get(JOURNAL, headers=headers) for headers in tries]

    found = [(answer.status_code, answer.json()["error_code"]) for answer in answers]
    assert found == [(403, "403000"), (403, "403003"), (403, "403010"), (401, "401013"), (403, "403023"), (403, "403023")]
    assert all(answer.headers["X-Request-Id"] for answer in answers)


async def test_s33_tokens_end_with_the_clock_and_by_revocation(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.advance(DAY_S)
    expired = await api.get(JOURNAL)
    api.headers.update(sandbox.journal_headers())
    renewed = await api.get(JOURNAL)
    sandbox.revoke_tokens()

    assert (expired.json()["error_code"], renewed.status_code, (await api.get(JOURNAL)).status_code) == ("401013", 204, 401)


@pytest.mark.parametrize(
    "path",
    [
        "organizations/4711/integrations/815/another",
        "organizations/1/integrations/815/sandbox-registration",
        "organizations/4711/integrations/1/sandbox-registration",
    ],
)
async def test_other_registrations_do_not_exist(api: httpx.AsyncClient, path: str) -> None:
    answers = [await api.get(f"/{root}/{path}") for root in ("events", "events-fast", "events-validate")]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, 404)] * 3


async def test_the_journal_can_only_be_read(api: httpx.AsyncClient) -> None:
    assert {(await api.request(method, JOURNAL)).status_code for method in ("POST", "PUT", "DELETE")} == {404}


async def test_polls_are_counted_but_cost_no_engine_calls(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.emit([{"kind": "open"}] * 3)
    await api.get((await api.get(JOURNAL)).links["next"]["url"])
    counts = sandbox.counts()

    assert (counts["requests"], counts["engine_calls"]["total"], counts["unknown_routes"]) == ({"GET journal": 2}, 0, [])
    assert counts["journal_events"] == 3


async def test_polls_before_the_time_a_204_named_are_counted(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.emit([{"kind": "open"}])
    sandbox.settings.change({"journal_retry_after_s": 0.2})
    end = (await api.get(JOURNAL)).links["next"]["url"]

    assert (await api.get(end)).headers["retry-after"] == "0.2"
    await asyncio.sleep(0.21)
    await api.get(end)
    assert sandbox.counts()["early_polls"] == 0
    sandbox.emit([{"kind": "open"}])
    early, rest = await api.get(end), await api.get(end)
    assert (early.status_code, rest.status_code, sandbox.counts()["early_polls"]) == (200, 200, 1), "reading on after a 200 is none"


async def test_the_wait_may_be_a_date(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.emit([{"kind": "open"}])
    sandbox.settings.change({"journal_retry_after_form": "date", "journal_calls_per_second": 0.001})
    end, fast = await api.get(f"{JOURNAL}?latest=true"), await api.get(JOURNAL)
    waits = [parsedate_to_datetime(answer.headers["retry-after"]).timestamp() - time.time() for answer in (end, fast)]

    assert (end.status_code, fast.status_code) == (204, 429)
    assert 9 < waits[0] <= 11
    assert -1 < waits[1] <= 2
    assert (sandbox.counts()["early_polls"], sandbox.counts()["early_calls"]) == (1, 0)


async def test_the_journal_has_a_rate_and_waits_of_its_own(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.settings.change({"journal_calls_per_second": 1})
    answers = [await api.get(JOURNAL) for _ in range(3)]
    campaign = await api.get("/sandbox/campaign/profileAndServicesExt/profile")

    assert [answer.status_code for answer in answers] == [204, 429, 429]
    assert (answers[1].json()["error_code"], answers[1].headers["Retry-After"]) == ("429050", "1")
    assert (campaign.status_code, sandbox.counts()["early_calls"]) == (200, 1)


async def test_injected_faults_strike_the_journal_and_their_waits_count(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    fault = {"kind": "status", "status": 503, "path": "^/events", "headers": {"Retry-After": "5"}, "times": 1}
    await api.post("/_admin/faults", json=fault)
    struck, early = await api.get(JOURNAL), await api.get(JOURNAL)

    assert (struck.status_code, bool(struck.headers["X-Request-Id"]), early.status_code) == (503, True, 204)
    assert (sandbox.counts()["early_calls"], sandbox.counts()["early_polls"]) == (1, 0)
