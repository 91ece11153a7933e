"""The Dynamics stand-in, `$batch` (contract 7.7): order, failures, change sets, envelope."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from sandbox.dynamics import DynamicsSandbox
from sandbox.web import serving

API = "/api/data/v9.2"


@pytest.fixture
def sandbox() -> DynamicsSandbox:
    return DynamicsSandbox()


@pytest.fixture
async def client(sandbox: DynamicsSandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(sandbox.app()) as url, httpx.AsyncClient(base_url=url) as http:
        form = {"client_id": "sandbox-client", "client_secret": "sandbox-secret", "scope": f"{url}/.default"}
        answer = await http.post("/sandbox-tenant/oauth2/v2.0/token", data=form | {"grant_type": "client_credentials"})
        http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield http


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def one(sandbox: DynamicsSandbox, table: str = "contact") -> dict[str, Any]:
    (row,) = sandbox.rows(table)
    return row


def part(request: str, body: str = "", content_id: str = "") -> str:
    head = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"
    head += f"Content-ID: {content_id}\r\n" if content_id else ""
    return f"{head}\r\n{request} HTTP/1.1\r\n" + (f"Content-Type: application/json\r\n\r\n{body}" if body else "")


def joined(mark: str, *parts: str) -> str:
    return "".join(f"--{mark}\r\n{one_part}\r\n" for one_part in parts) + f"--{mark}--\r\n"


def change_set(*parts: str) -> str:
    return "Content-Type: multipart/mixed; boundary=set\r\n\r\n" + joined("set", *parts)


async def send(client: httpx.AsyncClient, body: str, **headers: str) -> httpx.Response:
    kind = {"Content-Type": 'multipart/mixed; boundary="b"'}
    return await client.post(f"{API}/$batch", content=body.encode(), headers=kind | headers)


def inner(answer: httpx.Response) -> list[str]:
    """The inner status lines of a batch's answer."""
    return [line for line in answer.text.split("\r\n") if line.startswith("HTTP/1.1")]


async def test_7_7_operations_run_in_order(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    key = uuid4()
    create = part(f"PATCH {API}/contacts({key})", '{"lastname":"x"}')
    answer = await send(client, joined("b", create, part(f"GET {client.base_url}{API}/contacts({key})?$select=lastname")))

    assert answer.status_code == 200 and inner(answer) == ["HTTP/1.1 204 No Content", "HTTP/1.1 200 OK"]
    assert answer.headers["Content-Type"].startswith("multipart/mixed; boundary=batchresponse_")
    assert '"lastname":"x"' in answer.text and f"Location: {client.base_url}{API}/contacts({key})" in answer.text


async def test_7_7_the_first_failure_stops_unless_told_otherwise(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    parts = [part(f"POST {API}/contacts", body) for body in ('{"lastname":"a"}', '{"nope":1}', '{"lastname":"c"}')]
    stopped = await send(client, joined("b", *parts))
    assert stopped.status_code == 400 and len(inner(stopped)) == 2 and len(sandbox.rows("contact")) == 1
    sandbox.settings.batch_lists_earlier = False
    assert inner(await send(client, joined("b", *parts))) == ["HTTP/1.1 400 Bad Request"]
    went_on = await send(client, joined("b", *parts), Prefer="odata.continue-on-error")
    assert went_on.status_code == 200 and [line.split()[1] for line in inner(went_on)] == ["204", "400", "204"]


async def test_7_7_a_change_set_is_all_or_nothing(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    create = part(f"POST {API}/contacts", '{"lastname":"a"}', "1")
    update = part("PATCH $1", '{"firstname":"b"}', "2")
    vehicle = part(f"POST {API}/new_vehicles", '{"new_ContactId@odata.bind":"$1"}', "3")
    good = await send(client, joined("b", change_set(create, update, vehicle)))
    assert good.status_code == 200 and inner(good) == ["HTTP/1.1 204 No Content"] * 3 and "Content-ID: 3" in good.text
    assert one(sandbox)["fullname"] == "b a" and one(sandbox, "new_vehicle")["new_contactid"] == one(sandbox)["contactid"]
    bad = await send(client, joined("b", change_set(create, part("PATCH $7", "{}", "2"))))
    assert bad.status_code == 400 and inner(bad) == ["HTTP/1.1 400 Bad Request"]
    assert "Content-ID Reference: '$7' does not exist" in bad.text and len(sandbox.rows("contact")) == 1
    assert len(sandbox.writes("contact")) == 2  # what was rolled back is not listed
    reading = await send(client, joined("b", change_set(part(f"GET {API}/contacts", "", "1"))))
    assert inner(reading) == ["HTTP/1.1 400 Bad Request"]


async def test_7_7_line_ends_size_and_envelope(sandbox: DynamicsSandbox, client: httpx.AsyncClient) -> None:
    body = joined("b", part(f"GET {API}/WhoAmI"), part(f"GET {API}/WhoAmI"))
    bare = await send(client, body.replace("\r\n", "\n"))
    assert inner(bare) == ["HTTP/1.1 400 Bad Request"] and "Stream was not readable" in bare.text
    assert code(await send(client, body.removesuffix("--b--\r\n"))) == (400, "0x80060888")
    sandbox.settings.batch_max = 1
    assert code(await send(client, body)) == (400, "0x80040203")
    assert sandbox.ledger.requests["POST $batch"] == 3


async def test_an_injected_fault_strikes_one_operation_and_a_401_ends_the_token(
    sandbox: DynamicsSandbox, client: httpx.AsyncClient
) -> None:
    create = part(f"POST {API}/contacts", '{"lastname": "Lovelace"}')
    body, carry_on = joined("b", create, create, create), {"Prefer": "odata.continue-on-error"}
    await client.post(
        "/_admin/faults", json={"kind": "operation", "path": "^contacts", "status": 400, "body": "0x80040265", "skip": 1, "times": 1}
    )
    refused = await send(client, body, **carry_on)
    await client.post("/_admin/faults", json={"kind": "operation", "status": 401, "skip": 2})
    ended = await send(client, body, **carry_on)

    assert [line.split()[1] for line in inner(refused)] == ["204", "400", "204"]
    assert "0x80040265" in refused.text
    assert [line.split()[1] for line in inner(ended)] == ["204", "204", "401"]
    assert len(sandbox.rows("contact")) == 4
    assert (await client.get(f"{API}/WhoAmI")).status_code == 401
