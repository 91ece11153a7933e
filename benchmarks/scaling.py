"""`python -m benchmarks.scaling --sizes 10000,100000,1000000 --json F`: what a record costs at several sizes, on one machine.

`--workloads contact,asset,optin,egress,tables,partition,comparison`: contacts with the default mapping, custom entities of fifty columns,
opt-in/out, e-mail events; so many tables at once; and without the rest of the pipeline a partition of the local copy, and the comparison
after a load.
Figures are added to F as they come. CPU seconds and bytes are hardly changed by other work on the machine; seconds are: they are marked
`wall`. Not part of `make bench`: a million contacts take about twenty minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import scaling_egress, scaling_local, scaling_optin
from benchmarks.lean import ASSET, ASSETS, asset_columns, asset_tables
from benchmarks.measure import cpu_s
from benchmarks.rig import Notes, Rig, rigged, told, until_told
from benchmarks.watch import connections, folder_bytes, peak_mib
from bridge.model.config import default_ingress
from tests.e2e.stack import Process, mapping

WRITERS = ("writer-1", "writer-2")
CHANGED = 0.1  # of the records, after the load
PATIENCE_S, LONGEST_S = 120, 3600
NOTED_EVERY = 100_000  # calls
ROWS_OF_MANY = 10_000  # of each of many tables
SETS = {"contact": ("contacts", "profile"), ASSET: (f"{ASSET}s", ASSETS)}


async def ingress(notes: Notes, name: str, records: int, longest_s: float) -> None:
    """Load, live changes, idle, restart with and without the local copy. A load that takes longer is stopped where it is: its figures are
    those of the records that were written, and changes and idling are left out."""
    source = {"contact": "contact", "asset": ASSET}[name]
    async with rigged(notes, "ingress", records, int(source == ASSET)) as rig:
        stack = rig.stack
        if source == ASSET:
            await stack.configure(*mapped_assets(1))
        else:
            await stack.save(default_ingress().model_dump(mode="json"))
        before = rig.broker.requests()
        written = await _load(rig, source, records, longest_s)
        made = rig.broker.requests() - before
        notes.each("requests to Kafka per record", made.total(), written)
        notes.note("connections to Kafka, four services and control", connections(rig.broker.kafka.port))
        _sizes(rig, source, records, written)
        if written == records:
            await _changes(rig, source, int(records * CHANGED))
            await rig.idle(f"GET {SETS[source][0]}")
        rig.peaks("of the load")
        await _restarts(rig, written)
        for java in ("kafka", "registry"):
            notes.note(f"heap after collection, {java}, MiB", rig.broker.heap_mib(java))


def mapped_assets(number: int) -> list[dict[str, Any]]:
    named = asset_tables(number).items()
    return [mapping(table, resource, (f"{table}id", "cusAssetId"), asset_columns()) for table, resource in named]


async def tables(notes: Notes, _: str, number: int) -> None:
    """So many custom entities of fifty columns are loaded at once, by one reader: what grows with their number is its memory."""
    async with rigged(notes, "ingress", ROWS_OF_MANY, number) as rig:
        await rig.stack.configure(*mapped_assets(number))
        reader = rig.stack.service("reader")
        await rig.stack.start(wait=False)
        await until_told(rig.stack, reader, "reconciled", LONGEST_S, number)
        await rig.idle(f"GET {ASSET}s")
        notes.note("peak memory of the load, reader, MiB", peak_mib(reader.popen.pid))
        notes.note("connections to Kafka, reader and control", connections(rig.broker.kafka.port))
        notes.note("heap after collection, kafka, MiB", rig.broker.heap_mib())


async def _load(rig: Rig, source: str, records: int, longest_s: float) -> int:
    """All at once, as in real life: the reader loads and compares, the writers write meanwhile. How many records were written."""
    stack, notes = rig.stack, rig.notes
    reader = stack.service("reader")
    for name in WRITERS:
        stack.service("writer", name)
    await stack.start(wait=False)
    await until_told(stack, reader, "load_started", PATIENCE_S)
    began, cpu, written, kafka = monotonic(), rig.cpu("reader-1"), rig.cpu(*WRITERS), rig.pids()["kafka"]
    broker = cpu_s(kafka)
    await until_told(stack, reader, "load_finished", LONGEST_S)
    loaded = rig.cpu("reader-1")
    notes.each("reader, load, CPU s per 1,000 records", (loaded - cpu) * 1000)
    notes.note("reader, load, wall s", monotonic() - began)
    notes.each("STATE_DIR bytes per record, reader's comparison", await _compared(rig))
    notes.each("reader, comparison, CPU s per 1,000 records", (rig.cpu("reader-1") - loaded) * 1000)
    notes.note("reader, load and comparison, wall s", monotonic() - began)
    notes.note("requests to Dynamics, load and comparison", (await rig.calls("dynamics"))[f"GET {SETS[source][0]}"])
    done = await _until_written(rig, source, "POST", records, began + longest_s)
    notes.note("records written", done)
    notes.each("writers, CPU s per 1,000 records", (rig.cpu(*WRITERS) - written) * 1000, done)
    notes.each("Kafka, CPU s per 1,000 records", (cpu_s(kafka) - broker) * 1000, done)
    notes.note("load, wall s", monotonic() - began)
    return done


async def _compared(rig: Rig) -> int:
    """Waits until keys and versions have been compared; the largest size of the file they were compared in."""
    largest, reader = 0, rig.stack.processes["reader-1"]

    async def done() -> bool:
        nonlocal largest
        largest = max(largest, folder_bytes(rig.stack.folder / "state-reader-1"))
        return bool(told(reader, "reconciled"))

    await rig.stack.until(done, "the load is compared", LONGEST_S)
    return largest


async def _until_written(rig: Rig, source: str, method: str, number: int, deadline: float = math.inf) -> int:
    """Until so many calls were made, or `deadline` (monotonic) has come; how many were. Some calls in between are noted, so that a cost
    that grows on the way shows."""
    wanted, cpu = f"{method} {SETS[source][1]}", rig.cpu(*WRITERS)
    at = made = (await rig.calls("campaign")).get(wanted, 0)
    while made < number and monotonic() < deadline:
        await asyncio.sleep(0.5)
        made = (await rig.calls("campaign")).get(wanted, 0)
        if made - at >= NOTED_EVERY:
            spent, cpu = rig.cpu(*WRITERS) - cpu, rig.cpu(*WRITERS)
            rig.notes.each(f"writers, {method} up to {made // NOTED_EVERY * NOTED_EVERY:,d}, CPU s per 1,000", spent * 1000, made - at)
            at = made
    if made < number:
        return made
    await rig.stack.until_caught_up(LONGEST_S)
    rig.notes.each(f"calls of Campaign per record, {method}", (await rig.calls("campaign"))[wanted], number)
    return number


def _sizes(rig: Rig, source: str, records: int, written: int) -> None:
    notes = rig.notes
    for topic, number in ((f"ingress.replay.{source}", records), ("ingress.state", written)):
        notes.each(f"Kafka bytes per record, {topic}", rig.broker.topic_bytes(topic), number)
    folders = [rig.stack.folder / f"state-{name}" for name in WRITERS]
    notes.note("STATE_DIR, files not yet merged (WAL), MiB", sum(folder_bytes(each, "*-wal") for each in folders) / 2**20)


async def _changes(rig: Rig, source: str, changed: int) -> None:
    """One column of a tenth of the records changes: one PATCH each."""
    reader, written = rig.cpu("reader-1"), rig.cpu(*WRITERS)
    await rig.asked("dynamics", f"numbered?touch={changed}", "POST")
    await _until_written(rig, source, "PATCH", changed)
    rig.notes.each("reader, a change, CPU s per 1,000", (rig.cpu("reader-1") - reader) * 1000, changed)
    rig.notes.each("writers, a change, CPU s per 1,000", (rig.cpu(*WRITERS) - written) * 1000, changed)
    rig.notes.each("Kafka bytes per change", rig.broker.topic_bytes(f"ingress.changes.{source}"), changed)


async def _restarts(rig: Rig, records: int) -> None:
    """One writer takes everything: first with the copies of its own partitions, then with none."""
    stack, notes = rig.stack, rig.notes
    folders = [stack.folder / f"state-{name}" for name in WRITERS]
    for name in WRITERS:
        await stack.processes[name].terminate(PATIENCE_S)
    notes.each("STATE_DIR bytes per record, writers", sum(folder_bytes(each) for each in folders), records)
    await rig.until_empty("ingress")
    for folder in folders:
        shutil.rmtree(folder)
    cold, last = await _caught_up(rig)
    notes.note("restart without local copy, records read back", sum(each["records"] for each in told(cold, "state_loaded")))
    notes.note("restart without local copy, wall s", _between(told(cold, "partitions_assigned")[0], last))
    spent = rig.cpu(WRITERS[0])
    notes.note("restart without local copy, peak memory of the writer, MiB", peak_mib(cold.popen.pid))
    await cold.terminate(PATIENCE_S)
    await rig.until_empty("ingress")
    warm, last = await _caught_up(rig)
    notes.note("restart with local copy, records read back", sum(each["records"] for each in told(warm, "state_loaded")))
    notes.note("restart with local copy, wall s", _between(told(warm, "partitions_assigned")[0], last))
    notes.each("restart without local copy, more CPU s than with it per 1,000 records", (spent - rig.cpu(WRITERS[0])) * 1000, records)


async def _caught_up(rig: Rig) -> tuple[Process, Mapping[str, Any]]:
    """A writer alone in the group, and the log line that says it has the last of the partitions."""
    writer = rig.stack.service("writer", WRITERS[0])
    return writer, await until_told(rig.stack, writer, "state_loaded", LONGEST_S, rig.stack.kafka.partitions)


def _between(first: Mapping[str, Any], last: Mapping[str, Any]) -> float:
    """Seconds between two log lines."""
    return (datetime.fromisoformat(last["timestamp"]) - datetime.fromisoformat(first["timestamp"])).total_seconds()


def shown(notes: Notes, workload: str) -> Table:
    """Every figure of a workload at all sizes. A figure of one record that stays the same is a cost that grows linearly."""
    sizes = sorted(notes.all[workload], key=int)
    figures = Table(workload, *(f"{int(size):,d}" for size in sizes))
    for name in notes.all[workload][sizes[-1]]:
        figures.add_row(name, *(f"{notes.all[workload][size].get(name, math.nan):.4g}" for size in sizes))
    return figures


INGRESS = ("contact", "asset")
WORKLOADS: Mapping[str, Callable[[Notes, str, int], Coroutine[Any, Any, None]]] = {
    "tables": tables,
    "optin": scaling_optin.measured,
    "egress": scaling_egress.measured,
    "partition": scaling_local.partition,
    "comparison": scaling_local.comparison,
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--sizes", default="10000,100000")
    parser.add_argument("--workloads", default=",".join([*INGRESS, *WORKLOADS]))
    parser.add_argument("--minutes", type=float, default=math.inf, help="of a load of contacts or assets at most")
    parser.add_argument("--json", type=Path, default=Path(".run/scaling.json"))
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    notes = Notes(options.json)
    for size in [int(each) for each in options.sizes.split(",")]:
        for name in options.workloads.split(","):
            notes.begin(name, size)
            longest_s = options.minutes * 60
            asyncio.run(ingress(notes, name, size, longest_s) if name in INGRESS else WORKLOADS[name](notes, name, size))
    for name in notes.all:
        Console(width=140).print(shown(notes, name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
