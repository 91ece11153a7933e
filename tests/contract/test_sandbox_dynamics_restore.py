"""The Dynamics stand-in: a restore from a backup, another organisation, merges, a clock that is wrong (dataverse.md §2.6, §4.6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from sandbox.dynamics import DynamicsSandbox
from sandbox.web import serving

TRACK = {"Prefer": "odata.track-changes"}


@dataclass
class Place:
    sandbox: DynamicsSandbox
    http: httpx.AsyncClient
    url: str

    async def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        form = {"grant_type": "client_credentials", "client_id": "sandbox-client", "client_secret": "sandbox-secret"}
        scope = {"scope": f"{self.url}/.default"}
        token = (await self.http.post(f"{self.url}/sandbox-tenant/oauth2/v2.0/token", data=form | scope)).json()["access_token"]
        link = path if path.startswith("http") else f"{self.url}/api/data/v9.2/{path}"
        return await self.http.get(link, headers={"Authorization": f"Bearer {token}", **(headers or {})})

    async def admin(self, what: str, body: Any) -> Any:
        answer = await self.http.post(f"{self.url}/_admin/{what}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    sandbox = DynamicsSandbox()
    async with serving(sandbox.app()) as url, httpx.AsyncClient() as http:
        yield Place(sandbox, http, url)


async def test_a_restore_brings_rows_tombstones_and_versions_back(place: Place) -> None:
    kept = place.sandbox.upsert("contact", {"lastname": "kept"})
    gone = place.sandbox.upsert("contact", {"lastname": "gone"})
    before = await place.admin("backup", {})
    place.sandbox.upsert("contact", {"contactid": kept, "lastname": "changed"})
    place.sandbox.delete("contact", gone)
    born = place.sandbox.upsert("contact", {"lastname": "born"})

    after = await place.admin("restore", {})

    assert before == after
    assert {row["contactid"]: row["lastname"] for row in place.sandbox.rows("contact")} == {kept: "kept", gone: "gone"}
    place.sandbox.upsert("contact", {"lastname": "next"})
    assert place.sandbox.store.version == before["version"] + 1
    assert born not in place.sandbox.store.data["contact"].rows


async def test_a_backup_can_be_restored_twice_and_is_not_changed_by_it(place: Place) -> None:
    person = place.sandbox.upsert("contact", {"lastname": "first"})
    state = place.sandbox.backup()
    for _ in range(2):
        place.sandbox.restore(state)
        assert [row["lastname"] for row in place.sandbox.rows("contact")] == ["first"]
        place.sandbox.upsert("contact", {"contactid": person, "lastname": "second"})


@pytest.mark.parametrize(
    ("token", "status", "expected"), [("refused", 400, []), ("expired", 400, []), ("taken", 200, ["b"]), ("empty", 200, [])]
)
async def test_a_token_of_after_the_backup_is_what_the_setting_says(place: Place, token: Any, status: int, expected: list[str]) -> None:
    place.sandbox.upsert("contact", {"lastname": "a"})
    state = place.sandbox.backup()
    place.sandbox.advance(10)
    for _ in range(2):
        place.sandbox.upsert("contact", {"lastname": "lost"})
    link = (await place.get("contacts?$select=lastname", TRACK)).json()["@odata.deltaLink"]
    place.sandbox.settings.future_token = token
    place.sandbox.restore(state)
    place.sandbox.advance(10)
    place.sandbox.upsert("contact", {"lastname": "b"})

    answer = await place.get(link, TRACK)

    assert answer.status_code == status
    if status == 200:
        assert [row["lastname"] for row in answer.json()["value"]] == expected
        place.sandbox.upsert("contact", {"lastname": "c"})
        again = (await place.get(answer.json()["@odata.deltaLink"], TRACK)).json()
        assert [row["lastname"] for row in again["value"]] == ["c"]


async def test_who_am_i_names_the_organisation_of_the_setting(place: Place) -> None:
    before = (await place.get("WhoAmI")).json()["OrganizationId"]
    place.sandbox.settings.organization = "22222222-0000-4000-8000-00000000000a"

    after = (await place.get("WhoAmI")).json()

    assert (before != after["OrganizationId"], after["OrganizationId"]) == (True, "22222222-0000-4000-8000-00000000000a")


async def test_a_merge_makes_the_loser_inactive_with_its_master(place: Place) -> None:
    loser, master = (place.sandbox.upsert("contact", {"lastname": name}) for name in "lm")

    await place.admin("merge", {"loser": loser, "master": master})

    row = (await place.get(f"contacts({loser})?$select=merged,_masterid_value,statecode")).json()
    assert (row["merged"], row["_masterid_value"], row["statecode"]) == (True, master, 1)
    other = (await place.get(f"contacts({master})?$select=merged,_masterid_value")).json()
    assert (other["merged"], other["_masterid_value"]) == (False, None)


@pytest.mark.parametrize("ahead_s", [3600, -90])
async def test_a_wrong_clock_shows_in_the_date_and_in_the_times_of_rows(place: Place, ahead_s: int) -> None:
    place.sandbox.settings.clock_ahead_s = ahead_s
    place.sandbox.upsert("contact", {"lastname": "a"})

    answer = await place.get("contacts?$select=modifiedon")

    wrong = datetime.now(UTC) + timedelta(seconds=ahead_s)
    assert abs((parsedate_to_datetime(answer.headers["Date"]) - wrong).total_seconds()) < 5
    assert abs((datetime.fromisoformat(answer.json()["value"][0]["modifiedon"]) - wrong).total_seconds()) < 5


async def test_an_import_may_set_the_time_of_a_row_back(place: Place) -> None:
    person = place.sandbox.upsert("contact", {"lastname": "a"})
    version = place.sandbox.rows("contact")[0]["versionnumber"]

    await place.admin("tables/contact/rows", {"rows": [{"contactid": person, "lastname": "b"}], "modifiedon": "2020-01-01T00:00:00Z"})

    (row,) = place.sandbox.rows("contact")
    assert (row["lastname"], row["modifiedon"], row["versionnumber"] > version) == ("b", "2020-01-01T00:00:00Z", True)


async def test_empty_columns_that_were_asked_for_are_there_as_null(place: Place) -> None:
    """So a row that lacks one is a fault of the answer."""
    person = place.sandbox.upsert("contact", {})
    select = "$select=lastname,_masterid_value,gendercode,birthdate,creditlimit"

    rows = [
        (await place.get(f"contacts?{select}", TRACK)).json()["value"][0],
        (await place.get(f"contacts?{select}")).json()["value"][0],
        (await place.get(f"contacts({person})?{select}")).json(),
    ]

    for row in rows:
        assert {row[name] for name in ("lastname", "_masterid_value", "gendercode", "birthdate", "creditlimit")} == {None}
