"""The feed of Campaign's opt-out exports against the SFTP stand-in (campaign.md §10): which files, when, once, and what goes wrong."""

from __future__ import annotations

import gzip
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from bridge.campaign.settings import ExportSettings
from bridge.campaign.sftp import SftpFolder
from bridge.flow.reader import Step
from bridge.memory import MemoryLog, MemoryPublisher
from bridge.model.errors import BridgeError, HaltError, RetryError
from bridge.model.settings import load
from bridge.observe.metrics import Metrics
from sandbox.campaign import CampaignSandbox
from sandbox.campaign.sftp import Access, SftpFault
from services.optin.export_feed import CURSOR, LOGGED_ROWS, PORTION, TOPIC, ExportFeed
from tests.clock import FakeClock

ANN, BOB = "60c4e274-0d87-e711-80e5-00155db19e6d", "0ba7b810-9dad-11d1-80b4-00c04fd430c8"
DAY_S, POLL_S = 86_400, 60
EXPECTED_S = 26 * 3600
FRENCH = {"Identifiant": "externalId", "Courriel": "blackListEmail", "Courriel le": "blackListEmailLastModified"}


def person(n: int) -> str:
    return f"00000000-0000-4000-8000-{n:012}"


def export(*people: str, header: str = "externalId,blackListEmail,blackListEmailLastModified") -> bytes:
    return "\n".join([header, *(f"{each},true,2026-02-28 09:00:00.000Z" for each in people), ""]).encode()


def name(n: int) -> str:
    return f"d365_optout_2026030{n}_100000.csv"


@dataclass
class Rig:
    """A feed and what it brought out. `cursor` is the one the next step begins with, `notice` that of the last step."""

    sandbox: CampaignSandbox
    environment: dict[str, str]
    local: Path
    clock: FakeClock = field(default_factory=FakeClock)
    log: MemoryLog = field(default_factory=MemoryLog)
    cursor: Mapping[str, Any] | None = None
    notice: BridgeError | None = None
    labels: dict[str, str] = field(default_factory=dict)
    asked: int = 0  # times that Campaign was asked for its labels
    ahead_ms: int | None = None  # Campaign's clock, as it is measured
    trouble: list[Exception | SftpFault] = field(default_factory=list)  # happens while labels are asked for

    def start(self, **changed: str) -> None:
        """A new feed object, as after a restart: it goes on from the cursor that was published last."""
        settings = load(ExportSettings, {**self.environment, **changed})
        flags = ["blackListEmail"]
        self.feed = ExportFeed(
            SftpFolder(settings), settings, flags, self._labels, self.local, self.clock, "optin-reader/test", self._ahead_ms
        )
        self.publisher = MemoryPublisher(self.log)
        self.cursor = self.log.cursors.get(CURSOR)

    async def _labels(self) -> Mapping[str, str]:
        self.asked += 1
        for each in [self.trouble.pop() for _ in self.trouble]:
            if isinstance(each, Exception):
                raise each
            self.sandbox.sftp.faults.append(each)
        return self.labels

    async def _ahead_ms(self) -> int | None:
        return self.ahead_ms

    async def step(self) -> Step:
        """One step, published with its cursor; the time it bids to wait has passed."""
        step = await self.feed.step(self.cursor)
        await self.publisher.publish(step.events, CURSOR, step.cursor)
        self.cursor, self.notice = step.cursor, step.notice
        self.clock.advance(step.wait_s)
        return step

    async def poll(self, times: int = 1) -> None:
        """Steps until there is nothing to do but to wait, that many times. Two polls read what is there."""
        for _ in range(times):
            while not (await self.step()).wait_s:
                pass

    async def until_rows(self, rows: int) -> None:
        """Steps until so many rows of the file under way are published."""
        for _ in range(20):
            await self.step()
            if self.cursor is not None and (self.cursor["file"] or {}).get("row") == rows:
                return
        raise AssertionError("never came so far")

    def write(self, name: str, content: bytes, age_s: float = 0) -> None:
        """A file in the folder of the exports."""
        self.sandbox.exports.write(name, content)
        now = self.sandbox.exports.clock.now()
        os.utime(self.path(name), (now - age_s,) * 2)

    def path(self, name: str) -> Path:
        return self.sandbox.sftp.exports / name

    def keys(self) -> list[str]:
        return [each.key for each in self.log.events]

    def files(self, folder: str = "") -> list[str]:
        place = self.path(folder)
        return sorted(each.name for each in place.iterdir() if each.is_file()) if place.exists() else []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of the server and its account: made once, that takes a second."""
    home = tmp_path_factory.mktemp("keys")
    async with CampaignSandbox().sftp_serving(home):
        return home


@pytest.fixture
def sandbox() -> CampaignSandbox:
    return CampaignSandbox()


@pytest.fixture
async def access(tmp_path: Path, sandbox: CampaignSandbox, keys: Path) -> AsyncIterator[Access]:
    shutil.copytree(keys, tmp_path / "sftp")
    async with sandbox.sftp_serving(tmp_path / "sftp", port=0, exports=True) as made:
        yield made


@pytest.fixture
def rig(tmp_path: Path, sandbox: CampaignSandbox, access: Access) -> Rig:
    quick = str(access.key_file.with_name("client_key_ed25519"))
    made = Rig(sandbox, access.environment() | {"CAMPAIGN_SFTP_KEY_FILE": quick}, tmp_path / "state" / "exports")
    made.start()
    return made


async def test_what_the_workflow_exports_is_published_for_each_contact(rig: Rig) -> None:
    rig.sandbox.put("profile", {"externalId": ANN})
    rig.sandbox.opt_out(ANN, at="2026-01-31 10:00:00.250Z")
    file = rig.sandbox.exports.run()["name"]

    await rig.poll(2)

    (out,) = rig.log.events
    headers = dict(out.headers)
    assert (out.topic, out.key, out.event.contact_key, out.event.system) == (TOPIC, ANN, ANN, "campaign")
    assert out.event.origin == f"{file} row 1"
    assert out.event.flags["blackListEmail"]["value"] is True
    assert out.event.flags["blackListEmail"]["changed_at"].isoformat() == "2026-01-31T10:00:00.250000+00:00"
    assert (headers["origin-lane"], headers["source-version"], headers["produced-by"]) == (b"live", file.encode(), b"optin-reader/test")
    assert len(headers["traceparent"].split(b"-")) == 4


@pytest.mark.parametrize(
    "form",
    [
        {"delimiter": ";", "crlf": True},
        {"delimiter": "\t", "bom": True, "labels": True},
        {"gzip": True, "booleans": "1/0", "dates": "xml"},
        {"labels": True, "booleans": "Yes/No", "dates": "slashes"},
        {"booleans": "oui/non", "dates": "ddmmyyyy."},
        {"booleans": "Ja/Nein", "dates": "mmddyyyy"},
    ],
)
async def test_every_form_of_the_workflows_file_is_understood(rig: Rig, form: dict[str, Any]) -> None:
    for each in (ANN, BOB):
        rig.sandbox.put("profile", {"externalId": each})
    rig.sandbox.opt_out(ANN, at="2026-01-31 10:00:00.250Z")
    rig.sandbox.exports.run(**form)

    await rig.poll(2)

    assert {each.key: each.event.flags["blackListEmail"]["value"] for each in rig.log.events} == {ANN: True, BOB: False}
    assert rig.files("failed") == []


@pytest.mark.parametrize("bad_row", ['%%"garbage;\x00', '"garbage', '","'])
async def test_a_bad_row_takes_no_other_with_it(rig: Rig, bad_row: str) -> None:
    for each in (ANN, BOB):
        rig.sandbox.put("profile", {"externalId": each})
    rig.sandbox.opt_out(ANN, at="2026-01-31 10:00:00.250Z")
    rig.sandbox.exports.run(bad_row=bad_row)

    await rig.poll(2)

    assert {each.key: each.event.flags["blackListEmail"]["value"] for each in rig.log.events} == {ANN: True, BOB: False}
    assert rig.feed.skipped == 1


async def test_files_are_read_oldest_first(rig: Rig) -> None:
    rig.write(name(1), export(person(3)), age_s=10)
    rig.write(name(2), export(person(1)), age_s=30)
    rig.write(name(3) + ".gz", gzip.compress(export(person(2))), age_s=20)

    await rig.poll(2)

    assert rig.keys() == [person(1), person(2), person(3)]


async def test_files_of_one_second_are_read_by_name(rig: Rig) -> None:
    for n in (2, 3, 1):
        rig.write(name(n), export(person(n)), age_s=rig.sandbox.exports.clock.now() - 1_700_000_000)

    await rig.poll(2)

    assert rig.keys() == [person(1), person(2), person(3)]


async def test_a_file_is_read_when_it_is_the_same_over_two_polls(rig: Rig) -> None:
    rig.write(name(1), export(ANN))

    await rig.poll()
    assert (rig.keys(), rig.clock.passed_s) == ([], POLL_S)
    await rig.poll()

    assert rig.keys() == [ANN]


async def test_a_file_that_still_grows_waits(rig: Rig) -> None:
    whole = export(*map(person, range(6)))
    for size in (80, 120, 160):
        rig.write(name(1), whole[:size])
        await rig.poll()
    rig.write(name(1), whole)

    await rig.poll()
    assert rig.keys() == []
    await rig.poll()

    assert rig.keys() == [person(n) for n in range(6)]


async def test_a_look_at_the_folder_between_two_files_is_no_poll(rig: Rig) -> None:
    """The second file was first seen in the moment before, and is half there."""
    rig.write(name(1), export(ANN))
    await rig.poll()
    rig.sandbox.exports.write(name(2), export(*map(person, range(6))), partial=True)

    await rig.poll()
    assert rig.keys() == [ANN]
    rig.sandbox.exports.complete()
    await rig.poll(2)

    assert rig.keys() == [ANN, *map(person, range(6))]


async def test_a_file_that_grows_after_it_was_listed_waits_again(rig: Rig) -> None:
    rig.sandbox.exports.write(name(1), export(*map(person, range(6))), partial=True)
    await rig.poll()
    await rig.step()
    rig.sandbox.exports.complete()

    await rig.poll()
    assert rig.keys() == []
    await rig.poll()

    assert rig.keys() == [person(n) for n in range(6)]


@pytest.mark.parametrize("other", [
    f"{name(1)}.tmp", f"{name(1)}.part", f"{name(1)}.gz.tmp", f"{name(1)}.PART", f"{name(1)}.filepart", "other.csv", "d365_optout_1.txt",
])  # fmt: skip
async def test_what_is_no_export_or_not_complete_by_its_name_is_left_alone(rig: Rig, other: str) -> None:
    rig.start(CAMPAIGN_EXPORT_FILES="d365_optout_*.csv, d365_optout_*.csv.gz,*.tmp,*.part,*.PART,*.filepart")
    rig.write(other, export(ANN))

    await rig.poll(3)

    assert (rig.keys(), rig.files()) == ([], [other])


async def test_names_of_exports_can_be_set(rig: Rig) -> None:
    rig.start(CAMPAIGN_EXPORT_FILES="people-*.txt")
    rig.write("people-1.txt", export(ANN))
    rig.write(name(1), export(BOB))

    await rig.poll(2)

    assert rig.keys() == [ANN]


async def test_a_file_that_is_done_is_moved_and_its_copy_deleted(rig: Rig) -> None:
    rig.write(name(1), export(ANN))

    await rig.poll(2)

    assert (rig.files(), rig.files("processed")) == ([], [name(1)])
    assert list(rig.local.iterdir()) == []
    assert rig.cursor is not None
    assert (rig.cursor["file"], rig.cursor["done"], rig.cursor["last_file_at"]) == (None, [], "2026-03-01T12:01:00+00:00")


async def test_a_file_without_rows_is_done_as_well(rig: Rig) -> None:
    rig.sandbox.exports.run(empty=True)

    await rig.poll(2)

    assert rig.keys() == []
    assert len(rig.files("processed")) == 1


async def test_a_file_is_done_only_when_all_its_rows_are_published(rig: Rig) -> None:
    people = [person(n) for n in range(PORTION + 2)]
    rig.write(name(1), export(*people))
    await rig.until_rows(PORTION + 2)

    assert (rig.keys(), rig.files("processing"), rig.files("processed")) == (people, [name(1)], [])
    await rig.step()

    assert (rig.files(), rig.files("processed")) == ([], [name(1)])


async def test_where_nothing_may_be_moved_a_file_is_remembered_over_a_restart(rig: Rig) -> None:
    rig.sandbox.settings.change({"sftp_may_move": False})
    rig.write(name(1), export(ANN))

    await rig.poll(4)
    assert (rig.keys(), rig.files()) == ([ANN], [name(1)])
    rig.start()
    await rig.poll(3)

    assert rig.keys() == [ANN]


async def test_where_nothing_may_be_moved_a_bad_file_is_remembered_too(rig: Rig) -> None:
    rig.sandbox.settings.change({"sftp_may_move": False})
    rig.write(name(1), b"nonsense")
    rig.write(name(2), export(ANN))

    with capture_logs() as lines:
        await rig.poll(5)

    assert (rig.keys(), rig.files()) == ([ANN], [name(1), name(2)])
    assert [line["name"] for line in lines if line["event"] == "export_failed"] == [name(1)]


async def test_another_file_of_a_remembered_name_is_read(rig: Rig) -> None:
    rig.sandbox.settings.change({"sftp_may_move": False})
    rig.write(name(1), export(ANN))
    await rig.poll(2)
    rig.write(name(1), export(ANN, BOB), age_s=-100)

    await rig.poll(3)

    assert rig.keys() == [ANN, ANN, BOB]


async def test_a_remembered_file_that_is_gone_is_forgotten(rig: Rig) -> None:
    rig.sandbox.settings.change({"sftp_may_move": False})
    rig.write(name(1), export(ANN))
    await rig.poll(2)
    rig.path(name(1)).unlink()

    await rig.poll()

    assert rig.cursor is not None
    assert rig.cursor["done"] == []


async def test_a_file_of_a_name_that_was_processed_before_is_read_and_stays(rig: Rig) -> None:
    for person_, age_s in ((ANN, 10), (BOB, 0)):
        rig.write(name(1), export(person_), age_s)
        await rig.poll(3)

    assert rig.keys() == [ANN, BOB]


async def test_a_bad_file_is_set_apart_and_the_next_one_goes_on(rig: Rig) -> None:
    rig.write(name(1), f"city,mail\n{ANN},x\n".encode(), age_s=30)
    rig.write(name(2) + ".gz", gzip.compress(export(BOB))[:-12], age_s=20)
    rig.write(name(3), export(ANN))

    with capture_logs() as lines:
        await rig.poll(2)

    assert rig.keys() == [ANN]
    assert (rig.files(), rig.files("processed"), rig.files("failed")) == ([], [name(3)], [name(1), name(2) + ".gz"])
    assert [line["name"] for line in lines if line["event"] == "export_failed"] == [name(1), name(2) + ".gz"]
    assert ANN not in str(lines)
    assert BOB not in str(lines)


async def test_a_bad_file_that_cannot_be_put_away_at_once_is_bad_later_as_well(rig: Rig) -> None:
    rig.write(name(1), b"nonsense")
    rig.trouble.append(SftpFault("refuse", times=1))

    await rig.poll()
    await rig.step()
    with pytest.raises(RetryError):
        await rig.step()
    await rig.poll()

    assert (rig.files("failed"), rig.files("processed")) == ([name(1)], [])
    assert rig.cursor is not None
    assert rig.cursor["last_file_at"] is None


async def test_bad_rows_are_skipped_counted_and_told_by_their_number_only(rig: Rig) -> None:
    rig.write(name(1), export(ANN) + b"secret,true,\n" + f"{BOB},hush,\n{BOB},true,\n".encode())

    with capture_logs() as lines:
        await rig.poll(2)

    assert rig.keys() == [ANN, BOB]
    assert [(line["name"], line["row"]) for line in lines if line["event"] == "export_row_skipped"] == [(name(1), 2), (name(1), 3)]
    assert rig.feed.skipped == 2
    assert not [word for word in ("secret", "hush", BOB) if word in str(lines)]


async def test_of_each_file_the_first_bad_rows_are_told(rig: Rig) -> None:
    bad = export(*["nobody"] * (LOGGED_ROWS + 5))
    rig.write(name(1), bad, age_s=10)
    rig.write(name(2), bad)

    with capture_logs() as lines:
        await rig.poll(2)

    assert Counter(line["name"] for line in lines if line["event"] == "export_row_skipped") == {name(1): LOGGED_ROWS, name(2): LOGGED_ROWS}
    assert rig.feed.skipped == 2 * (LOGGED_ROWS + 5)


async def test_campaign_is_asked_for_its_labels_only_for_a_first_line_that_we_do_not_understand(rig: Rig) -> None:
    rig.labels = FRENCH
    rig.write(name(1), export(ANN), age_s=10)
    await rig.poll(2)
    assert rig.asked == 0
    rig.write(name(2), export(BOB, header=";".join(FRENCH)).replace(b",", b";"))

    await rig.poll(2)

    assert (rig.keys(), rig.asked) == ([ANN, BOB], 1)
    assert rig.log.events[1].event.flags["blackListEmail"]["changed_at"] is not None


async def test_a_file_waits_while_campaign_cannot_be_asked(rig: Rig) -> None:
    rig.labels = FRENCH
    rig.trouble.append(RetryError("away"))
    rig.write(name(1), export(ANN, header=",".join(FRENCH)))

    with pytest.raises(RetryError):
        await rig.poll(2)
    await rig.poll()

    assert (rig.keys(), rig.files("processed")) == ([ANN], [name(1)])


async def test_after_a_crash_half_way_a_new_feed_goes_on_from_the_saved_cursor(rig: Rig) -> None:
    people = [person(n) for n in range(2 * PORTION + 500)]
    rig.write(name(1), export(*people))
    await rig.until_rows(PORTION)

    rig.start()
    await rig.poll()

    assert rig.keys() == people
    assert (rig.files(), rig.files("processed")) == ([], [name(1)])


async def test_rows_whose_cursor_was_not_saved_are_repeated(rig: Rig) -> None:
    people = [person(n) for n in range(2 * PORTION + 500)]
    rig.write(name(1), export(*people))
    await rig.until_rows(PORTION)
    rig.log.events.extend((await rig.feed.step(rig.cursor)).events)  # in Kafka, but its cursor is not

    rig.start()
    await rig.poll()

    assert rig.keys() == people[: 2 * PORTION] + people[PORTION:]
    assert rig.files("processed") == [name(1)]


async def test_a_file_that_was_put_away_before_its_cursor_was_saved_is_done(rig: Rig) -> None:
    rig.write(name(1), export(ANN))
    await rig.until_rows(1)
    await rig.feed.step(rig.cursor)
    assert rig.files("processed") == [name(1)]

    rig.start()
    await rig.poll(3)

    assert rig.keys() == [ANN]
    assert rig.cursor is not None
    assert (rig.cursor["file"], rig.cursor["last_file_at"] is not None) == (None, True)


async def test_another_file_in_the_place_of_a_half_read_one_is_read_as_well(rig: Rig) -> None:
    people = [person(n) for n in range(PORTION + 500)]
    rig.write(name(1), export(*people))
    await rig.until_rows(PORTION)
    rig.write(name(1), export(BOB))

    rig.start()
    await rig.poll(2)

    assert rig.keys() == [*people, BOB]
    assert rig.files("processed") == [name(1), name(1).replace(".", "~~2.")]


async def test_a_connection_that_breaks_in_the_middle_of_a_file_is_made_again(rig: Rig) -> None:
    people = [person(n) for n in range(5000)]
    rig.write(name(1), export(*people))
    rig.sandbox.sftp.faults.append(SftpFault("cut", after=100_000, times=1))
    await rig.poll()
    await rig.step()

    with pytest.raises(RetryError) as caught:
        await rig.step()
    assert (caught.value.code, rig.keys()) == ("source_unavailable", [])
    await rig.poll()

    assert rig.keys() == people


async def test_a_server_that_is_away_is_waited_for(rig: Rig) -> None:
    rig.write(name(1), export(ANN))
    rig.sandbox.sftp.faults.append(SftpFault("refuse", times=2))

    for _ in range(2):
        with pytest.raises(RetryError) as caught:
            await rig.step()
        assert caught.value.code == "source_unavailable"
    await rig.poll(2)

    assert rig.keys() == [ANN]


async def test_a_connection_that_is_refused_when_a_file_is_to_be_put_away_reads_nothing_again(rig: Rig) -> None:
    rig.write(name(1), export(ANN))
    await rig.until_rows(1)
    rig.sandbox.sftp.faults.append(SftpFault("refuse", times=1))

    with pytest.raises(RetryError):
        await rig.step()
    await rig.poll()

    assert (rig.keys(), rig.files("processed")) == ([ANN], [name(1)])


async def test_a_folder_that_is_not_there_is_waited_for_by_name(rig: Rig) -> None:
    rig.sandbox.sftp.empty(exports=False)

    with pytest.raises(RetryError) as caught:
        await rig.step()

    assert (caught.value.code, caught.value.retry_after_s) == ("export_folder_missing", POLL_S)
    assert "d365_loads/exports" in str(caught.value)
    rig.sandbox.sftp.exports.mkdir(parents=True)
    rig.write(name(1), export(ANN))
    await rig.poll(2)
    assert rig.keys() == [ANN]


async def halted(rig: Rig) -> HaltError:
    with pytest.raises(HaltError) as caught:
        await rig.step()
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("known", ["another", "none"])
async def test_a_host_key_that_we_do_not_know_halts(rig: Rig, access: Access, known: str) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    access.known_hosts_file.write_text(f"[{access.host}]:{access.port} {other}" if known == "another" else "")

    error = await halted(rig)

    assert (error.code, error.origin) == ("host_key_unknown", "source")


async def test_a_key_that_is_not_ours_is_refused(rig: Rig, tmp_path: Path) -> None:
    path = tmp_path / "other_key"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(path))
    rig.start(CAMPAIGN_SFTP_KEY_FILE=str(path))

    error = await halted(rig)

    assert (error.code, error.origin) == ("source_refused", "source")


async def test_a_user_that_is_not_known_is_refused(rig: Rig) -> None:
    rig.start(CAMPAIGN_SFTP_USER="root")

    assert (await halted(rig)).code == "source_refused"


@pytest.mark.parametrize("setting", ["CAMPAIGN_SFTP_KEY_FILE", "CAMPAIGN_SFTP_KNOWN_HOSTS_FILE"])
@pytest.mark.parametrize("content", [None, "folder", b"c2VjcmV0\n", bytes(range(256))], ids=["missing", "folder", "text", "bytes"])
async def test_a_file_of_keys_that_cannot_be_used_halts_and_is_not_shown(
    rig: Rig, tmp_path: Path, setting: str, content: bytes | str | None
) -> None:
    path = tmp_path / "unusable"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    rig.start(**{setting: str(path)})

    error = await halted(rig)

    assert (error.code, error.origin) == ("sftp_key_unusable", "configuration")
    assert setting in str(error)
    assert "c2VjcmV0" not in f"{error}{error.hint}{error.__cause__}"


@pytest.mark.parametrize("key", ["client_key", "client_key_ed25519"])
async def test_either_kind_of_key_logs_in(rig: Rig, access: Access, key: str) -> None:
    rig.start(CAMPAIGN_SFTP_KEY_FILE=str(access.key_file.with_name(key)))
    rig.write(name(1), export(ANN))

    await rig.poll(2)

    assert rig.keys() == [ANN]


async def test_a_host_key_that_was_changed_on_both_sides_is_taken_without_a_restart(rig: Rig, access: Access) -> None:
    right = access.known_hosts_file.read_text()
    access.known_hosts_file.write_text("")
    await halted(rig)

    access.known_hosts_file.write_text(right)

    await rig.poll()


async def test_no_file_for_longer_than_expected_is_told_while_all_goes_on(rig: Rig) -> None:
    await rig.poll()
    rig.clock.advance(EXPECTED_S - POLL_S)
    await rig.poll()
    assert rig.notice is None

    await rig.poll()

    assert isinstance(rig.notice, HaltError)
    assert (rig.notice.code, rig.notice.origin) == ("export_overdue", "source")
    assert "26 h" in str(rig.notice)


async def test_the_expected_time_counts_from_the_last_file_over_a_restart(rig: Rig) -> None:
    rig.clock.advance(EXPECTED_S / 2)
    rig.write(name(1), export(ANN))
    await rig.poll(2)
    rig.start()

    rig.clock.advance(EXPECTED_S - 2 * POLL_S)
    await rig.poll()
    assert rig.notice is None
    rig.clock.advance(2 * POLL_S)
    await rig.poll()

    assert rig.notice is not None


async def test_nothing_is_overdue_while_a_file_waits_or_after_it(rig: Rig) -> None:
    await rig.poll()
    rig.clock.advance(2 * EXPECTED_S)
    await rig.poll()
    assert rig.notice is not None
    rig.write(name(1), export(ANN))

    await rig.poll()
    assert rig.notice is None
    await rig.poll()

    assert (rig.notice, rig.keys()) == (None, [ANN])


async def test_it_is_told_that_nothing_has_come_though_the_server_is_away(rig: Rig) -> None:
    await rig.poll()
    rig.sandbox.sftp.faults.append(SftpFault("refuse", times=None))
    with pytest.raises(RetryError):
        await rig.step()

    rig.clock.advance(EXPECTED_S + POLL_S)
    await rig.step()

    assert rig.notice is not None and rig.notice.code == "export_overdue"


async def test_a_file_that_could_not_be_read_is_told_until_one_comes_that_can(rig: Rig) -> None:
    rig.write(name(1), b"no header\n")
    await rig.poll(3)
    assert rig.notice is not None and (rig.notice.code, name(1) in str(rig.notice)) == ("export_unreadable", True)

    rig.start()
    rig.write(name(2), export(ANN))
    await rig.poll(3)

    assert rig.notice is None


async def test_a_remembered_file_and_a_bad_one_are_no_new_export(rig: Rig) -> None:
    rig.sandbox.settings.change({"sftp_may_move": False})
    rig.write(name(1), export(ANN))
    await rig.poll(2)
    rig.clock.advance(EXPECTED_S)
    rig.write(name(2), b"nonsense")

    await rig.poll(2)

    assert rig.notice is not None


async def test_what_was_processed_fifteen_days_ago_is_deleted_when_the_next_file_is_done(rig: Rig) -> None:
    for n, days in ((1, 16), (2, 14)):
        rig.write(name(n), export(ANN), age_s=days * DAY_S)
    await rig.poll(2)
    assert rig.files("processed") == [name(1), name(2)]
    rig.write(name(3), export(ANN))

    await rig.poll(2)

    assert rig.files("processed") == [name(2), name(3)]


async def test_sessions_with_the_server_are_counted_as_calls(rig: Rig) -> None:
    metrics = Metrics("optin", "reader", rig.clock)
    folder = SftpFolder(load(ExportSettings, rig.environment), metrics.meter("sftp"))
    stranger = SftpFolder(load(ExportSettings, rig.environment | {"CAMPAIGN_SFTP_USER": "nobody"}), metrics.meter("sftp"))
    keyless = SftpFolder(load(ExportSettings, rig.environment | {"CAMPAIGN_SFTP_KEY_FILE": "/nowhere"}), metrics.meter("sftp"))

    await folder.files()
    rig.sandbox.sftp.faults.append(SftpFault("refuse", times=1))
    with pytest.raises(RetryError):
        await folder.files()
    for each in (stranger, keyless):
        with pytest.raises(HaltError):
            await each.files()

    told = metrics.exposition().decode()
    for result, number in (("ok", 1.0), ("failed", 1.0), ("refused", 1.0), ("busy", 0.0)):
        assert f'bridge_calls_total{{result="{result}",system="sftp"}} {number}' in told


@pytest.mark.parametrize("measured", [None, 0, -90_000])
async def test_what_a_file_says_comes_with_the_difference_of_campaigns_clock(rig: Rig, measured: int | None) -> None:
    """No file tells it, and its times are compared with those of Dynamics."""
    rig.ahead_ms = measured
    rig.write(name(1), export(ANN))

    await rig.poll(2)

    assert [each.event.ahead_ms for each in rig.log.events] == [measured]
