"""bridge.http.tokens: one token for all who wait, renewed in time, and secrets that stay secret (dataverse.md §1, campaign.md §1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from bridge.campaign.client import CampaignClient
from bridge.campaign.settings import CampaignSettings
from bridge.http.credentials import ClientSecret
from bridge.http.tokens import TokenCache
from bridge.http.transport import build_client
from bridge.model.errors import HaltError, Origin, RetryError
from bridge.model.permission import call_guard
from bridge.model.settings import Secret
from sandbox.campaign import CampaignSandbox
from sandbox.dynamics import DynamicsSandbox
from sandbox.web import Fault, serving
from tests.unit.fakes import FakeClock

PATH = "/sandbox-tenant/oauth2/v2.0/token"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with build_client(5, 60) as client:
        yield client


@pytest.fixture
def sandbox() -> DynamicsSandbox:
    return DynamicsSandbox()


@pytest.fixture
async def url(sandbox: DynamicsSandbox) -> AsyncIterator[str]:
    async with serving(sandbox.app()) as base:
        yield base


def a_cache(http: httpx.AsyncClient, url: str, secret: Secret | None = None, clock: FakeClock | None = None) -> TokenCache:
    credential = ClientSecret("sandbox-client", secret or Secret("sandbox-secret"), f"{url}/.default")
    return TokenCache(http, url + PATH, credential, "source", clock or FakeClock())


def asked(sandbox: DynamicsSandbox) -> int:
    return sandbox.ledger.requests["POST token"]


def answering(*answers: tuple[int, Any, dict[str, str]], clock: FakeClock | None = None, asked: list[float] | None = None) -> TokenCache:
    """A token endpoint that gives these answers in turn, the last one for ever; `asked` gets the time of every question. Status 0: the
    connection breaks."""
    waiting, clock = list(answers), clock or FakeClock()

    def wire(_: httpx.Request) -> httpx.Response:
        if asked is not None:
            asked.append(clock.monotonic())
        status, body, headers = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if not status:
            raise httpx.ConnectError("away")
        return httpx.Response(status, json=body, headers=headers)

    return a_cache(httpx.AsyncClient(transport=httpx.MockTransport(wire)), "https://login.example", clock=clock)


async def test_fifty_who_wait_ask_once(http: httpx.AsyncClient, sandbox: DynamicsSandbox, url: str) -> None:
    sandbox.ledger.faults.append(Fault("latency", path="token", seconds=0.05))
    cache = a_cache(http, url)

    tokens = await asyncio.gather(*(cache.get() for _ in range(50)))

    assert len(set(tokens)) == 1
    assert asked(sandbox) == 1


async def test_a_token_is_renewed_before_it_expires_and_not_much_earlier(
    http: httpx.AsyncClient, sandbox: DynamicsSandbox, url: str
) -> None:
    clock = FakeClock()
    cache = a_cache(http, url, clock=clock)
    first = await cache.get()

    clock.at = 3599 - 600
    middle = await cache.get()
    clock.at = 3599 - 60
    last = await cache.get()

    assert (middle == first, last == first, asked(sandbox)) == (True, False, 2)


async def test_a_short_lived_token_is_used_for_most_of_its_life(http: httpx.AsyncClient, sandbox: DynamicsSandbox, url: str) -> None:
    sandbox.settings.token_lifetime_s = 60
    clock = FakeClock()
    cache = a_cache(http, url, clock=clock)
    first = await cache.get()

    clock.at = 30
    assert await cache.get() == first
    clock.at = 59
    assert await cache.get() != first


async def test_a_refused_token_is_fetched_again(http: httpx.AsyncClient, sandbox: DynamicsSandbox, url: str) -> None:
    cache = a_cache(http, url)
    refused = await cache.get()

    cache.drop(refused)

    assert await cache.get() != refused
    assert asked(sandbox) == 2


async def test_many_refusals_of_one_token_are_one_new_token(http: httpx.AsyncClient, sandbox: DynamicsSandbox, url: str) -> None:
    cache = a_cache(http, url)
    refused = await cache.get()

    async def one_worker() -> str:
        cache.drop(refused)
        return await cache.get()

    tokens = await asyncio.gather(*(one_worker() for _ in range(20)))

    cache.drop(refused)  # a late one

    assert set(tokens) == {await cache.get()}
    assert asked(sandbox) == 2


async def test_a_wrong_secret_halts_and_is_not_in_the_text(http: httpx.AsyncClient, url: str) -> None:
    cache = a_cache(http, url, Secret("wr0ng-s3cret"))

    with pytest.raises(HaltError) as caught:
        await cache.get()

    assert (caught.value.code, caught.value.origin, caught.value.status) == ("credentials_refused", "source", 401)
    assert "7000215" in str(caught.value)
    assert "wr0ng-s3cret" not in f"{caught.value} {caught.value.hint} {caught.value!r}"


@pytest.mark.parametrize(("changes", "code"), [({"client_secret": "wr0ng"}, "invalid_client"), ({"scope": "unheard_of"}, "invalid_scope")])
async def test_what_adobe_refuses_halts_as_well(http: httpx.AsyncClient, changes: dict[str, str], code: str) -> None:
    async with serving(CampaignSandbox().app()) as url:
        secret = Secret(changes.get("client_secret", "sandbox-secret"))
        credential = ClientSecret("sandbox-campaign", secret, changes.get("scope", "openid, campaign_sdk"))
        cache = TokenCache(http, f"{url}/ims/token/v3", credential, "target", FakeClock())

        with pytest.raises(HaltError) as caught:
            await cache.get()

    assert caught.value.origin == "target"
    assert code in str(caught.value)


async def test_a_secret_that_was_rotated_is_read_again_when_it_is_refused(
    http: httpx.AsyncClient, sandbox: DynamicsSandbox, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("sandbox-secret\n")
    cache = a_cache(http, url, Secret(path=file))
    cache.drop(await cache.get())
    sandbox.settings.client_secret = "rotated"
    file.write_text("rotated\n")

    assert await cache.get()


async def test_a_refused_secret_that_has_not_changed_is_not_tried_twice(
    http: httpx.AsyncClient, sandbox: DynamicsSandbox, url: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text("wr0ng")

    with pytest.raises(HaltError):
        await a_cache(http, url, Secret(path=file)).get()

    assert asked(sandbox) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_a_busy_endpoint_is_asked_again_after_the_wait_it_names(status: int) -> None:
    with pytest.raises(RetryError) as caught:
        await answering((status, {"error": "busy s3cret"}, {"retry-after": "9"})).get()

    assert (caught.value.retry_after_s, caught.value.status) == (9, status)
    assert "s3cret" not in str(caught.value)


GOOD: tuple[int, Any, dict[str, str]] = (200, {"access_token": "t-1", "expires_in": 3599}, {})


async def test_an_endpoint_that_bids_to_wait_is_left_alone_by_all_who_ask() -> None:
    clock, asked = FakeClock(), list[float]()
    cache = answering((429, {}, {"retry-after": "30"}), GOOD, clock=clock, asked=asked)

    failures = await asyncio.gather(*(cache.get() for _ in range(16)), return_exceptions=True)
    clock.at = 29
    cache.forget()
    with pytest.raises(RetryError) as late:
        await cache.get()
    clock.at = 30

    assert [(type(each), getattr(each, "status", 0)) for each in failures] == [(RetryError, 429)] * 16
    assert (late.value.retry_after_s, late.value.code) == (1, "token_endpoint")
    assert await cache.get() == "t-1"
    assert asked == [0, 30]


@pytest.mark.parametrize("failure", [(500, {}, {}), (503, {}, {}), (0, {}, {}), (200, {}, {})])
async def test_an_endpoint_that_fails_without_a_word_is_asked_less_and_less(failure: tuple[int, Any, dict[str, str]]) -> None:
    clock, asked = FakeClock(), list[float]()
    cache = answering(*[failure] * 7, GOOD, failure, clock=clock, asked=asked)

    for tenth in range(400):
        clock.at = tenth / 10
        for _ in range(3):
            try:
                cache.drop(await cache.get())
                break
            except RetryError:
                pass

    assert asked[:8] == pytest.approx([0, 0.5, 1.5, 3.5, 7.5, 15.5, 23.5, 31.5], abs=0.11)
    assert asked[8] - asked[7] < 0.2  # it answered: a later failure begins again
    assert asked[9] - asked[8] == pytest.approx(0.5, abs=0.11)


async def test_a_person_who_asks_again_does_not_wait_for_our_own_backoff() -> None:
    cache = answering((503, {}, {}), GOOD)
    with pytest.raises(RetryError):
        await cache.get()

    cache.forget()

    assert await cache.get() == "t-1"


async def test_an_endpoint_that_is_away_is_tried_again(http: httpx.AsyncClient) -> None:
    with pytest.raises(RetryError):
        await a_cache(http, "http://127.0.0.1:9").get()


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refusal_shows_the_error_code_and_never_the_description(status: int) -> None:
    body = {"error": "invalid_client", "error_description": "AADSTS7000215: s3cret for ada@example.com", "error_codes": [7000215]}

    with pytest.raises(HaltError) as caught:
        await answering((status, body, {})).get()

    assert "invalid_client 7000215" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "ada" not in str(caught.value)


async def test_a_refusal_without_numbers_halts_all_the_same() -> None:
    with pytest.raises(HaltError) as caught:
        await answering((400, {"error": "x", "error_codes": ["s3cret"]}, {})).get()

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("status", [204, 302, 400, 401, 403, 404, 407, 413])
@pytest.mark.parametrize("body", [None, [], "s3cret", {"error": None}, {"message": "s3cret"}])
async def test_what_names_no_error_is_the_answer_of_a_proxy_and_no_refusal(body: Any, status: int) -> None:
    with pytest.raises(RetryError) as caught:
        await answering((status, body, {})).get()

    assert (caught.value.code, caught.value.attempts) == ("token_endpoint", None)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("token", [None, "", 7, ["t-1"], "t 1", "t-1\n", "t\x001", "s3cr\xe9t"])
async def test_what_cannot_be_sent_as_a_token_is_none(token: Any) -> None:
    with pytest.raises(RetryError) as caught:
        await answering((200, {"access_token": token}, {})).get()

    assert (caught.value.code, "s3cr" in str(caught.value)) == ("token_endpoint", False)


@pytest.mark.parametrize("lifetime", ["soon", None, 0, -5, "nan", "inf", "-inf", [], {}, 10**400])
async def test_a_lifetime_that_is_none_is_no_answer(lifetime: Any) -> None:
    """With 0, or NaN, every call asked for a token of its own."""
    with pytest.raises(RetryError) as caught:
        await answering((200, {"access_token": "t-1", "expires_in": lifetime}, {})).get()

    assert caught.value.code == "token_endpoint"


async def test_a_token_is_renewed_after_a_day_however_long_it_is_said_to_live() -> None:
    clock, asked = FakeClock(), list[float]()
    cache = answering((200, {"access_token": "t-1", "expires_in": 86_399_000}, {}), clock=clock, asked=asked)
    for hour in (0, 23, 24):
        clock.at = hour * 3600
        await cache.get()

    assert asked == [0, 24 * 3600]


async def test_the_lifetime_may_come_as_text() -> None:
    assert await answering((200, {"access_token": "t-1", "expires_in": "3599"}, {})).get() == "t-1"


async def test_a_writer_whose_partition_was_lost_while_it_waited_for_a_token_does_not_write() -> None:
    """The guard is asked last before each call: also after a slow token endpoint."""
    ours, calls = True, list[str]()

    async def handler(request: web.Request) -> web.Response:
        nonlocal ours
        calls.append(request.path)
        ours = False
        return web.json_response({"access_token": "t-1", "expires_in": 3599})

    def guard() -> None:
        if not ours:
            raise RetryError("the partition is not ours any more", code="released")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)
    async with serving(app) as url:
        env: dict[str, Any] = {"CAMPAIGN_URL": f"{url}/org", "CAMPAIGN_CLIENT_ID": "id", "CAMPAIGN_CLIENT_SECRET": Secret("s")}
        settings = CampaignSettings(**env, CAMPAIGN_ORG_ID="o@AdobeOrg", CAMPAIGN_TOKEN_URL=f"{url}/token")
        client = CampaignClient(settings, FakeClock())
        token = call_guard.set(guard)
        try:
            with pytest.raises(RetryError) as caught:
                await client.create("profileAndServicesExt/profile", {"externalId": "c-1"})
        finally:
            call_guard.reset(token)
            await client.close()

    assert (caught.value.code, calls) == ("released", ["/token"])


@pytest.mark.parametrize("origin", ["source", "target"])
async def test_the_origin_of_a_refusal_is_the_system_asked(origin: Origin) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(400, json={"error": "invalid_client"}))
    credential = ClientSecret("c", Secret("s"), "")
    cache = TokenCache(httpx.AsyncClient(transport=transport), "https://l.example/t", credential, origin, FakeClock())

    with pytest.raises(HaltError) as caught:
        await cache.get()

    assert caught.value.origin == origin
