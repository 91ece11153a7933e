"""Batches of observations through the resolver: what goes out, in which order, and what holds when Kafka does not take it."""

from __future__ import annotations

import asyncio

import pytest

from bridge.consent.guard import LOWER, Ask
from bridge.model.errors import HaltError, RetryError
from tests.flow.resolving import Bench

ADA, BOB = "aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"


async def test_a_batch_is_resolved_in_order_contact_by_contact() -> None:
    bench = Bench()
    resolver = await bench.resolver()

    await resolver.take(
        [
            bench.observed(ADA, "dynamics", 1, donotemail=False),
            bench.observed(BOB, "dynamics", 1, donotemail=True),
            bench.observed(ADA, "campaign", 2, blackListEmail=True),
            bench.observed(ADA, "campaign", 3, blackListEmail=False),
        ]
    )

    assert [each for each in bench.said() if each[0] == BOB] == [(BOB, "campaign", {"blackListEmail": True})]
    assert [each for each in bench.said() if each[0] == ADA] == [
        (ADA, "dynamics", {"donotemail": True}),
        (ADA, "dynamics", {"donotemail": False}),
    ]
    assert sorted(mark or b"" for mark in bench.marks("decides")) == [b"opt-in", b"opt-out", b"opt-out"]


async def test_the_state_holds_no_value_and_every_decision_names_its_trace_target_and_flags() -> None:
    bench = Bench()
    record = bench.observed(ADA, "dynamics", 1, donotemail=True, donotphone=True)

    await (await bench.resolver()).take([record])

    (known,) = bench.state.known.values()
    assert not {b"true", b"false"} & set(known.to_json().replace(b'"exists":true,"gone":false,"visible":false', b"").split(b":"))
    (_, headers), *others = bench.decided
    told = dict(headers)
    assert not others
    assert told["traceparent"].split(b"-")[1] == dict(record.headers)["traceparent"].split(b"-")[1]
    assert (told["target"], told["flags"], told["origin-lane"]) == (b"campaign", b"blackListEmail,blackListPhone", b"live")


async def test_decisions_go_out_before_the_state_so_that_a_crash_between_repeats_them() -> None:
    bench = Bench()
    record = bench.observed(ADA, "dynamics", 1, donotemail=True)
    bench.state.broken = 10**6

    with pytest.raises(TimeoutError):  # the process dies while it waits for Kafka
        await asyncio.wait_for((await bench.resolver()).take([record]), 0.2)
    bench.state.broken = 0
    await (await bench.resolver()).take([record])

    assert bench.said() == [(ADA, "campaign", {"blackListEmail": True})] * 2
    assert len(bench.state.known) == 1


async def test_it_waits_for_kafka_and_loses_nothing() -> None:
    bench = Bench(unsent=3)

    await (await bench.resolver()).take([bench.observed(ADA, "dynamics", 1, donotemail=True)])

    assert bench.said() == [(ADA, "campaign", {"blackListEmail": True})]
    assert len(bench.clock.slept) == 3


async def test_what_came_twice_or_late_decides_nothing() -> None:
    bench = Bench()
    resolver = await bench.resolver()
    first, second = bench.observed(ADA, "campaign", 1, blackListEmail=False), bench.observed(ADA, "campaign", 2, blackListEmail=True)

    await resolver.take([first, second])
    await resolver.take([first, second, first])

    assert bench.said() == [(ADA, "dynamics", {"donotemail": True})]


async def test_an_observation_that_cannot_be_read_is_a_dead_letter_and_the_rest_goes_on() -> None:
    bench = Bench()
    other = bench.observed(ADA, "dynamics", 1, donotemail=True)
    misplaced = bench.record(BOB, other.value or b"")

    resolver = await bench.resolver()
    await resolver.take([bench.record(ADA, b"poison"), misplaced, other])

    assert [each.error.code for each in bench.letters.letters] == ["not_avro", "misplaced"]
    assert len(bench.decided) == 1
    assert resolver.counters["dead_lettered"] == 2


async def test_nothing_but_poison_halts() -> None:
    bench = Bench()
    resolver = await bench.resolver()

    with pytest.raises(HaltError) as halted:
        await resolver.take([bench.record(ADA, b"poison") for _ in range(200)])

    assert halted.value.code == "too_many_dead_letters"


async def test_a_partition_that_was_given_away_is_not_touched() -> None:
    bench = Bench()
    resolver = await bench.resolver()

    await resolver.lose([0])

    with pytest.raises(RetryError):
        await resolver.take([bench.observed(ADA, "dynamics", 1, donotemail=True)])
    assert bench.decided == []


async def releasing(bench: Bench, *contacts: str) -> None:
    """Everybody opts out on both sides, then in again in Campaign."""
    resolver = await bench.resolver()
    for contact in contacts:
        await resolver.take([bench.observed(contact, "campaign", 1, blackListEmail=True, blackListPhone=False)])
        await resolver.take([bench.observed(contact, "dynamics", 2, donotemail=True, donotphone=False)])
    bench.decided.clear()
    await resolver.take([bench.observed(each, "campaign", 3, blackListEmail=False, blackListPhone=True) for each in contacts])


async def test_a_release_beyond_the_limit_is_held_and_the_opt_out_that_came_with_it_is_not() -> None:
    bench = Bench(limit=1)

    await releasing(bench, ADA, BOB)

    assert bench.said() == [
        (ADA, "dynamics", {"donotemail": False, "donotphone": True}),
        (BOB, "dynamics", {"donotphone": True}),
        (BOB, "dynamics", {"donotemail": False}),
    ]
    assert bench.marks("guard") == [None, None, b"held"]


async def test_what_was_lowered_before_a_restart_counts() -> None:
    bench = Bench(limit=1)
    await releasing(bench, BOB)

    await releasing(bench, ADA)  # by a resolver that has just begun

    assert bench.marks("guard") == [None, b"held"]


async def test_what_ingress_has_lowered_counts_as_well() -> None:
    bench = Bench(limit=1)
    bench.passed.append((Ask(LOWER, "ingress/contact/somebody/blackListEmail@0.7", 1), bench.clock.now()))

    await releasing(bench, ADA)

    assert bench.marks("guard") == [None, b"held"]


async def test_a_lower_that_is_decided_again_counts_once_and_stays_held() -> None:
    bench = Bench(limit=1)
    await releasing(bench, ADA)
    bench.state.known.clear()
    await releasing(bench, ADA)  # the same word again, after lost state
    await releasing(bench, BOB)
    assert bench.marks("guard") == [None, b"held"]

    bench.clock.advance(7200)
    bench.state.known.clear()
    await releasing(bench, BOB)

    assert bench.marks("guard") == [None, b"held"]


async def test_an_opt_out_of_a_merged_contact_goes_over_to_the_one_that_is_kept() -> None:
    bench = Bench()
    resolver = await bench.resolver()
    await resolver.take([bench.observed(ADA, "dynamics", 1, donotemail=True), bench.observed(BOB, "dynamics", 1, donotemail=False)])
    bench.decided.clear()

    await resolver.take([bench.merged_into(ADA, BOB, 2, donotemail=True)])
    (carried,) = bench.carried
    await resolver.take([bench.as_carried(carried)])

    assert (carried.contact_key, carried.flags["donotemail"]["value"]) == (BOB, True)
    assert bench.said() == [(BOB, "dynamics", {"donotemail": True}), (BOB, "campaign", {"blackListEmail": True})]


async def test_a_word_said_of_the_merged_contact_afterwards_goes_over_as_well() -> None:
    bench = Bench()
    resolver = await bench.resolver()
    await resolver.take([bench.merged_into(ADA, BOB, 2, donotemail=False)])
    assert bench.carried == []

    await resolver.take([bench.observed(ADA, "campaign", 3, blackListEmail=True)])

    assert [each.contact_key for each in bench.carried] == [BOB]


async def test_a_load_carries_the_opt_outs_of_merged_contacts_once_more() -> None:
    """It follows a change of the mapping, and what was not mapped before has not gone over."""
    bench = Bench()
    resolver = await bench.resolver()
    for lane in ("live", "live", "resync"):
        await resolver.take([bench.merged_into(ADA, BOB, 2, lane, donotemail=True)])

    assert [each.contact_key for each in bench.carried] == [BOB, BOB]


async def test_merged_opt_outs_are_only_reported_where_that_was_chosen() -> None:
    bench = Bench(merged="report")

    await (await bench.resolver()).take([bench.merged_into(ADA, BOB, 2, donotemail=True)])

    assert bench.carried == []


async def test_a_call_off_in_campaign_is_no_release() -> None:
    bench = Bench(limit=0)
    resolver = await bench.resolver()

    await resolver.take([bench.observed(ADA, "dynamics", 1, donotemail=True), bench.observed(ADA, "dynamics", 2, donotemail=False)])

    assert bench.said() == [(ADA, "campaign", {"blackListEmail": True}), (ADA, "campaign", {"blackListEmail": False})]
    assert bench.marks("guard") == [None, None]
