"""Both sandbox systems without a memory, as processes: `python -m benchmarks.lean dynamics --rows 1000000`, `… campaign --sftp FOLDER`.

Metadata, tokens, answers and their counting are the sandboxes' own. What differs: Dynamics makes the rows of one table up as a page is
asked for and keeps no activities but their ids; Campaign keeps the keys of what was created and nothing else. So a million records fit,
and what is measured beside them is the product. One line of JSON on stdout says where it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

from aiohttp import web

from sandbox.campaign import CampaignSandbox
from sandbox.campaign.errors import AcsError, GatewayError
from sandbox.dynamics import DynamicsSandbox
from sandbox.dynamics.data import contact
from sandbox.dynamics.rows import context, link, page_size, renderer
from sandbox.dynamics.service import Service
from sandbox.dynamics.tables import OTHER_USER, Column, Table, date, number, text, yes_no
from sandbox.dynamics.wire import Answer, Call, ODataError
from sandbox.web import serving

ASSET, ASSETS = "new_asset", "cusAsset"
TEXTS, INTEGERS, DECIMALS, FLAGS, DATES = 29, 8, 4, 4, 4  # with new_name: fifty columns
VERSION = 1_000_000
MIXED = 7919  # prime: versions in another order than pages, as rows that were changed over years have
EMPTY = 0.15  # of a custom entity's fields
WORDS = (
    "amber birch cedar delta ember fjord grove haven inlet jetty knoll ledge marsh north ocean prairie quarry ridge shore tundra".split()
)


def asset_columns() -> dict[str, str]:
    """Column of the custom entity → its Campaign field."""
    kinds = {"text": TEXTS, "int": INTEGERS, "decimal": DECIMALS, "flag": FLAGS, "date": DATES}
    numbered = [f"{kind}{n}" for kind, many in kinds.items() for n in range(many)]
    return {"new_name": "cusName"} | {f"new_{name}": f"cus{name.capitalize()}" for name in numbered}


def _definitions() -> list[Column]:
    def names(kind: str, many: int) -> str:
        return ",".join(f"new_{kind}{n}" for n in range(many))

    return [
        *text(100, names("text", TEXTS)),
        *number("Integer", names("int", INTEGERS), 0, 1_000_000_000),
        *number("Decimal", names("decimal", DECIMALS), 0, 100_000, 2),
        *yes_no(names("flag", FLAGS)),
        *date(names("date", DATES), "UserLocal"),
    ]


def asset(rng: Random) -> dict[str, Any]:
    values: dict[str, Any] = {f"new_text{n}": f"{rng.choice(WORDS)} {rng.choice(WORDS)} {rng.randint(1, 9999)}" for n in range(TEXTS)}
    values |= {f"new_int{n}": rng.randint(0, 1_000_000) for n in range(INTEGERS)}
    values |= {f"new_decimal{n}": rng.randint(0, 10_000_000) / 100 for n in range(DECIMALS)}
    values |= {f"new_date{n}": f"20{rng.randint(10, 25)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}T08:30:00Z" for n in range(DATES)}
    values = {name: None if rng.random() < EMPTY else value for name, value in values.items()}
    return (
        values | {f"new_flag{n}": rng.random() < 0.5 for n in range(FLAGS)} | {"new_name": f"{rng.choice(WORDS)} {rng.randint(1, 99999)}"}
    )


def asset_tables(number: int) -> dict[str, str]:
    """Custom entity → its Campaign resource; the first are `ASSET` and `ASSETS`."""
    return {f"{ASSET}{n or ''}": f"{ASSETS}{n or ''}" for n in range(number)}


def key(index: int) -> str:
    """Of a row: a GUID that tells nothing of its place, which is the hardest case for a B-tree."""
    return str(UUID(bytes=blake2b(index.to_bytes(8), digest_size=16).digest(), version=4))


class Numbered(Service):
    """The rows of `tables` by number, of each the same. The first `touched` ones have changed since tokens of an earlier `generation`."""

    def __init__(self, sandbox: DynamicsSandbox, tables: Collection[str], rows: int) -> None:
        super().__init__(sandbox.store, sandbox.service._unknown, sandbox.service.struck)
        self.tables, self.rows, self.touched, self.generation = tables, rows, 0, 0
        self.activities: set[str] = set()
        sandbox.settings.total_count_lag = -rows  # RetrieveTotalRecordCount counts the stored ones, which are none

    def _collection(self, call: Call, table: Table, rest: str) -> Answer:
        if call.method == "GET" and not rest and table.name in self.tables:
            return self._page(call, table)
        if call.method == "POST" and not rest and table.activity:
            return self._activity(call, table)
        return super()._collection(call, table, rest)

    def _page(self, call: Call, table: Table) -> Answer:
        """A full read, tracked or not, or what has changed since a token."""
        start, size = int(call.query.get("$skiptoken", 0)), page_size(self.store, call)
        since = call.query.get("$deltatoken")
        end = self.rows if since is None else self.touched * (int(since) < self.generation)
        answer: dict[str, Any] = {"@odata.context": context(call, table)}
        options = {name: quote(value, safe=",") for name, value in call.query.items() if name != "$skiptoken"}
        if start + size < end:
            answer["@odata.nextLink"] = link(call, table, options | {"$skiptoken": str(start + size)})
        elif "odata.track-changes" in call.prefer:
            answer["@odata.deltaLink"] = link(call, table, options | {"$deltatoken": str(self.generation)})
        render, plain = renderer(self.store, call, table), {column.name: column.default for column in table.columns.values()}
        only_keys = set(call.query.get("$select", "").split(",")) <= {table.key, "versionnumber"}
        rows = (self._made(index, table, only_keys) for index in range(start, min(start + size, end)))
        answer["value"] = [render(plain | row) for row in rows]
        return Answer(200, answer, call.applied("odata.track-changes", "odata.maxpagesize"))

    def _made(self, index: int, table: Table, only_key: bool) -> dict[str, Any]:
        new = self.generation if index < self.touched else 0
        version = VERSION + index * MIXED % self.rows if new == 0 else VERSION + new * self.rows + index
        row: dict[str, Any] = {table.key: key(index), "versionnumber": version}
        if only_key:
            return row
        stamp = {"modifiedon": "2026-03-01T12:00:00Z", "modifiedby": OTHER_USER}
        contacts = table.name == "contact"
        changed = {"address1_city" if contacts else table.primary_name: f"Changed {new}"} if new else {}
        return row | stamp | (contact if contacts else asset)(Random(index)) | changed

    def _activity(self, call: Call, table: Table) -> Answer:
        """Created, or there already; nothing but the id is looked at."""
        number = str(call.json(table.set_name)[table.key])
        if number in self.activities:
            raise ODataError(412, "0x80040237", "A record with matching key values already exists.")
        self.activities.add(number)
        url = f"{call.root}{table.set_name}({number})"
        return Answer(204, headers={"OData-EntityId": url}, entity=url)

    def admin(self, request: web.Request) -> dict[str, int]:
        """`?touch=n` changes the first n rows."""
        if n := int(request.query.get("touch", 0)):
            self.touched, self.generation = n, self.generation + 1
        return {"activities": len(self.activities), "touched": self.touched}


class KeysOnly(CampaignSandbox):
    """POST, PATCH and DELETE by key are answered as contract/campaign.md §4 says; no field is looked at."""

    def __init__(self, assets: int) -> None:
        super().__init__()
        for name in asset_tables(assets).values():
            self.add_resource(name, key="cusAssetId", fields=[{"name": "cusAssetId"}, *map(_field, asset_columns().values())])
        self.publish()
        self.engine.publishing_until = 0.0
        self.keys: dict[str, set[str]] = {name: set() for name in self.database.tables}

    async def _campaign(self, request: web.Request) -> web.StreamResponse:
        rest = request.match_info["tail"].partition("/")[2]
        name, _, wanted = rest.partition("/")
        if request.method == "GET" or name not in self.keys:
            return await super()._campaign(request)
        try:
            self.gateway.check(request, request.match_info["organization"])
            body = json.loads(await request.read()) if request.method != "DELETE" else {}
            return self._written(request, name, unquote(wanted), body)
        except GatewayError as error:
            return web.json_response(error.body, status=error.status, headers=error.headers)
        except AcsError as error:
            return self._text(error)

    def _written(self, request: web.Request, name: str, wanted: str, body: Mapping[str, Any]) -> web.Response:
        keys, pkey = self.keys[name], "@" + "k" * 90
        resource = self.database.tables[name].resource
        if request.method == "POST":
            wanted = str(body[resource.key])
            if wanted in keys:
                return web.Response(status=500, text="RST-360011 duplicate key")
            keys.add(wanted)
            return web.json_response({"PKey": pkey, **body, "href": f"{request.url}/{pkey}"}, status=201)
        if wanted not in keys:
            return web.Response(status=404, text=f"RST-360011 Unable to find document '{name}'")
        if request.method == "DELETE":
            keys.discard(wanted)
            return web.Response(status=204)
        return web.json_response({"PKey": pkey, "href": f"{request.url}/{pkey}"})


def _field(name: str) -> dict[str, str]:
    kinds = {"cusInt": "long", "cusDecimal": "float", "cusFlag": "boolean", "cusDate": "datetime"}
    return {"name": name, "type": next((kind for start, kind in kinds.items() if name.startswith(start)), "string")}


def dynamics(tables: Collection[str], rows: int) -> web.Application:
    sandbox = DynamicsSandbox()
    for name in set(tables) - {"contact"}:
        sandbox.add_table(name)
        for column in _definitions():
            sandbox.add_column(name, column)
    numbered = sandbox.service = Numbered(sandbox, tables, rows)
    app = sandbox.app()

    async def admin(request: web.Request) -> web.Response:
        return web.json_response(numbered.admin(request))

    app.router.add_post("/_admin/numbered", admin)
    return app


async def serve(which: str, assets: int, rows: int, sftp: Path | None) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with AsyncExitStack() as stack:
        if which == "dynamics":
            told = {"url": await stack.enter_async_context(serving(dynamics(list(asset_tables(assets)) or ["contact"], rows)))}
        else:
            campaign = KeysOnly(assets)
            campaign.settings.change({"journal_retry_after_s": 0.2, "journal_page": 1000})
            told = {"url": await stack.enter_async_context(serving(campaign.app())), "journal": campaign.journal_path}
            if sftp is not None:
                access = await stack.enter_async_context(campaign.sftp_serving(sftp, port=0, exports=True))
                told |= access.environment()
        print(json.dumps(told), flush=True)
        await ended.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lean", description=__doc__)
    parser.add_argument("which", choices=["dynamics", "campaign"])
    parser.add_argument("--assets", type=int, default=0, help="so many custom entities; without: contacts")
    parser.add_argument("--rows", type=int, default=0, help="of each table")
    parser.add_argument("--sftp", type=Path)
    options = parser.parse_args()
    asyncio.run(serve(options.which, options.assets, options.rows, options.sftp))
    return 0


if __name__ == "__main__":
    sys.exit(main())
