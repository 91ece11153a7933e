"""What processes, a broker and folders show from outside: memory, heap, requests, connections, bytes on disk."""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sandbox.kafka import LocalKafka
from sandbox.kafka.local import free_port

ESTABLISHED = "01"
REQUESTS = "kafka.network:type=RequestMetrics,name=RequestsPerSec,request=*,*"
TWICE = "Fetch"  # counted as FetchConsumer or FetchFollower, too
COUNTED = re.compile(r"request=(\w+).*?:Count=(\d+)")


def peak_mib(pid: int) -> float:
    """The largest resident size a process has had so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def folder_bytes(folder: Path, pattern: str = "*") -> int:
    """Of all files below `folder` with such a name, 0 for one that has gone meanwhile."""
    total = 0
    for each in folder.rglob(pattern):
        with suppress(FileNotFoundError):
            total += each.stat().st_size if each.is_file() else 0
    return total


def connections(port: int) -> int:
    """Established connections to a port of this machine, each counted at its server's end."""
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    rows = [line.split() for line in lines]
    return sum(int(row[1].rpartition(":")[2], 16) == port and row[3] == ESTABLISHED for row in rows)


class Broker:
    """A local Kafka whose requests can be counted: JMX on the loopback address."""

    def __init__(self, kafka: LocalKafka) -> None:
        self.kafka, self._jmx = kafka, free_port()

    def up(self) -> None:
        with self._listening():
            self.kafka.up(registry=False)
        self.kafka.up()

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """For the one process that is started meanwhile."""
        prefix = "-Dcom.sun.management.jmxremote"
        ports = f"{prefix}.port={self._jmx} {prefix}.rmi.port={self._jmx} {prefix}.host=127.0.0.1"
        os.environ["JAVA_TOOL_OPTIONS"] = f"{ports} {prefix}.authenticate=false {prefix}.ssl=false -Djava.rmi.server.hostname=127.0.0.1"
        try:
            yield
        finally:
            del os.environ["JAVA_TOOL_OPTIONS"]

    def pid(self, name: str = "kafka") -> int:
        return int((self.kafka.home / f"{name}.pid").read_text())

    def requests(self) -> Counter[str]:
        """Answered so far, by kind. Takes about a second."""
        url = f"service:jmx:rmi:///jndi/rmi://127.0.0.1:{self._jmx}/jmxrmi"
        arguments = ["--jmx-url", url, "--object-name", REQUESTS, "--attributes", "Count", "--one-time", "--report-format", "properties"]
        printed = self.kafka.tool("org.apache.kafka.tools.JmxTool", *arguments)
        found: Counter[str] = Counter()
        for kind, count in COUNTED.findall(printed):
            found[kind] += int(count)
        del found[TWICE]
        return found

    def heap_mib(self, name: str = "kafka") -> float:
        """What a Java process holds after a collection."""
        subprocess.run(["jcmd", str(self.pid(name)), "GC.run"], check=True, capture_output=True)
        printed = subprocess.run(["jcmd", str(self.pid(name)), "GC.heap_info"], check=True, capture_output=True, text=True).stdout
        return sum(int(used) for used in re.findall(r"(?:generation|heap)\s+total \d+K, used (\d+)K", printed)) / 1024

    def topic_bytes(self, topic: str) -> int:
        """Of a topic's records in all its partitions, as they lie on disk: compressed, with batches and transaction marks."""
        return sum(folder_bytes(each, "*.log") for each in (self.kafka.home / "kafka-data").glob(f"{topic}-[0-9]*"))
