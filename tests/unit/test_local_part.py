"""LocalPart: what a record of the local copy takes on disk."""

from __future__ import annotations

import os
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from bridge.kafka.local_part import LocalPart

RECORDS = 5000


@pytest.mark.parametrize("size", [590, 890, 1520])
def test_a_record_takes_not_much_more_than_its_bytes(tmp_path: Path, size: int) -> None:
    part = LocalPart(tmp_path / "part.sqlite")

    for _ in range(RECORDS):
        part.put(str(uuid.uuid4()), os.urandom(size // 2))
    for (key,) in part._db.execute("SELECT key FROM known").fetchall():
        part.put(key, os.urandom(size))  # grown, as the resolver's do when the other system is heard
    part.close()

    assert part.path.stat().st_size / RECORDS < 1.5 * size


def test_a_count_does_not_read_the_values(tmp_path: Path) -> None:
    part = LocalPart(tmp_path / "part.sqlite")
    part.close()

    with closing(sqlite3.connect(part.path)) as db:
        (plan,) = db.execute("EXPLAIN QUERY PLAN SELECT count(*) FROM known").fetchall()

    assert "COVERING INDEX" in plan[-1]
