"""`$batch`: several operations in one request, and what became of each (dataverse.md §7.7). Pure."""

from __future__ import annotations

import email
import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any

from bridge.dynamics.errors import code_of
from bridge.model.json_text import loads

CONTINUE = "odata.continue-on-error"
NEW_LINE = "\r\n"
STATUS = re.compile(r"[1-5][0-9]{2}")


@dataclass(frozen=True, slots=True)
class Request:
    """`path` from the root of the server on; inside a change set `$1` is what its first request made."""

    method: str
    path: str
    body: dict[str, Any]


Operation = Sequence[Request]
"""One item of a batch: a request by itself or, if there are several, a change set: all or nothing."""


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """Of one operation: of its first request, or of the one that failed. `code` of the error object, lower case, else empty."""

    status: int
    code: str = ""
    retry_after: str = ""

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300


class Unreadable(Exception):
    """The answer is no multipart message, or holds another number of answers than there were operations."""


def encode(operations: Sequence[Operation]) -> tuple[str, bytes]:
    """The content type and the body."""
    boundary = f"batch_{uuid.uuid4()}"
    parts = []
    for number, operation in enumerate(operations):
        if len(operation) == 1:
            parts.append(_part(operation[0], None))
        else:
            parts.append(_change_set(operation, number * 10))
    return f'multipart/mixed; boundary="{boundary}"', _joined(boundary, parts).encode()


def decode(content_type: str, body: bytes, operations: int) -> list[BatchAnswer]:
    """One answer for each operation, in order. Raises Unreadable."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    try:
        message = email.message_from_bytes(head + body)  # the plain policy: the others take eight times as long to understand headers
        if not message.is_multipart():
            raise Unreadable("not multipart")
        answers = [_answer(part) for part in _parts(message)]
    except Unreadable:
        raise
    except Exception as exc:  # whatever bytes lead the parser of mails to: ValueError, LookupError, RecursionError, …
        raise Unreadable(type(exc).__name__) from exc
    if len(answers) != operations:
        raise Unreadable(f"{len(answers)} answers to {operations} operations")
    return answers


def _change_set(operation: Operation, first_id: int) -> str:
    """Content-IDs are unique in the whole batch, `$1` is set to the id of the first request here."""
    boundary = f"changeset_{uuid.uuid4()}"
    ids = [str(first_id + place) for place in range(1, len(operation) + 1)]
    named = [Request(each.method, each.path.replace("$1", f"${ids[0]}", 1), each.body) for each in operation]
    inner = _joined(boundary, [_part(each, number) for each, number in zip(named, ids, strict=True)])
    return f'Content-Type: multipart/mixed; boundary="{boundary}"{NEW_LINE}{NEW_LINE}{inner}'


def _part(request: Request, content_id: str | None) -> str:
    head = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    head += [f"Content-ID: {content_id}"] if content_id else []
    content = [f"{request.method} {request.path} HTTP/1.1", "Content-Type: application/json; type=entry", "", json.dumps(request.body)]
    return NEW_LINE.join([*head, "", *content])


def _joined(boundary: str, parts: Sequence[str]) -> str:
    return "".join(f"--{boundary}{NEW_LINE}{part}{NEW_LINE}" for part in parts) + f"--{boundary}--{NEW_LINE}"


def _parts(message: Message) -> list[Message]:
    content = message.get_payload()
    return [each for each in content if isinstance(each, Message)] if isinstance(content, list) else []


def _answer(part: Message) -> BatchAnswer:
    """A change set's answer is the one that failed, else the first."""
    if part.is_multipart():
        answers = [_answer(each) for each in _parts(part)]
        if not answers:
            raise Unreadable("an empty change set")
        return next((each for each in answers if not each.good), answers[0])
    raw = part.get_payload(decode=True)
    head, _, body = (raw if isinstance(raw, bytes) else b"").replace(b"\r\n", b"\n").partition(b"\n\n")
    status, *headers = head.decode("latin-1").strip().split("\n")
    words = status.split(" ")
    if len(words) < 2 or not words[0].startswith("HTTP/") or not STATUS.fullmatch(words[1]):
        raise Unreadable("a part without a status")
    named = dict(line.lower().split(":", 1) for line in headers if ":" in line)
    return BatchAnswer(int(words[1]), _code(body), named.get("retry-after", "").strip())


def _code(body: bytes) -> str:
    try:
        return code_of(loads(body))
    except ValueError:
        return ""
