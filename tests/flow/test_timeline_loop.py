"""The egress handler in the writer loop, against the Dynamics stand-in over HTTP: contacts that are late, tokens, bad items, outages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.flow.batcher import LINGER_S
from bridge.model.clock import SystemClock
from sandbox.web import Fault
from tests.clock import FakeClock
from tests.flow.timeline import NOBODY, Rig, a_rig
from tests.flow.writing import backed_off


class Timed(FakeClock):
    """Does something when its time has come."""

    def __init__(self, at_s: float, then: Callable[[], object]) -> None:
        super().__init__()
        self._at_s, self._then = at_s, then

    def advance(self, seconds: float) -> None:
        before = self.passed_s
        super().advance(seconds)
        if before < self._at_s <= self.passed_s:
            self._then()

    def waits(self) -> list[float]:
        return [seconds for seconds in self.slept if seconds != LINGER_S]


def batches(rig: Rig) -> int:
    return rig.sandbox.ledger.requests["POST $batch"]


async def test_an_event_whose_contact_comes_ten_minutes_late_is_one_activity() -> None:
    clock = Timed(600, lambda: rig.sandbox.upsert("contact", {"contactid": NOBODY, "lastname": "Late"}))
    async with a_rig(clock) as rig, rig.running() as loop:
        await loop.settle(rig.event(contact_key=NOBODY))

        assert [row["activitytypecode"] for row in rig.sandbox.timeline(NOBODY)] == ["adobe_emailsend"]
        assert loop.letters.letters == []
        assert 600 <= clock.passed_s < 700
        waits = clock.waits()
        assert backed_off(waits, [0.5, 1, 2, 4, 8, 16, 32, *[60] * (len(waits) - 7)])


async def test_an_event_whose_contact_never_comes_is_a_dead_letter_after_a_day_and_not_before() -> None:
    early: list[int] = []
    clock = Timed(86400 - 1, lambda: early.append(len(loop.letters.letters)))
    async with a_rig(clock) as rig, rig.running() as loop:
        await loop.settle(rig.event(contact_key=NOBODY))

        (letter,) = loop.letters.letters
        assert (letter.error.code, early) == ("contact_missing", [0])
        assert 86400 <= (letter.failed_at - letter.first_failed_at).total_seconds() < 86401
        assert batches(rig) == letter.attempts < 100


async def test_a_token_that_ends_in_the_middle_of_a_batch_is_replaced_once_and_only_the_rest_is_written_again() -> None:
    async with a_rig(SystemClock()) as rig, rig.running() as loop:
        await loop.settle(*(rig.event(number) for number in range(10)))
        tokens, before = rig.sandbox.ledger.requests["POST token"], rig.sandbox.service.operations
        rig.sandbox.ledger.faults.append(Fault("operation", "POST", "adobe_emailsends", 401, skip=40, times=60))
        await loop.settle(*(rig.event(number) for number in range(10, 110)))

        assert len(rig.sandbox.timeline(rig.person)) == 110
        assert rig.sandbox.service.operations - before == 100, "something was written twice"
        assert rig.sandbox.ledger.requests["POST token"] == tokens + 1
        assert rig.sandbox.ledger.statuses[401] == 0, "a call was made with the token that had ended"
        assert loop.letters.letters == []


@pytest.mark.parametrize("code", ["0x80040265", "0x80044331"])
async def test_one_bad_item_in_a_batch_of_a_hundred_is_a_dead_letter_alone(code: str) -> None:
    async with a_rig(SystemClock()) as rig, rig.running() as loop:
        await loop.settle(*(rig.event(number) for number in range(10)))
        before = batches(rig)
        rig.sandbox.ledger.faults.append(fault := Fault("operation", "POST", "adobe_emailsends", 400, code, skip=50, times=1))
        await loop.settle(*(rig.event(number) for number in range(10, 110)))

        assert (batches(rig) - before, fault.struck) == (1, 1)
        assert len(rig.sandbox.timeline(rig.person)) == 10 + 99
        assert [letter.error.code for letter in loop.letters.letters] == ["activity_refused"]


@pytest.mark.parametrize(("status", "code"), [(500, "0x80044151"), (503, "0x8004a001"), (502, ""), (503, ""), (504, "")])
async def test_an_item_that_the_service_is_too_busy_for_is_tried_for_as_long_as_it_takes(status: int, code: str) -> None:
    async with a_rig() as rig, rig.running() as loop:
        rig.sandbox.ledger.faults.append(Fault("operation", "POST", "adobe_emailsends", status, code, times=20))
        await loop.settle(rig.event())

        assert (len(rig.sandbox.timeline(rig.person)), batches(rig)) == (1, 21)
        assert loop.letters.letters == []


async def test_an_item_that_fails_without_a_reason_is_a_dead_letter_after_eight_tries() -> None:
    async with a_rig() as rig, rig.running() as loop:
        rig.sandbox.ledger.faults.append(Fault("operation", "POST", "adobe_emailsends", 500, "0x80040216"))
        await loop.settle(rig.event())

        assert [(letter.error.code, letter.attempts) for letter in loop.letters.letters] == [("target_error", 8)]
