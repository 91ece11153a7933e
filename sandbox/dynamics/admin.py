"""The admin interface, JSON under `/_admin/`: the methods of `DynamicsEnvironment` for other processes, never counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields
from typing import Any

from aiohttp import web

from sandbox.dynamics.environment import DynamicsEnvironment
from sandbox.dynamics.permissions import Permission
from sandbox.dynamics.tables import TYPES, Column
from sandbox.dynamics.wire import ODataError

Body = dict[str, Any]
Work = Callable[[web.Request, Body], Any]


def _handler(work: Work) -> Callable[[web.Request], Awaitable[web.Response]]:
    """JSON in, JSON out; what `work` raises becomes 400 or 404 with `{"error": ..}`."""

    async def handle(request: web.Request) -> web.Response:
        try:
            body = await request.json() if request.body_exists else {}
            return web.json_response(work(request, body))
        except ODataError as error:
            return web.json_response({"error": error.message, "code": error.code}, status=error.status)
        except KeyError as error:
            return web.json_response({"error": f"unknown or missing: {error}"}, status=404)
        except (TypeError, ValueError, AttributeError) as error:
            return web.json_response({"error": str(error)}, status=400)

    return handle


def routes(sandbox: DynamicsEnvironment) -> list[web.RouteDef]:
    """All admin routes but those of `sandbox.web`."""

    def settings(_: web.Request, body: Body) -> Body:
        sandbox.settings.change(body)
        return asdict(sandbox.settings)

    def counts(_: web.Request, __: Body) -> Body:
        rows = {name: len(data.rows) for name, data in sandbox.store.data.items()}
        return {**sandbox.ledger.summary(), "rows": rows, "requests_inside_retry_after": sandbox.limits.came_early}

    def clock(_: web.Request, body: Body) -> Body:
        sandbox.advance(float(body["advance_s"]))
        return {"now": sandbox.store.now_text()}

    def backup(_: web.Request, body: Body) -> Body:
        sandbox.backups[body.get("name", "")] = sandbox.backup()
        return {"version": sandbox.store.version}

    def restore(_: web.Request, body: Body) -> Body:
        sandbox.restore(sandbox.backups[body.get("name", "")])
        return {"version": sandbox.store.version}

    return [
        *_row_routes(sandbox),
        *_model_routes(sandbox),
        web.post("/_admin/backup", _handler(backup)),
        web.post("/_admin/restore", _handler(restore)),
        web.get("/_admin/settings", _handler(lambda _, __: asdict(sandbox.settings))),
        web.patch("/_admin/settings", _handler(settings)),
        web.post("/_admin/expire-tokens", _handler(lambda _, __: sandbox.expire_tokens())),
        web.post("/_admin/revoke-tokens", _handler(lambda _, __: sandbox.tokens.revoke())),
        web.post("/_admin/clock", _handler(clock)),
        web.get("/_admin/counts", _handler(counts)),
        web.post("/_admin/reset", _handler(lambda _, __: sandbox.reset())),
    ]


def _model_routes(sandbox: DynamicsEnvironment) -> list[web.RouteDef]:
    """Tables, columns, options, and who may read them."""

    def columns(_: web.Request, body: Body) -> Body:
        if "add" in body:
            sandbox.add_column(body["table"], _column(body["add"]))
        elif "option" in body:
            sandbox.add_option(body["table"], body["column"], int(body["option"]), body["label"])
        elif "rename" in body:
            sandbox.rename_column(body["table"], body["rename"], body["to"])
        else:
            sandbox.remove_column(body["table"], body["remove"])
        return {"columns": list(sandbox.store.tables[body["table"]].columns)}

    def tables(_: web.Request, body: Body) -> Body:
        if "rename" in body:
            sandbox.rename_table(body["rename"], body["to"], body.get("set_name", ""))
        elif "add" in body:
            sandbox.add_table(body["add"])
        else:
            sandbox.remove_table(body["remove"])
        return {"tables": list(sandbox.store.tables)}

    def secured(_: web.Request, body: Body) -> None:
        sandbox.secure(body["table"], body["column"], Permission(**body["permission"]) if body.get("permission") is not None else None)

    return [
        web.post("/_admin/tables", _handler(tables)),
        web.post("/_admin/columns", _handler(columns)),
        web.post("/_admin/secured", _handler(secured)),
    ]


def _row_routes(sandbox: DynamicsEnvironment) -> list[web.RouteDef]:
    def listed(request: web.Request, _: Body) -> Body:
        return {"rows": sandbox.rows(request.match_info["table"])}

    def upserted(request: web.Request, body: Body) -> Body:
        with sandbox.store.transaction():
            table, modifiedon = request.match_info["table"], body.get("modifiedon", "")
            return {"ids": [sandbox.upsert(table, row, modifiedon) for row in body["rows"]]}

    def patched(request: web.Request, body: Body) -> Body:
        table, key = request.match_info["table"], request.match_info["id"].lower()
        if key not in sandbox.store.data[table].rows:
            raise KeyError(key)
        return {"id": sandbox.upsert(table, {**body, sandbox.store.tables[table].key: key})}

    def deleted(request: web.Request, _: Body) -> None:
        sandbox.delete(request.match_info["table"], request.match_info["id"].lower())

    def writes(request: web.Request, _: Body) -> Body:
        return {"writes": sandbox.writes(request.query.get("table", ""), request.query.get("key", ""))}

    rows = "/_admin/tables/{table}/rows"
    return [
        web.get(rows, _handler(listed)),
        web.post(rows, _handler(upserted)),
        web.patch(rows + "/{id}", _handler(patched)),
        web.delete(rows + "/{id}", _handler(deleted)),
        web.post("/_admin/load", _handler(lambda _, body: sandbox.load(**body))),
        web.post("/_admin/churn", _handler(lambda _, body: sandbox.churn(**body))),
        web.post("/_admin/merge", _handler(lambda _, body: sandbox.merge(body["loser"].lower(), body["master"].lower()))),
        web.get("/_admin/writes", _handler(writes)),
        web.get("/_admin/timeline/{contact}", _handler(lambda request, _: {"rows": sandbox.timeline(request.match_info["contact"])})),
        web.get("/_admin/activities", _handler(lambda _, __: sandbox.activities())),
    ]


def _column(spec: Body) -> Column:
    """`{"name", "type", "length", "options": {"1": "Red"}, ..}`: the members of Column. Raises ValueError."""
    unknown = set(spec) - {field.name for field in fields(Column)}
    if unknown:
        raise ValueError(f"a column has no {', '.join(sorted(unknown))}")
    if spec.get("type") not in TYPES:
        raise ValueError(f"type must be one of {', '.join(TYPES)}")
    members: Body = {"label": spec["name"], **spec, "targets": tuple(spec.get("targets", ()))}
    for name in ("options", "states"):
        members[name] = {int(n): value for n, value in spec.get(name, {}).items()}
    return Column(**members)
