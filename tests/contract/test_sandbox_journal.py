"""sandbox.campaign, the I/O Events journal: reading, links, expiry and wrong queries, over real HTTP."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from sandbox.campaign import CampaignSandbox
from sandbox.web import serving

TAIL = "organizations/4711/integrations/815/sandbox-registration"
JOURNAL = f"/events/{TAIL}"
DAY_S = 86400


@pytest.fixture
def sandbox() -> CampaignSandbox:
    return CampaignSandbox()


@pytest_asyncio.fixture
async def api(sandbox: CampaignSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(sandbox.app()) as url, httpx.AsyncClient(base_url=url, headers=sandbox.journal_headers()) as client:
        yield client


def opens(sandbox: CampaignSandbox, number: int) -> list[str]:
    return sandbox.emit([{"kind": "open", "external_id": f"c-{n}"} for n in range(number)])


def ids(answer: httpx.Response) -> list[str]:
    return [entry["event"]["id"] for entry in answer.json()["events"]]


def links(answer: httpx.Response) -> dict[str, str]:
    """By relation; one header line each."""
    found = [re.fullmatch(r'<([^>]*)>; rel="(\w+)"', line) for line in answer.headers.get_list("link")]
    assert all(found), answer.headers.get_list("link")
    return {link[2]: link[1] for link in found if link}


async def everything(api: httpx.AsyncClient, path: str = JOURNAL) -> list[list[str]]:
    """The ids of all pages until the 204."""
    pages = []
    while (answer := await api.get(path)).status_code == 200:
        pages.append(ids(answer))
        path = links(answer)["next"]
    assert answer.status_code == 204
    return pages


async def test_s31_from_the_oldest_along_the_next_links_to_the_end(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    emitted = opens(sandbox, 250)
    answer = await api.get(sandbox.journal_path)
    page = answer.json()

    assert (answer.status_code, sandbox.journal_path, set(page)) == (200, JOURNAL, {"events", "_page"})
    assert all(set(entry) == {"position", "event"} for entry in page["events"])
    assert all(re.fullmatch(r"moose:[0-9a-f-]{36}:[0-9a-f-]{36}", entry["position"]) for entry in page["events"])
    assert page["_page"] == {"last": page["events"][-1]["position"], "count": 100}
    pages = await everything(api)
    assert [len(each) for each in pages] == [100, 100, 50]
    assert [each for page in pages for each in page] == emitted


async def test_s31_since_is_exclusive(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    emitted = opens(sandbox, 3)
    positions = [entry["position"] for entry in sandbox.journal()]

    assert ids(await api.get(JOURNAL, params={"since": positions[0]})) == emitted[1:]
    assert (await api.get(JOURNAL, params={"since": positions[2]})).status_code == 204


async def test_s31_latest_jumps_to_the_end(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    opens(sandbox, 3)
    answer = await api.get(JOURNAL, params={"latest": "true", "limit": 2})

    assert (answer.status_code, answer.headers["retry-after"]) == (204, "10")
    emitted = opens(sandbox, 3)
    assert await everything(api, links(answer)["next"]) == [emitted[:2], emitted[2:]]


async def test_s31_limit_is_exact_and_kept_in_the_next_links(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    opens(sandbox, 250)
    answer = await api.get(JOURNAL, params={"limit": 120})

    assert links(answer)["next"] == f"/events-fast/{TAIL}?since={answer.json()['_page']['last']}&limit=120"
    assert [len(page) for page in await everything(api, f"{JOURNAL}?limit=120")] == [120, 120, 10]


async def test_s31_a_page_is_capped_in_bytes_but_never_empty(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.append([{"id": str(n), "text": "x" * 400_000} for n in range(5)])
    sandbox.append([{"id": "5", "text": "x" * 2_000_000}])
    first = await api.get(JOURNAL, params={"limit": 10})

    assert len(first.content) <= 1_500_000
    assert [len(page) for page in await everything(api, f"{JOURNAL}?limit=10")] == [3, 2, 1]


async def test_s31_seek_starts_at_a_time(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    emitted = opens(sandbox, 2)
    sandbox.advance(3 * 3600)
    emitted += opens(sandbox, 2)
    sandbox.advance(1800)
    found = {seek: await api.get(JOURNAL, params={"seek": seek}) for seek in ("-PT2H", "-P1D", "-PT4H30M", "-PT10M", "-PT0.5S")}

    assert ids(found["-PT2H"]) == emitted[2:]
    assert ids(found["-P1D"]) == ids(found["-PT4H30M"]) == emitted
    assert {found["-PT10M"].status_code, found["-PT0.5S"].status_code} == {204}
    assert links(found["-PT10M"])["next"].endswith(f"?since={sandbox.journal()[-1]['position']}")


@pytest.mark.parametrize(
    "query",
    ["seek=-PT2H&since={since}", "seek=PT2H", "seek=-P", "seek=-PT", "seek=2h", "limit=0", "limit=-1", "limit=x", "since=", "since=17"],
)
async def test_s31_wrong_queries_are_refused(api: httpx.AsyncClient, sandbox: CampaignSandbox, query: str) -> None:
    opens(sandbox, 1)
    answer = await api.get(f"{JOURNAL}?{query.format(since=sandbox.journal()[0]['position'])}")

    assert (answer.status_code, answer.json()["code"], bool(answer.headers["X-Request-Id"])) == (400, 400, True)


async def test_s31_every_success_has_the_links_one_a_line_and_relative(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    opens(sandbox, 1)
    last = sandbox.journal()[0]["position"]
    full = await api.get(JOURNAL)
    end = await api.get(links(full)["next"])

    assert links(full) == {
        "events": f"/events/{TAIL}",
        "next": f"/events-fast/{TAIL}?since={last}",
        "count": f"/count/{TAIL}?since={last}",
        "latest": f"/events/{TAIL}?latest=true",
        "page": f"/events/{TAIL}?since={{position}}&limit={{count}}",
        "seek": f"/events/{TAIL}?seek={{duration}}&limit={{count}}",
        "validate": f"/events-validate/{TAIL}?since={last}",
    }
    assert (end.status_code, end.content, end.headers["retry-after"]) == (204, b"", "10")
    assert links(end) == links(full), "at the end, next is the same URL"


async def test_s31_links_may_come_joined_and_next_may_lead_elsewhere(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    opens(sandbox, 1)
    sandbox.settings.change({"journal_links": "joined", "journal_foreign_next": True})
    answer = await api.get(JOURNAL)

    assert len(answer.headers.get_list("link")) == 1
    assert answer.headers["link"].count('; rel="') == 7
    assert answer.links["next"]["url"] == f"https://journal.example.net/events-fast/{TAIL}?since={answer.json()['_page']['last']}"


async def test_s31_an_empty_journal_names_no_time_and_its_next_misses_nothing(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    answers = [await api.get(JOURNAL), await api.get(f"{JOURNAL}?latest=true"), await api.get(f"{JOURNAL}?seek=-PT1H&limit=7")]

    assert {(answer.status_code, "retry-after" in answer.headers) for answer in answers} == {(204, False)}
    emitted = opens(sandbox, 2)
    assert [ids(await api.get(links(answer)["next"])) for answer in answers] == [emitted] * 3


async def test_s31_positions_expire_after_seven_days(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    opens(sandbox, 3)
    positions = [entry["position"] for entry in sandbox.journal()]
    sandbox.advance(5 * DAY_S)
    young = opens(sandbox, 1)
    sandbox.advance(3 * DAY_S)
    api.headers.update(sandbox.journal_headers())
    gone = await api.get(JOURNAL, params={"since": positions[0]})

    assert (gone.status_code, gone.text) == (410, f"Events at position {positions[0]} have expired.")
    assert gone.headers["Content-Type"].startswith("text/plain")
    assert await everything(api) == [young]


async def test_s31_who_read_everything_is_not_sent_away_when_the_journal_runs_empty(
    api: httpx.AsyncClient, sandbox: CampaignSandbox
) -> None:
    opens(sandbox, 3)
    positions = [entry["position"] for entry in sandbox.journal()]
    sandbox.advance(8 * DAY_S)
    api.headers.update(sandbox.journal_headers())
    answers = [await api.get(JOURNAL, params={"since": position}) for position in positions[1:]]

    assert [answer.status_code for answer in answers] == [410, 204]
    assert "retry-after" not in answers[1].headers
    assert links(await api.get(JOURNAL))["next"] == links(answers[1])["next"]


async def test_s31_an_operator_can_expire_all_but_the_newest(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    emitted = opens(sandbox, 4)
    positions = [entry["position"] for entry in sandbox.journal()]
    some = (await api.post("/_admin/journal/expire", json={"keep": 1})).json()
    answers = [await api.get(JOURNAL, params={"since": position}) for position in positions]

    assert some == {"expired": 3}
    assert [answer.status_code for answer in answers] == [410, 410, 410, 204]
    assert await everything(api) == [emitted[3:]]
    assert (await api.post("/_admin/journal/expire")).json() == {"expired": 1}
    assert (await api.get(JOURNAL, params={"since": positions[3]})).status_code == 410
    assert "retry-after" not in (await api.get(JOURNAL)).headers


async def test_s31_a_position_that_never_was_has_expired_too(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    opens(sandbox, 1)
    unknown = f"moose:{UUID(int=1)}:{UUID(int=2)}"

    assert (await api.get(JOURNAL, params={"since": unknown})).status_code == 410


async def test_the_validate_link_tells_good_positions_from_expired_ones(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    opens(sandbox, 2)
    validate = links(await api.get(f"{JOURNAL}?limit=1"))["validate"]
    good = await api.get(validate)
    sandbox.expire()
    gone = await api.get(validate)

    assert (good.status_code, gone.status_code) == (204, 410)
    assert sandbox.counts()["requests"] == {"GET journal": 1, "GET journal-validate": 2}


async def test_a_reset_empties_the_journal(api: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    opens(sandbox, 2)
    end = links(await api.get(JOURNAL))["next"]
    sandbox.settings.journal_page = 1
    await api.post("/_admin/reset")

    assert (sandbox.journal(), sandbox.settings.journal_page, sandbox.counts()["early_polls"]) == ([], 100, 0)
    assert ((await api.get(JOURNAL)).status_code, (await api.get(end)).status_code) == (204, 410)


async def test_the_program_says_where_the_journal_is() -> None:
    command = (sys.executable, "-m", "sandbox.campaign", "--port", "0")
    program = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert program.stdout is not None
    line = (await program.stdout.readline()).decode()
    program.terminate()
    await program.wait()

    assert re.search(rf"CAMPAIGN_JOURNAL_URL=http://127\.0\.0\.1:\d+{JOURNAL}$", line.strip())
