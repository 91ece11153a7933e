"""A file is claimed before it is read and put away only as what was read; what changes, vanishes or is left over (campaign.md §10.3)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from asyncssh import SFTPAttrs, SFTPPermissionDenied, SFTPServer
from structlog.testing import capture_logs

from bridge.campaign.export_folder import PROCESSING, ExportFile
from bridge.campaign.settings import ExportSettings
from bridge.campaign.sftp import SftpFolder
from bridge.model.errors import RetryError
from bridge.model.settings import load
from sandbox.campaign.sftp import SftpFault
from services.optin.export_feed import PORTION
from tests.flow.test_export_feed import ANN, BOB, POLL_S, Rig, export, name, person

PEOPLE = [person(n) for n in range(PORTION + 500)]


def second(file: str) -> str:
    return file.replace(".", "~~2.", 1)


def told(rig: Rig) -> str | None:
    return None if rig.notice is None else rig.notice.code


def immovable(rig: Rig) -> None:
    rig.sandbox.settings.change({"sftp_may_move": False})


def rewrite(path: Path, content: bytes, later_s: float = 5) -> None:
    """The same file, written to: it keeps its handle, and has a later time."""
    before = path.stat().st_mtime
    with path.open("r+b") as file:
        file.truncate()
        file.write(content)
    os.utime(path, (before + later_s,) * 2)


async def test_a_file_is_in_processing_while_it_is_read(rig: Rig) -> None:
    rig.write(name(1), export(*PEOPLE))

    await rig.until_rows(PORTION)

    assert (rig.files(), rig.files(PROCESSING), rig.files("processed")) == ([], [name(1)], [])
    assert rig.cursor is not None and rig.cursor["file"]["at"] == f"{PROCESSING}/{name(1)}"
    await rig.poll()
    assert (rig.files(PROCESSING), rig.files("processed")) == ([], [name(1)])


@pytest.mark.parametrize("keep_cursor", [True, False], ids=["ours", "of another instance"])
async def test_what_a_crash_left_in_processing_is_found_and_finished(rig: Rig, keep_cursor: bool) -> None:
    rig.write(name(1), export(*PEOPLE))
    await rig.until_rows(PORTION)
    if not keep_cursor:
        rig.log.cursors.clear()

    rig.start()
    await rig.poll(3)

    assert rig.keys() == (PEOPLE if keep_cursor else PEOPLE[:PORTION] + PEOPLE)
    assert (rig.files(PROCESSING), rig.files("processed")) == ([], [name(1)])


async def test_a_claim_whose_cursor_was_not_saved_is_gone_on_with(rig: Rig) -> None:
    rig.write(name(1), export(ANN))
    await rig.poll()
    await rig.step()
    chosen = rig.cursor
    await rig.feed.step(chosen)
    assert rig.files(PROCESSING) == [name(1)]

    rig.start()
    rig.cursor = chosen
    await rig.poll(2)

    assert (rig.keys(), rig.files("processed"), told(rig)) == ([ANN], [name(1)], None)


async def test_a_new_file_of_the_name_of_a_claimed_one_is_read_as_well(rig: Rig) -> None:
    rig.write(name(1), export(*PEOPLE))
    await rig.until_rows(PORTION)
    rig.write(name(1), export(BOB))
    rig.log.cursors.clear()

    rig.start()
    await rig.poll(3)

    assert everybody(rig) == {*PEOPLE, BOB}
    assert rig.files("processed") == [name(1), second(name(1))]


def everybody(rig: Rig) -> set[str]:
    return set(rig.keys())


async def test_a_file_that_is_written_to_while_it_is_read_is_read_again_as_it_is_then(rig: Rig) -> None:
    rig.write(name(1), export(*PEOPLE))
    await rig.until_rows(PORTION)
    rewrite(rig.path(f"{PROCESSING}/{name(1)}"), export(*PEOPLE, BOB))

    await rig.poll(3)

    assert rig.keys() == [*PEOPLE, *PEOPLE, BOB]
    assert (rig.files(PROCESSING), rig.files("processed"), told(rig)) == ([], [name(1)], None)


@pytest.mark.parametrize("other", [export(*PEOPLE, BOB), export(BOB), export(*PEOPLE[1:], BOB)], ids=["grown", "smaller", "as large"])
async def test_a_file_that_is_replaced_under_its_name_while_it_is_read_is_read_too_where_nothing_may_be_moved(
    rig: Rig, other: bytes
) -> None:
    immovable(rig)
    rig.write(name(1), export(*PEOPLE))
    await rig.until_rows(PORTION)
    rig.write(name(1), other, age_s=-5)

    await rig.poll(3)

    assert rig.keys()[: len(PEOPLE)] == PEOPLE, "the copy that we have is read to its end"
    assert rig.keys()[-1] == BOB
    assert (rig.files(), told(rig)) == ([name(1)], None)
    before = len(rig.keys())
    await rig.poll(3)
    assert len(rig.keys()) == before


async def test_a_file_that_is_put_away_in_the_moment_it_is_written_to_is_read_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look and the move."""
    rig.write(name(1), export(ANN))
    await rig.until_rows(1)
    rename = os.rename

    def written_to(old: bytes, new: bytes) -> None:
        rename(old, new)
        if b"/processed/" in new:
            monkeypatch.undo()
            rewrite(Path(os.fsdecode(new)), export(ANN, BOB))

    monkeypatch.setattr(os, "rename", written_to)
    await rig.poll(3)

    assert rig.keys() == [ANN, ANN, BOB]
    assert (rig.files(PROCESSING), len(rig.files("processed"))) == ([], 1)


@pytest.mark.parametrize("age_s", [0, -5], ids=["other size", "other time"])
async def test_a_half_read_file_that_is_another_after_a_restart_begins_again_and_is_told(rig: Rig, age_s: float) -> None:
    immovable(rig)
    rig.write(name(1), export(*PEOPLE))
    await rig.until_rows(PORTION)
    other = [person(9000 + n) for n in range(len(PEOPLE) - (0 if age_s else 1))]
    rig.write(name(1), export(*other), age_s)

    rig.start()
    await rig.poll(3)

    assert rig.keys() == PEOPLE[:PORTION] + other
    assert told(rig) == "export_vanished"
    assert rig.notice is not None and name(1) in str(rig.notice) and f"{PORTION} rows" in str(rig.notice)
    rig.write(name(2), export(ANN))
    await rig.poll(3)
    assert told(rig) is None


@pytest.mark.parametrize("movable", [True, False])
async def test_a_file_that_vanishes_half_read_is_told_and_not_done(rig: Rig, movable: bool) -> None:
    if not movable:
        immovable(rig)
    rig.write(name(1), export(*PEOPLE))
    await rig.until_rows(PORTION)
    rig.path(f"{PROCESSING}/{name(1)}" if movable else name(1)).unlink()
    rig.start()

    with capture_logs() as lines:
        await rig.poll(2)

    assert told(rig) == "export_vanished"
    assert rig.cursor is not None
    assert (rig.cursor["last_file_at"], rig.cursor["file"]) == (None, None)
    assert [(line["name"], line["row"]) for line in lines if line["event"] == "export_vanished"] == [(name(1), PORTION)]
    assert "export_done" not in [line["event"] for line in lines]
    rig.write(name(2), export(BOB))
    await rig.poll(3)
    assert (rig.keys()[-1], told(rig)) == (BOB, None)


async def test_a_file_that_vanishes_before_it_is_read_is_told(rig: Rig) -> None:
    rig.write(name(1), export(ANN))
    await rig.poll()
    await rig.step()
    assert rig.cursor is not None and rig.cursor["file"] is not None
    rig.path(name(1)).unlink()

    await rig.poll()

    assert (rig.keys(), told(rig), rig.cursor["last_file_at"]) == ([], "export_vanished", None)


async def test_a_file_that_somebody_takes_away_after_its_last_row_is_done(rig: Rig) -> None:
    rig.write(name(1), export(ANN))
    await rig.until_rows(1)
    rig.path(f"{PROCESSING}/{name(1)}").unlink()

    await rig.poll()

    assert (rig.keys(), told(rig)) == ([ANN], None)
    assert rig.cursor is not None and rig.cursor["last_file_at"] is not None


@pytest.mark.parametrize(("where", "content"), [("processed", export(ANN)), ("failed", b"nonsense")])
@pytest.mark.parametrize("ending", ["", ".gz"])
async def test_what_was_put_away_under_the_same_name_is_not_lost(rig: Rig, where: str, content: bytes, ending: str) -> None:
    file = name(1) + ending
    rig.start(CAMPAIGN_EXPORT_FILES="*.csv,*.csv.gz")
    for n in range(3):
        rig.write(file, content + b"\n" * n)
        await rig.poll(3)

    assert rig.files(where) == sorted([file, second(file), file.replace(".", "~~3.", 1)])
    assert [len(rig.path(f"{where}/{each}").read_bytes()) - len(content) for each in (file, second(file))] == [0, 1]
    assert (rig.files(), rig.files(PROCESSING)) == ([], [])


async def test_a_connection_that_is_cut_goes_on_where_it_was(rig: Rig) -> None:
    """Every connection ends after 300 kB: without going on, this file would never be here."""
    people = [person(n) for n in range(15_000)]
    rig.write(name(1), export(*people))
    assert 900_000 < rig.path(name(1)).stat().st_size < 1_200_000
    rig.sandbox.sftp.faults.append(SftpFault("cut", after=300_000, times=None))
    await rig.poll()
    await rig.step()

    for _ in range(3):
        with pytest.raises(RetryError):
            await rig.step()
    await rig.poll()

    assert rig.keys() == people


@pytest.mark.parametrize("content", [b"nonsense", export(BOB)])
async def test_a_copy_that_a_crash_left_on_this_machine_is_no_beginning(rig: Rig, content: bytes) -> None:
    rig.local.mkdir(parents=True)
    (rig.local / "export").write_bytes(content)
    rig.write(name(1), export(*PEOPLE))

    await rig.poll(2)

    assert rig.keys() == PEOPLE


async def test_a_beginning_that_is_of_another_file_is_not_gone_on_with(rig: Rig) -> None:
    immovable(rig)
    people, others = ([person(k * 50_000 + n) for n in range(10_000)] for k in (0, 1))
    rig.write(name(1), export(*people))
    rig.sandbox.sftp.faults.append(SftpFault("cut", after=300_000, times=1))
    await rig.poll()
    await rig.step()
    with pytest.raises(RetryError):
        await rig.step()
    rig.write(name(1), export(*others), age_s=-5)

    await rig.poll(3)

    assert rig.keys() == others


async def test_a_slow_line_brings_a_file_that_takes_longer_than_the_deadline(rig: Rig) -> None:
    """The deadline is for a line that brings nothing."""
    rig.start(CAMPAIGN_SFTP_TIMEOUT_S="0.6")
    people = [person(n) for n in range(25_000)]
    rig.write(name(1), export(*people))
    rig.sandbox.sftp.faults.append(SftpFault("slow", after=25))
    await rig.poll()
    await rig.step()
    began = asyncio.get_running_loop().time()

    await rig.step()

    assert asyncio.get_running_loop().time() - began > 0.6
    rig.sandbox.sftp.faults.clear()
    await rig.poll()
    assert rig.keys() == people


async def test_a_line_that_brings_nothing_any_more_is_left_and_what_came_is_kept(rig: Rig) -> None:
    rig.start(CAMPAIGN_SFTP_TIMEOUT_S="0.6")
    people = [person(n) for n in range(15_000)]
    rig.write(name(1), export(*people))
    rig.sandbox.sftp.faults.append(SftpFault("stall", after=400_000, times=1))
    await rig.poll()
    await rig.step()

    with pytest.raises(RetryError) as caught:
        await rig.step()

    assert caught.value.code == "source_unavailable"
    assert (rig.local / "export").stat().st_size >= 300_000
    await rig.poll()
    assert rig.keys() == people


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("how", ["grows", "is replaced"])
async def test_a_file_that_changes_while_it_is_copied(rig: Rig, how: str) -> None:
    """What grows is not read before it is whole; what is replaced is read, and so is what is in its place."""
    immovable(rig)
    people = [person(n) for n in range(15_000)]
    rig.write(name(1), export(*people))
    await rig.poll()
    await rig.step()
    rig.sandbox.sftp.faults.append(SftpFault("slow", after=5))
    copying = asyncio.ensure_future(rig.step())
    await until(lambda: (rig.local / "export").exists() and (rig.local / "export").stat().st_size > 100_000)
    if how == "grows":
        with rig.path(name(1)).open("ab") as file:
            file.write(f"{BOB},true,\n".encode())
    else:
        other = rig.path("d365_optout_other.csv.tmp")
        other.write_bytes(export(BOB))
        other.rename(rig.path(name(1)))
    await copying

    rig.sandbox.sftp.faults.clear()
    await rig.poll(3)

    assert rig.keys() == [*people, BOB]
    assert told(rig) is None


async def test_a_file_that_vanishes_while_it_is_copied_is_told(rig: Rig) -> None:
    rig.write(name(1), export(*[person(n) for n in range(15_000)]))
    await rig.poll()
    await rig.step()
    rig.sandbox.sftp.faults.append(SftpFault("cut", after=300_000, times=1))
    with pytest.raises(RetryError):
        await rig.step()
    rig.path(f"{PROCESSING}/{name(1)}").unlink()

    await rig.poll()

    assert (rig.keys(), told(rig)) == ([], "export_vanished")


async def test_a_file_that_the_server_refuses_to_give_is_set_apart_and_the_others_go_on(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.write(name(1), export(ANN), age_s=10)
    rig.write(name(2), export(BOB))
    opened = SFTPServer.open

    def refused(self: SFTPServer, path: bytes, pflags: int, attrs: SFTPAttrs) -> object:
        if name(1).encode() in path:
            raise SFTPPermissionDenied("Permission denied")
        return opened(self, path, pflags, attrs)

    monkeypatch.setattr(SFTPServer, "open", refused)
    await rig.poll(3)

    assert (rig.keys(), rig.files("failed"), told(rig)) == ([BOB], [name(1)], "export_unreadable")
    assert "refuses to give it" in str(rig.notice)


async def test_a_copy_that_finds_no_room_says_so(rig: Rig) -> None:
    rig.write(name(1), export(ANN))
    folder = SftpFolder(load(ExportSettings, rig.environment))
    (file,) = await folder.files()

    with pytest.raises(RetryError) as caught:
        await folder.fetch(file, Path("/dev/full"))

    assert caught.value.code == "no_room"
    assert "STATE_DIR (ENOSPC)" in str(caught.value)


async def test_a_file_without_a_time_was_exported_when_it_is_read(rig: Rig) -> None:
    rig.write(name(1), f"externalId,blackListEmail\n{ANN},true\n".encode(), age_s=rig.sandbox.exports.clock.now())

    await rig.poll(2)

    assert rig.log.events[0].event.record_changed_at == rig.log.events[0].event.observed_at


async def test_a_folder_that_cannot_be_listed_in_the_middle_loses_nothing(rig: Rig) -> None:
    rig.write(name(1), export(*PEOPLE))
    rig.write(name(2), export(BOB), age_s=-5)
    failed = 0
    for _ in range(40):
        rig.sandbox.sftp.faults[:] = [SftpFault("refuse", times=1)]
        for _ in range(2):
            try:
                await rig.step()
            except RetryError:
                failed += 1

    assert failed > 10
    assert rig.keys() == [*PEOPLE, BOB]
    assert rig.files("processed") == [name(1), name(2)]


async def test_a_foreign_name_in_latin_1_disturbs_nothing(rig: Rig) -> None:
    """Case F09."""
    (rig.path("") / os.fsdecode(b"notes_M\xfcller.txt")).write_bytes(b"x")
    (rig.path("") / os.fsdecode(b"notes_M\xfcller")).mkdir()
    rig.write(name(1), export(ANN))

    await rig.poll(3)

    assert (rig.keys(), rig.files("processed")) == ([ANN], [name(1)])
    folder = SftpFolder(load(ExportSettings, rig.environment))
    assert await folder.files() == []


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        (b"d365_optout_M\xfcller.csv", "d365_optout_M\\xfcller.csv"),
        (b"d365_optout_a\nb.csv", "d365_optout_a\\nb.csv"),
        (b"d365_optout_\x1b[31m.csv", "d365_optout_\\x1b[31m.csv"),
        ("d365_optout_Müller.csv".encode(), "d365_optout_Müller.csv"),
        ("d365_optout_\u202e.csv".encode(), "d365_optout_\\u202e.csv"),
    ],
)
async def test_an_export_of_any_name_is_read_and_named_so_that_it_can_be_shown(rig: Rig, raw: bytes, written: str) -> None:
    (rig.path("") / os.fsdecode(raw)).write_bytes(export(ANN))

    with capture_logs() as lines:
        await rig.poll(3)

    (out,) = rig.log.events
    assert (out.key, out.event.origin) == (ANN, f"{written} row 1")
    assert dict(out.headers)["source-version"] == written.encode()
    assert {line["name"] for line in lines if "name" in line} == {written}
    assert [os.fsencode(each) for each in rig.files("processed")] == [raw]


async def test_a_restart_goes_on_with_a_file_whose_name_is_no_utf_8(rig: Rig) -> None:
    (rig.path("") / os.fsdecode(b"d365_optout_M\xfcller.csv")).write_bytes(export(*PEOPLE))
    await rig.until_rows(PORTION)

    rig.start()
    await rig.poll(2)

    assert rig.keys() == PEOPLE


async def test_what_is_in_processing_and_no_export_is_left_alone(rig: Rig) -> None:
    rig.path(PROCESSING).mkdir()
    rig.path(f"{PROCESSING}/notes.txt").write_bytes(export(ANN))
    rig.path(f"{PROCESSING}/{name(1)}.part").write_bytes(export(ANN))

    await rig.poll(3)

    assert (rig.keys(), len(rig.files(PROCESSING))) == ([], 2)


async def test_a_cursor_of_before_is_understood(rig: Rig) -> None:
    """It had a name, and no place, and a name of what had failed."""
    rig.write(name(1), export(*PEOPLE))
    stat = rig.path(name(1)).stat()
    file = {"name": name(1), "size": stat.st_size, "mtime": int(stat.st_mtime), "row": PORTION}
    rig.cursor = {
        "phase": "live",
        "started_at": rig.clock.now().isoformat(),
        "last_file_at": None,
        "file": file,
        "done": [],
        "failed": "x.csv",
    }

    await rig.step()
    assert told(rig) == "export_unreadable" and "x.csv" in str(rig.notice)
    await rig.poll(2)

    assert (rig.keys(), told(rig), rig.clock.passed_s) == (PEOPLE[PORTION:], None, 2 * POLL_S)


@pytest.mark.parametrize(("at", "of"), [
    ("x.csv", "x.csv"), ("processing/x~~2.csv.gz", "x.csv.gz"), ("processing/x.csv", "x.csv"), ("x~~2.csv", "x~~2.csv"),
    ("processing/x~~12", "x"),
])  # fmt: skip
def test_a_claimed_file_keeps_the_name_it_was_given(at: str, of: str) -> None:
    assert ExportFile(at, 0, 0).name == of
