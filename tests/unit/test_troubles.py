"""What keeps a run from its work: calls that hang, waits that were asked for, a group that does not take us in; and since when."""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from bridge.http.gate import HANGS_S, Gate, Pause
from bridge.kafka.membership import PATIENCE_S, Membership
from bridge.model.desired import Reason
from bridge.model.errors import RetryError
from bridge.process import lasting as lasting_module
from bridge.process.lasting import Lasting
from bridge.process.troubles import first_trouble
from tests.clock import FakeClock

MET = RetryError("PATCH /x: ConnectError", code="network")
REASON = Reason("network", "PATCH /x: ConnectError", "", "service")


def an_answer(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=headers, request=httpx.Request("GET", "https://c.example/"))


async def test_a_call_that_hangs_is_trouble_unless_another_is_answered_meanwhile() -> None:
    clock, pause = FakeClock(), Pause(system="Campaign")
    gate = Gate(4, clock, pause=pause)

    async with gate.call():
        clock.advance(HANGS_S - 1)
        assert pause.trouble(clock.monotonic()) is None
        clock.advance(5)
        found = pause.trouble(clock.monotonic())
        assert found is not None
        assert (found[0].code, str(found[0]), found[1]) == ("network", "Campaign does not answer", HANGS_S + 4)
        async with gate.call():
            gate.heed(an_answer(200), clock.now())
        assert pause.trouble(clock.monotonic()) is None
    clock.advance(1000)
    assert pause.trouble(clock.monotonic()) is None, "nothing is under way"


async def test_a_wait_that_was_asked_for_is_trouble_until_it_is_over() -> None:
    clock, pause = FakeClock(), Pause(system="Dynamics")
    Gate(4, clock, pause=pause).heed(an_answer(429, **{"retry-after": "40"}), clock.now())

    found = pause.trouble(clock.monotonic())
    assert found is not None
    assert (found[0].code, str(found[0])) == ("busy", "Dynamics asked to wait 40 s more")
    clock.advance(41)
    assert pause.trouble(clock.monotonic()) is None


async def test_what_hangs_tells_more_than_the_failure_before_it_and_the_group_more_than_both() -> None:
    clock, pause = FakeClock(), Pause(system="Campaign")
    outside = Membership("g", clock.monotonic)
    member = Membership("g", clock.monotonic)
    member.assigned()

    assert first_trouble(None, member, [pause], clock) == (None, 0.0)
    assert first_trouble(MET, member, [pause], clock) == (MET, 0.0)
    async with Gate(4, clock, pause=pause).call():
        clock.advance(60)
        hanging, lasted_s = first_trouble(MET, member, [Pause(), pause], clock)
        assert (str(hanging), lasted_s) == ("Campaign does not answer", 60)
        alone, _ = first_trouble(MET, outside, [pause], clock)
        assert isinstance(alone, RetryError)
        assert alone.code == "group_not_joined"


def test_a_member_is_in_from_its_assignment_to_its_end_and_a_rebalance_is_no_trouble() -> None:
    clock = FakeClock()
    member = Membership("ingress", clock.monotonic)
    clock.advance(PATIENCE_S + 1)
    assert not member.joined
    found = member.trouble()
    assert found is not None
    assert (found[0].code, found[1]) == ("group_not_joined", PATIENCE_S + 1)

    member.assigned()
    member.left()
    clock.advance(PATIENCE_S - 1)
    member.left()
    assert (member.joined, member.trouble()) == (True, None)
    clock.advance(2)
    assert member.trouble() is not None, "since it left first"
    member.assigned()
    assert member.trouble() is None


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(lasting_module, "log", lambda event, *level, **facts: lines.append(f"{event} {facts['code']}"))
    return lines


def test_trouble_lasts_while_there_is_any_and_is_logged_once_when_it_begins_and_once_when_it_ends(said: list[str]) -> None:
    clock = FakeClock()
    lasting, began = Lasting(clock), clock.now()

    assert lasting.since(REASON) == began
    clock.advance(10)
    assert lasting.since(Reason("busy", "", "", "service")) == began, "another one is no break"
    assert said == []
    clock.advance(6)
    for _ in range(3):
        assert lasting.since(REASON) == began
    assert said == ["trouble_lasts network"]
    assert lasting.since(None) is None
    assert lasting.since(None) is None
    assert said == ["trouble_lasts network", "trouble_over network"]


def test_what_has_hung_for_a_while_began_then_and_what_is_over_soon_is_not_logged(said: list[str]) -> None:
    clock = FakeClock()
    lasting = Lasting(clock)

    assert lasting.since(REASON, 12.0) == clock.now() - timedelta(seconds=12)
    assert lasting.since(None) is None
    assert said == []
