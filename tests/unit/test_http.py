"""bridge.http.sessions: Retry-After, the gate all workers share, links, JSON, and what the client does not do (decision D9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import pairwise

import httpx
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from bridge.http.answers import parse_json, where
from bridge.http.gate import Gate, Pause
from bridge.http.links import same_origin
from bridge.http.retry_after import LONGEST_WAIT_S, retry_after_s
from bridge.http.transport import build_client, send
from bridge.model.errors import HaltError, RetryError
from bridge.model.permission import call_guard
from sandbox.web import serving
from tests.unit.fakes import NOON, FakeClock

HOME = "https://org.api.crm.dynamics.com/api/data/v9.2/"


def an_answer(status: int = 429, body: bytes = b"", **headers: str) -> httpx.Response:
    request = httpx.Request("GET", "https://host.example/campaign/profile?email=ada@example.com")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, content=body, headers=named, request=request)


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("1", 1), (" 12 ", 12), ("1.5", 1.5), ("3600", LONGEST_WAIT_S)])
def test_retry_after_may_be_seconds(value: str, seconds: float) -> None:
    assert retry_after_s(an_answer(retry_after=value), NOON) == seconds


def test_retry_after_may_be_a_date_measured_by_the_servers_own_clock() -> None:
    answer = an_answer(retry_after="Fri, 01 May 2026 18:00:30 GMT", date="Fri, 01 May 2026 18:00:00 GMT")

    assert retry_after_s(answer, NOON) == 30


def test_a_date_without_a_date_of_the_answer_is_measured_by_our_clock() -> None:
    assert retry_after_s(an_answer(retry_after="Fri, 01 May 2026 12:00:45 GMT"), NOON) == 45


NO_WAITS = [
    *("", "0", "-0", "0.0", "0.01", "-5", "nan", "soon", "12 34"),
    *("3601", "99999999", "1e308", "inf", "-inf", "9" * 400),
    *("Fri, 01 May 2020 12:00:00 GMT", "Fri, 01 May 2026 12:00:00 GMT", "Fri, 01 May 2099 12:00:00 GMT"),
    "Wed, 1 Jan 99999999999999999999 00:00:00 GMT",
]


@pytest.mark.parametrize("value", NO_WAITS)
def test_a_wait_that_makes_no_sense_is_none(value: str) -> None:
    assert retry_after_s(an_answer(retry_after=value), NOON) is None


@pytest.mark.parametrize("value", NO_WAITS)
def test_a_429_whose_wait_makes_no_sense_closes_for_longer_and_longer(value: str) -> None:
    """With `Retry-After: 0` there was no wait at all, and the next refusal came at once."""
    clock = FakeClock()
    gate, waits = Gate(8, clock), list[float]()
    for _ in range(4):
        gate.heed(an_answer(429, retry_after=value), NOON)
        waits.append(gate.wait_left_s)
        clock.at += gate.wait_left_s

    assert waits == [1, 2, 4, 8]


headers = st.text(st.characters(min_codepoint=32, max_codepoint=126)) | st.from_regex(
    r"\A(Mon, )?[0-9]{1,30} (Jan|Feb) [0-9]{1,30} [0-9]{1,12}:[0-9]{1,12}:00 (GMT|[-+][0-9]{4,12})\Z"
)


@given(headers, headers)
def test_no_header_makes_the_wait_raise(retry_after: str, date: str) -> None:
    wait = retry_after_s(an_answer(retry_after=retry_after, date=date), NOON)

    assert wait is None or 1 <= wait <= LONGEST_WAIT_S


async def test_never_more_calls_at_once_than_allowed() -> None:
    gate, inside, most = Gate(3, FakeClock()), 0, 0

    async def call() -> None:
        nonlocal inside, most
        async with gate.call():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(call() for _ in range(20)))

    assert (most, gate.calls) == (3, 20)


async def most_at_once(gate: Gate, calls: int) -> int:
    inside, most = 0, 0

    async def call() -> None:
        nonlocal inside, most
        async with gate.call():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(call() for _ in range(calls)))
    return most


async def test_a_refusal_halves_what_may_be_under_way_and_fifty_good_calls_add_one() -> None:
    gate = Gate(8, FakeClock())
    found = [await most_at_once(gate, 20)]
    for _ in range(3):  # those of one burst count once
        gate.heed(an_answer(429, retry_after="5"), NOON)
    found.append(await most_at_once(gate, 20))
    for _ in range(51):
        gate.heed(an_answer(200), NOON)
    found.append(await most_at_once(gate, 20))

    assert found == [8, 4, 5]


async def test_refusals_that_name_no_time_close_for_longer_and_longer() -> None:
    clock = FakeClock()
    gate, waits = Gate(8, clock), list[float]()
    for _ in range(7):
        gate.heed(an_answer(429), NOON)
        gate.heed(an_answer(429), NOON)
        waits.append(gate.wait_left_s)
        await clock.sleep(gate.wait_left_s)
    gate.heed(an_answer(200), NOON)
    gate.heed(an_answer(429), NOON)

    assert (waits, gate.wait_left_s) == ([1, 2, 4, 8, 16, 32, 32], 1)


async def test_a_turn_that_is_given_up_goes_to_the_next() -> None:
    gate = Gate(1, FakeClock())
    first, done = asyncio.Event(), list[int]()

    async def call(number: int) -> None:
        async with gate.call():
            if number == 0:
                await first.wait()
            done.append(number)

    tasks = [asyncio.create_task(call(number)) for number in range(3)]
    await asyncio.sleep(0)
    first.set()
    await asyncio.sleep(0)
    tasks[1].cancel()  # it may just have been told that it is its turn
    await asyncio.gather(*tasks, return_exceptions=True)

    assert done == [0, 2]


async def test_what_a_system_asked_for_outlives_a_run() -> None:
    pause, clock = Pause(), FakeClock()
    Gate(1, clock, pause=pause).heed(an_answer(429, retry_after="30"), NOON)

    assert Gate(1, clock, pause=pause).wait_left_s == 30


async def test_no_call_begins_inside_a_closed_window() -> None:
    clock = FakeClock()
    gate, began = Gate(4, clock), list[float]()

    async def call() -> None:
        async with gate.call():
            began.append(clock.monotonic())

    gate.close_for(7)
    await asyncio.gather(*(call() for _ in range(8)))

    assert len(began) == 8
    assert min(began) >= 7


async def test_a_window_that_is_closed_meanwhile_holds_those_who_wait_already() -> None:
    clock = FakeClock()
    gate, began = Gate(4, clock), list[float]()

    async def call() -> None:
        async with gate.call():
            began.append(clock.monotonic())

    gate.close_for(3)
    waiting = [asyncio.create_task(call()) for _ in range(2)]
    await asyncio.sleep(0)
    gate.close_for(10)
    await asyncio.gather(*waiting)

    assert min(began) >= 10


def test_a_shorter_wait_does_not_cut_a_longer_one() -> None:
    gate = Gate(1, FakeClock())

    gate.close_for(10)
    gate.close_for(2)

    assert gate.wait_left_s == 10


async def test_no_more_calls_a_second_than_allowed() -> None:
    clock = FakeClock()
    gate, began = Gate(16, clock, per_second=4), list[float]()

    async def call() -> None:
        async with gate.call():
            began.append(clock.monotonic())

    await asyncio.gather(*(call() for _ in range(20)))

    gaps = [later - earlier for earlier, later in pairwise(began)]
    assert min(gaps) >= 0.25 - 1e-9


async def test_the_guard_is_asked_before_each_call_and_can_prevent_it() -> None:
    gate, asked = Gate(1, FakeClock()), list[int]()

    def guard() -> None:
        asked.append(1)
        raise RetryError("the partition is not ours any more", code="released")

    token = call_guard.set(guard)
    try:
        with pytest.raises(RetryError):
            async with gate.call():
                pytest.fail("the call was made")
    finally:
        call_guard.reset(token)

    assert (len(asked), gate.calls) == (1, 0)


async def test_the_guard_is_asked_during_a_long_wait_and_its_slot_is_free_again() -> None:
    clock = FakeClock()
    gate = Gate(1, clock)
    gate.close_for(3600)

    def lost_after_two_seconds() -> None:
        if clock.monotonic() > 2:
            raise RetryError("the partition is not ours any more", code="released")

    token = call_guard.set(lost_after_two_seconds)
    try:
        with pytest.raises(RetryError):
            async with gate.call():
                pytest.fail("the call was made")
    finally:
        call_guard.reset(token)

    assert clock.monotonic() < 4
    async with asyncio.timeout(20):
        async with gate.call():
            assert gate.calls == 1


@pytest.mark.parametrize(
    "link",
    [
        "contacts?$select=firstname",
        "/api/data/v9.2/contacts?$skiptoken=1",
        f"{HOME}contacts?$deltatoken=1",
        "https://ORG.api.crm.dynamics.com/api/data/v9.2/contacts",
        "https://org.api.crm.dynamics.com:443/api/data/v9.2/contacts",
    ],
)
def test_a_link_of_the_same_origin_is_made_absolute(link: str) -> None:
    assert same_origin(link, HOME, "source").startswith("https://org.api.crm.dynamics.com")


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/api/data/v9.2/contacts",
        "//evil.example/contacts",
        "http://org.api.crm.dynamics.com/api/data/v9.2/contacts",
        "https://org.api.crm.dynamics.com:8443/contacts",
        "https://org.api.crm.dynamics.com@evil.example/",
        "https://org.api.crm.dynamics.com.evil.example/",
        "https://org.api.crm.dynamics.com\\@evil.example/",
    ],
)
def test_a_token_goes_nowhere_else(link: str) -> None:
    with pytest.raises(HaltError) as caught:
        same_origin(link, HOME, "source")

    assert (caught.value.code, caught.value.origin) == ("foreign_link", "source")


@pytest.mark.parametrize("link", ["http://[::1", "https://org.api.crm.dynamics.com:port/", "https://a\x00b/", "https://xn--\xff/"])
def test_a_link_that_cannot_be_read_is_half_an_answer(link: str) -> None:
    with pytest.raises(RetryError) as caught:
        same_origin(link, HOME, "source")

    assert caught.value.code == "bad_answer"


def test_decimals_of_an_answer_are_exact() -> None:
    assert parse_json(an_answer(200, b'{"price": 5000000.0000}')) == {"price": Decimal("5000000.0000")}


@pytest.mark.parametrize("body", [b"", b"<html>s3cret-value</html>", b'{"half": "s3cret-value', b"\xff\xfes3cret-value"])
def test_half_an_answer_or_a_page_of_a_gateway_is_tried_again_and_not_shown(body: bytes) -> None:
    with pytest.raises(RetryError) as caught:
        parse_json(an_answer(200, body))

    assert caught.value.code == "bad_answer"
    assert "s3cret-value" not in str(caught.value)


def test_an_error_tells_method_path_and_status_but_no_query() -> None:
    assert where(an_answer(503)) == "GET /campaign/profile -> 503"


@asynccontextmanager
async def a_server(handler: web.RequestHandler | object) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handler)  # type: ignore[arg-type]
    async with serving(app) as url:
        yield url


async def test_the_client_sends_no_cookie_back() -> None:
    cookies: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        cookies.append(request.headers.get("Cookie"))
        return web.Response(headers={"Set-Cookie": "ARRAffinity=one; path=/"})

    async with a_server(handler) as url, build_client(5, 4) as client:
        for _ in range(3):
            await client.get(url.replace("127.0.0.1", "localhost"))  # aiohttp's own jar takes none of an address

    assert cookies == [None, None, None]


async def test_the_client_follows_no_redirect() -> None:
    paths: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async with a_server(handler) as url, build_client(5, 4) as client:
        answer = await client.get(f"{url}/here", headers={"Authorization": "Bearer t"})

    assert (answer.status_code, paths) == (302, ["/here"])


async def test_a_cut_connection_is_tried_again_and_its_query_is_not_shown() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with a_server(handler) as url, build_client(5, 4) as client:
        with pytest.raises(RetryError) as caught:
            await send(client, client.build_request("GET", f"{url}/path?email=ada@example.com"))

    assert (caught.value.code, caught.value.retry_after_s) == ("network", None)
    assert "/path" in str(caught.value)
    assert "ada" not in str(caught.value)


async def test_an_answer_that_never_comes_is_tried_again() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(5)
        return web.Response()

    async with a_server(handler) as url, build_client(0.2, 4) as client:
        with pytest.raises(RetryError) as caught:
            await send(client, client.build_request("GET", url))

    assert caught.value.code == "network"
