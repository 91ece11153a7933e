"""bridge.dynamics.epoch: what proves that versions have gone back, and what does not. Pure but for who answers."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bridge.dynamics.epoch import noted, run_ended, went_back

Row = dict[str, Any]


def row(number: int, second: int) -> Row:
    return {"@odata.etag": f'W/"{number}"', "modifiedon": f"2026-03-01T{12 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"}


def after(*runs: list[Row]) -> dict[str, Any]:
    """The cursor after these runs of pages."""
    cursor: dict[str, Any] = {}
    for rows in runs:
        cursor |= noted(cursor, rows)
        cursor |= run_ended(cursor)
    return cursor


SEEN = [row(100, 10), row(200, 20)]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], False),
        ([row(201, 21)], False),
        ([row(150, 21)], True),
        ([row(150, 20)], False),  # whole seconds: of the same second, nothing is proved
        ([row(150, 19), row(199, 5)], False),
        ([row(200, 20)], False),
        ([row(200, 21)], False),
        ([row(201, 21), row(150, 21)], False),  # two that wrote at once
        ([row(201, 21), row(150, 20 + 601)], True),  # nobody writes for ten minutes
        ([{"@odata.etag": 'W/"150"'}], False),
        ([{"modifiedon": "2026-03-01T13:00:00Z"}], False),
    ],
)
def test_a_lower_version_of_a_later_change_proves_it(rows: list[Row], expected: bool) -> None:
    assert went_back(after(SEEN), rows) is expected


def test_nothing_is_proved_before_a_run_has_ended() -> None:
    assert not went_back({}, [row(1, 1000)])
    assert not went_back(noted({}, SEEN), [row(150, 30)])
    assert not went_back(after([{"@odata.etag": 'W/"5"'}]), [row(1, 1000)])


def test_pages_of_one_run_prove_nothing_against_each_other() -> None:
    cursor = after([row(50, 5)])

    cursor |= noted(cursor, [row(101, 10)])

    assert not went_back(cursor, [row(100, 12)])
    assert went_back(cursor | run_ended(cursor), [row(100, 12)])


def test_what_was_seen_only_grows() -> None:
    cursor = after([row(200, 20)], [row(100, 10)], [])

    assert (cursor["newest_seen"], cursor["modified_seen"]) == (200, "2026-03-01T12:00:20+00:00")


def test_a_database_that_counts_on_never_gives_an_alarm() -> None:
    """Any rows in any pages, repeats, deletes, times that imports set back, clocks that stand still."""
    for seed in range(300):
        rng = random.Random(seed)
        rows: dict[int, Row] = {}
        number, second, token, cursor = 0, 0, 0, after()
        for _ in range(12):
            for _ in range(rng.randrange(6)):
                number += rng.randint(1, 5)
                second += rng.choice([0, 0, 1, 50])
                rows[rng.randrange(8)] = row(number, rng.choice([second, second, rng.randint(0, second)]))
                if rng.random() < 0.2:
                    rows.pop(rng.choice(list(rows)))
            fresh = [each for each in rows.values() if int(each["@odata.etag"][3:-1]) > token]
            repeats = rng.sample(list(rows.values()), rng.randint(0, len(rows)))
            run = [*fresh, *repeats] if rng.random() < 0.8 else list(rows.values())
            rng.shuffle(run)
            for at in range(0, len(run), 2):
                page = run[at : at + 2]
                assert not went_back(cursor, page), f"seed {seed}"
                cursor |= noted(cursor, page)
            cursor |= run_ended(cursor)
            token = number


def test_a_database_that_was_put_back_gives_one_with_the_first_later_change() -> None:
    for seed in range(100):
        rng = random.Random(seed)
        seen = [row(100 + each, rng.randint(0, each)) for each in range(20)]
        latest = max(int(each["modifiedon"][17:19]) for each in seen)
        cursor = after(seen)

        assert went_back(cursor, [row(rng.randint(1, 118), latest + 1)]), f"seed {seed}"
