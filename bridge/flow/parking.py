"""Where a parked record is better off, and when a record is in the dead letters already. Pure."""

from __future__ import annotations

from datetime import datetime

from bridge.flow.failures import PARKED_SINCE, first_place
from bridge.flow.offsets import OffsetLedger
from bridge.model.events import Record
from bridge.model.state import Known

HELD_BACK = 500  # settled records that cannot be committed because of it, or as many as wait with it
NOTED_AFTER_S = 60.0  # or a quarter of its time: since when it waits survives a restart there


def holds_back(record: Record, ledger: OffsetLedger) -> bool:
    """Whether so much behind it cannot be committed that it costs less to publish it again than to read all that again after a restart."""
    behind = ledger.settled_behind(record.position, record.offset)
    return behind >= max(HELD_BACK, ledger.open_in(record.position))


def goes_to_the_end(first: Record, since: datetime, now: datetime, budget_s: float, ledger: OffsetLedger) -> bool:
    """`first`: of the records of a key. `since`: when it was parked. Not for what is not: its tries end soon, and would begin again."""
    if holds_back(first, ledger):
        return True
    return not is_back(first) and (now - since).total_seconds() >= min(NOTED_AFTER_S, budget_s / 4)


def is_back(record: Record) -> bool:
    """Whether it has been published again: it may be read before the last of its key is published."""
    return record.header(PARKED_SINCE) is not None


def is_a_letter(record: Record, known: Known | None) -> bool:
    """Whether the record, or one that it is a copy of, went to the dead letters before a restart, and its offset was not committed."""
    if known is None or known.outcome != "dead_lettered" or known.topic != record.topic:
        return False
    return first_place(record) in (f"{known.partition}-{known.offset}", *known.letters)
