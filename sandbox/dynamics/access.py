"""Who may call, and how much: the token endpoint and service protection [contract 1, 8.1]."""

from __future__ import annotations

import math
import re
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from uuid import uuid4

from sandbox.dynamics.settings import Settings
from sandbox.dynamics.wire import Answer, ODataError


class Tokens:
    """Bearer tokens given out; each lives `token_lifetime_s` or until it is revoked."""

    def __init__(self, settings: Settings, now: Callable[[], datetime]) -> None:
        self._settings, self._now = settings, now
        self._valid_until: dict[str, datetime] = {}

    def revoke(self) -> None:
        self._valid_until.clear()

    def issue(self, tenant: str, form: Mapping[str, str], root: str) -> Answer:
        """The answer to a token request for the environment at `root`, good or bad."""
        settings, scope = self._settings, form.get("scope", "")
        missing = [name for name in ("client_id", "client_secret", "scope") if not form.get(name)]
        if form.get("grant_type") != "client_credentials" or missing:
            what = ", ".join(missing) or "grant_type"
            return self._refused(400, "invalid_request", 900144, f"The request body must contain the parameter: '{what}'.")
        if tenant != settings.tenant:
            return self._refused(400, "invalid_request", 90002, f"Tenant '{tenant}' not found.")
        if not re.fullmatch(r"https?://[^/\s]+/\.default", scope):
            return self._refused(400, "invalid_scope", 70011, f"The provided value for scope {scope} is not valid.")
        if scope.rpartition("/")[0].partition("://")[2] != root.partition("://")[2]:
            return self._refused(400, "invalid_resource", 500011, f"The resource {scope} was not found in the tenant.")
        if form["client_id"] != settings.client_id:
            text = f"Application with identifier '{form['client_id']}' was not found in the directory."
            return self._refused(400, "unauthorized_client", 700016, text)
        if form["client_secret"] != settings.client_secret:
            return self._refused(401, "invalid_client", 7000215, "Invalid client secret provided.")
        token = f"eyJ0eXAiOiJKV1QifQ.{secrets.token_urlsafe(48)}.{secrets.token_urlsafe(16)}"
        self._valid_until[token] = self._now() + timedelta(seconds=settings.token_lifetime_s)
        return Answer(200, {"token_type": "Bearer", "expires_in": settings.token_lifetime_s, "access_token": token})

    def check(self, authorization: str, root: str) -> Answer | None:
        """None when the caller may go on, else the 401 or 403 to answer."""
        scheme, _, token = authorization.partition(" ")
        until = self._valid_until.get(token)
        if scheme != "Bearer" or until is None or until <= self._now():
            where = f"{root}/{self._settings.tenant}/oauth2/authorize"
            return Answer(401, None, {"WWW-Authenticate": f"Bearer authorization_uri={where}, resource_id={root}/"})
        if not self._settings.member:
            return ODataError(403, "0x80072560", "The user is not a member of the organization.").answer()
        return None

    def _refused(self, status: int, error: str, code: int, text: str) -> Answer:
        trace, correlation, at = str(uuid4()), str(uuid4()), self._now().strftime("%Y-%m-%d %H:%M:%SZ")
        body = {
            "error": error,
            "error_description": f"AADSTS{code}: {text} Trace ID: {trace} Timestamp: {at}",
            "error_codes": [code],
            "timestamp": at,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={code}",
        }
        return Answer(status, body, {"Content-Type": "application/json; charset=utf-8"})


class Limits:
    """Sliding windows of one user on one server. Counts always, refuses only while `throttle` is on."""

    def __init__(self, settings: Settings, now: Callable[[], datetime]) -> None:
        self._settings, self._now = settings, now
        self.clear()

    def clear(self) -> None:
        self._past: deque[tuple[float, float]] = deque()  # (when, seconds it took)
        self._spent_s = 0.0
        self._closed_until = 0.0  # everything is refused until then
        self._told = deque[tuple[float, float]]()  # (when a 429 left, until when it bade to wait), both ascending
        self.came_early = 0  # requests inside a Retry-After window

    def refused(self, in_flight: int, arrived: float | None = None) -> ODataError | None:
        """The 429 for a request of `in_flight` in all that came now, or at `arrived`; None lets it in."""
        settings, now = self._settings, self._tidy()
        if not settings.throttle:
            return None
        early = self._is_early(now if arrived is None else arrived)
        self.came_early += early
        code, text, until = "", "", 0.0
        if len(self._past) >= settings.limit_requests:
            code, until = "0x80072322", self._past[len(self._past) - settings.limit_requests][0] + settings.window_s
            text = f"Number of requests exceeded the limit of {settings.limit_requests}"
        elif self._spent_s >= settings.limit_execution_s:
            code, until = "0x80072321", self._past[0][0] + settings.window_s
            milliseconds = f"{settings.limit_execution_s * 1000:,.0f} milliseconds"
            text = f"Combined execution time of incoming requests exceeded limit of {milliseconds}"
        elif in_flight > settings.limit_concurrent:
            self._tell(now, now + 1)
            text = f"Number of concurrent requests exceeded the limit of {settings.limit_concurrent}."
            return ODataError(429, "0x80072326", text, {"Retry-After": "1"})
        elif now < self._closed_until:
            code, text = "0x80072322", f"Number of requests exceeded the limit of {settings.limit_requests}"
        if not code:
            return None
        self._closed_until = max(self._closed_until + early * settings.retry_after_growth_s, until)
        self._tell(now, self._closed_until)
        wait = max(1, math.ceil(self._closed_until - now))
        text += f" over time window of {settings.window_s:.0f} seconds."
        return ODataError(429, code, text, {"Retry-After": str(wait)})

    def _is_early(self, arrived: float) -> bool:
        """Did it come inside the window of a 429 that its sender could know of?"""
        grace = self._settings.early_grace_ms / 1000
        return any(at + grace <= arrived < until for at, until in self._told)

    def _tell(self, now: float, until: float) -> None:
        """Remembers a 429; one that asks for nothing longer than those before adds nothing."""
        while self._told and self._told[0][1] <= now:
            self._told.popleft()
        if not self._told or until > self._told[-1][1]:
            self._told.append((now, until))

    def done(self, seconds: float) -> None:
        """Counts a request that was let in and took `seconds`."""
        seconds += self._settings.request_cost_ms / 1000
        self._past.append((self._tidy(), seconds))
        self._spent_s += seconds

    def headers(self) -> dict[str, str]:
        settings = self._settings
        return {
            "x-ms-ratelimit-burst-remaining-xrm-requests": str(max(0, settings.limit_requests - len(self._past))),
            "x-ms-ratelimit-time-remaining-xrm-requests": f"{max(0.0, settings.limit_execution_s - self._spent_s):.2f}",
            "x-ms-dop-hint": str(settings.dop_hint),
        }

    def _tidy(self) -> float:
        now = self._now().timestamp()
        while self._past and self._past[0][0] <= now - self._settings.window_s:
            self._spent_s -= self._past.popleft()[1]
        return now
