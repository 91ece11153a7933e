"""`/_admin/`: what a Campaign user or operator would do, over HTTP. The same as the methods of CampaignInstance."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from sandbox.campaign.errors import AcsError
from sandbox.campaign.instance import CampaignInstance
from sandbox.campaign.sftp import SftpFault

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def admin_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Wrong admin requests are a 400 with `{"error"}`."""
    if not request.path.startswith("/_admin/"):
        return await handler(request)
    try:
        return await handler(request)
    except (AcsError, KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
        return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)


def _row_routes(sandbox: CampaignInstance) -> list[web.RouteDef]:
    async def listed(request: web.Request) -> web.Response:
        return web.json_response({"rows": sandbox.rows(request.match_info["r"])})

    async def added(request: web.Request) -> web.Response:
        rows = (await request.json())["rows"]
        for row in rows:
            sandbox.put(request.match_info["r"], row)
        return web.json_response({"rows": len(rows)}, status=201)

    async def changed(request: web.Request) -> web.Response:
        resource, key = request.match_info["r"], request.match_info["key"]
        if sandbox.get(resource, key) is None:
            return web.json_response({"error": "no such row"}, status=404)
        key_name = sandbox.database.tables[resource].resource.key
        return web.json_response(sandbox.put(resource, {**await request.json(), key_name: key}))

    async def removed(request: web.Request) -> web.Response:
        return web.Response(status=204 if sandbox.remove(request.match_info["r"], request.match_info["key"]) else 404)

    async def writes(request: web.Request) -> web.Response:
        return web.json_response({"writes": sandbox.writes(request.query.get("resource"), request.query.get("key"))})

    return [
        web.get("/_admin/resources/{r}/rows", listed),
        web.post("/_admin/resources/{r}/rows", added),
        web.patch("/_admin/resources/{r}/rows/{key:.+}", changed),
        web.delete("/_admin/resources/{r}/rows/{key:.+}", removed),
        web.get("/_admin/writes", writes),
    ]


def _settings_routes(sandbox: CampaignInstance) -> list[web.RouteDef]:
    async def read(_: web.Request) -> web.Response:
        return web.json_response(vars(sandbox.settings))

    async def changed(request: web.Request) -> web.Response:
        sandbox.settings.change(await request.json())
        return web.json_response(vars(sandbox.settings))

    async def counts(_: web.Request) -> web.Response:
        return web.json_response(sandbox.counts())

    return [
        web.get("/_admin/settings", read),
        web.patch("/_admin/settings", changed),
        web.get("/_admin/counts", counts),
    ]


def _operation(path: str, operation: Callable[[dict[str, Any]], object]) -> web.RouteDef:
    """A POST that runs `operation` with the JSON body, {} for none, and answers 200 `{"ok": true}`."""

    async def handler(request: web.Request) -> web.Response:
        raw = await request.read()
        operation(json.loads(raw) if raw else {})
        return web.json_response({"ok": True})

    return web.post(path, handler)


def _question(path: str, run: Callable[[dict[str, Any]], Any]) -> web.RouteDef:
    """The same, but it answers what `run` gives."""

    async def handler(request: web.Request) -> web.Response:
        raw = await request.read()
        return web.json_response(run(json.loads(raw) if raw else {}))

    return web.post(path, handler)


def _journal_routes(sandbox: CampaignInstance) -> list[web.RouteDef]:
    async def listed(_: web.Request) -> web.Response:
        return web.json_response({"events": sandbox.journal()})

    return [
        web.get("/_admin/journal", listed),
        _question("/_admin/journal/emit", lambda body: {"ids": sandbox.emit(body["events"])}),
        _question("/_admin/journal/append", lambda body: {"positions": sandbox.append(body["events"])}),
        _question("/_admin/journal/redeliver", lambda body: {"events": sandbox.redeliver(**body)}),
        _question("/_admin/journal/expire", lambda body: {"expired": sandbox.expire(**body)}),
        _question("/_admin/journal/traffic", lambda body: sandbox.traffic(**body)),
    ]


def _export_routes(sandbox: CampaignInstance) -> list[web.RouteDef]:
    exports, sftp = sandbox.exports, sandbox.sftp

    async def state(_: web.Request) -> web.Response:
        return web.json_response(exports.state())

    async def faults(_: web.Request) -> web.Response:
        return web.json_response({"faults": [vars(fault) for fault in sftp.faults]})

    async def healed(_: web.Request) -> web.Response:
        sftp.faults.clear()
        return web.Response(status=204)

    def file(name: str, content_base64: str, partial: bool = False) -> None:
        exports.write(name, base64.b64decode(content_base64, validate=True), partial)

    return [
        web.get("/_admin/exports", state),
        _question("/_admin/exports/run", lambda body: exports.run(**body)),
        _operation("/_admin/exports/start", lambda body: exports.start(**body)),
        _operation("/_admin/exports/stop", lambda _: exports.stop()),
        _operation("/_admin/exports/file", lambda body: file(**body)),
        _question("/_admin/exports/complete", lambda body: {"names": exports.complete(**body)}),
        web.get("/_admin/sftp/faults", faults),
        _operation("/_admin/sftp/faults", lambda body: sftp.faults.append(SftpFault(**body))),
        web.delete("/_admin/sftp/faults", healed),
        _operation("/_admin/sftp/empty", lambda body: sftp.empty(**body)),
        _question("/_admin/opt-out", lambda body: sandbox.opt_out(**body)),
    ]


def admin_routes(sandbox: CampaignInstance) -> list[web.RouteDef]:
    return [
        *_row_routes(sandbox),
        *_settings_routes(sandbox),
        *_journal_routes(sandbox),
        *_export_routes(sandbox),
        _operation("/_admin/fields", lambda body: sandbox.add_field(**body)),
        _operation("/_admin/resources", lambda body: sandbox.add_resource(**body)),
        _operation("/_admin/publish", lambda _: sandbox.publish()),
        _operation("/_admin/revoke-tokens", lambda _: sandbox.revoke_tokens()),
        _operation("/_admin/new-session", lambda _: sandbox.new_session()),
        _operation("/_admin/clock", lambda body: sandbox.advance(float(body["advance_s"]))),
        _operation("/_admin/reset", lambda _: sandbox.reset()),
    ]
