"""What was written, and what it cost in engine calls (contract 9.1, S38)."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

OPERATIONS = {"POST": "insert", "PATCH": "update", "DELETE": "delete"}


class Accounting:
    """Every call that reached the engine, by method and by record operation.

    A GET by key counts as `read`, until a PATCH of the same record follows: then both are the update's. So a client
    that asks first costs insert 1, delete 1, update 2, and 1 `read` for an update where Campaign already equals the
    source. A write the engine refused is `failed`, a call about no single record `other`.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.written: deque[dict[str, Any]] = deque(maxlen=1_000_000)
        self.methods: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.by_resource: dict[str, Counter[str]] = {}
        self.unchanged_updates = 0
        self.unchanged_opt_out_writes = 0
        self._read: set[tuple[str, str]] = set()

    def called(self, resource: str, method: str) -> None:
        self.methods[method] += 1
        self.by_resource.setdefault(resource, Counter())[method] += 1

    def read(self, resource: str, key: str) -> None:
        self.operations["read"] += 1
        self._read.add((resource, key))

    def wrote(self, resource: str, key: str, method: str, fields: Mapping[str, Any] | None, status: int) -> None:
        """`fields` is kept as it is: the body, not a copy."""
        call = {"resource": resource, "key": key, "method": method, "fields": fields, "status": status}
        self.written.append(call | {"time": time.time()})
        if status >= 400:
            self.operations["failed"] += 1
            return
        self.operations[OPERATIONS[method]] += 1
        if method == "PATCH" and (resource, key) in self._read:
            self.operations.update({"read": -1, "update": 1})
        self._read.discard((resource, key))

    def writes(self, resource: str | None = None, key: str | None = None) -> list[dict[str, Any]]:
        """In order; `fields` is the body (null for a DELETE), `time` in seconds since 1970."""
        return [row for row in self.written if resource in (None, row["resource"]) and key in (None, row["key"])]

    def summary(self) -> dict[str, Any]:
        return {
            "engine_calls": {
                "total": self.methods.total(),
                "by_method": dict(self.methods),
                "by_operation": {name: number for name, number in self.operations.items() if number},
            },
            "calls": {resource: dict(methods) for resource, methods in self.by_resource.items()},
            "unchanged_updates": self.unchanged_updates,
            "unchanged_opt_out_writes": self.unchanged_opt_out_writes,
        }
