"""When a parked record is better off at the end of its topic, and when a record is in the dead letters already. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from bridge.flow.failures import PARKED_SINCE, first_place
from bridge.flow.offsets import Position
from bridge.model.events import Record
from bridge.model.state import Known

HELD_BACK = 500  # settled records that cannot be committed because of it
NOTED_AFTER_S = 60.0  # or a quarter of its time: since when it waits survives a restart there


def goes_to_the_end(first: Record, since: datetime, now: datetime, budget_s: float, settled_behind: Callable[[Position, int], int]) -> bool:
    """`first`: of the records of a key. `since`: when it was parked. Not for what is not: its tries end soon, and would begin again."""
    if settled_behind(first.position, first.offset) >= HELD_BACK:
        return True
    return not is_back(first) and (now - since).total_seconds() >= min(NOTED_AFTER_S, budget_s / 4)


def is_back(record: Record) -> bool:
    """Whether it has been published again: it may be read before the last of its key is published."""
    return record.header(PARKED_SINCE) is not None


def is_a_letter(record: Record | None, known: Known | None) -> bool:
    """Whether the record, or another copy of it, went to the dead letters before a restart, and its own offset was not committed."""
    if record is None or known is None or known.outcome != "dead_lettered" or known.topic != record.topic:
        return False
    here = (known.partition, known.offset) == (record.partition, record.offset)
    return here or known.lettered == first_place(record)
