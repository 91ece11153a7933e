"""services.control.rules.table_progress: what the API tells about one ingress table."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.model.config import TableMapping, default_ingress
from bridge.model.desired import Replay
from services.control.models.data_json import TableOut
from services.control.rules.table_progress import Position, table_view

NOW = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
CONTACT: TableMapping = default_ingress().tables[0]
LIVE = {"phase": "live", "lane": "initial", "rows": 50, "total": 50, "token_at": (NOW - timedelta(days=1)).isoformat()}


def view(cursor: dict[str, Any] | None, live: dict[str, Any] | None = None, replay: Replay | None = None, armed: bool = False) -> TableOut:
    position = None if cursor is None else Position("dynamics:contact", cursor, NOW - timedelta(seconds=30))
    return table_view(CONTACT, position, live, replay, armed, NOW)


def asked(id: str = "r1") -> Replay:
    return Replay(id=id, when="now", changed_since=None, keys=["a", "b"], requested_at=NOW.isoformat(), requested_by="anna")


def test_a_table_that_was_never_read() -> None:
    found = view(None)

    assert (found.phase, found.cursor_age_s, found.change_tracking_days_left, found.rows_read, found.progress) == (None,) * 5


def test_the_days_that_are_left_to_use_the_tracking_token() -> None:
    found = view(LIVE)

    assert (found.change_tracking_days_left, found.cursor_age_s, found.rows_read) == (6.0, 86400.0, 50)


def test_a_load_with_what_is_left() -> None:
    cursor = {"phase": "load", "lane": "initial", "rows": 25, "total": 100, "started_at": (NOW - timedelta(seconds=10)).isoformat()}

    progress = view(cursor).progress

    assert progress is not None
    assert (progress.kind, progress.done, progress.total, progress.eta_s) == ("initial", 25, 100, 30.0)


def test_what_the_reader_says_is_newer_than_the_cursor() -> None:
    cursor = {"phase": "load", "lane": "resync", "rows": 25, "total": 100}

    progress = view(cursor, live={**cursor, "rows": 75}).progress

    assert progress is not None
    assert (progress.kind, progress.done) == ("resync", 75)


def test_a_replay_from_the_wish_to_the_end() -> None:
    armed, requested = view(LIVE, replay=asked(), armed=True), view(LIVE, replay=asked())
    side = {"id": "r1", "state": "running", "rows": 1, "total": 2, "started_at": NOW.isoformat()}
    running, done = view({**LIVE, "replay": side}, replay=asked()), view({**LIVE, "replay": {**side, "state": "done"}}, replay=asked())
    again = view({**LIVE, "replay": {**side, "state": "done"}}, replay=asked("r2"))

    assert [each.replay.state if each.replay else None for each in (armed, requested, running, done, again)] == [
        "armed",
        "requested",
        "running",
        None,
        "requested",
    ]
    assert [each.replay_armed for each in (armed, requested, running)] == [True, False, False]
    assert running.progress is not None and running.progress.kind == "replay"
    assert armed.replay is not None and armed.replay.keys == 2
