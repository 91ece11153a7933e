"""The journal over HTTP: where to read on, pages, Link headers, waits and refusals (contract 8.2, S31, S33)."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web
from multidict import CIMultiDict

from sandbox.campaign.errors import GatewayError
from sandbox.campaign.gateway import Gateway, retry_after
from sandbox.campaign.journal import Entry, Expired, Journal

TAIL = "organizations/4711/integrations/815/sandbox-registration"
FOREIGN = "https://journal.example.net"
POSITION = re.compile(r"moose:[0-9a-f-]{36}:[0-9a-f-]{36}", re.ASCII)
DURATION = re.compile(r"-P(?=.)(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII)
UNITS_S = (86400, 3600, 60, 1)

Handler = Callable[[web.Request], Awaitable[web.Response]]


def _refused(message: str, status: int = 400) -> GatewayError:
    """No source has these bodies; PROPOSED in the form of the routing errors (1.5)."""
    return GatewayError(status, {"code": status, "message": message})


def _limit(query: Mapping[str, str]) -> int:
    """0 for none. Raises GatewayError."""
    text = query.get("limit")
    if text is None:
        return 0
    if not re.fullmatch(r"0*[1-9]\d{0,8}", text, re.ASCII):
        raise _refused("limit must be a positive integer")
    return int(text)


class JournalApi:
    """The one registration's journal, under `/events/` and, as its links say, `/events-fast/`."""

    def __init__(self, journal: Journal, gateway: Gateway) -> None:
        self.journal, self.gateway, self.settings = journal, gateway, journal.settings

    def routes(self) -> list[web.RouteDef]:
        where = "organizations/{org}/integrations/{credential}/{registration}"
        read, validate = self._guarded(self._read), self._guarded(self._validate)
        return [
            web.get(f"/events/{where}", read, allow_head=False),
            web.get(f"/events-fast/{where}", read, allow_head=False),
            web.get(f"/events-validate/{where}", validate, allow_head=False),
        ]

    def _guarded(self, operation: Callable[[web.Request], web.Response]) -> Handler:
        """Key, token, organization and rate first, then the registration; errors become answers."""

        async def handler(request: web.Request) -> web.Response:
            try:
                self.gateway.check_journal(request)
                if request.path.split("/", 2)[2] != TAIL:
                    raise _refused("The registration does not exist.", 404)
                return operation(request)
            except GatewayError as error:
                return web.json_response(error.body, status=error.status, headers=error.headers)
            except Expired as gone:
                return web.Response(status=410, text=f"Events at position {gone} have expired.")

        return handler

    def _read(self, request: web.Request) -> web.Response:
        query, settings = request.query, self.settings
        start, limit = self._start(query), _limit(query)
        page = self.journal.page(start, limit or settings.journal_page)
        headers = self._links(page[-1].position if page else self.journal.end, limit)
        if page:
            return web.Response(body=_body(page), content_type="application/json", headers=headers)
        if len(self.journal):
            headers["retry-after"] = retry_after(settings.journal_retry_after_s, settings.journal_retry_after_form)
        return web.Response(status=204, headers=headers)

    def _validate(self, request: web.Request) -> web.Response:
        """No source says what it answers; PROPOSED: 204 for a position that can be read on from."""
        self._start(request.query)
        return web.Response(status=204)

    def _start(self, query: Mapping[str, str]) -> int:
        """The index of the first entry to give. Raises GatewayError and Expired."""
        since, seek = query.get("since"), query.get("seek")
        if since is not None and seek is not None:
            raise _refused("since and seek cannot be used together")
        if since is not None:
            if not POSITION.fullmatch(since):
                raise _refused("since is not a position")
            return self.journal.after(since)
        if seek is not None:
            found = DURATION.fullmatch(seek)
            if found is None:
                raise _refused("seek must be a negative ISO-8601 duration")
            back = sum(float(number or 0) * unit for number, unit in zip(found.groups(), UNITS_S, strict=True))
            return self.journal.written_since(self.journal.clock.now() - back)
        return self.journal.written_since(math.inf if query.get("latest") == "true" else 0.0)

    def _links(self, position: str, limit: int) -> CIMultiDict[str]:
        """The Link headers; without a position (nothing was ever written) `next` starts at the oldest again."""
        since = f"since={position}" if position else ""
        reading_on = "&".join(part for part in (since, f"limit={limit}" if limit else "") if part)
        host = FOREIGN if self.settings.journal_foreign_next else ""
        links = {
            "events": f"/events/{TAIL}",
            "next": f"{host}/events-fast/{TAIL}" + (f"?{reading_on}" if reading_on else ""),
            "count": f"/count/{TAIL}" + (f"?{since}" if since else ""),
            "latest": f"/events/{TAIL}?latest=true",
            "page": f"/events/{TAIL}?since={{position}}&limit={{count}}",
            "seek": f"/events/{TAIL}?seek={{duration}}&limit={{count}}",
        }
        if since:
            links["validate"] = f"/events-validate/{TAIL}?{since}"
        lines = [f'<{target}>; rel="{relation}"' for relation, target in links.items()]
        if self.settings.journal_links == "joined":
            lines = [", ".join(lines)]
        return CIMultiDict(("Link", line) for line in lines)


def _body(page: list[Entry]) -> bytes:
    """`{"events": [{"position", "event"}], "_page": {"last", "count"}}`; a position needs no escapes."""
    events = ",".join(f'{{"position":"{entry.position}","event":{entry.text}}}' for entry in page)
    return f'{{"events":[{events}],"_page":{{"last":"{page[-1].position}","count":{len(page)}}}}}'.encode()
