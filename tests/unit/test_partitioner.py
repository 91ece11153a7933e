"""bridge.kafka.partitioner: the partition a Java client or librdkafka's murmur2_random would choose (kafka.md)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.kafka.partitioner import murmur2, partition_for

PUBLISHED = {  # org.apache.kafka.common.utils.UtilsTest.testMurmur2
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "hashed"), PUBLISHED.items())
def test_the_hash_is_the_one_that_kafka_publishes(key: bytes, hashed: int) -> None:
    assert murmur2(key) == hashed % 2**32


@pytest.mark.parametrize(("key", "hashed"), PUBLISHED.items())
@pytest.mark.parametrize("partitions", [1, 3, 6, 50])
def test_the_partition_is_javas_to_positive_of_the_hash(key: bytes, hashed: int, partitions: int) -> None:
    assert partition_for(key, partitions) == (hashed & 0x7FFFFFFF) % partitions


@given(st.binary(max_size=64), st.integers(1, 1000))
def test_every_key_has_a_partition_and_always_the_same(key: bytes, partitions: int) -> None:
    assert 0 <= partition_for(key, partitions) < partitions
    assert partition_for(key, partitions) == partition_for(bytes(key), partitions)
