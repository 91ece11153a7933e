"""bridge.flow.shelf: parked jobs in a file without a name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.flow.failures import Failures
from bridge.flow.job import Job
from bridge.flow.shelf import Shelf
from bridge.model.errors import HaltError
from tests.unit.fakes import a_record

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def a_job(key: str, partition: int = 0, *, waits_for: str = "", opt_outs: int = 0) -> Job[str]:
    job: Job[str] = Job(partition, key, f"of {key}", True, parked=True, asleep=True, queued=True, opt_outs=opt_outs)
    job.records = [a_record(1, partition=partition, key=key), replace(a_record(2, partition=partition), key=None, value=None)]
    job.arrived = [replace(a_record(3, partition=partition, key=key), headers=(("h", b"\xff\x00"),))]
    job.waits_for = frozenset({waits_for} if waits_for else ())
    return job


def test_a_job_comes_back_as_it_was() -> None:
    shelf: Shelf[str] = Shelf()
    before = a_job("a", 3, waits_for="p")
    before.failures = Failures(5, NOON, NOON, 1, 2, 3)
    shelf.put(before, 7.5)

    found = shelf.take((3, "a"))

    assert found is not None
    job, due_s = found
    assert due_s == 7.5
    assert {name: getattr(job, name) for name in Job.__slots__} == {name: getattr(before, name) for name in Job.__slots__}
    assert (len(shelf), shelf.take((3, "a"))) == (0, None)


def test_those_whose_time_has_come_are_taken_the_longest_due_first() -> None:
    shelf: Shelf[str] = Shelf()
    for key, due_s in (("late", 30.0), ("b", 2.0), ("a", 1.0), ("c", 3.0)):
        shelf.put(a_job(key), due_s)

    assert [job.key for job in shelf.due(10.0, 2)] == ["a", "b"]
    assert [job.key for job in shelf.due(10.0, 2)] == ["c"]
    assert shelf.due(10.0, 0) == shelf.due(10.0, -1) == []
    assert len(shelf) == 1


def test_what_a_key_waits_for_makes_it_due() -> None:
    shelf: Shelf[str] = Shelf()
    shelf.put(a_job("child", waits_for="parent"), 1e9)
    shelf.put(a_job("other", waits_for="another"), 1e9)

    shelf.wake("parent")

    assert [job.key for job in shelf.due(1.0, 10)] == ["child"]


def test_dropped_partitions_are_forgotten_and_the_counts_are_of_what_is_left() -> None:
    shelf: Shelf[str] = Shelf()
    for partition in (0, 1, 2):
        shelf.put(a_job("a", partition, waits_for="p", opt_outs=partition), 1.0)
    assert (len(shelf), shelf.opt_outs, shelf.partitions()) == (3, 3, {0, 1, 2})

    shelf.drop([0, 2])

    assert (len(shelf), shelf.opt_outs, shelf.partitions()) == (1, 1, {1})
    assert [job.partition for job in shelf.due(9.0, 9)] == [1]
    assert (len(shelf), shelf.opt_outs) == (0, 0)


def test_its_file_has_no_name_and_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "of" / "writer"
    shelf: Shelf[str] = Shelf(folder)
    shelf.put(a_job("a"), 1.0)

    assert list(folder.iterdir()) == []
    shelf.close()
    shelf.close()
    assert (len(shelf), shelf.due(9.0, 9), shelf.take((0, "a")), shelf.partitions()) == (0, [], None, set())


def test_a_folder_that_cannot_be_written_halts_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(HaltError, match="STATE_DIR") as raised:
        Shelf[str](tmp_path / "file" / "below").put(a_job("a"), 1.0)

    assert raised.value.code == "state_dir_unusable"
