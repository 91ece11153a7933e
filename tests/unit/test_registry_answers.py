"""The schema registry over HTTP: what it says itself, what something before it says, and an id that is news to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from bridge.kafka.avro import Decoder, load_schema
from bridge.kafka.registry import NEWS_WAIT_S, HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import BridgeError, HaltError, RejectError, RetryError
from bridge.model.events import ChangeEvent
from bridge.model.settings import load
from sandbox.web import serving
from tests.clock import FakeClock

SCHEMA = json.dumps(load_schema("ChangeEvent"))
UNKNOWN = (404, {"error_code": 40403, "message": "Schema 7 not found"})
EVENT = b"\0\0\0\0\x07" + b"x"


class Stand:
    """Answers (status, JSON, or text as it is) by turns, the last for ever."""

    def __init__(self) -> None:
        self.clock, self.answers = FakeClock(), list[tuple[int, Any]]()
        self.url = ""

    async def serve(self, _: web.Request) -> web.Response:
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.Response(status=status, text=body if isinstance(body, str) else json.dumps(body))

    def registry(self, **more: Any) -> HttpRegistry:
        return HttpRegistry(load(KafkaSettings, {"SCHEMA_REGISTRY_URL": self.url}), self.clock.monotonic, **more)

    def decoder(self) -> Decoder[ChangeEvent]:
        return Decoder(self.registry(), load_schema("ChangeEvent"), ChangeEvent)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    stand, app = Stand(), web.Application()
    app.router.add_route("*", "/{tail:.*}", stand.serve)
    async with serving(app) as stand.url:
        yield stand


async def error_of(decoder: Decoder[ChangeEvent]) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        await decoder.decode(EVENT)
    return caught.value


@pytest.mark.parametrize(
    "schema",
    [
        None,
        7,
        "",
        "no JSON",
        "[",
        "[" * 100_000,
        '{"type": "record", "name": "ChangeEvent"}',
        '{"type": "record"}',
        '{"type": "nonsense"}',
        '{"name": "ChangeEvent", "type": "record", "fields": 3}',
    ],
)
async def test_a_schema_that_is_none_is_no_answer_and_asked_for_again(stand: Stand, schema: Any) -> None:
    stand.answers, decoder = [(200, {"schema": schema}), (200, {"schema": SCHEMA})], stand.decoder()

    first, then = await error_of(decoder), await error_of(decoder)

    assert (type(first), first.code) == (RetryError, "registry_unavailable")
    assert (type(then), then.code) == (RejectError, "not_this_event")  # the schema is there now


async def test_an_id_that_a_follower_does_not_know_yet_is_waited_for(stand: Stand) -> None:
    stand.answers, decoder = [UNKNOWN] * 3 + [(200, {"schema": SCHEMA})], stand.decoder()
    found = list[tuple[type[BridgeError], str]]()
    for _ in range(4):
        error = await error_of(decoder)
        found.append((type(error), error.code))
        stand.clock.advance(NEWS_WAIT_S / 4)

    assert found == [(RetryError, "registry_unavailable")] * 3 + [(RejectError, "not_this_event")]


async def test_an_id_that_stays_unknown_is_the_records_fault_a_minute_later(stand: Stand) -> None:
    """Each id has a minute of its own, from its first record on; later ones do not wait again."""
    stand.answers, decoder = [UNKNOWN], stand.decoder()
    first = await error_of(decoder)
    stand.clock.advance(NEWS_WAIT_S - 1)
    almost = await error_of(decoder)
    stand.clock.advance(1)
    last, later = await error_of(decoder), await error_of(decoder)
    with pytest.raises(RetryError):
        await decoder.decode(b"\0\0\0\0\x08" + b"x")

    assert [each.code for each in (first, almost, last, later)] == ["registry_unavailable"] * 2 + ["unknown_schema"] * 2
    assert isinstance(first, RetryError) and first.attempts is not None, "others pass meanwhile"


async def test_who_only_shows_events_does_not_wait_for_news(stand: Stand) -> None:
    stand.answers = [UNKNOWN]

    error = await error_of(Decoder(stand.registry(patience_s=0), load_schema("ChangeEvent"), ChangeEvent))

    assert error.code == "unknown_schema"


@pytest.mark.parametrize(
    "body", ["404 page not found\n", "<html>Not Found</html>", "", "[]", "40403", {"error_code": 404}, {"detail": "Not Found"}, {}]
)
async def test_a_404_that_the_registry_did_not_say_is_no_answer(stand: Stand, body: Any) -> None:
    """However long it lasts: good records became dead letters."""
    stand.answers, decoder = [(404, body)], stand.decoder()
    for _ in range(3):
        error = await error_of(decoder)
        stand.clock.advance(10 * NEWS_WAIT_S)

        assert (type(error), error.code) == (RetryError, "registry_unavailable")


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (401, "", HaltError, "registry_refused"),
        (401, {"error_code": 401}, HaltError, "registry_refused"),
        (403, {"error_code": 403}, HaltError, "registry_refused"),
        (409, {"error_code": 409}, HaltError, "schema_incompatible"),
        (422, {"error_code": 42201}, HaltError, "schema_incompatible"),
        *((status, "<html>proxy</html>", RetryError, "registry_unavailable") for status in (302, 401, 403, 404, 407, 409, 413, 422, 502)),
        *((200, {"id": number}, RetryError, "registry_unavailable") for number in (None, "7", 7.5, True, -1, 2**32, [7])),
    ],
)
async def test_what_it_says_to_a_schema_of_ours(stand: Stand, status: int, body: Any, kind: type[BridgeError], code: str) -> None:
    stand.answers = [(status, body)]

    error = await asked(lambda: stand.registry().register("contact-value", load_schema("ChangeEvent")))

    assert (type(error), getattr(error, "code", "")) == (kind, code)


async def asked(call: Callable[[], Any]) -> BaseException | None:
    return (await asyncio.gather(asyncio.to_thread(call), return_exceptions=True))[0]
