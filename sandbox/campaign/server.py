"""CampaignSandbox: the stand-in as an object, and its aiohttp application."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable

from aiohttp import web

from sandbox.campaign.admin import admin_errors, admin_routes
from sandbox.campaign.errors import AcsError, GatewayError
from sandbox.campaign.instance import CampaignInstance
from sandbox.campaign.journal_api import JournalApi
from sandbox.web import counted, fault_routes

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _host(request: web.Request) -> str:
    """Which of the two real hosts this request is for."""
    return "journal" if request.path.startswith(("/events/", "/events-fast/", "/events-validate/")) else "campaign"


def _group(request: web.Request) -> str:
    """`POST profile`, `GET journal`, `GET journal-validate`, or `ims`."""
    parts = request.path.split("/", 5)
    if _host(request) == "journal":
        return f"{request.method} journal{parts[1].removeprefix('events').removesuffix('-fast')}"
    return f"{request.method} {parts[4]}" if len(parts) > 4 and parts[2] == "campaign" else parts[1]


class CampaignSandbox(CampaignInstance):
    """An instance that is served."""

    def app(self) -> web.Application:
        """For `serving(sandbox.app())`."""
        middlewares = [self._gate, admin_errors, counted(self.ledger, _group)]
        app = web.Application(client_max_size=2**28, middlewares=middlewares)
        app.add_routes([web.post("/ims/token/v3", self.gateway.token), *fault_routes(self.ledger), *admin_routes(self)])
        app.add_routes(JournalApi(self.events, self.gateway).routes())
        app.router.add_route("*", "/{organization}/campaign/{tail:.*}", self._campaign)
        app.router.add_route("*", "/{tail:.*}", self._nowhere)
        return app

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Counts calls inside a Retry-After window; gives every error an X-Request-Id."""
        if request.path.startswith("/_admin/"):
            return await handler(request)
        self.gateway.arrived(_host(request))
        response = await handler(request)
        self.gateway.answered(_host(request), response)
        if response.status >= 400 and not response.prepared:
            response.headers["X-Request-Id"] = secrets.token_hex(16)
        return response

    async def _campaign(self, request: web.Request) -> web.StreamResponse:
        organization = request.match_info["organization"]
        try:
            self.gateway.check(request, organization)
            return await self.engine.run(request, organization, request.rel_url.raw_path.split("/", 3)[3])
        except GatewayError as error:
            return web.json_response(error.body, status=error.status, headers=error.headers)
        except AcsError as error:
            return self._text(error)

    async def _nowhere(self, request: web.Request) -> web.StreamResponse:
        return self._text(self.engine.unknown(request))

    def _text(self, error: AcsError) -> web.Response:
        if self.settings.text_errors == "json":
            return web.Response(text=json.dumps(error.text), status=error.status, content_type="application/json")
        return web.Response(text=error.text, status=error.status, content_type="text/plain")
