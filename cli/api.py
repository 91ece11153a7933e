"""The REST API of control, from outside: one call, its answer or a Failure; and the stream of events."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from cli.exit_codes import PROBLEM, UNREACHABLE, USAGE, Failure, Refusal

TIMEOUT_S = 30.0
SLOW_TIMEOUT_S = 300.0  # a plan or a test of a system asks systems that take their time
QUIET_S = 40.0  # the stream has a comment every 15 s
RETRIES = 2  # of a 429
LONGEST_WAIT_S = 30.0


@dataclass(frozen=True)
class Connection:
    """Where control is and who asks. `token` is left out of what is printed."""

    url: str
    token: str | None = field(default=None, repr=False)
    ca_file: str | None = None


@dataclass(frozen=True)
class Answer:
    """`body` is None for an answer without content."""

    body: Any
    etag: str | None = None


def path(*parts: str) -> str:
    """The path of these segments, each quoted: `path("workflows", "ingress")` is `/workflows/ingress`."""
    return "".join("/" + quote(part, safe="") for part in parts)


class Api:
    """Every method raises Failure: UNREACHABLE if nobody answers, else (as Refusal) by the status of the answer."""

    def __init__(self, connection: Connection, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        headers = {"X-Requested-With": "bridge", "Accept": "application/json", "User-Agent": "bridge"}
        if connection.token:
            headers["Authorization"] = f"Bearer {connection.token}"
        base = connection.url.rstrip("/") + "/api/v1"
        try:
            verify = ssl.create_default_context(cafile=connection.ca_file) if connection.ca_file else True
            self._http = httpx.Client(base_url=base, headers=headers, timeout=TIMEOUT_S, verify=verify)
        except OSError as exc:
            raise Failure(USAGE, f"The CA file cannot be used: {exc.strerror or type(exc).__name__}") from exc
        except httpx.InvalidURL as exc:
            raise Failure(USAGE, "The address of control cannot be used; it looks like http://127.0.0.1:8080") from exc
        if self._http.base_url.scheme not in ("http", "https") or not self._http.base_url.host:
            raise Failure(USAGE, "The address of control has to begin with http:// or https://")

    def get(self, path: str, **query: Any) -> Any:
        """The body. Members of the query that are None are left out."""
        return self.call("GET", path, query=query).body

    def text(self, path: str, accept: str, **query: Any) -> str:
        """The body of a GET as a file of this media type. Members of the query that are None are left out."""
        response = self._sent("GET", path, query=query, headers={"Accept": accept})
        if not response.is_success:
            raise _refusal(response)
        return response.text

    def post(self, path: str, body: Mapping[str, Any] | None = None, timeout_s: float = TIMEOUT_S) -> Any:
        return self.call("POST", path, body, timeout_s=timeout_s).body

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Answer:
        """A 429 is tried again, at most twice, after the wait that control asks for."""
        return _answer(self._sent(method, path, body, query=query, headers=headers, timeout_s=timeout_s))

    def _sent(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> httpx.Response:
        params = {name: value for name, value in (query or {}).items() if value is not None}
        with self._reaching():
            request = self._http.build_request(method, self._join(path), json=body, params=params, headers=headers, timeout=timeout_s)
            response = self._http.send(request)
            for _ in range(RETRIES):
                wait_s = _retry_after_s(response)
                if wait_s is None or wait_s > LONGEST_WAIT_S:
                    break
                self._sleep(wait_s)
                response = self._http.send(request)
        return response

    @contextmanager
    def events(self) -> Iterator[Iterator[tuple[str, Any]]]:
        """The live stream as (name, document), without end. Breaks with UNREACHABLE if it is quiet for too long."""
        with self._reaching():
            timeout = httpx.Timeout(TIMEOUT_S, read=QUIET_S)
            with self._http.stream("GET", self._join("/events"), headers={"Accept": "text/event-stream"}, timeout=timeout) as response:
                if response.status_code != 200:
                    response.read()
                    raise _refusal(response)
                yield _events(response.iter_lines())

    def _join(self, path: str) -> str:
        return str(self._http.base_url).rstrip("/") + path

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        url = self._http.base_url
        where = f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}"  # without user, password and path
        try:
            yield
        except httpx.TimeoutException as exc:
            raise Failure(UNREACHABLE, f"Control at {where} does not answer in time.") from exc
        except (httpx.TransportError, httpx.DecodingError) as exc:
            raise Failure(UNREACHABLE, f"Control at {where} cannot be reached: {exc or type(exc).__name__}") from exc


def _answer(response: httpx.Response) -> Answer:
    if not response.is_success:
        raise _refusal(response)
    if not response.content:
        return Answer(None, response.headers.get("etag"))
    try:
        return Answer(response.json(), response.headers.get("etag"))
    except ValueError as exc:
        raise Failure(UNREACHABLE, "What answers at this address is not control: its answer is not JSON.") from exc


def _refusal(response: httpx.Response) -> Failure:
    """What the answer says, if it is a problem; a page of somebody else's is not shown."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict):
        return Refusal(response.status_code, problem)
    if response.is_redirect:
        return Failure(UNREACHABLE, f"What answers at this address is not control: HTTP {response.status_code}, a redirection.")
    return Refusal(response.status_code, {"title": f"HTTP {response.status_code}", "detail": "the answer is not one of control's"})


def _retry_after_s(response: httpx.Response) -> float | None:
    """How long a 429 asks to wait, 1 s if it does not say; None for all other answers."""
    if response.status_code != 429:
        return None
    text = response.headers.get("retry-after", "1")
    return float(text) if text.isdecimal() else 1.0


def _events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Server-sent events whose data is JSON. Comments and events without data are passed over."""
    name, data = "message", list[str]()
    for line in lines:
        if not line:
            if data:
                yield name, _document("\n".join(data))
            name, data = "message", []
        elif line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            data.append(line.removeprefix("data:").removeprefix(" "))


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise Failure(PROBLEM, "The stream of events holds something that is not JSON.") from exc
