"""`$batch`: many operations in one multipart request, change sets all or nothing [contract 7.7]."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from uuid import uuid4

from multidict import CIMultiDict
from yarl import URL

from sandbox.dynamics.service import Service
from sandbox.dynamics.wire import Answer, Call, ODataError, payload_error, unsupported

_BOUNDARY = re.compile(r'multipart/mixed\s*;.*?boundary\s*=\s*(?:"([^"]+)"|([^;\s]+))', re.I)
_REFERENCE = re.compile(r"\$\d+")


@dataclass
class _Operation:
    """One request of a batch; `broken` is why it cannot be run."""

    content_id: str = ""
    method: str = ""
    url: str = ""
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes = b""
    broken: ODataError | None = None


_ChangeSet = list[_Operation]


def answer(service: Service, call: Call) -> Answer:
    """Multipart whenever operations were run; plain JSON 400 when the envelope cannot be read."""
    if call.method != "POST":
        return ODataError(405, "0x80060888", "Operation not supported on this resource.", {"Allow": "POST"}).answer()
    try:
        items = _parsed(call)
        settings = service.store.settings
        if sum(len(item) if isinstance(item, list) else 1 for item in items) > settings.batch_max:
            raise ODataError(400, "0x80040203", f"A batch may hold at most {settings.batch_max} operations.")
    except ODataError as error:
        return error.answer()
    boundary, parts, failed = f"batchresponse_{uuid4()}", list[bytes](), False
    carry_on = "odata.continue-on-error" in call.prefer
    for item in items:
        good, part = _change_set(service, call, item) if isinstance(item, list) else _alone(service, call, item)
        failed = failed or not good
        parts = [part] if not (good or carry_on or settings.batch_lists_earlier) else [*parts, part]
        if not good and not carry_on:
            break
    headers = {"Content-Type": f"multipart/mixed; boundary={boundary}"} | call.applied("odata.continue-on-error")
    return Answer(400 if failed and not carry_on else 200, _joined(boundary, parts), headers)


def _parsed(call: Call) -> list[_Operation | _ChangeSet]:
    """Raises ODataError 400 when a boundary is missing, the batch is empty, or ends before its closing boundary."""
    items: list[_Operation | _ChangeSet] = []
    for headers, content in _split(call.body, call.headers.get("Content-Type", "")):
        kind = headers.get("Content-Type", "")
        if _BOUNDARY.match(kind):
            items.append([_operation(*part, in_set=True) for part in _split(content, kind)])
        else:
            items.append(_operation(headers, content, in_set=False))
    return items


def _split(body: bytes, content_type: str) -> Iterator[tuple[CIMultiDict[str], bytes]]:
    """The parts of a multipart body as (headers, content); a part with wrong line ends has no headers."""
    found = _BOUNDARY.match(content_type)
    if not found:
        raise ODataError(400, "0x80060888", "A batch needs the content type multipart/mixed with a boundary.")
    mark = re.escape((found[1] or found[2]).encode())
    pieces = re.split(rb"(?:\A|\r?\n)--" + mark + rb"(--)?[ \t]*(?=\r?\n|\Z)", body)
    if len(pieces) < 5 or pieces[-2] is None:
        raise ODataError(400, "0x80060888", "The batch is empty or ended before its closing boundary.")
    for piece in pieces[2:-1:2]:
        head, end, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        yield _headers(head) if end and piece.startswith(b"\r\n") else CIMultiDict(), content


def _headers(head: bytes) -> CIMultiDict[str]:
    """Nothing when a line ends in LF alone."""
    pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n") if line)
    return CIMultiDict() if b"\n" in head.replace(b"\r\n", b"") else CIMultiDict((n.strip(), v.strip()) for n, _, v in pairs)


def _operation(headers: CIMultiDict[str], content: bytes, in_set: bool) -> _Operation:
    operation = _Operation(headers.get("Content-ID", ""))
    head, end, operation.body = content.partition(b"\r\n\r\n")
    if not headers or (not end and not head.endswith(b"\r\n")):
        operation.broken = payload_error("", "Stream was not readable.")
        return operation
    request, _, rest = head.partition(b"\r\n")
    words = request.decode("utf-8", "replace").split(" ")
    operation.method, operation.url, operation.headers = words[0], " ".join(words[1:-1]), _headers(rest)
    if len(words) < 3 or words[-1] != "HTTP/1.1" or headers.get("Content-Type", "").lower() != "application/http":
        operation.broken = ODataError(400, "0x80060888", "A part must be an application/http request.")
    elif headers.get("Content-Transfer-Encoding", "").lower() != "binary":
        operation.broken = ODataError(400, "0x80060888", "A part needs Content-Transfer-Encoding: binary.")
    elif in_set and not operation.content_id:
        operation.broken = ODataError(400, "0x80060888", "Every part of a change set needs a Content-ID.")
    elif in_set and operation.method == "GET":
        operation.broken = ODataError(400, "0x80060888", "A change set cannot contain a GET.")
    return operation


def _alone(service: Service, outer: Call, operation: _Operation) -> tuple[bool, bytes]:
    answer = _run(service, outer, operation, {})
    return answer.status < 400, _part(answer, operation.content_id)


def _change_set(service: Service, outer: Call, operations: _ChangeSet) -> tuple[bool, bytes]:
    """All answers, or only the failing one after everything was rolled back."""
    boundary, parts, entities = f"changesetresponse_{uuid4()}", list[bytes](), dict[str, str]()
    good = True
    try:
        with service.store.transaction():
            for operation in operations:
                answer = _run(service, outer, operation, entities)
                part = _part(answer, operation.content_id)
                if answer.status >= 400:
                    raise _FailedError(part)
                parts.append(part)
                entities[f"${operation.content_id}"] = answer.entity
    except _FailedError as failed:
        good, parts = False, [failed.part]
    head = f"Content-Type: multipart/mixed; boundary={boundary}\r\n\r\n".encode()
    return good, head + _joined(boundary, parts)


class _FailedError(Exception):
    def __init__(self, part: bytes) -> None:
        super().__init__()
        self.part = part


def _run(service: Service, outer: Call, operation: _Operation, entities: dict[str, str]) -> Answer:
    """One operation; `entities` are the URLs that `$1` and so on stand for."""
    try:
        if operation.broken:
            raise operation.broken
        url = URL(_resolved(operation.url, entities) if _REFERENCE.match(operation.url) else operation.url)
        found = re.fullmatch(r"/api/data/v9\.\d/(.*)", url.path)
        if not found or found[1] == "$batch":
            raise unsupported(f"{operation.url} inside a batch")
        body = operation.body
        if b'"$' in body:
            body = re.sub(rb'"(\$\d+)"', lambda hit: json.dumps(_resolved(hit[1].decode(), entities)).encode(), body)
    except (ODataError, ValueError) as error:
        return (error if isinstance(error, ODataError) else ODataError(400, "0x80060888", str(error))).answer()
    call = Call(operation.method, found[1], url.query, operation.headers, body, outer.root)
    return service.struck(call) or service.answer(call)


def _resolved(text: str, entities: dict[str, str]) -> str:
    found = _REFERENCE.match(text)
    reference = found[0] if found else text
    if not entities.get(reference):
        raise ODataError(400, "0x80060888", f"Content-ID Reference: '{reference}' does not exist in the batch context.")
    return entities[reference] + text[len(reference) :]


def _part(answer: Answer, content_id: str) -> bytes:
    """An answer as a part of the response, without its boundary."""
    body = answer.payload()
    headers = {"OData-Version": "4.0", **answer.headers}
    if "OData-EntityId" in headers:
        headers["Location"] = headers["OData-EntityId"]
    if answer.status >= 400:
        headers["REQ_ID"] = str(uuid4())
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    lines += [f"Content-ID: {content_id}"] if content_id else []
    lines += ["", f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _joined(boundary: str, parts: list[bytes]) -> bytes:
    mark = f"--{boundary}".encode()
    return b"".join(mark + b"\r\n" + part + b"\r\n" for part in parts) + mark + b"--\r\n"
