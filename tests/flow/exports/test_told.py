"""What people are told of exports: bad rows, bad files, times that are missing or cannot be read. Nothing is done in silence."""

from __future__ import annotations

import gzip
from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from bridge.model.errors import HaltError
from services.optin.export_feed import PORTION
from tests.flow.test_export_feed import ANN, BOB, Rig, export, name, person

HEADER = "externalId,blackListEmail,blackListEmailLastModified"
STAMP = "2026-02-28 09:00:00.000Z"


def told(rig: Rig) -> HaltError:
    assert isinstance(rig.notice, HaltError)
    return rig.notice


def last_file_at(rig: Rig) -> str | None:
    assert rig.cursor is not None
    at: str | None = rig.cursor["last_file_at"]
    return at


def mixed(good: int, bad: int, row: str = "nobody,true,") -> bytes:
    """The bad rows come last."""
    return export(*[person(n) for n in range(good)]) + f"{row}\n".encode() * bad


@pytest.mark.parametrize(("good", "bad"), [(198, 2), (99, 1), (1099, 11), (3, 0)])
async def test_a_file_with_one_bad_row_in_a_hundred_is_done(rig: Rig, good: int, bad: int) -> None:
    rig.write(name(1), mixed(good, bad))

    await rig.poll(3)

    assert (len(rig.keys()), rig.feed.skipped) == (good, bad)
    assert (rig.files("processed"), rig.files("failed"), rig.notice) == ([name(1)], [], None)
    assert last_file_at(rig) is not None


@pytest.mark.parametrize(("good", "bad"), [(197, 2), (98, 1), (0, 1), (PORTION, 11), (3 * PORTION, 31)])
@pytest.mark.parametrize("row", ["nobody,true,", f"{BOB},perhaps,", f"{BOB},true", f"{BOB},true,,", ",true,", '"oh'])
async def test_a_file_with_more_bad_rows_is_not_done_and_its_good_ones_are_taken(rig: Rig, good: int, bad: int, row: str) -> None:
    rig.write(name(1), mixed(good, bad, row))

    await rig.poll(3)

    assert rig.keys() == [person(n) for n in range(good)]
    assert (rig.files("processed"), rig.files("failed")) == ([], [name(1)])
    assert (last_file_at(rig), told(rig).code) == (None, "export_unreadable")
    for part in (name(1), f"{bad} of its {good + bad} rows are bad", f"the first is row {good + 1}:", "failed/"):
        assert part in str(told(rig))
    assert BOB not in str(told(rig)) and "nobody" not in str(told(rig)) and "perhaps" not in str(told(rig))
    assert told(rig).hint


async def test_bad_rows_are_counted_over_a_restart(rig: Rig) -> None:
    rig.write(name(1), b"\n".join([export(*["nobody"] * 20).strip(), *[f"{person(n)},true,".encode() for n in range(PORTION + 400)]]))
    await rig.until_rows(PORTION)

    rig.start()
    await rig.poll(3)

    assert len(rig.keys()) == PORTION + 400
    assert "20 of its 1420 rows are bad (20 bad rows, the first is row 1: no key of a contact)" in str(told(rig))


@pytest.mark.parametrize("seconds", ["in the first portion", "after it"])
async def test_the_rows_before_a_break_are_taken_and_the_file_is_not_done(rig: Rig, seconds: str) -> None:
    people = [person(7919 * n % 1_000_003) for n in range(500 if seconds == "in the first portion" else 5000)]
    packed = gzip.compress(export(*people))
    rig.write(name(1) + ".gz", packed[: len(packed) * 3 // 4])

    await rig.poll(3)

    read = len(rig.keys())
    assert read > len(people) // 3
    assert rig.keys() == people[:read]
    assert (rig.files("failed"), last_file_at(rig), told(rig).code) == ([name(1) + ".gz"], None, "export_unreadable")
    assert "to its end" in str(told(rig))


async def test_a_break_is_seen_again_after_a_restart(rig: Rig) -> None:
    people = [person(7919 * n % 1_000_003) for n in range(5000)]
    packed = gzip.compress(export(*people))
    rig.write(name(1) + ".gz", packed[: len(packed) * 3 // 4])
    await rig.until_rows(2 * PORTION)

    rig.start()
    await rig.poll(3)

    assert len(set(rig.keys())) == len(rig.keys()) > 2 * PORTION
    assert (rig.files("failed"), told(rig).code) == ([name(1) + ".gz"], "export_unreadable")


@pytest.mark.parametrize("header", [
    "externalId,No longer contact by email,blackListEmail,blackListEmailLastModified",
    "externalId,denyListEmail,blackListEmail,blackListEmailLastModified",
    "externalId,externalId,blackListEmail,blackListEmailLastModified",
])  # fmt: skip
async def test_a_header_with_two_columns_of_one_meaning_is_a_bad_file(rig: Rig, header: str) -> None:
    rig.write(name(1), f"{header}\n{ANN},true,false,{STAMP}\n".encode())

    await rig.poll(3)

    assert (rig.keys(), rig.files("failed"), told(rig).code) == ([], [name(1)], "export_unreadable")
    assert "two columns that mean" in str(told(rig))


async def test_a_bad_file_is_told_though_a_good_one_came_in_the_same_hour(rig: Rig) -> None:
    """Until the next export comes: nobody looks within a second."""
    rig.write(name(1), b"no header\n", age_s=20)
    rig.write(name(2), b"nor this\n", age_s=10)
    rig.write(name(3), export(ANN))

    await rig.poll(2)
    assert told(rig).code == "export_unreadable"
    assert f"{name(2)} (and 1 before it)" in str(told(rig))
    rig.start()
    await rig.poll(5)
    assert told(rig).code == "export_unreadable"

    rig.write(name(4), export(BOB))
    await rig.poll(3)
    assert rig.notice is None


async def test_a_bad_file_that_may_not_be_moved_is_told_as_lying_where_it_was(rig: Rig) -> None:
    rig.sandbox.settings.change({"sftp_may_move": False})
    rig.write(name(1), mixed(1, 1))

    await rig.poll(5)

    assert rig.keys() == [person(0)]
    assert "it lies where it was" in str(told(rig))


async def test_words_that_nobody_knows_are_told_and_can_be_set(rig: Rig) -> None:
    rig.write(name(1), f"{HEADER}\n{ANN},tak,{STAMP}\n".encode())
    await rig.poll(3)
    assert (rig.keys(), told(rig).code) == ([], "export_unreadable")
    assert "CAMPAIGN_EXPORT_YES" in told(rig).hint
    rig.start(CAMPAIGN_EXPORT_YES="tak")
    rig.write(name(2), f"{HEADER}\n{ANN},Tak,{STAMP}\n".encode())

    await rig.poll(3)

    assert rig.log.events[0].event.flags["blackListEmail"]["value"] is True
    assert rig.notice is None


def flag(rig: Rig, number: int = 0) -> Mapping[str, object]:
    found: Mapping[str, object] = rig.log.events[number].event.flags["blackListEmail"]
    return found


async def test_a_mapped_flag_without_a_time_column_is_told_by_name_until_a_file_has_it(rig: Rig) -> None:
    rig.write(name(1), f"externalId,blackListEmail,lastModified\n{ANN},true,{STAMP}\n".encode())
    await rig.poll(3)
    assert (told(rig).code, flag(rig)) == ("export_without_times", {"value": True, "changed_at": None})
    assert "no time of blackListEmail" in str(told(rig)) and name(1) in str(told(rig))
    assert last_file_at(rig) is not None and rig.files("processed") == [name(1)]
    rig.start()
    await rig.poll()
    assert told(rig).code == "export_without_times"

    rig.write(name(2), export(ANN))
    await rig.poll(3)
    assert rig.notice is None


async def test_times_whose_day_and_month_cannot_be_told_apart_are_told_with_the_way_out(rig: Rig) -> None:
    text = f"{HEADER}\n{ANN},true,01/02/2026 09:00:00Z\n{BOB},false,03/02/2026 09:00:00Z\n".encode()
    rig.write(name(1), text)
    await rig.poll(3)

    assert [flag(rig, n) for n in (0, 1)] == [{"value": True, "changed_at": None}, {"value": False, "changed_at": None}]
    assert told(rig).code == "export_without_times"
    assert "blackListEmailLastModified" in str(told(rig)) and "CAMPAIGN_EXPORT_DATE_FORMAT" in told(rig).hint
    assert rig.files("processed") == [name(1)]

    rig.start(CAMPAIGN_EXPORT_DATE_FORMAT="ddmmyyyy")
    rig.write(name(2), text)
    await rig.poll(3)
    assert str(flag(rig, 3)["changed_at"]) == "2026-02-03 09:00:00+00:00"
    assert rig.notice is None


async def test_one_value_far_behind_decides_for_the_whole_column(rig: Rig) -> None:
    people = [person(n) for n in range(2 * PORTION)]
    rows = [f"{each},true,01/02/2026 09:00:00Z" for each in people] + [f"{ANN},true,28/02/2026 09:00:00Z"]
    rig.write(name(1), "\n".join([HEADER, *rows]).encode())

    await rig.poll(2)

    assert str(flag(rig)["changed_at"]) == "2026-02-01 09:00:00+00:00"
    assert rig.notice is None


async def test_spoiled_times_are_counted_and_told_beyond_one_in_a_hundred(rig: Rig) -> None:
    rows = [f"{person(n)},true,{STAMP}" for n in range(99)] + [f"{ANN},true,00/00/0000"]
    rig.write(name(1), "\n".join([HEADER, *rows]).encode())
    with capture_logs() as lines:
        await rig.poll(3)
    assert rig.notice is None
    assert [line["spoiled"] for line in lines if line["event"] == "export_done"] == [{"blackListEmailLastModified": 1}]
    assert (rig.keys()[-1], flag(rig, 99)) == (ANN, {"value": True, "changed_at": None})

    rig.write(name(2), "\n".join([HEADER, *rows[1:]]).encode())
    await rig.poll(3)

    assert "cannot be read in blackListEmailLastModified" in str(told(rig))
    assert rig.files("processed") == [name(1), name(2)]


@pytest.mark.parametrize(("value", "code"), [("false", "export_without_times"), ("true", None)])
async def test_local_times_that_take_nothing_back_are_told_with_the_way_out(rig: Rig, value: str, code: str | None) -> None:
    text = f"{HEADER}\n{ANN},{value},2026-02-28 09:00:00\n".encode()
    rig.write(name(1), text)
    await rig.poll(3)

    assert (rig.notice and rig.notice.code) == code
    if code:
        assert "CAMPAIGN_EXPORT_TIME_ZONE" in told(rig).hint
        assert flag(rig) == {"value": False, "changed_at": None}
    rig.start(CAMPAIGN_EXPORT_TIME_ZONE="Europe/Paris")
    rig.write(name(2), text)
    await rig.poll(3)
    assert str(flag(rig, 1)["changed_at"]) == "2026-02-28 08:00:00+00:00"
    assert rig.notice is None
