"""sandbox.campaign, the daily opt-out export: what is in a file and when, in which form, and people who unsubscribe."""

from __future__ import annotations

import base64
import csv
import gzip
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from sandbox.campaign import CampaignSandbox
from sandbox.web import serving

HEADER = (
    "externalId,blackList,blackListLastModified,blackListEmail,blackListEmailLastModified,blackListFax,blackListFaxLastModified,"
    "blackListMobile,blackListMobileLastModified,blackListPhone,blackListPhoneLastModified,blackListPostalMail,"
    "blackListPostalMailLastModified,blackListPushnotification,ccpaOptOut,ccpaOptOutLastModified,blackListAllLastModified,lastModified"
)
AT = "2026-01-31 10:00:00.250Z"
ROW = f"c-1,false,,true,{AT},false,,false,,false,,false,,false,false,,{AT},{AT}"


@pytest.fixture
def sandbox() -> CampaignSandbox:
    """With one profile, opted out of email at `AT`."""
    sandbox = CampaignSandbox()
    sandbox.put("profile", {"externalId": "c-1"})
    sandbox.opt_out("c-1", at=AT)
    return sandbox


@pytest_asyncio.fixture
async def admin(sandbox: CampaignSandbox, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with sandbox.sftp_serving(tmp_path), serving(sandbox.app()) as url, httpx.AsyncClient(base_url=f"{url}/_admin") as client:
        yield client


def files(sandbox: CampaignSandbox) -> list[str]:
    return sorted(path.name for path in sandbox.sftp.exports.iterdir())


async def exported(admin: httpx.AsyncClient, sandbox: CampaignSandbox, **form: object) -> bytes:
    name: str = (await admin.post("/exports/run", json=form)).json()["name"]
    return (sandbox.sftp.exports / name).read_bytes()


async def test_s37_a_file_has_the_default_form(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    answer = (await admin.post("/exports/run")).json()

    assert re.fullmatch(r"d365_optout_\d{8}_\d{6}\.csv", answer["name"])
    assert (answer["rows"], files(sandbox)) == (1, [answer["name"]])
    assert (sandbox.sftp.exports / answer["name"]).read_text() == f"{HEADER}\n{ROW}\n"


async def test_s37_only_profiles_changed_since_the_last_run(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.exports.run()
    sandbox.put("profile", {"externalId": "c-2"})
    sandbox.put("profile", {"externalId": "c-3"})
    second = await exported(admin, sandbox)
    sandbox.opt_out("c-3", "ccpaOptOut")
    third = await exported(admin, sandbox)

    assert [row["externalId"] for row in csv.DictReader(second.decode().splitlines())] == ["c-2", "c-3"]
    assert [row["externalId"] for row in csv.DictReader(third.decode().splitlines())] == ["c-3"]
    assert len(files(sandbox)) == 3, "each has a name of its own, in order"


async def test_s37_no_file_without_changes_unless_asked_for(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.exports.run()

    assert (await admin.post("/exports/run")).json() == {"name": None, "rows": 0}
    assert await exported(admin, sandbox, empty=True) == f"{HEADER}\n".encode()
    assert await exported(admin, sandbox, since="") == f"{HEADER}\n{ROW}\n".encode()


async def test_s37_once_a_day_while_it_is_started(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.advance(86_000)
    assert files(sandbox) == []
    await admin.post("/clock", json={"advance_s": 500})
    assert len(files(sandbox)) == 1
    await admin.post("/exports/stop")
    sandbox.opt_out("c-1", value=False)
    sandbox.advance(3 * 86_400)
    assert len(files(sandbox)) == 1, "stopped"
    await admin.post("/exports/start", json={"delimiter": ";"})
    sandbox.advance(86_400)

    assert len(files(sandbox)) == 2, "what was missed comes with the next run"
    assert (sandbox.sftp.exports / files(sandbox)[1]).read_text().startswith("externalId;blackList;")


async def test_s37_a_failure_stops_the_workflow(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.sftp.empty(exports=False)
    sandbox.advance(86_500)
    state = (await admin.get("/exports")).json()

    assert (state["running"], state["last_run"]) == (False, "")
    assert "could not be written" in state["error"]


async def test_s37_files_are_dated_by_the_sandboxes_clock(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.advance(-20 * 86_400)
    path = sandbox.sftp.exports / sandbox.exports.run()["name"]

    assert abs(path.stat().st_mtime - sandbox.database.clock.now()) < 5


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
async def test_s37_delimiters_bom_and_newlines(admin: httpx.AsyncClient, sandbox: CampaignSandbox, delimiter: str) -> None:
    file = await exported(admin, sandbox, delimiter=delimiter, bom=True, crlf=True)

    assert file == b"\xef\xbb\xbf" + f"{HEADER}\r\n{ROW}\r\n".replace(",", delimiter).encode()


async def test_s37_cells_are_quoted_where_they_have_to_be(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.put("profile", {"externalId": 'ü,"1"'})

    assert '\n"ü,""1""",false,' in (await exported(admin, sandbox)).decode()


async def test_s37_gzip(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    assert gzip.decompress(await exported(admin, sandbox, gzip=True)) == f"{HEADER}\n{ROW}\n".encode()
    assert files(sandbox)[0].endswith(".csv.gz")


@pytest.mark.parametrize(("dates", "written"), [("xml", "2026-01-31T10:00:00.250Z"), ("slashes", "2026/01/31 10:00:00")])
async def test_s37_dates(admin: httpx.AsyncClient, sandbox: CampaignSandbox, dates: str, written: str) -> None:
    assert await exported(admin, sandbox, dates=dates) == f"{HEADER}\n{ROW.replace(AT, written)}\n".encode()


@pytest.mark.parametrize(
    ("dates", "written"),
    [
        ("yyyymmdd", "20260131 10:00:00"),
        ("yyyymmdd/", "2026/01/31 10:00:00"),
        ("mmddyyyy-", "01-31-2026 10:00:00"),
        ("ddmmyyyy.", "31.01.2026 10:00:00"),
        ("mmyyyydd/", "01/2026/31 10:00:00"),
        ("ddyyyymm", "31202601 10:00:00"),
        ("yyyyddmm-", "2026-31-01 10:00:00"),
    ],
)
async def test_s37_dates_in_every_order_of_the_activity(
    admin: httpx.AsyncClient, sandbox: CampaignSandbox, dates: str, written: str
) -> None:
    assert await exported(admin, sandbox, dates=dates) == f"{HEADER}\n{ROW.replace(AT, written)}\n".encode()


@pytest.mark.parametrize("words", ["1/0", "Yes/No"])
async def test_s37_booleans(admin: httpx.AsyncClient, sandbox: CampaignSandbox, words: str) -> None:
    yes, no = words.split("/")

    assert await exported(admin, sandbox, booleans=words) == f"{HEADER}\n{ROW.replace('true', yes).replace('false', no)}\n".encode()


async def test_s37_labels_and_missing_columns(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    kept = ("externalId", "blackListEmail", "blackListEmailLastModified", "lastModified")
    without = [name for name in HEADER.split(",") if name not in kept]
    file = await exported(admin, sandbox, labels=True, without=without)

    labels = "External Resource ID,No longer contact by email,blackListEmailLastModified,Last modified"
    assert file.decode() == f"{labels}\nc-1,true,{AT},{AT}\n"


async def test_s37_several_rows_of_a_profile_and_a_bad_one(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    older = {"externalId": "c-1", "blackListEmail": False, "blackListEmailLastModified": "2026-01-01 00:00:00.000Z"}
    file = await exported(admin, sandbox, before=[older], bad_row='%%"garbage;\x00')

    assert file.decode() == f'{HEADER}\n%%"garbage;\x00\nc-1,,,false,2026-01-01 00:00:00.000Z{"," * 13}\n{ROW}\n'


async def test_s37_an_upload_may_be_seen_before_it_is_complete(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    whole = f"{HEADER}\n{ROW}\n".encode()
    half = await exported(admin, sandbox, partial=True)
    [name] = files(sandbox)

    assert half == whole[: len(whole) // 2]
    assert (await admin.get("/exports")).json()["partial"] == [name]
    assert (await admin.post("/exports/complete")).json() == {"names": [name]}
    assert (sandbox.sftp.exports / name).read_bytes() == whole
    assert (await admin.post("/exports/complete")).json() == {"names": []}


async def test_s37_any_file_can_be_put_there(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    hostile = bytes(range(256))
    body = {"name": "d365_optout_x.csv.tmp", "content_base64": base64.b64encode(hostile).decode()}

    assert (await admin.post("/exports/file", json=body)).status_code == 200
    assert (sandbox.sftp.exports / "d365_optout_x.csv.tmp").read_bytes() == hostile


@pytest.mark.parametrize("field", ["blackList", "blackListPhone", "blackListPushnotification", "ccpaOptOut"])
async def test_s24_a_person_unsubscribes_and_each_flag_has_its_time(admin: httpx.AsyncClient, sandbox: CampaignSandbox, field: str) -> None:
    body = {"external_id": "c-1", "field": field, "at": "2026-02-01T12:00:00+01:00"}
    before, row = sandbox.get("profile", "c-1"), (await admin.post("/opt-out", json=body)).json()

    stamped = {name for name, value in row.items() if value == "2026-02-01 11:00:00.000Z"}
    own = set() if field == "blackListPushnotification" else {f"{field}LastModified"}
    shared = set() if field == "ccpaOptOut" else {"blackListAllLastModified"}
    assert stamped == own | shared | {"lastModified"}
    assert before is not None
    assert {name for name, value in row.items() if value != before[name]} == stamped | {field}


async def test_s24_a_person_comes_back_now_and_a_second_click_changes_nothing(admin: httpx.AsyncClient, sandbox: CampaignSandbox) -> None:
    sandbox.advance(3600)
    back = (await admin.post("/opt-out", json={"external_id": "c-1", "value": False})).json()
    sandbox.advance(3600)
    again = (await admin.post("/opt-out", json={"external_id": "c-1", "value": False})).json()

    assert (back["blackListEmail"], again) == (False, back)
    assert back["blackListEmailLastModified"] == back["lastModified"] > AT
