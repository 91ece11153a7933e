"""A contact of Dynamics as the writer of Opt In/Out looks at it and writes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bridge.dynamics.changes import version
from bridge.dynamics.client import DynamicsClient
from bridge.mapping.values import moment as moment_of
from bridge.model.errors import RetryError
from bridge.model.state import Known


@dataclass(frozen=True, slots=True)
class Basis:
    """What a decision on a flag stood on: the contact's version in Dynamics, and when Dynamics says that it was changed."""

    version: int | None
    changed_at: datetime | None


@dataclass(frozen=True, slots=True)
class ContactRow:
    """`flags`: None for one that is empty. `ours`: our application user changed it last. `our_ahead_s`: our clock against Dynamics'."""

    flags: Mapping[str, bool | None]
    version: int | None
    modified_at: datetime | None
    ours: bool
    etag: str
    our_ahead_s: float | None = None


class ReadBack(Protocol):
    async def wrote_to_dynamics(self, contact: str, row: ContactRow, names: Iterable[str]) -> None: ...


class Contacts:
    """`set_name`: of contacts. `user`: the id of our application user, None where the table does not tell who changed a row last."""

    def __init__(self, client: DynamicsClient, set_name: str, names: Iterable[str], user: str | None, observing: ReadBack) -> None:
        self._client, self._set_name, self._names, self._user = client, set_name, sorted(set(names)), user
        self._observing = observing

    async def look(self, contact: str) -> ContactRow | None:
        """As it is now; None if it is gone. Raises what the client raises."""
        row = await self._client.row(self._path(contact))
        return None if row is None else self._row(row)

    async def write(self, contact: str, flags: Mapping[str, bool], over: ContactRow) -> ContactRow | None:
        """Changes flags of the row that was looked at, and publishes it as it is then; None if it is gone. Raises RetryError
        `changed_meanwhile` if somebody was faster."""
        written = await self._client.patch(self._path(contact), dict(flags), over.etag)
        if written is None:
            return None
        if "modifiedon" not in written:  # the server does not show what it wrote
            return ContactRow({**over.flags, **flags}, None, None, True, "*")
        row = self._row(written)
        await self._observing.wrote_to_dynamics(contact, row, flags)
        return row

    def _path(self, contact: str) -> str:
        more = ["modifiedon"] if self._user is None else ["modifiedon", "_modifiedby_value"]
        return f"{self._set_name}({contact})?$select={','.join([*self._names, *more])}"

    def _row(self, row: Mapping[str, Any]) -> ContactRow:
        if missing := [name for name in self._names if name not in row]:
            raise RetryError(f"Dynamics: contact: an answer without {', '.join(missing)}", code="bad_answer")
        flags = {name: value if isinstance(value := row[name], bool) else None for name in self._names}
        ours = self._user is not None and str(row.get("_modifiedby_value") or "").lower() == self._user
        return ContactRow(
            flags, version(row), moment_of(row.get("modifiedon")), ours, str(row.get("@odata.etag") or "*"), self._client.ahead_s
        )


def is_news(row: ContactRow, basis: Basis | None, known: Known | None) -> bool:
    """Whether the row is other than the one the decision knew, or what we made of that one: then somebody may have said something since,
    and a write of ours would hide it from the reader."""
    if basis is None or basis.version is None or row.version is None:
        return True
    if row.version == basis.version:
        return None not in (row.modified_at, basis.changed_at) and row.modified_at != basis.changed_at  # Dynamics was restored
    over = known.times.get("over", "") if known is not None else ""
    return not (made_by_us(row, known) and over.isdigit() and int(over) <= basis.version <= row.version)


def made_by_us(row: ContactRow, known: Known | None) -> bool:
    """Whether it is the row that our last write left. A restored Dynamics gives its versions once more, at other times."""
    times, changed = known.times if known is not None else {}, moment(row)
    return times.get("version") == str(row.version) and times.get("changed", changed) == changed


def moment(row: ContactRow) -> str:
    return row.modified_at.isoformat() if row.modified_at is not None else ""
