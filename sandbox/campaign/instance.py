"""An instance of Campaign with all its state, and what its users and operators do to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sandbox.campaign import writing
from sandbox.campaign.accounting import Accounting
from sandbox.campaign.engine import Engine
from sandbox.campaign.exports import Exports
from sandbox.campaign.gateway import Gateway
from sandbox.campaign.journal import Journal
from sandbox.campaign.journal_api import TAIL
from sandbox.campaign.model import EXT, new_field, new_resource
from sandbox.campaign.reading import plain
from sandbox.campaign.settings import Settings
from sandbox.campaign.sftp import HOST, Access, SftpSide
from sandbox.campaign.store import Database, Row, Table
from sandbox.web import Ledger


class CampaignInstance:
    """All state of one stand-in. Its methods act as a Campaign user or operator would, and do not count as API calls.

    Methods that take a resource raise KeyError for an unknown one, and AcsError for values the engine refuses."""

    def __init__(self) -> None:
        self.settings = Settings()
        self.ledger = Ledger()
        self.database = Database(self.settings)
        self.accounting = Accounting()
        self.gateway = Gateway(self.settings, self.database.clock)
        self.engine = Engine(self.database, self.accounting, self.ledger)
        self.events = Journal(self.database)
        self.sftp = SftpSide(self.settings)
        self.exports = Exports(self.database, self.sftp)

    @contextlib.asynccontextmanager
    async def sftp_serving(
        self, home: Path, port: int = 0, exports: bool = True, host: str = HOST, name: str = HOST
    ) -> AsyncIterator[Access]:
        """The SFTP server and the daily export while the block runs; see `SftpSide.serving`."""
        async with self.sftp.serving(home, port, exports, host, name) as access:
            self.exports.start()
            daily = asyncio.create_task(self.exports.daily())
            try:
                yield access
            finally:
                daily.cancel()
                self.exports.stop()

    def _raw(self, table: Table, row: Row) -> dict[str, Any]:
        return {**plain(self.database, table, row), "hidden": self.database.hidden(table, row)}

    def rows(self, resource: str) -> list[dict[str, Any]]:
        """All rows in order of creation, defaults filled in, nested `location`; hidden ones have `"hidden": true`."""
        table = self.database.tables[resource]
        return [self._raw(table, row) for row in table.rows.values()]

    def get(self, resource: str, key: str) -> dict[str, Any] | None:
        """One row by identification key, as in `rows`."""
        table = self.database.tables[resource]
        row = table.by_key.get(key)
        return None if row is None else self._raw(table, row)

    def put(self, resource: str, values: dict[str, Any]) -> dict[str, Any]:
        """Creates the row, or updates the one with the same key."""
        table = self.database.tables[resource]
        return self._raw(table, writing.put(self.database, table, values))

    def opt_out(self, external_id: str, field: str = "blackListEmail", value: bool = True, at: str | None = None) -> dict[str, Any]:
        """A person unsubscribes, or comes back; the row. `at`: ISO 8601, else now; a flag that is so already is no change."""
        return self._raw(self.database.tables["profile"], writing.opt_out(self.database, external_id, field, value, at))

    def remove(self, resource: str, key: str) -> bool:
        """True when there was such a row."""
        table = self.database.tables[resource]
        row = table.by_key.get(key)
        if row is not None:
            writing.delete(self.database, table, row)
        return row is not None

    def writes(self, resource: str | None = None, key: str | None = None) -> list[dict[str, Any]]:
        """The API's writes in order: resource, key, method, fields (the body), status, time."""
        return self.accounting.writes(resource, key)

    def counts(self) -> dict[str, Any]:
        """Requests, calls by resource and method, engine calls, rows by resource, events in the journal, SFTP connections.

        `early_calls` came inside a Retry-After window after a 429 or 503, `early_polls` inside that of a journal's 204."""
        tables = self.database.tables.items()
        hidden = {name: sum(self.database.hidden(table, row) for row in table.rows.values()) for name, table in tables}
        more = {"rows": {name: len(table.rows) for name, table in tables}, "hidden_rows": hidden}
        early = {"early_calls": self.gateway.early_calls, "early_polls": self.gateway.early_polls}
        others = {"journal_events": len(self.events), "sftp_connections": self.sftp.connections}
        return {**self.ledger.summary(), **self.accounting.summary(), **more, **early, **others}

    def headers(self) -> dict[str, str]:
        """What a call needs, with a new token: for tests that are not about tokens."""
        form = {"client_id": self.settings.client_id, "client_secret": self.settings.client_secret}
        answer = self.gateway.grant({**form, "grant_type": "client_credentials", "scope": "campaign_sdk"})
        return {"X-Api-Key": self.settings.client_id, "Authorization": f"Bearer {answer['access_token']}"}

    @property
    def journal_path(self) -> str:
        """Where the journal starts, after the base URL."""
        return f"/events/{TAIL}"

    def journal_headers(self) -> dict[str, str]:
        """What a journal call needs, with a new token."""
        return {**self.headers(), "x-ims-org-id": self.settings.org_id}

    def emit(self, events: Sequence[Mapping[str, Any]]) -> list[str]:
        """Email events go into the journal: `kind` and other members of `EmailEvent`. Gives the ids, in the order given."""
        return self.events.emit(events)

    def append(self, events: Sequence[Any]) -> list[str]:
        """Puts `event` values into the journal as they are, broken ones, too. Gives the positions."""
        return self.events.append(events)

    def redeliver(self, seed: int = 0, shuffle: bool = True) -> int:
        """Everything in the journal comes again: new positions, the same events. Gives how many."""
        return self.events.redeliver(seed, shuffle)

    def expire(self, keep: int = 0) -> int:
        """Drops all but the newest `keep` events; the others' positions answer 410. Gives how many were dropped."""
        return self.events.expire(keep)

    def traffic(self, seed: int, mails: int, keys: Sequence[str] | None = None, day: str | None = None) -> dict[str, Any]:
        """Emits what a day with so many mails brings: `{"events": n, "expected": {"send", "open", "click", "bounce"}}`, where
        `expected` is what belongs on timelines. `keys`: the contacts, else all profiles with an externalId; `day`: a date
        (UTC), else the last 24 hours."""
        return self.events.traffic(seed, mails, keys, day)

    def journal(self) -> list[dict[str, Any]]:
        """What the journal holds, oldest first: `position` and `event`."""
        return self.events.listed()

    def add_field(self, resource: str, **definition: Any) -> None:
        """Adds a field, or changes one (its length, say); live with the next publication. See `new_field`."""
        found = self.database.tables[resource].resource
        known = found.fields.get(definition["name"])
        if known is None and not definition["name"].startswith("cus"):
            raise ValueError("a custom field starts with cus")
        only_length = known is not None and set(definition) == {"name", "length"}
        field = replace(known, length=int(definition["length"])) if known and only_length else new_field(**definition)
        found.draft[field.name] = field
        if not self.settings.publish_required:
            found.publish()

    def add_resource(self, name: str, family: str = EXT, key: str = "", fields: Sequence[dict[str, Any]] = ()) -> None:
        """Adds a resource to Ext or customResources, live with the next publication. Links join on a target's key."""
        if name in self.database.tables:
            raise ValueError(f"{name} exists")
        resource = new_resource(name, family, key, fields)
        self.database.tables[name] = Table(resource)
        if not self.settings.publish_required:
            resource.publish()

    def publish(self) -> None:
        """All drafts go live; Ext and customResources answer rc=-2003 for `publish_outage_s`."""
        for table in self.database.tables.values():
            table.resource.publish()
        self.engine.publishing_until = time.monotonic() + self.settings.publish_outage_s

    def revoke_tokens(self) -> None:
        self.gateway.tokens.clear()

    def new_session(self) -> None:
        """All PKeys and hrefs given so far become unreadable."""
        self.database.tokens.renew()

    def advance(self, seconds: float) -> None:
        """Moves the clock, which tokens, stamps and the daily export obey."""
        self.database.clock.offset_s += seconds
        self.exports.tick()

    def reset(self) -> None:
        """As newly started: no rows, events and files, standard model and settings, no counts, no faults. Tokens and the clock stay."""
        self.settings.reset()
        self.database.clear()
        self.ledger.clear()
        self.accounting.clear()
        self.gateway.clear()
        self.events.clear()
        self.sftp.clear()
        self.exports.clear()
        if self.sftp.root is not None:
            self.sftp.empty()
            self.exports.start()
        self.engine.publishing_until = 0.0
