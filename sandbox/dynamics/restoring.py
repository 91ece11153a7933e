"""What happens to an environment as a whole, or to two contacts at once: a restore from a backup, a merge [contract 4.6].

A restore brings rows, tombstones and versions back to what they were, so that versions are given a second time. What a delta token of the
time after the backup does then is not documented: the setting `future_token`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

from sandbox.dynamics.store import Store, TableData
from sandbox.dynamics.tables import OTHER_USER
from sandbox.dynamics.wire import no_row


@dataclass(frozen=True)
class Backup:
    """Everything that a restore brings back."""

    version: int
    data: dict[str, TableData]


def backup(store: Store) -> Backup:
    return Backup(store.version, copy.deepcopy(store.data))


def restore(store: Store, state: Backup) -> None:
    """Tables and columns stay as they are now; a table that is newer than the backup is empty then."""
    kept = copy.deepcopy(state.data)  # the same backup may be restored twice
    store.data = {name: kept.get(name, TableData()) for name in store.tables}
    store.version = state.version


def merge(store: Store, loser: str, master: str) -> None:
    """The loser becomes inactive and names its master, which a person does who merges two contacts. Raises ODataError 404."""
    for key in (loser, master):
        if key not in store.data["contact"].rows:
            raise no_row("contact", key)
    store.put("contact", loser, {"merged": True, "masterid": master, "statecode": 1, "statuscode": 2}, OTHER_USER)
