"""The writers' consumer against a real Kafka: what is read, when offsets are committed, who reads which partition."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from bridge.kafka.client import FencedError
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import ingress_topics, workflow_topics
from bridge.model.errors import HaltError
from tests.contract.broker import eventually, fill, make, producing
from tests.contract.consuming import LIVE, REPLAY, Member, caught_up, consuming, lag, publish


@pytest.fixture
def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    make(kafka_settings, *ingress_topics(["contact"]), *workflow_topics("ingress"))
    return kafka_settings


def committed(settings: KafkaSettings, topic: str, partition: int) -> int | None:
    return next(at for name, number, at, _ in lag(settings) if (name, number) == (topic, partition))


async def test_a_record_comes_as_it_is_in_kafka(settings: KafkaSettings) -> None:
    async with producing(settings) as producer:
        await producer.send(settings.topic_prefix + LIVE, b"key", b"value", (("traceparent", b"t"), ("odd", b"\xff")), 2)

    async with consuming(settings) as (member, _):
        await eventually(lambda: member.taken)

    (record,) = member.taken
    assert (record.topic, record.partition, record.offset, record.key, record.value) == (LIVE, 2, 0, b"key", b"value")
    assert tuple(record.headers) == (("traceparent", b"t"), ("odd", b"\xff"))
    assert record.timestamp_ms > 1_700_000_000_000


async def test_a_group_that_never_committed_begins_at_the_beginning_in_order(settings: KafkaSettings) -> None:
    await fill(settings, LIVE, ["k"] * 2000, partition=1)

    async with consuming(settings) as (member, _):
        await eventually(lambda: len(member.taken) == 2000)

    assert member.values() == [str(n) for n in range(2000)]


async def test_an_offset_is_committed_only_when_all_before_it_are_settled(settings: KafkaSettings) -> None:
    await fill(settings, LIVE, ["k"] * 5, partition=0)

    async with consuming(settings) as (member, _):
        member.holds.add(LIVE)
        await eventually(lambda: len(member.held) == 5)
        member.settle(*member.held[:2], *member.held[3:])
        await asyncio.sleep(2.5)  # two rounds of commits
        assert await asyncio.to_thread(committed, settings, LIVE, 0) == 2

        member.settle(member.held[2])
        assert await caught_up(settings)

    assert committed(settings, LIVE, 0) == 5


async def test_what_was_not_settled_is_read_again_after_a_restart(settings: KafkaSettings) -> None:
    await fill(settings, LIVE, ["k"] * 5, partition=0)
    async with consuming(settings) as (member, _):
        member.holds.add(LIVE)
        await eventually(lambda: len(member.held) == 5)
        member.settle(*member.held[:2])

    async with consuming(settings) as (again, _):
        await eventually(lambda: len(again.taken) >= 3)

    assert again.values() == ["2", "3", "4"]


async def test_leaving_commits_what_was_settled_last(settings: KafkaSettings) -> None:
    await fill(settings, LIVE, ["k"] * 5, partition=0)

    async with consuming(settings) as (member, _):
        await eventually(lambda: len(member.taken) == 5)

    assert committed(settings, LIVE, 0) == 5
    assert member.released[0] == {0, 1, 2}


async def test_commits_reach_the_end_past_transaction_markers_on_every_partition(settings: KafkaSettings) -> None:
    """Lag 0 is what people wait for: a marker at the end, or a partition that was never touched, must not hold it up."""
    await publish(settings, LIVE, "a", "b", "c", "d")

    async with consuming(settings) as (member, _):
        await eventually(lambda: len(member.taken) == 4)
        assert await caught_up(settings), lag(settings)

        await publish(settings, LIVE, "e")
        await publish(settings, REPLAY, "f")
        await eventually(lambda: len(member.taken) == 6)
        assert await caught_up(settings), lag(settings)

    assert len(lag(settings)) == 6


async def test_aborted_records_are_never_seen_and_leave_no_lag(settings: KafkaSettings) -> None:
    from confluent_kafka import Producer

    def abort() -> None:
        producer = Producer(settings.client(transactional_id=f"{settings.topic_prefix}other"))
        producer.init_transactions(10)
        producer.begin_transaction()
        for number in range(3):
            producer.produce(settings.topic_prefix + LIVE, b"aborted", b"k", number)
        producer.flush(10)
        producer.abort_transaction(10)

    async with consuming(settings) as (member, _):
        await publish(settings, LIVE, "before")
        await asyncio.to_thread(abort)
        await publish(settings, LIVE, "after")
        await eventually(lambda: len(member.taken) == 2)
        await asyncio.to_thread(abort)

        assert await caught_up(settings), lag(settings)

    assert member.values() == ["before", "after"]


async def test_two_members_share_the_partitions_and_both_lanes_of_one_go_together(settings: KafkaSettings) -> None:
    async with consuming(settings, "w1") as (first, _), consuming(settings, "w2") as (second, _):
        await eventually(lambda: first.owned and second.owned and not first.owned & second.owned)
        assert first.owned | second.owned == {0, 1, 2}

        for topic in (LIVE, REPLAY):
            await fill(settings, topic, [f"k{n}" for n in range(60)])
        await eventually(lambda: len(first.taken) + len(second.taken) == 120)

    for member in (first, second):
        assert {record.partition for record in member.taken if record.topic == LIVE} == {
            record.partition for record in member.taken if record.topic == REPLAY
        }


async def test_when_a_member_leaves_the_other_goes_on_where_it_stopped(settings: KafkaSettings) -> None:
    async with consuming(settings, "w1") as (first, _):
        async with consuming(settings, "w2") as (second, _):
            await eventually(lambda: first.owned and second.owned and not first.owned & second.owned)
            await fill(settings, LIVE, [f"k{n}" for n in range(60)])
            await eventually(lambda: len(first.taken) + len(second.taken) == 60)
        await eventually(lambda: first.owned == {0, 1, 2}, 30)  # a static member is missed after its session timeout
        await fill(settings, LIVE, [f"k{n}" for n in range(60)])
        await eventually(lambda: len(first.taken) + len(second.taken) == 120)
        assert await caught_up(settings), lag(settings)

    seen = [(record.partition, record.offset) for member in (first, second) for record in member.taken]
    assert len(set(seen)) == 120


async def test_backpressure_pauses_one_topic_while_the_other_flows(settings: KafkaSettings) -> None:
    async with consuming(settings) as (member, _):
        await eventually(lambda: member.owned)
        member.full_topics.add(REPLAY)
        await asyncio.sleep(0.3)
        await fill(settings, REPLAY, ["k"] * 50, partition=0)
        await fill(settings, LIVE, ["k"] * 50, partition=0)
        await eventually(lambda: len(member.values(LIVE)) == 50)
        await asyncio.sleep(0.5)
        assert member.values(REPLAY) == []

        member.full_topics.clear()
        await eventually(lambda: len(member.values(REPLAY)) == 50)

    for topic in (LIVE, REPLAY):
        assert member.values(topic) == [str(n) for n in range(50)]


async def test_a_paused_member_stays_in_its_group(settings: KafkaSettings) -> None:
    async with consuming(settings) as (member, run):
        await eventually(lambda: member.owned)
        member.full_topics.update((LIVE, REPLAY))
        await asyncio.sleep(12)  # longer than the session timeout
        await fill(settings, LIVE, ["k"])
        member.full_topics.clear()
        await eventually(lambda: member.taken)
        assert not run.done()

    assert len(member.gained) == 1


async def test_the_order_of_a_partition_survives_pauses(settings: KafkaSettings) -> None:
    await fill(settings, LIVE, ["k"] * 20_000, partition=0)

    async with consuming(settings) as (member, _):
        for _ in range(20):
            member.full_topics.add(LIVE)
            await asyncio.sleep(0.06)
            member.full_topics.clear()
            await asyncio.sleep(0.06)
        await eventually(lambda: len(member.taken) == 20_000)

    offsets = [record.offset for record in member.taken]
    assert all(later == earlier + 1 for earlier, later in pairwise(offsets))


async def test_records_deleted_before_they_were_read_halt_the_workflow(settings: KafkaSettings) -> None:
    await fill(settings, LIVE, ["k"] * 5, partition=0)
    async with consuming(settings) as (member, _):
        await eventually(lambda: len(member.taken) == 5)
    await fill(settings, LIVE, ["k"] * 5, partition=0)
    admin = AdminClient(settings.client())
    for future in admin.delete_records([TopicPartition(settings.topic_prefix + LIVE, 0, 8)]).values():
        future.result(10)

    async with consuming(settings) as (again, run):
        with pytest.raises(HaltError) as caught:
            await asyncio.wait_for(run, 20)

    assert caught.value.code == "backlog_expired"
    assert again.values() == []

    async with consuming(settings) as (third, run):  # it was told: what is left goes on
        await eventually(lambda: len(third.taken) == 2)
        assert not run.done()


async def test_records_deleted_together_with_the_offsets_are_told_once(settings: KafkaSettings) -> None:
    """Both are kept for seven days: after a longer stop nothing says how much of them was dealt with."""
    await fill(settings, LIVE, ["k"] * 5, partition=0)
    admin = AdminClient(settings.client())
    for future in admin.delete_records([TopicPartition(settings.topic_prefix + LIVE, 0, 3)]).values():
        future.result(10)

    async with consuming(settings) as (first, run):
        with pytest.raises(HaltError) as caught:
            await asyncio.wait_for(run, 20)
    assert (caught.value.code, first.taken) == ("backlog_expired", [])

    async with consuming(settings) as (again, run):
        await eventually(lambda: len(again.taken) == 2)
        assert not run.done()


@pytest.mark.parametrize("where", ["offer", "gain", "release"])
async def test_a_fault_in_what_the_thread_calls_ends_the_run_with_it(settings: KafkaSettings, where: str) -> None:
    """Else it would say RUNNING and do nothing."""
    await fill(settings, LIVE, ["k"], partition=0)

    def broken(*_: object) -> None:
        raise LookupError("a fault of ours")

    async def broken_later(*_: object) -> None:
        broken()

    async with consuming(settings) as (member, run):
        setattr(member, where, broken if where == "offer" else broken_later)
        if where == "release":
            await eventually(lambda: member.taken)
            await member.records.close()
        with pytest.raises(LookupError):
            await asyncio.wait_for(run, 20)


async def test_records_deleted_after_they_were_settled_are_no_matter(settings: KafkaSettings) -> None:
    await fill(settings, LIVE, ["k"] * 5, partition=0)
    async with consuming(settings) as (member, _):
        await eventually(lambda: len(member.taken) == 5)
    admin = AdminClient(settings.client())
    for future in admin.delete_records([TopicPartition(settings.topic_prefix + LIVE, 0, 5)]).values():
        future.result(10)

    async with consuming(settings) as (again, run):
        await fill(settings, LIVE, ["k"], partition=0)
        await eventually(lambda: again.taken)
        assert not run.done()


async def test_of_two_processes_with_one_instance_id_the_first_is_fenced(settings: KafkaSettings) -> None:
    """bridge.service makes `instance_id_conflict` of it when it happens again and again."""
    async with consuming(settings, "same") as (first, run):
        await eventually(lambda: first.owned)
        async with consuming(settings, "same") as (second, other):
            with pytest.raises(FencedError):
                await asyncio.wait_for(asyncio.shield(run), 30)
            await eventually(lambda: second.owned)
            assert not other.done()
            await fill(settings, LIVE, ["k"])
            await eventually(lambda: second.taken)
    assert first.taken == []


def held_up(member: Member) -> None:
    """As after SIGSTOP and SIGCONT."""
    member.lease._renewed -= 60


async def test_a_lease_that_ran_out_is_renewed_when_the_group_has_confirmed_us(settings: KafkaSettings) -> None:
    await fill(settings, LIVE, ["k"] * 5, partition=0)
    async with consuming(settings) as (member, _):
        member.holds.add(LIVE)
        await eventually(lambda: len(member.held) == 5)
        member.settle(*member.held[:2])
        held_up(member)

        await eventually(lambda: not member.lease.stale())

        assert await asyncio.to_thread(committed, settings, LIVE, 0) == 2


async def test_a_lease_is_not_renewed_before_there_is_anything_to_ask_the_group_with(settings: KafkaSettings) -> None:
    """Nothing read, nothing committed: no record is in hand either."""
    member = Member(settings, "w1")  # it has not joined
    held_up(member)

    member.records._confirm()

    assert member.lease.stale()


async def test_a_member_that_was_replaced_keeps_its_lease_stale(settings: KafkaSettings) -> None:
    await fill(settings, LIVE, ["k"] * 5, partition=0)
    async with consuming(settings, "same") as (first, run):
        first.holds.add(LIVE)
        await eventually(lambda: len(first.held) == 5)
        async with consuming(settings, "same") as (second, _):
            await eventually(lambda: second.owned)
            held_up(first)
            with pytest.raises(FencedError):
                await asyncio.wait_for(asyncio.shield(run), 30)

        assert first.lease.stale()
