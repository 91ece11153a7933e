"""Avro in the registry's wire format: byte 0, four-byte schema id, Avro binary (decision D11). Schemas come from `schemas/`."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from fastavro import parse_schema, schemaless_reader, schemaless_writer

from bridge.model.errors import RejectError, RetryError

SCHEMAS = Path(__file__).parents[2] / "schemas"
E = TypeVar("E")
HEAD = struct.Struct(">bI")


class Registry(Protocol):
    def register(self, subject: str, schema: dict[str, Any]) -> int:
        """The id of `schema` under `subject`. Raises RetryError (registry away) or HaltError (incompatible)."""

    def schema(self, schema_id: int) -> Any:
        """The schema of an id, cached. Raises RetryError, or RejectError for an id nobody has registered."""


def load_schema(name: str) -> dict[str, Any]:
    """`schemas/<name>.avsc` as it is in the file."""
    loaded: dict[str, Any] = json.loads((SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))
    return loaded


def parsed(schema: Any) -> Any:
    """As fastavro wants it. Raises ValueError for what is no schema."""
    try:
        found = parse_schema(schema)
    except Exception as exc:  # fastavro raises whatever such a schema leads it to
        raise ValueError(type(exc).__name__) from exc
    if isinstance(found, dict) and found.get("type") == "record" and not isinstance(schema.get("fields"), list):
        raise ValueError("a record without fields")
    return found


class Encoder:
    """Events of one schema to bytes. An event is any object with the schema's fields as attributes."""

    def __init__(self, schema: dict[str, Any], schema_id: int) -> None:
        self._names = tuple(field["name"] for field in schema["fields"])
        self._schema = parse_schema(schema)
        self._head = HEAD.pack(0, schema_id)

    def encode(self, event: object) -> bytes:
        buffer = BytesIO()
        buffer.write(self._head)
        schemaless_writer(buffer, self._schema, {name: getattr(event, name) for name in self._names})
        return buffer.getvalue()


class Decoder(Generic[E]):
    """Bytes to events made by `make`, whichever version of the schema wrote them."""

    def __init__(self, registry: Registry, schema: dict[str, Any], make: Callable[..., E]) -> None:
        self._registry = registry
        self._make = make
        self._name = str(schema["name"])
        self._reader = parse_schema(schema)
        self._pairs: dict[int, tuple[Any, Any]] = {}  # schema id → (the writer's schema, the reader's or None where it is the same)

    async def decode(self, value: bytes | None) -> E:
        """Raises RejectError (stage `decode`) for what is not such an event, RetryError if the registry is away."""
        if value is None or len(value) < HEAD.size:
            raise RejectError("the message is too short to be an event", code="not_avro", stage="decode")
        magic, schema_id = HEAD.unpack_from(value)
        if magic != 0:
            raise RejectError("the message does not begin with the registry's magic byte", code="not_avro", stage="decode")
        if schema_id not in self._pairs:
            await asyncio.to_thread(self._learn, schema_id)
        writer, reader = self._pairs[schema_id]
        try:
            content: Any = schemaless_reader(BytesIO(value[HEAD.size :]), writer, reader)
            return self._make(**content)
        except Exception as exc:  # fastavro raises whatever the bytes lead it to: EOFError, IndexError, UnicodeDecodeError, …
            name = type(exc).__name__
            raise RejectError(f"the message does not fit its schema {schema_id} ({name})", code="not_this_event", stage="decode") from exc

    def _learn(self, schema_id: int) -> None:
        schema = self._registry.schema(schema_id)
        if not isinstance(schema, dict) or str(schema.get("name")).rsplit(".", 1)[-1] != self._name:  # "string" is a schema, too
            raise RejectError(f"schema {schema_id} is not a {self._name}", code="other_schema", stage="decode")
        try:
            writer = parsed(schema)
        except ValueError as exc:
            raise RetryError(f"schema registry: schema {schema_id} is no schema", code="registry_unavailable") from exc
        self._pairs[schema_id] = (writer, None if writer == self._reader else self._reader)  # else fastavro compares them each time
