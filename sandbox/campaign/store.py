"""The rows in memory, their PKeys, and what is visible of them."""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from sandbox.campaign import errors
from sandbox.campaign.model import BASE, CUSTOM, EXT, Field, Resource, standard_model
from sandbox.campaign.settings import Settings

CONTEXTS = {BASE: "b", EXT: "e", CUSTOM: "c", "link": "l", "metadata": "m"}


class Clock:
    """Wall time plus what was advanced; `stamp()` is now in the engine's form, UTC with three decimals."""

    def __init__(self) -> None:
        self.offset_s = 0.0
        self._second, self._text = -1, ""

    def now(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.offset_s

    def stamp(self) -> str:
        now = self.now()
        if int(now) != self._second:
            self._second, self._text = int(now), time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
        return f"{self._text}.{int(now % 1 * 1000):03d}Z"


class Tokens:
    """Opaque tokens (`@` and url-safe base64) that only this session can read: PKeys and `_lineStart`."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """A new session: no token made before can be read any more."""
        self._secret = secrets.token_bytes(16)

    def seal(self, subject: str, context: str, size: int) -> str:
        """A token with `size` bytes of text, at most 64; those of one subject share a prefix, whatever the context."""
        nonce = blake2b(subject.encode(), key=self._secret, digest_size=16).digest()
        stream = blake2b(nonce, key=self._secret, digest_size=size).digest()
        text = f"{subject}:{context}".encode().ljust(size)
        mixed = int.from_bytes(text) ^ int.from_bytes(stream)
        return "@" + base64.urlsafe_b64encode(nonce + mixed.to_bytes(size)).rstrip(b"=").decode()

    def open(self, token: str) -> tuple[str, str] | None:
        """The subject and the context, or None for anything this session did not seal."""
        try:
            raw = base64.b64decode(token[1:] + "=" * (-len(token[1:]) % 4), altchars="-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        size = len(raw) - 16
        if not 0 < size <= 64:
            return None
        stream = blake2b(raw[:16], key=self._secret, digest_size=size).digest()
        text = (int.from_bytes(raw[16:]) ^ int.from_bytes(stream)).to_bytes(size).decode("ascii", "replace")
        subject, _, context = text.rstrip().rpartition(":")
        return (subject, context) if self.seal(subject, context, size) == token else None


@dataclass(slots=True)
class Row:
    """One record: only what was written or stamped is in `values`."""

    id: int
    values: dict[str, Any]


@dataclass
class Table:
    """One resource's rows by number (in order of creation) and by identification key."""

    resource: Resource
    rows: dict[int, Row] = field(default_factory=dict)
    by_key: dict[str, Row] = field(default_factory=dict)

    def key_of(self, row: Row) -> str:
        return str(row.values.get(self.resource.key, ""))


class Database:
    """All tables, with the settings and the clock they obey."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = Clock()
        self.tokens = Tokens()
        self.clear()

    def clear(self) -> None:
        """The standard model, no rows, and no PKey that is still good."""
        self.tokens.renew()
        self.tables = {name: Table(resource) for name, resource in standard_model().items()}
        self._last_id = 0

    def next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def pkey(self, table: Table, row: Row, context: str) -> str:
        """The row's token, about 90 characters; another one for each family and for links."""
        return self.tokens.seal(f"{table.resource.name}:{row.id}", CONTEXTS[context], 51)

    def row_of_pkey(self, table: Table, pkey: str) -> Row:
        """Raises AcsError: 500 for no token of this table, 404 for a deleted or hidden row."""
        subject, _ = self.tokens.open(pkey) or ("", "")
        name, _, number = subject.partition(":")
        if name != table.resource.name:
            raise errors.bad_pkey(table.resource, pkey)
        row = table.rows.get(int(number))
        if row is None or self.hidden(table, row):
            raise errors.unknown_document(table.resource, pkey)
        return row

    def find(self, table: Table, family: str, key: str) -> Row:
        """The visible row with this PKey or identification key. Raises AcsError (3.8)."""
        if key.startswith("@"):
            return self.row_of_pkey(table, key)
        if not table.resource.key or (family == BASE and not table.resource.native_key):
            raise errors.not_a_key(key)
        row = table.by_key.get(key)
        if row is None or self.hidden(table, row):
            raise errors.unknown_document(table.resource, key)
        return row

    def inner_join(self, table: Table, link: Field) -> bool:
        """True where a row without its parent stays hidden (4.4)."""
        return self.settings.cardinality.get(f"{table.resource.name}.{link.name}", link.cardinality) == "1"

    def hidden(self, table: Table, row: Row) -> bool:
        for link in table.resource.links:
            if self.inner_join(table, link):
                parent = self.parent(link, row)
                if parent is None or self.hidden(self.tables[link.target], parent):
                    return True
        return False

    def parent(self, link: Field, row: Row) -> Row | None:
        target = self.tables.get(link.target)
        return target.by_key.get(row.values.get(link.join, "")) if target else None

    def visible(self, table: Table, after: int = 0) -> Iterator[Row]:
        """Visible rows with a number above `after`, in order of creation; safe against writes meanwhile."""
        rows = list(table.rows.values())
        always = not any(self.inner_join(table, link) for link in table.resource.links)
        return (row for row in rows if row.id > after and (always or not self.hidden(table, row)))
