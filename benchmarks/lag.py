"""What one look at the lag of 960 partitions costs the brokers: requests and their time, as librdkafka itself notes them."""

from __future__ import annotations

import logging
import re
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

from confluent_kafka import Consumer, TopicPartition

from benchmarks.measure import Figure
from bridge.kafka import lag
from bridge.kafka.client import client_config
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topics, ingress_topics
from sandbox.kafka import LocalKafka
from sandbox.kafka.local import fetch, free_port

TABLES, PARTITIONS, LOOKS = 20, 24, 30
EVERY_S = 1.0  # as control looks
RECEIVED = re.compile(r"Received (\w+)Response .*?rtt ([0-9.]+)ms")


class Heard(logging.Handler):
    """Requests by kind, and the milliseconds until their answers, from librdkafka's protocol log."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: Counter[str] = Counter()
        self.milliseconds = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        if found := RECEIVED.search(record.getMessage()):
            self.requests[found[1]] += 1
            self.milliseconds += float(found[2])


def run() -> list[Figure]:
    home = Path(tempfile.mkdtemp())
    kafka = LocalKafka(home, free_port(), free_port())
    fetch()
    kafka.start_kafka()
    kafka.wait_kafka()
    try:
        return _measured(KafkaSettings(bootstrap_servers=kafka.bootstrap, partitions=PARTITIONS))
    finally:
        kafka.down()


def _measured(settings: KafkaSettings) -> list[Figure]:
    heard, logger = Heard(), logging.getLogger("protocol")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(heard)

    def config(settings: KafkaSettings, **more: Any) -> dict[str, Any]:
        return client_config(settings, **more) | {"debug": "protocol", "log_level": 7, "logger": logger}

    topics = _prepared(settings)
    with patch.object(lag, "client_config", config):
        reader = lag.LagReader(settings)
        reader.group("ingress", topics)  # connects
        _drain(reader)
        heard.requests.clear()
        heard.milliseconds = 0.0
        walls = []
        for _ in range(LOOKS):
            began = time.perf_counter()
            found = reader.group("ingress", topics)
            walls.append((time.perf_counter() - began) * 1000)
            time.sleep(max(0.0, EVERY_S - (time.perf_counter() - began)))
        _drain(reader)
    partitions = sum(len(each) for each in found.topics.values())
    to_coordinator = heard.requests["OffsetFetch"] + heard.requests["DescribeGroups"] + heard.requests["ConsumerGroupDescribe"]
    return [
        Figure("partitions looked at", partitions, "", (">=", 960)),
        Figure("broker time of one look", heard.milliseconds / LOOKS, "ms", ("<=", 25)),
        Figure("requests to the coordinator, one look", to_coordinator / LOOKS, "", ("<=", 2)),
        Figure("requests to the leader, one look", heard.requests["ListOffsets"] / LOOKS, "", ("<=", 1)),
        Figure("other requests (metadata), one look", heard.requests["Metadata"] / LOOKS, ""),
        Figure("requests of all kinds, one look", heard.requests.total() / LOOKS, "", ("<=", 3)),
        Figure("one look, in all, median", statistics.median(walls), "ms"),
    ]


def _prepared(settings: KafkaSettings) -> list[str]:
    wanted = ingress_topics([f"table{number}" for number in range(TABLES)])
    Topics(settings).ensure(wanted)
    topics = [topic.name for topic in wanted]
    consumer = Consumer(client_config(settings, group_id="ingress"))
    offsets = [TopicPartition(topic, number, 0) for topic in topics for number in range(PARTITIONS)]
    consumer.commit(offsets=offsets, asynchronous=False)
    consumer.close()
    return topics


def _drain(reader: lag.LagReader) -> None:
    """Lets both clients hand over their log lines."""
    for _ in range(20):
        reader._admin.poll(0.05)
        for asker in reader._askers.values():
            asker.poll(0.05)
