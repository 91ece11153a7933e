"""Following a compacted topic: all that was there first, then every change, in order, without a group."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from structlog.testing import capture_logs

from bridge.kafka.follower import Entry, Followed, Follower
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import compacted
from bridge.model.errors import RetryError
from tests.contract.broker import eventually, fill, make, nowhere, producing

TOPIC = "control.workflows"


class Watch:
    """What a follower handed over."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.entries: list[Entry] = []
        self.follower = Follower(settings, Followed(settings.topic_prefix + TOPIC, 3, self.changed))

    def changed(self, entries: Sequence[Entry]) -> None:
        self.entries += entries


@pytest.fixture
async def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    make(kafka_settings, compacted(TOPIC))
    return kafka_settings


@pytest.fixture
async def watch(settings: KafkaSettings) -> AsyncIterator[Watch]:
    watch = Watch(settings)
    yield watch
    watch.follower.close()
    await eventually(lambda: not watch.follower._thread.is_alive())


async def test_start_returns_when_all_that_was_there_has_been_handed_over(settings: KafkaSettings, watch: Watch) -> None:
    await fill(settings, TOPIC, [f"k{n}" for n in range(3000)])

    await watch.follower.start()

    assert {entry.key for entry in watch.entries} == {f"k{n}" for n in range(3000)}
    assert all(entry.old for entry in watch.entries)


async def test_an_empty_topic_is_caught_up_with_at_once(watch: Watch) -> None:
    await watch.follower.start()

    assert watch.entries == []


async def test_what_comes_later_is_handed_over_in_order_and_is_not_old(settings: KafkaSettings, watch: Watch) -> None:
    await fill(settings, TOPIC, ["a"])
    await watch.follower.start()

    await fill(settings, TOPIC, ["a"] * 20)
    await eventually(lambda: len(watch.entries) == 21)

    later = watch.entries[1:]
    assert [entry.value for entry in later] == [str(n).encode() for n in range(20)]
    assert not any(entry.old for entry in later)


async def test_a_deletion_is_an_entry_without_value(settings: KafkaSettings, watch: Watch) -> None:
    await fill(settings, TOPIC, ["a"])
    await watch.follower.start()

    async with producing(settings) as producer:
        await producer.send(settings.topic_prefix + TOPIC, b"a", None)
    await eventually(lambda: len(watch.entries) == 2)

    assert (watch.entries[1].key, watch.entries[1].value) == ("a", None)


async def test_two_followers_both_get_everything(settings: KafkaSettings, watch: Watch) -> None:
    other = Watch(settings)
    await fill(settings, TOPIC, ["a", "b"])

    await watch.follower.start()
    await other.follower.start()

    assert sorted(entry.key for entry in watch.entries) == sorted(entry.key for entry in other.entries) == ["a", "b"]
    other.follower.close()
    await eventually(lambda: not other.follower._thread.is_alive())


async def test_kafka_that_is_away_is_a_retry(kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.kafka.follower.CATCH_UP_S", 1)
    watch = Watch(nowhere(kafka_settings))

    with pytest.raises(RetryError):
        await watch.follower.start()
    await eventually(lambda: not watch.follower._thread.is_alive())


async def test_a_fault_in_dealing_with_entries_is_one_line_of_the_log_and_what_comes_later_is_handed_over(
    settings: KafkaSettings, watch: Watch
) -> None:
    await watch.follower.start()
    taken = watch.follower._topics[settings.topic_prefix + TOPIC]
    met: list[str] = []

    def broken(entries: Sequence[Entry]) -> None:
        met.extend(each.key for each in entries)
        if "bad" in met and "good" not in met:
            raise LookupError("row of anna@example.com")

    watch.follower._topics[taken.topic] = Followed(taken.topic, 3, broken)
    with capture_logs() as lines:
        await fill(settings, TOPIC, ["bad"])
        await eventually(lambda: "bad" in met)
        await fill(settings, TOPIC, ["good"])
        await eventually(lambda: "good" in met)

    (line,) = [each for each in lines if each["event"] == "internal_fault"]
    assert (line["reason"], "anna" in str(line)) == ("LookupError", False)
