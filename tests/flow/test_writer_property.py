"""The writer loop under any script: every record ends, exactly once, in the order of its key."""

from __future__ import annotations

import asyncio
from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.model.events import Record
from tests.flow.writing import (
    LIVE,
    PARTITIONS,
    REPLAY,
    FailingLetters,
    FailingState,
    Outcome,
    Rig,
    away,
    no_parent,
    record,
    refused,
    turns,
    until,
)

KEYS = ("a", "b", "c", "d")
OUTCOMES: dict[str, Outcome] = {"ok": None, "retry": away(1), "limited": away(attempts=1000), "park": no_parent(), "refuse": refused()}

scripts = st.fixed_dictionaries({key: st.lists(st.sampled_from(sorted(OUTCOMES)), max_size=6) for key in KEYS})
arrivals = st.lists(
    st.tuples(st.sampled_from(KEYS), st.sampled_from((LIVE, REPLAY)), st.booleans(), st.integers(0, 12)), min_size=1, max_size=30
)


@settings(max_examples=150, deadline=None)
@given(scripts, arrivals, st.integers(1, 4), st.integers(0, 3), st.integers(0, 3))
def test_every_record_is_settled_once_and_in_the_order_of_its_key(
    script: dict[str, list[str]],
    arriving: list[tuple[str, str, bool, int]],
    concurrency: int,
    lost_letters: int,
    lost_states: int,
) -> None:
    asyncio.run(_ends(script, arriving, concurrency, lost_letters, lost_states))


async def _ends(
    script: dict[str, list[str]],
    arriving: list[tuple[str, str, bool, int]],
    concurrency: int,
    lost_letters: int,
    lost_states: int,
) -> None:
    rig = Rig(concurrency=concurrency, park_budget_s=1e9, letters=FailingLetters(lost_letters), state=FailingState(lost_states))
    for key, outcomes in script.items():
        rig.handler.script[key] = [OUTCOMES[name] for name in outcomes]
    records: list[Record] = []
    wanted: dict[str, list[str]] = defaultdict(list)

    async with rig.running() as run:
        for number, (key, topic, poison, pause) in enumerate(arriving):
            value = f"bad{number}" if poison and number % 3 == 0 else f"v{number}"
            each = record(key, number, value, topic=topic, partition=KEYS.index(key) % PARTITIONS)
            records.append(each)
            if not value.startswith("bad"):
                wanted[key].append(value)
            rig.offer(each)
            await turns(pause)
        await until(lambda: run.done() or rig.ledger.waiting() == 0)
        if run.done():
            run.result()
        await turns(5)

    assert rig.settled(*records)
    for key, values in wanted.items():
        ended = rig.handler.ended[key]
        assert list(dict.fromkeys(ended)) == values  # a write whose state was lost comes again: repeated, never out of order
    poisoned = [each for each in records if (each.value or b"").startswith(b"bad")]
    lettered = [letter.record for letter in rig.letters.letters]
    assert all(lettered.count(each) == 1 for each in poisoned)
    counted = rig.writer.counters
    assert sum(counted.values()) - counted["read"] == counted["read"] == len(records), "each record has one outcome"
    assert not rig.writer.full(True)
    assert rig.writer.parked() == 0
