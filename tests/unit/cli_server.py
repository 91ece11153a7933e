"""A small HTTP server on loopback that answers as control-api.md says and records what it was asked; and the CLI against it.

Answers are checked against the models of the API when they are set up, so they have the shapes that control gives.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import BaseModel
from typer.testing import CliRunner, Result

from cli.app import app
from services.control.models.workflow_json import ConfigOut, HistoryOut, ValidationOut, WorkflowOut

NOW = datetime(2026, 3, 31, 12, 0, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


@dataclass(frozen=True)
class Reply:
    """`body`: JSON, or bytes as they are. `events`: the lines of a stream, which then stays open until the server ends."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    events: Callable[[], Iterator[bytes]] | None = None


def problem(status: int, code: str, detail: str = "Something about it.", **more: Any) -> Reply:
    """An RFC 9457 answer."""
    body = {"type": "about:blank", "title": f"Title {status}", "status": status, "detail": detail, "code": code, **more}
    return Reply(status, body, {"Content-Type": "application/problem+json"})


class ControlServer(ThreadingHTTPServer):
    """`on` sets up the replies of one route, in turn; the last one is given again and again. Everything else is 404."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[Request] = []
        self.ended = threading.Event()
        self._replies: dict[tuple[str, str], list[Reply]] = {}
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def on(self, method: str, path: str, *replies: Reply | dict[str, Any]) -> None:
        self._replies[method, "/api/v1" + path] = [each if isinstance(each, Reply) else Reply(200, each) for each in replies]

    def reply(self, request: Request) -> Reply:
        with self._lock:
            self.requests.append(request)
            replies = self._replies.get((request.method, request.path))
            if not replies:
                return problem(404, "not_found", "There is no such route.")
            return replies.pop(0) if len(replies) > 1 else replies[0]

    def asked(self, method: str, path: str) -> list[Request]:
        return [each for each in self.requests if (each.method, each.path) == (method, "/api/v1" + path)]

    def changing(self) -> list[Request]:
        return [each for each in self.requests if each.method != "GET"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ControlServer

    def _handle(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(length)
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, unquote(parts.path), dict(parse_qsl(parts.query)), headers, json.loads(raw) if raw else None)
        reply = self.server.reply(request)
        if reply.events is not None:
            self._stream(reply.events())
            return
        body = reply.body if isinstance(reply.body, bytes) else b"" if reply.body is None else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in ({"Content-Type": "application/json"} | dict(reply.headers)).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 - names of http.server

    def _stream(self, lines: Iterator[bytes]) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for line in lines:
                self.wfile.write(line)
                self.wfile.flush()
        except OSError:
            return  # the client has gone

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def serving() -> Iterator[ControlServer]:
    server = ControlServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


# -- running the CLI --------------------------------------------------------------------------------------------------------------

NO_TOKEN = {"BRIDGE_TOKEN": None, "BRIDGE_TOKEN_FILE": None, "BRIDGE_CA_FILE": None}


def bridge(server: ControlServer | str, *args: str, stdin: str | None = None, **environment: str) -> Result:
    """The command in this process, without a terminal. `server` may be an address, too."""
    url = server if isinstance(server, str) else server.url
    return CliRunner().invoke(app, list(args), input=stdin, env={**NO_TOKEN, "COLUMNS": None, "BRIDGE_URL": url, **environment})


def command(*args: str) -> list[str]:
    """The command as a process of its own."""
    return [sys.executable, "-m", "services.control.cli", *args]


def environment(server: ControlServer, **more: str) -> dict[str, str]:
    """For a process: what it needs and nothing of ours."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TERM": "xterm", "BRIDGE_URL": server.url, **more}


# -- answers of control -----------------------------------------------------------------------------------------------------------


def shaped(model: type[BaseModel], document: dict[str, Any]) -> dict[str, Any]:
    """The document as control would send it. Fails if it does not fit the API."""
    return model.model_validate(document).model_dump(mode="json")


def backlog(records: int | None = 0, verdict: str = "IDLE", **more: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"oldest_age_s": None, "drain_rate_per_s": None, "eta_s": None, "as_of": NOW, "parked": 0, "groups": []}
    return {"records": records, "verdict": verdict, **empty, **more}


def workflow(id: str = "ingress", status: str = "STOPPED", desired: str | None = None, **more: Any) -> dict[str, Any]:
    document = {
        "id": id,
        "name": f"The workflow {id}",
        "status": status,
        "desired": desired or ("STOPPED" if status == "STOPPED" else "RUNNING"),
        "status_since": NOW,
        "reason": None,
        "health": {"FAILED": "failed", "STOPPED": "stopped"}.get(status, "ok"),
        "configured": True,
        "pending_changes": False,
        "saved_revision": 3,
        "running_revision": None,
        "backlog": backlog(),
        "services": [],
        "counters": {},
        "last_read_at": None,
        "last_written_at": None,
    }
    return shaped(WorkflowOut, document | more)


def reason(**more: Any) -> dict[str, Any]:
    """Why a workflow is FAILED."""
    known = {"code": "service_silent", "message": "no writer has been heard of", "hint": "Start it.", "origin": "service", "role": "writer"}
    return known | {"since": NOW} | more


def configuration(config: dict[str, Any], revision: int = 3, running: dict[str, Any] | None = None, **more: Any) -> Reply:
    """The saved configuration with its ETag; `running`: the one that runs, as revision 2."""
    document = {"revision": revision, "saved_at": NOW, "saved_by": "anna", "config": config, "diff": []}
    document["running"] = None if running is None else {"revision": 2, "config": running}
    return Reply(200, shaped(ConfigOut, document | more), {"ETag": f'"{revision}"'})


def validation(*errors: tuple[str, str], warnings: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    """(path, message) of every error and every warning."""
    listed = [[{"path": path, "code": "a_code", "message": message} for path, message in each] for each in (errors, warnings)]
    return shaped(ValidationOut, {"valid": not errors, "errors": listed[0], "warnings": listed[1]})


def samples(*records: int | None) -> dict[str, Any]:
    """A history with one sample a minute up to now."""
    count = len(records)
    listed = [{"at": NOW - timedelta(minutes=count - 1 - number), "records": each} for number, each in enumerate(records)]
    return shaped(HistoryOut, {"samples": listed})


def event(document: dict[str, Any]) -> bytes:
    return f"event: workflow\ndata: {json.dumps(document)}\n\n".encode()
