"""Before the engine: the IMS token endpoint and the API gateway's checks (contract 1.1, 1.2, 1.5; S1 - S5)."""

from __future__ import annotations

import math
import secrets
import time
from collections import defaultdict
from email.utils import formatdate, parsedate_to_datetime

from aiohttp import web

from sandbox.campaign.errors import OOPS, GatewayError, gateway_error
from sandbox.campaign.settings import Settings
from sandbox.campaign.store import Clock

FORM_FIELDS = ("client_id", "client_secret", "grant_type", "scope")


def _ims_error(error: str, description: str, status: int = 400, headers: dict[str, str] | None = None) -> GatewayError:
    return GatewayError(status, {"error": error, "error_description": description}, headers)


def retry_after(seconds: float, form: str = "seconds") -> str:
    """The header's value; a date is a whole second, never an earlier one."""
    if form == "date":
        return formatdate(math.ceil(time.time() + seconds), usegmt=True)
    return str(int(seconds) if seconds == int(seconds) else seconds)


def _wait(value: str) -> float:
    """The seconds a Retry-After asks for, 0 for none."""
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0


class Bucket:
    """Holds one second's worth of calls, at least one."""

    def __init__(self) -> None:
        self._level, self._filled_at = math.inf, time.monotonic()

    def take(self, rate: float) -> bool:
        """False when it holds no call."""
        now = time.monotonic()
        self._level = min(max(rate, 1.0), self._level + (now - self._filled_at) * rate)
        self._filled_at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class Gateway:
    """Issued tokens, and the calls that came too fast. Campaign and the journal are two hosts: each has waits of its own."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings, self.clock = settings, clock
        self.tokens: dict[str, tuple[float, list[str]]] = {}
        self.clear()

    def clear(self) -> None:
        """Forgets the counts; tokens stay valid."""
        self.issued_at: list[float] = []
        self.early_calls = self.early_polls = 0
        self._wait_until: defaultdict[str, float] = defaultdict(float)
        self._waits_since: defaultdict[str, float] = defaultdict(float)
        self._poll_at = 0.0
        self._bucket, self._journal_bucket = Bucket(), Bucket()

    async def token(self, request: web.Request) -> web.Response:
        """`POST /ims/token/v3`, the four fields in the form body or the query string."""
        form = {**request.query, **{name: str(value) for name, value in (await request.post()).items()}}
        try:
            return web.json_response(self.grant(form))
        except GatewayError as error:
            return web.json_response(error.body, status=error.status, headers=error.headers)

    def grant(self, form: dict[str, str]) -> dict[str, str | int]:
        """A new token's answer. Raises GatewayError."""
        settings, now = self.settings, self.clock.now()
        for name in FORM_FIELDS:
            if not form.get(name):
                raise _ims_error("invalid_request", f"missing {name} parameter")
        if form["grant_type"] != "client_credentials":
            raise _ims_error("unsupported_grant_type", "invalid grant_type parameter")
        if form["client_id"] != settings.client_id:
            raise _ims_error("invalid_client", "invalid client_id parameter")
        if form["client_secret"] != settings.client_secret:
            raise _ims_error("invalid_client", "invalid client_secret parameter")
        scopes = [scope.strip() for scope in form["scope"].split(",")]
        if not set(scopes) <= set(settings.granted_scopes):
            raise _ims_error("invalid_scope", "invalid scope parameter")
        self.issued_at = [at for at in self.issued_at if at > now - 60]
        if settings.tokens_per_minute and len(self.issued_at) >= settings.tokens_per_minute:
            raise _ims_error("too_many_requests", "too many token requests", 429, {"Retry-After": "60"})
        self.issued_at.append(now)
        token = secrets.token_urlsafe(48)
        self.tokens[token] = (now + settings.token_lifetime_s, scopes)
        return {"access_token": token, "token_type": "bearer", "expires_in": settings.token_lifetime_s}

    def check(self, request: web.Request, organization: str) -> None:
        """Key, then token, then profile, then the rate. Raises GatewayError."""
        settings = self.settings
        if "campaign_sdk" not in self._scopes(request):
            raise gateway_error(403, 403011, "Scope mismatch")
        if settings.cname_missing:
            raise GatewayError(502, {"code": 502, "message": OOPS})
        if organization != settings.organization:
            if settings.wrong_organization == "500":
                raise GatewayError(500, {"code": 500, "message": OOPS})
            raise gateway_error(403, 403023, "Profile is not valid")
        if settings.calls_per_second and not self._bucket.take(settings.calls_per_second):
            raise self._too_fast()

    def check_journal(self, request: web.Request) -> None:
        """Key, then token, then `x-ims-org-id`, then the rate; no scope is known to be needed. Raises GatewayError."""
        settings = self.settings
        self._scopes(request)
        if request.headers.get("x-ims-org-id") != settings.org_id:
            raise gateway_error(403, 403023, "Profile is not valid")
        if settings.journal_calls_per_second and not self._journal_bucket.take(settings.journal_calls_per_second):
            raise self._too_fast(settings.journal_retry_after_form)

    def _scopes(self, request: web.Request) -> list[str]:
        """Of the request's token. Raises GatewayError, for a wrong key first."""
        key, authorization = request.headers.get("X-Api-Key"), request.headers.get("Authorization", "")
        if not key:
            raise gateway_error(403, 403000, "Api Key is required")
        if key != self.settings.client_id:
            raise gateway_error(403, 403003, "Api Key is invalid")
        if not authorization:
            raise gateway_error(403, 403010, "Oauth token is missing.")
        kind, _, token = authorization.partition(" ")
        expires_at, scopes = self.tokens.get(token, (0.0, list[str]()))
        if kind.lower() != "bearer" or expires_at <= self.clock.now():
            raise gateway_error(401, 401013, "Oauth token is not valid")
        return scopes

    def _too_fast(self, form: str = "seconds") -> GatewayError:
        wait = retry_after(self.settings.retry_after_s, form)
        return gateway_error(429, 429050, "Too many requests", {"Retry-After": wait})

    def arrived(self, host: str) -> None:
        """Counts a call that came although an earlier answer of this host asked to wait."""
        now = time.monotonic()
        self.early_calls += self._waits_since[host] + self.settings.early_grace_ms / 1000 <= now < self._wait_until[host]
        if host == "journal":
            self.early_polls += now < self._poll_at
            self._poll_at = 0.0

    def answered(self, host: str, response: web.StreamResponse) -> None:
        """Remembers the wait that a 429, a 503 or the journal's 204 asks for, an injected one's, too."""
        now = time.monotonic()
        until = now + _wait(response.headers.get("Retry-After", ""))
        if response.status in (429, 503):
            if now >= self._wait_until[host]:  # else it was refused inside a wait that goes on
                self._waits_since[host] = now
            self._wait_until[host] = max(self._wait_until[host], until)
        elif response.status == 204 and host == "journal":
            self._poll_at = until
