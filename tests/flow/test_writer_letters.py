"""The writer loop and the dead letters: what goes there, when it is settled, and when there are too many."""

from __future__ import annotations

import pytest

from bridge.flow.failures import PARKED_FROM, PARKED_SINCE
from bridge.flow.ports import Result
from bridge.model.errors import HaltError, ParkError, RejectError, RetryError
from bridge.model.state import Known
from tests.flow.writing import (
    LIVE,
    REPLAY,
    FailingLetters,
    FailingState,
    Rig,
    ScriptedHandler,
    Work,
    away,
    no_parent,
    record,
    refused,
    until,
)


async def test_over_its_budget_a_parked_record_is_a_dead_letter() -> None:
    rig = Rig(park_budget_s=100)
    rig.handler.always["a"] = no_parent
    one = record("a", 0)
    began = rig.clock.now()

    await rig.work(one)

    (letter,) = rig.letters.letters
    assert (letter.record.key, letter.record.value) == (one.key, one.value)
    assert (letter.error.code, letter.error.status) == ("parent_missing", 404)
    assert letter.first_failed_at == began
    assert 100 <= (letter.failed_at - letter.first_failed_at).total_seconds() < 165
    assert rig.settled(one)


async def test_records_that_waited_in_vain_stop_nothing_however_many_they_are() -> None:
    rig = Rig(park_budget_s=10, in_a_row=5, concurrency=50)
    keys = [f"k{number}" for number in range(300)]
    rig.handler.always = dict.fromkeys(keys, no_parent)

    await rig.work(*(record(key, number) for number, key in enumerate(keys)))

    assert len(rig.letters.letters) == 300


async def test_a_letter_is_written_once_though_its_offset_was_not_committed() -> None:
    rig = Rig()
    rig.handler.always["a"] = refused
    one = record("a", 7)
    await rig.work(one)

    again = Rig(state=rig.state, letters=rig.letters)
    await again.work(one)
    assert (len(rig.letters.letters), again.handler.calls, again.writer.counters["stale"]) == (1, [], 1)

    redriven = Rig(state=rig.state)
    await redriven.work(record("a", 8))
    assert redriven.handler.ended["a"] == ["a8"]


async def test_an_error_may_bring_its_own_budget() -> None:
    rig = Rig(park_budget_s=86400)
    rig.handler.always["a"] = lambda: no_parent(budget_s=1)

    await rig.work(record("a", 0))

    (letter,) = rig.letters.letters
    assert (letter.failed_at - letter.first_failed_at).total_seconds() < 3


async def test_a_record_over_its_attempts_is_a_dead_letter_and_others_pass_meanwhile() -> None:
    rig = Rig(concurrency=1)
    rig.handler.always["a"] = lambda: away(attempts=3)
    a, b = record("a", 0), record("b", 1)

    await rig.work(a, b)

    assert rig.handler.called().count("a") == 3
    assert [letter.record for letter in rig.letters.letters] == [a]
    assert rig.settled(a, b)


async def test_a_target_that_was_away_for_long_uses_up_no_attempts() -> None:
    rig = Rig()
    rig.handler.script["a"] = [*(away(30) for _ in range(20)), *(away(attempts=3) for _ in range(2))]

    await rig.work(record("a", 0))

    assert rig.letters.letters == []
    assert rig.handler.ended == {"a": ["a0"]}


async def test_the_budget_of_a_parked_record_begins_when_it_is_parked() -> None:
    rig = Rig(park_budget_s=100)
    rig.handler.script["a"] = [away(3600), no_parent()]

    await rig.work(record("a", 0))

    assert rig.letters.letters == []
    assert rig.handler.ended == {"a": ["a0"]}


async def test_a_dead_letter_tells_how_often_its_record_was_tried() -> None:
    rig = Rig(park_budget_s=3)
    rig.handler.always = {
        "limited": lambda: away(attempts=3),
        "parked": no_parent,
        "refused": refused,
    }
    rig.handler.script["late"] = [away(), away(), refused()]

    await rig.work(*(record(key, number) for number, key in enumerate(("limited", "parked", "refused", "late"))))

    told = {(letter.record.key or b"").decode(): letter.attempts for letter in rig.letters.letters}
    assert told == {key: rig.handler.called().count(key) for key in told}


async def test_a_refused_record_is_a_dead_letter_and_the_rest_flows() -> None:
    rig = Rig(concurrency=2)
    rig.handler.always["b"] = refused
    records = [record(key, number) for number, key in enumerate("abc")]

    await rig.work(*records)

    (letter,) = rig.letters.letters
    assert (letter.record, letter.error.code, letter.attempts) == (records[1], "value_refused", 1)
    assert letter.first_failed_at == letter.failed_at
    assert rig.settled(*records)
    assert rig.writer.counters["dead_lettered"] == 1
    known = rig.state.get(0, "b")
    assert known is not None
    assert (known.outcome, known.status) == ("dead_lettered", 500)


async def test_a_record_refused_after_retries_tells_when_it_first_failed() -> None:
    rig = Rig()
    rig.handler.script["a"] = [away(30), away(30), refused()]
    began = rig.clock.now()

    await rig.work(record("a", 0))

    (letter,) = rig.letters.letters
    assert letter.attempts == 3
    assert letter.first_failed_at == began
    assert (letter.failed_at - began).total_seconds() == 60


async def test_a_dead_letter_that_cannot_be_kept_is_written_again_and_nothing_settled_before() -> None:
    rig = Rig(letters=FailingLetters(failures=3))
    rig.handler.always["a"] = refused
    settled_early = []
    sleep = rig.clock.sleep

    async def watched(seconds: float) -> None:
        settled_early.append(rig.settled(one))
        await sleep(seconds)

    rig.clock.sleep = watched  # type: ignore[method-assign]
    one = record("a", 0)

    await rig.work(one)

    assert rig.handler.called() == ["a"]  # the target was not asked again
    assert settled_early == [False, False, False]
    assert len(rig.letters.letters) == 1
    assert rig.settled(one)


async def test_a_stop_while_dead_letters_cannot_be_kept_leaves_the_record_unsettled() -> None:
    rig = Rig(letters=FailingLetters(failures=10**9))
    rig.handler.always["a"] = refused
    one = record("a", 0)
    rig.offer(one)

    async with rig.running():
        await until(lambda: len(rig.clock.slept) >= 3)

    assert not rig.settled(one)


async def test_a_dead_letter_is_settled_only_when_the_state_knows_of_it() -> None:
    rig = Rig(state=FailingState(failures=2))
    rig.handler.always["a"] = refused
    one = record("a", 0)

    await rig.work(one)

    assert len(rig.letters.letters) == 1
    assert rig.settled(one)
    assert rig.state.get(0, "a") is not None


async def test_copies_of_a_dead_letter_are_none_after_a_restart() -> None:
    """Killed while it was published again: the record itself, and more than one copy of it, are read once more."""
    rig = Rig()
    rig.handler.always["a"] = refused
    original = record("a", 7)
    parking = ((PARKED_SINCE, b"1772366400000"), (PARKED_FROM, b"0-7"))
    first, second = record("a", 20, "a7", headers=parking), record("a", 21, "a7", headers=parking)
    await rig.work(first)
    assert len(rig.letters.letters) == 1

    for each in (original, second):
        again = Rig(state=rig.state, letters=rig.letters)
        await again.work(each)

        assert (len(rig.letters.letters), again.handler.calls) == (1, [])
        assert again.settled(each)


async def test_another_record_of_its_key_or_of_another_topic_is_written() -> None:
    rig = Rig()
    rig.handler.script["a"] = [refused()]
    await rig.work(record("a", 7))

    for each in (record("a", 7, "other", topic=REPLAY), record("a", 8, "next")):
        again = Rig(state=rig.state, letters=rig.letters)
        await again.work(each)

        assert again.handler.ended["a"] == [each.value.decode()]  # type: ignore[union-attr]


async def test_too_many_dead_letters_halt_the_run() -> None:
    rig = Rig(in_a_row=3, concurrency=1)
    rig.handler.always = dict.fromkeys("abcd", refused)
    records = [record(key, number) for number, key in enumerate("abcd")]

    with pytest.raises(HaltError) as caught:
        await rig.work(*records)

    assert caught.value.code == "too_many_dead_letters"
    assert [letter.record for letter in rig.letters.letters] == records[:2]
    assert rig.settled(*records[:2])
    assert rig.ledger.waiting() == 2


async def test_what_cannot_be_decoded_yet_waits_aside_and_the_rest_passes() -> None:
    """Its schema is news to the registry."""
    rig = Rig(concurrency=1)
    rig.handler.unknown = [RetryError("404", code="registry_unavailable", attempts=100) for _ in range(3)]
    one, other, later = record("a", 0, "news"), record("b", 1), record("a", 2, "v")

    await rig.work(one, other, later)

    assert rig.handler.calls == [Work("b", ("b1",)), Work("a", ("news", "v"))]
    assert rig.letters.letters == []


async def test_what_can_never_be_decoded_is_a_dead_letter_after_its_wait() -> None:
    rig = Rig()
    rig.handler.unknown = [
        *(RetryError("404", code="registry_unavailable", attempts=100) for _ in range(3)),
        RejectError("404", code="unknown_schema", stage="decode"),
    ]
    one = record("a", 0, "news")

    await rig.work(one, record("a", 1, "v"))

    (letter,) = rig.letters.letters
    assert (letter.record, letter.error.code) == (one, "unknown_schema")
    assert rig.handler.calls == [Work("a", ("v",))]


async def test_what_cannot_be_decoded_is_a_dead_letter_by_itself() -> None:
    rig = Rig()
    gate = rig.handler.hold("a")
    records = [record("a", 0, "v0"), record("a", 1, "v1"), record("a", 2, "bad"), record("a", 3, "v3")]
    rig.offer(records[0])

    async with rig.running():
        await until(lambda: rig.handler.busy)
        rig.offer(*records[1:])
        gate.set()
        await until(lambda: rig.ledger.waiting() == 0)

    assert rig.handler.calls == [Work("a", ("v0",)), Work("a", ("v1", "v3"))]
    (letter,) = rig.letters.letters
    assert (letter.record, letter.error.stage) == (records[2], "decode")
    assert rig.settled(*records)


async def test_a_key_with_nothing_but_poison_is_done() -> None:
    rig = Rig()
    records = [record("a", 0, "bad"), record("a", 1, "bad")]

    await rig.work(*records)

    assert rig.handler.calls == []
    assert rig.settled(*records)


class NewestFirst(ScriptedHandler):
    """Merges as ingress does: the newer version wins, in whatever order the two arrive (a replay brings older ones later)."""

    def merge(self, waiting: Work, arrived: Work) -> tuple[Work, bool]:
        return max(waiting, arrived, key=lambda work: work.values), arrived.values >= waiting.values


async def test_the_record_that_was_refused_is_the_one_in_the_dead_letters() -> None:
    rig = Rig(handler=NewestFirst())
    rig.handler.always["a"] = refused
    newer, older = record("a", 0, "v9"), record("a", 0, "v5", topic=REPLAY)

    await rig.work(newer, older)

    assert rig.handler.calls == [Work("a", ("v9",))]
    assert newer in [letter.record for letter in rig.letters.letters]
    assert rig.settled(newer, older)


async def test_the_state_tells_of_the_record_that_was_written() -> None:
    rig = Rig(handler=NewestFirst())
    rig.handler.script["a"] = [Result("updated", Known(version=9, exists=True))]

    await rig.work(record("a", 7, "v9"), record("a", 3, "v5", topic=REPLAY))

    known = rig.state.get(0, "a")
    assert known is not None
    assert (known.version, known.topic, known.offset) == (9, LIVE, 7)


async def test_of_merged_records_that_are_a_sum_each_is_a_dead_letter_but_counts_once() -> None:
    rig = Rig(in_a_row=2)
    rig.handler.sums = True
    rig.handler.always["a"] = refused
    first, second, third = record("a", 0), record("a", 1), record("a", 2)

    await rig.work(first, second, third)

    assert [letter.record for letter in rig.letters.letters] == [first, second, third]
    assert rig.settled(first, second, third)


def waits_with(opt_outs: int) -> ParkError:
    error = no_parent()
    error.opt_outs = opt_outs
    return error


async def test_opt_outs_that_wait_are_counted_until_they_are_written() -> None:
    rig = Rig(concurrency=1, park_budget_s=1000)
    counted: list[int] = []

    def second() -> None:
        counted.append(rig.writer.opt_outs_waiting())

    rig.handler.script["a"] = [waits_with(2)]
    rig.handler.always["b"] = second

    await rig.work(record("a", 0), record("b", 1))

    assert counted == [2]
    assert rig.writer.opt_outs_waiting() == 0


async def test_a_dead_letter_says_how_many_opt_outs_waited_with_it() -> None:
    rig = Rig(park_budget_s=10)
    rig.handler.always["a"] = lambda: waits_with(2)

    await rig.work(record("a", 0))

    assert [letter.error.opt_outs for letter in rig.letters.letters] == [2]
