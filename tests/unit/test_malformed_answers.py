"""Answers that are none, of a broken server or of something before it, to every question we ask: they are waited out, whatever they are.

Each ended a run once, was taken for a refusal of the record or of the link, or for a record that is not there."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.campaign.catalogue import list_resources
from bridge.campaign.client import CampaignClient
from bridge.campaign.journal import JournalClient
from bridge.campaign.metadata import read_resource
from bridge.campaign.settings import CampaignSettings, JournalSettings
from bridge.dynamics.activities import WantedTable, read_activities
from bridge.dynamics.batch import Request
from bridge.dynamics.catalogue import list_columns, list_tables
from bridge.dynamics.changes import TrackedTable
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.identity import WhoAmI
from bridge.dynamics.metadata import Column, Table, read_table
from bridge.dynamics.secured import accesses
from bridge.dynamics.settings import DynamicsSettings
from bridge.http.transport import LARGEST_ANSWER, build_client, send
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.model.config import EgressConfig, OptinConfig, default_ingress
from bridge.model.errors import RetryError
from bridge.model.settings import load
from services.control.systems.connection_tests import Checks
from services.control.systems.connections import Systems
from tests.clock import FakeClock
from tests.raw import RawServer, http, raw_server

CANARY = "ada@example.com"
PAGE = f"<!DOCTYPE html><title>{CANARY}</title>".encode()
JSON = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
TABLE = Table("contact", "contacts", "contactid", {"lastname": Column("lastname", "String")}, True)
PROFILES = "profileAndServicesExt/profile"
PROXIES = (*range(400, 418), 421, 422, 423, 426, 428, 431, 451, 499, 500, 501, 502, 504, 520)

BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "no status line": f"{CANARY}\r\n\r\n".encode(),
    "half a status line": b"HTTP/1.1 2",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "a status of five digits": b"HTTP/1.1 20000 OK\r\n\r\n{}",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "half a head": JSON.encode(),
    "a header above 8 kB": f"{JSON}X-Long: {'x' * 9000}\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
    "a header without a name": f"{JSON}: {CANARY}\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
    "a header with NUL": f"{JSON}X-Any: a\0b\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
    "a line that is no header": f"{JSON}{CANARY}\r\nContent-Length: 2\r\n\r\n{{}}".encode(),
    "two lengths": f"{JSON}Content-Length: 2\r\nContent-Length: 40\r\n\r\n{{}}".encode(),
    "a length that is no number": f"{JSON}Content-Length: many\r\n\r\n{{}}".encode(),
    "a negative length": f"{JSON}Content-Length: -2\r\n\r\n{{}}".encode(),
    "a body cut short": f"{JSON}Content-Length: 40\r\n\r\n{{}}".encode(),
    "a chunk size of letters": f"{JSON}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n".encode(),
    "a chunk cut short": f"{JSON}Transfer-Encoding: chunked\r\n\r\nff\r\n{{}}".encode(),
    "no last chunk": f"{JSON}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n".encode(),
    "no gzip": f'{JSON}Content-Encoding: gzip\r\n\r\n{{"value":[]}}'.encode(),
    "half a gzip": http(200, gzip.compress(b'{"value": [], "a": "bcdefghij"}')[:-20], headers={"Content-Encoding": "gzip"}),
    "no deflate": http(200, b'{"value":[]}', headers={"Content-Encoding": "deflate"}),
    "broken in the middle of deflate": http(200, zlib.compress(b"{}" * 99)[:9] + b"\xff" * 9, headers={"Content-Encoding": "deflate"}),
    "br, for which nobody asked": http(200, b"\x0b\x02\x80{}\x03", headers={"Content-Encoding": "br"}),
    "text that is not UTF-8": http(200, b'{"value": "\xff\xfe"}'),
    "half of the JSON": http(200, b'{"value": [{"name": "' + CANARY.encode()),
    "deep nesting": http(200, b'{"value":' * 100_000),
    "NaN": http(200, b'{"value": NaN}'),
    "Infinity": http(200, b'{"value": [-Infinity]}'),
    "a number beyond all bounds": http(200, b'{"value": 1e999999999999999999999}'),
    "a number of a gigabyte": http(200, b'{"value": 1.5e999999999}'),
    "an integer of 5,000 digits": http(200, b'{"value": ' + b"9" * 5000 + b"}"),
    "a page": http(200, PAGE, "text/html"),
    "a page behind a byte order mark": http(200, b"\xef\xbb\xbf\r\n " + PAGE, "text/html"),
    "a page called JSON": http(200, PAGE),
    "a text": http(200, CANARY.encode(), "text/plain"),
    **{f"JSON {body}": http(200, body.encode()) for body in ("[]", "[{}]", "null", "3", "true", '"text"')},
    "no body": http(200),
    "blanks": http(200, b" \r\n"),
    "206": http(206, b'{"value": []}'),
    "304": b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n",
    **{f"a redirect {status}": http(status, PAGE, headers={"Location": "/sign-in"}) for status in (300, 301, 302, 303, 307, 308)},
    "a redirect to nowhere": http(302, headers={"Location": "http://[::1"}),
    **{f"a proxy's {status}": http(status, PAGE, "text/html") for status in PROXIES},
    "404 of a Go server": http(404, b"404 page not found\n", "text/plain"),
    "a bare 413": http(413),
    "a text that names no charset": http(404, b"nothing here", "text/plain; charset=hex"),
}
NO_CONTENT = http(204)
NO_OBJECT = {"JSON {}": http(200, b"{}"), "another object": http(200, b'{"error": {}, "status": 200}')}
NO_LIST: dict[str, bytes] = {
    f"value {value}": http(200, f'{{"value": {value}, "id": {value}, "content": {value}, "events": {value}}}'.encode())
    for value in ("null", "3", '"text"', '{"a": 1}', "[3]", "[null]", '[["a"]]')
}
Ask = Callable[[], Awaitable[Any]]


class Everything:
    """Every question that is asked over HTTP, of a server at `url`."""

    def __init__(self, url: str) -> None:
        environment = {
            "DYNAMICS_URL": url,
            "DYNAMICS_TENANT_ID": "tenant",
            "DYNAMICS_CLIENT_ID": "app",
            "DYNAMICS_CLIENT_SECRET": "s",
            "DYNAMICS_TOKEN_URL": f"{url}/token",
            "CAMPAIGN_URL": f"{url}/instance",
            "CAMPAIGN_CLIENT_ID": "key",
            "CAMPAIGN_CLIENT_SECRET": "s",
            "CAMPAIGN_ORG_ID": "1@AdobeOrg",
            "CAMPAIGN_TOKEN_URL": f"{url}/token",
            "CAMPAIGN_JOURNAL_URL": f"{url}/journal",
            "SCHEMA_REGISTRY_URL": url,
        }
        clock = FakeClock()
        dynamics, campaign = load(DynamicsSettings, environment), load(CampaignSettings, environment)
        self.dynamics, self.campaign = DynamicsClient(dynamics, clock), CampaignClient(campaign, clock)
        self.journal = JournalClient(load(JournalSettings, environment), campaign, clock)
        self.systems = Systems(dynamics, campaign, clock)
        registry, tracked = HttpRegistry(load(KafkaSettings, environment)), TrackedTable(self.dynamics, TABLE, 10)
        activity = WantedTable("DYNAMICS_SEND", "new_send", {}, {})
        operations = [[Request("POST", "/api/data/v9.2/new_sends", {})]]
        self.asks: dict[str, Ask] = {
            "campaign create": lambda: self.campaign.create(PROFILES, {"externalId": "c-1"}),
            "campaign update": lambda: self.campaign.update(PROFILES, "c-1", {"firstName": "A"}),
            "campaign delete": lambda: self.campaign.delete(PROFILES, "c-1"),
            "campaign read": lambda: self.campaign.read(PROFILES, "c-1"),
            "campaign first": lambda: self.campaign.first(PROFILES),
            "campaign resource": lambda: read_resource(self.campaign, "profile"),
            "campaign resources": lambda: list_resources(self.campaign),
            "journal": lambda: self.journal.page(self.journal.first("oldest")),
            "dynamics first page": lambda: tracked.page(None),
            "dynamics next page": lambda: tracked.page("contacts?$skiptoken=1"),
            "dynamics delta": lambda: tracked.page("contacts?$deltatoken=1"),
            "dynamics keys": lambda: tracked.keys(None),
            "dynamics rows": lambda: tracked.rows(None),
            "dynamics row": lambda: tracked.row("c-1"),
            "dynamics patch": lambda: self.dynamics.patch("contacts(c-1)", {"donotemail": True}, "*"),
            "dynamics batch": lambda: self.dynamics.batch(lambda: operations),
            "dynamics who am I": lambda: WhoAmI(self.dynamics, clock).ask(),
            "dynamics table": lambda: read_table(self.dynamics, "contact", ["lastname"]),
            "dynamics tables": lambda: list_tables(self.dynamics),
            "dynamics columns": lambda: list_columns(self.dynamics, "contact"),
            "dynamics activities": lambda: read_activities(self.dynamics, [activity], True),
            "dynamics secured": lambda: accesses(self.dynamics, "contact", {"emailaddress1": "1"}),
            "registry register": lambda: asyncio.to_thread(registry.register, "contact-value", {"type": "string"}),
            "registry schema": lambda: asyncio.to_thread(registry.schema, 7),
            "dynamics token": lambda: self.dynamics.authenticate(again=True),
            "campaign token": lambda: self.campaign.authenticate(again=True),
        }

    async def close(self) -> None:
        for client in (self.dynamics, self.campaign, self.journal, self.systems):
            await client.close()


@asynccontextmanager
async def everything() -> AsyncIterator[tuple[RawServer, Everything]]:
    async with raw_server() as (server, url):
        asked = Everything(url)
        try:
            yield server, asked
        finally:
            await asked.close()


ASKS = list(Everything("http://127.0.0.1:9").asks)


def due(ask: str) -> dict[str, bytes]:
    """The answers that are none to this question: a delete needs no body, a delta without changes has none, a journal's end neither."""
    without_body = {"no body", "blanks"} if ask in ("campaign delete", "dynamics delta") else set()
    more = {} if ask in ("campaign delete", "campaign update", "dynamics delta", "dynamics patch", "journal") else {"204": NO_CONTENT}
    if ask.split()[-1] not in ("create", "update", "delete", "patch", "delta", "resources"):
        more |= NO_OBJECT
    if ask.split()[-1] not in ("create", "update", "delete", "patch", "resources"):
        more |= NO_LIST
    good = {"value 3"} if ask == "registry register" else without_body
    return {name: answer for name, answer in (BROKEN | more).items() if name not in good}


@pytest.mark.parametrize("ask", ASKS)
async def test_an_answer_that_is_none_is_waited_out_and_not_shown(ask: str) -> None:
    wrong = dict[str, str]()
    async with everything() as (server, asked):
        server.tokens = not ask.endswith("token")
        for name, server.answer in due(ask).items():
            try:
                wrong[name] = f"was taken for an answer: {await asked.asks[ask]()!r}"
            except RetryError as exc:
                if CANARY in str(exc) or exc.code not in CODES or ("ServerDisconnected" in str(exc) and name not in GONE):
                    wrong[name] = f"{exc.code}: {exc}"
            except Exception as exc:
                wrong[name] = repr(exc)

    assert wrong == {}


GONE = {"nothing", "half a status line", "half a head"}
CODES = {"bad_answer", "network", "token_endpoint", "registry_unavailable", "source_busy", "target_busy"}


@pytest.mark.parametrize("system", ["dynamics", "campaign"])
async def test_the_test_of_a_system_tells_of_answers_that_are_none(system: Any) -> None:
    async with everything() as (server, asked):
        for server.answer in (BROKEN | NO_OBJECT | {"204": NO_CONTENT}).values():
            done = await Checks(asked.systems, default_ingress(), EgressConfig(), OptinConfig()).run(system)

            assert not done.ok
            assert CANARY not in done.model_dump_json()


async def test_an_answer_that_unpacks_beyond_all_bounds_is_given_up() -> None:
    """A few hundred kilobytes on the wire."""
    packer, head = zlib.compressobj(wbits=31), f"{JSON}Content-Encoding: gzip\r\n\r\n".encode()
    packed = b"".join(packer.compress(b" " * 1024**2) for _ in range(LARGEST_ANSWER // 1024**2 + 1)) + packer.flush()
    async with raw_server() as (server, url), build_client(30, 1) as client:
        server.answer, registry = head + packed, HttpRegistry(load(KafkaSettings, {"SCHEMA_REGISTRY_URL": url}))
        with pytest.raises(RetryError) as ours:
            await send(client, client.build_request("GET", url))
        with pytest.raises(RetryError) as theirs:
            await asyncio.to_thread(registry.schema, 1)

    assert ("MB" in str(ours.value), ours.value.code) == (True, "bad_answer")
    assert ("MB" in str(theirs.value), theirs.value.code) == (True, "registry_unavailable")


async def test_a_good_answer_passes_after_all_of_them() -> None:
    row = {"@odata.etag": 'W/"7"', "contactid": "c-1", "lastname": "x", "modifiedon": "2026-05-01T12:00:00Z"}
    async with everything() as (server, asked):
        server.answer = http(200, json.dumps({**row, "value": [row], "@odata.deltaLink": "contacts?$deltatoken=2"}).encode())

        page = await TrackedTable(asked.dynamics, TABLE, 10).page("contacts?$deltatoken=1")

        assert ([*page.rows], page.delta_link) == ([row], "contacts?$deltatoken=2")


@pytest.mark.parametrize(("value", "seconds"), [("0", 1), ("-3", 1), ("nan", 1), ("\xb2", 1), ("", 1), ("999999", 1), ("7", 7)])
async def test_a_wait_of_nothing_for_one_operation_of_a_batch_is_a_second_all_the_same(value: str, seconds: float) -> None:
    part = f"Content-Type: application/http\r\n\r\nHTTP/1.1 429 Too Many Requests\r\nRetry-After: {value}\r\n\r\n"
    async with everything() as (server, asked):
        server.answer = http(200, f"--b\r\n{part}\r\n--b--\r\n".encode("latin-1"), "multipart/mixed; boundary=b")

        await asked.asks["dynamics batch"]()

        assert asked.dynamics._gate.wait_left_s == seconds
