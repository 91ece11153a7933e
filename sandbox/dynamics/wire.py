"""One request and its answer as plain values, shared by HTTP and `$batch`, and the error object [contract 2, 9]."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

JSON_TYPE = "application/json; odata.metadata=minimal"
_PREFERENCE = re.compile(r'([\w.\-]+)\s*(?:=\s*("[^"]*"|[^,;]*))?')


@dataclass(frozen=True)
class Call:
    """`path` is what follows the API's root, decoded; `root` is absolute and ends in a slash."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: CIMultiDict[str] | CIMultiDictProxy[str]
    body: bytes
    root: str

    @cached_property
    def prefer(self) -> dict[str, str]:
        """The preferences by name, of one or several `Prefer` headers, quotes removed."""
        found = _PREFERENCE.findall(",".join(self.headers.getall("Prefer", [])))
        return {name: value.strip().strip('"') for name, value in found}

    def header(self, name: str) -> str:
        """The header's value, "" when absent; the literal `null` that clients send counts as absent."""
        value = self.headers.get(name, "").strip()
        return "" if value == "null" else value

    def json(self, set_name: str) -> dict[str, Any]:
        """The body as an object. Raises ODataError 400 `0x80048d19`."""
        try:
            body = json.loads(self.body)
        except ValueError as exc:
            raise payload_error(set_name, f"{exc}: Stream was not readable.") from exc
        if not isinstance(body, dict):
            raise payload_error(set_name, "A node of type 'StartObject' was expected.")
        return body

    def applied(self, *names: str) -> dict[str, str]:
        """The `Preference-Applied` header that names those of `names` that were asked for."""
        asked = [(name, self.prefer[name]) for name in names if name in self.prefer]
        parts = [f'{name}="{value}"' if value and not value.isalnum() else f"{name}={value}".rstrip("=") for name, value in asked]
        return {"Preference-Applied": ",".join(parts)} if parts else {}


@dataclass
class Answer:
    """`body`: None (empty), bytes (sent as they are) or a JSON value. `entity`: the written row's absolute URL."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    entity: str = ""

    def payload(self) -> bytes:
        """The body's bytes; sets the content type of a JSON body."""
        if self.body is None or isinstance(self.body, bytes):
            return self.body or b""
        self.headers.setdefault("Content-Type", JSON_TYPE)
        text = json.dumps(self.body, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")  # half a character travels as an escape


class ODataError(Exception):
    """Becomes `{"error": {"code": .., "message": ..}}` with `status`."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})

    def answer(self) -> Answer:
        return Answer(self.status, {"error": {"code": self.code, "message": self.message}}, self.headers)


def query_error(message: str) -> ODataError:
    return ODataError(400, "0x80060888", message)


def no_property(name: str, type_name: str) -> ODataError:
    return query_error(f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{type_name}'.")


def payload_error(set_name: str, detail: str) -> ODataError:
    return ODataError(
        400,
        "0x80048d19",
        f"Error identified in Payload provided by the user for Entity :'{set_name}', For more information on this "
        f"error please follow this help link https://go.microsoft.com/fwlink/?linkid=2195293  ----> "
        f"InnerException : Microsoft.OData.ODataException: {detail}",
    )


def no_row(table: str, key: str) -> ODataError:
    return ODataError(404, "0x80040217", f"Entity '{table}' With Id = {key} Does Not Exist")


def no_segment(name: str) -> ODataError:
    return ODataError(404, "0x8006088a", f"Resource not found for the segment '{name}'.")


def unsupported(what: str) -> ODataError:
    """What Dataverse may well do, but this stand-in does not."""
    return ODataError(501, "0x80040203", f"Not built into the sandbox: {what}")
