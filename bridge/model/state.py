"""What is known of one record: the last version seen, what became of it, and digests of what was written (decision D3).

One JSON object per record in the compacted topic `<workflow>.state`, keyed `<table>/<key>` for ingress:

    {"version": 915244, "epoch": 0, "exists": true, "gone": false, "visible": true, "outcome": "updated",
     "digests": {"firstName": "c0ffee…"}, "times": {}, "topic": "ingress.changes.contact", "partition": 3, "offset": 120,
     "status": 200, "attempts": 1, "read_at": "…Z", "settled_at": "…Z"}

Opt-in/out has two for each contact: `<contact>` of the resolver (services/optin/status.py), `<contact>/<system>` of the writer; `times`
are those of their flags, and a few versions. Of a record that is dead-lettered there is `lettered`, too: `partition-offset` of where it was
read first, by which its copies are recognized.

Digests are keyed (BLAKE2b) and short: equal means unchanged, and nobody without the key can test a guess against them.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring
from typing import Any, Protocol

DIGEST_BYTES = 9  # 12 characters of base64; one mistaken "unchanged" in 10^21 comparisons
_ENCODER = json.JSONEncoder(separators=(",", ":"))  # made once: json.dumps makes one for each call
_VALUES = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Known:
    """The last word on one record.

    `exists`: the target holds it, as far as we know. `gone`: the source deleted it. `visible`: the target has shown it to us since it
    was created (a child without its parent is hidden in Campaign).
    """

    version: int | None = None
    epoch: int = 0
    exists: bool = False
    gone: bool = False
    visible: bool = False
    outcome: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, str] = field(default_factory=dict)
    topic: str = ""
    partition: int = 0
    offset: int = 0
    status: int | None = None
    attempts: int = 1
    read_at: str = ""
    settled_at: str = ""
    lettered: str = ""

    def to_json(self) -> bytes:
        members = {name: getattr(self, name) for name in Known.__slots__}
        if not self.lettered:
            del members["lettered"]
        return _ENCODER.encode(members).encode()

    @staticmethod
    def from_json(value: bytes) -> Known:
        """Members of a later version are ignored, missing ones have their defaults. Raises ValueError for what is no such record."""
        data: Any = json.loads(value)
        if not isinstance(data, dict):
            raise ValueError("no JSON object")
        return Known(**{name: data[name] for name in Known.__slots__ if name in data})


class StateStore(Protocol):
    """The local copy of the state of the partitions this process owns."""

    def get(self, partition: int, key: str) -> Known | None:
        """What is known of a record, None if it was never seen."""

    async def put(self, partition: int, key: str, known: Known) -> None:
        """Returns when the state topic has it. Raises RetryError (broker away): the caller tries again."""


class Digests:
    """Keyed digests of values, field by field."""

    def __init__(self, secret: str) -> None:
        key = hashlib.blake2b(secret.encode(), digest_size=32, person=b"bridge-state").digest()
        self._keyed = hashlib.blake2b(key=key, digest_size=DIGEST_BYTES)

    def of(self, fields: Mapping[str, Any]) -> dict[str, str]:
        return {name: self.one(name, value) for name, value in fields.items()}

    def one(self, name: str, value: Any) -> str:
        digest = self._keyed.copy()
        # most values are texts, and making an encoder walk a list takes four times as long as this, which is what it comes to
        pair = f"[{encode_basestring(name)},{encode_basestring(value)}]" if isinstance(value, str) else _VALUES.encode([name, value])
        digest.update(pair.encode())
        return base64.urlsafe_b64encode(digest.digest()).decode()
