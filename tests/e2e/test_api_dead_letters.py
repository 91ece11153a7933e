"""Dead letters over the API: list, groups, re-drive, discard, and where a record is (control-api.md; kafka.md, Headers)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from confluent_kafka import Message

from sandbox.kafka.local import free_port
from tests.e2e.helpers import eventually, everything_passed, headers_of, messages, new_key, run_through
from tests.e2e.stack import CONTACT_FIELDS, Stack, contacts, vehicles
from tests.e2e.test_control_config import assert_problem

API = "/api/v1/workflows/ingress"
LETTERS = f"{API}/dead-letters"
PLAIN = contacts()
WITH_LEVEL = contacts(fields=CONTACT_FIELDS | {"jobtitle": "cusLevel"})
WITH_TITLE = contacts(fields=CONTACT_FIELDS | {"jobtitle": "cusTitle"})  # the same columns: the table is not read again
REFUSE = [{"resource": "profile", "field": "email", "contains": "refused"}]


def trouble(stack: Stack, refused: int = 3, unfit: int = 2) -> tuple[list[str], list[str]]:
    """Contacts that Campaign refuses, and contacts whose job title is no number; one good one besides. Their keys."""
    stack.campaign.add_field("profile", name="cusLevel", type="long")
    stack.campaign.add_field("profile", name="cusTitle", type="string")
    stack.campaign.publish()
    stack.campaign.settings.refuse = REFUSE
    stack.dynamics.upsert("contact", {"lastname": "Good", "emailaddress1": "good@example.com", "jobtitle": "7"})
    first = [stack.dynamics.upsert("contact", {"lastname": "Bad", "emailaddress1": f"refused{n}@example.com"}) for n in range(refused)]
    second = [stack.dynamics.upsert("contact", {"lastname": "Secretname", "jobtitle": "director"}) for n in range(unfit)]
    return first, second


def second_control(stack: Stack) -> httpx.AsyncClient:
    """Another control over the same Kafka; its client, to be closed."""
    port = free_port()
    stack.service("control", "control-2", CONTROL_PORT=str(port))
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10, trust_env=False)


async def letters(stack: Stack, number: int, client: httpx.AsyncClient | None = None, query: str = "") -> list[dict[str, Any]]:
    """Until the API lists so many; all of them."""

    async def listed() -> list[dict[str, Any]] | None:
        answer = await (client or stack.http).get(f"{LETTERS}{query}")
        found = answer.json().get("dead_letters", []) if answer.status_code == 200 else []
        return found if len(found) >= number else None

    found: list[dict[str, Any]] = await stack.until(listed, f"{number} dead letters are listed", 30)
    assert len(found) == number, found
    return found


async def settle(stack: Stack, what: str, expected: dict[str, int], **body: Any) -> None:
    answer = await stack.http.post(f"{LETTERS}/{what}", json=body)
    assert answer.status_code == 202, answer.text
    found = answer.json()
    assert {name: found[name] for name in expected} == expected, found


def profile(stack: Stack, key: str) -> dict[str, Any]:
    return stack.campaign.get("profile", key) or {}


async def raw(stack: Stack) -> list[Message]:
    return await asyncio.to_thread(messages, stack.kafka, "ingress.dead-letters")


async def test_letters_are_listed_grouped_and_paged_without_values(stack: Stack) -> None:
    refused, unfit = trouble(stack)
    await run_through(stack, WITH_LEVEL)

    listed = await letters(stack, 5)

    kafka = {f"{message.partition()}-{message.offset()}": message for message in await raw(stack)}
    assert {each["id"] for each in listed} == kafka.keys()
    for each in listed:
        headers = headers_of(kafka[each["id"]])
        assert each["key"].encode() == kafka[each["id"]].key()
        assert (each["table"], each["code"], each["reason"]) == ("contact", headers["dlq.code"], headers["dlq.reason"])
        assert (each["fingerprint"], each["attempts"]) == (headers["dlq.fingerprint"], int(headers["dlq.attempts"]))
        assert (each["redriven"], each["state"], each["revision"]) == (0, "open", 2)
        assert each["when"] >= each["first_failed_at"] and each.get("value") is None
    assert [each["when"] for each in listed] == sorted((each["when"] for each in listed), reverse=True)
    whole = (await stack.http.get(LETTERS)).text
    assert "Secretname" not in whole and "@example.com" not in whole and "director" not in whole

    groups = (await stack.get("/workflows/ingress/dead-letters/groups"))["groups"]
    assert sorted(each["count"] for each in groups) == [2, 3]
    for group in groups:
        assert group["cause"] and group["cure"] and group["first"] <= group["last"]
        keys = refused if group["count"] == 3 else unfit
        found = await letters(stack, group["count"], query=f"?fingerprint={group['fingerprint']}")
        assert {each["key"] for each in found} == set(keys)
        assert group["sample"]["key"] in keys
    seen: list[str] = []
    query = "?limit=2"
    while query:
        page = (await stack.http.get(f"{LETTERS}{query}")).json()
        seen += [each["id"] for each in page["dead_letters"]]
        query = f"?limit=2&after={page['next']}" if page["next"] else ""
    assert seen == [each["id"] for each in listed]
    values = await letters(stack, 5, query="?values=true")
    assert {each["value"]["fields"]["lastname"] for each in values} == {"Bad", "Secretname"}
    for wrong in ("?limit=0", "?limit=x", "?after=x", "?limit=100000"):
        assert_problem(await stack.http.get(f"{LETTERS}{wrong}"), 422)


async def test_letters_are_re_driven_once_the_cause_is_gone(stack: Stack) -> None:
    refused, unfit = trouble(stack)
    await run_through(stack, WITH_LEVEL)
    by_key = {each["key"]: each for each in await letters(stack, 5)}
    stack.campaign.settings.refuse = []

    await settle(stack, "redrive", {"redriven": 1, "skipped": 0}, ids=[by_key[refused[0]]["id"]])
    await eventually(stack, lambda: profile(stack, refused[0]).get("email") == "refused0@example.com", "the one is written")
    assert not profile(stack, refused[1]) and not profile(stack, unfit[0])

    await stack.configure(WITH_TITLE)  # to a field that takes the job title
    await stack.stop()
    await stack.start()
    await settle(stack, "redrive", {"redriven": 2, "skipped": 0}, fingerprint=by_key[unfit[0]]["fingerprint"])
    await eventually(stack, lambda: all(profile(stack, key) for key in unfit), "the group is written by the mapping that runs now")
    assert not profile(stack, refused[1])
    await settle(stack, "redrive", {"redriven": 2}, all=True)
    await eventually(stack, lambda: all(profile(stack, key) for key in refused), "all are written")
    await stack.until_caught_up()

    assert {each["state"] for each in await letters(stack, 5)} == {"redriven"}
    writes = len(stack.campaign.writes())
    await settle(stack, "redrive", {"redriven": 0, "skipped": 5}, ids=[each["id"] for each in by_key.values()])
    await settle(stack, "redrive", {"redriven": 0}, all=True)
    await settle(stack, "redrive", {"redriven": 0, "skipped": 2}, ids=["0-99999", "0-999999999999999999"])
    await everything_passed(stack)
    assert len(stack.campaign.writes()) == writes + 1, "the sentinel only"
    bodies: list[dict[str, Any]] = [{}, {"all": False}, {"ids": []}, {"ids": ["x"]}, {"all": True, "ids": ["0-1"]}, {"all": True, "now": 1}]
    for wrong in bodies:
        assert_problem(await stack.http.post(f"{LETTERS}/redrive", json=wrong), 422)


async def test_ids_that_no_letter_has_are_passed_over(stack: Stack) -> None:
    for unknown in ("0-0", "0-999999999999999999", "999-0", "99999999999999999999-1"):
        for what, body in (("redrive", {"ids": [unknown]}), ("discard", {"ids": [unknown], "reason": "a test"})):
            answer = await stack.http.post(f"{LETTERS}/{what}", json=body)
            assert answer.status_code in (202, 422), f"{what} {unknown}: {answer.text}"
            assert answer.status_code == 422 or answer.json()["skipped"] == 1
    for after in ("999-0", "0-999999999999999999"):
        assert (await stack.http.get(f"{LETTERS}?after={after}")).status_code in (200, 422)


async def test_what_fails_again_counts_how_often_it_was_re_driven(stack: Stack) -> None:
    (bad,), _ = trouble(stack, refused=1, unfit=0)
    await run_through(stack, PLAIN)
    (first,) = await letters(stack, 1)

    for count in (1, 2):
        await settle(stack, "redrive", {"redriven": 1}, all=True)
        listed = await letters(stack, count + 1)
        assert (listed[0]["redriven"], listed[0]["state"], listed[0]["key"]) == (count, "open", bad)
        assert {each["state"] for each in listed[1:]} == {"redriven"}
    newest = max(await raw(stack), key=lambda message: message.timestamp()[1])
    headers: Any = newest.headers()
    assert headers_of(newest)["dlq.redriven"] == "2"
    assert [each[0] for each in headers].count("dlq.redriven") == 1, "once, not twice"
    assert headers_of(newest)["dlq.fingerprint"] == first["fingerprint"]
    assert len({message.value() for message in await raw(stack)}) == 1, "the bytes are the original ones"


async def test_a_re_driven_record_never_overwrites_a_newer_one(stack: Stack) -> None:
    (bad,), _ = trouble(stack, refused=1, unfit=0)
    await run_through(stack, PLAIN)
    await letters(stack, 1)
    stack.dynamics.upsert("contact", {"contactid": bad, "lastname": "Mended", "emailaddress1": "mended@example.com"})
    await everything_passed(stack)
    assert profile(stack, bad)["lastName"] == "Mended"
    stack.campaign.settings.refuse = []
    writes = len(stack.campaign.writes("profile", bad))

    await settle(stack, "redrive", {"redriven": 1}, all=True)
    await everything_passed(stack)

    assert (profile(stack, bad)["lastName"], profile(stack, bad)["email"]) == ("Mended", "mended@example.com")
    assert len(stack.campaign.writes("profile", bad)) == writes
    assert len(await raw(stack)) == 1


async def test_what_was_dealt_with_stays_so_after_a_restart_and_on_another_control(stack: Stack) -> None:
    refused, unfit = trouble(stack)
    await run_through(stack, WITH_LEVEL)
    by_key = {each["key"]: each for each in await letters(stack, 5)}
    assert_problem(await stack.http.post(f"{LETTERS}/discard", json={"all": True}), 422)
    await settle(stack, "discard", {"discarded": 2, "skipped": 0}, fingerprint=by_key[unfit[0]]["fingerprint"], reason="not ours")
    await settle(stack, "redrive", {"redriven": 0, "skipped": 1}, ids=[by_key[unfit[0]]["id"]])
    stack.campaign.settings.refuse = []
    await settle(stack, "redrive", {"redriven": 1}, ids=[by_key[refused[0]]["id"]])
    expected = {by_key[key]["id"]: "discarded" for key in unfit} | {by_key[key]["id"]: "open" for key in refused[1:]}
    expected[by_key[refused[0]]["id"]] = "redriven"

    await stack.processes["control-1"].terminate()
    stack.service("control")
    other = second_control(stack)
    try:
        for client in (stack.http, other):
            assert {each["id"]: each["state"] for each in await letters(stack, 5, client)} == expected
        again = await other.post(f"{LETTERS}/redrive", json={"ids": [by_key[refused[0]]["id"], by_key[refused[1]]["id"]]})
        assert (again.json()["redriven"], again.json()["skipped"]) == (1, 1)
        expected[by_key[refused[1]]["id"]] = "redriven"

        async def told() -> bool:
            return {each["id"]: each["state"] for each in await letters(stack, 5)} == expected

        await stack.until(told, "the first control knows within 5 s", 5)
    finally:
        await other.aclose()
    entries = (await stack.get("/audit"))["entries"]
    (discard,) = [each for each in entries if "discard" in each["what"] and each["result"] == "done"]
    assert discard["after"]["reason"] == "not ours"


async def test_a_control_that_has_just_started_never_tells_of_too_few(stack: Stack) -> None:
    trouble(stack, refused=30, unfit=0)
    await run_through(stack, PLAIN)
    await letters(stack, 30)
    audited = len((await stack.get("/audit"))["entries"])
    await settle(stack, "discard", {"discarded": 30}, all=True, reason="a test")
    await stack.processes["control-1"].terminate()
    stack.service("control")

    async def first(path: str) -> Any:
        answer = await stack.http.get(path)
        return answer.json() if answer.status_code == 200 else None

    told = await stack.until(lambda: first(LETTERS), "the list of dead letters", 20)
    assert (told["total"], {each["state"] for each in told["dead_letters"]}) == (30, {"discarded"})
    entries = await stack.until(lambda: first("/api/v1/audit"), "the audit", 20)
    assert len(entries["entries"]) > audited
    cursors = await stack.until(lambda: first(f"{API}/cursors"), "the cursors", 20)
    assert [each["name"] for each in cursors["cursors"]] == ["contact"]


async def record(stack: Stack, key: str, table: str = "contact") -> dict[str, Any]:
    answer = await stack.http.get(f"{API}/records/{key}?table={table}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_where_is_this_record(stack: Stack) -> None:
    (bad,), _ = trouble(stack, refused=1, unfit=0)
    owner = stack.dynamics.upsert("contact", {"lastname": "Owner"})
    car = stack.dynamics.upsert("new_vehicle", {"new_name": "Golf", "new_contactid": owner})
    await run_through(stack, PLAIN, vehicles())
    await letters(stack, 1)

    for table, key in (("contact", owner), ("new_vehicle", car)):
        found = await record(stack, key, table)
        assert (found["key"], found["table"], found["target_status"]) == (key, table, 201)
        assert [hop["hop"] for hop in found["hops"]] == ["read", "settled"]
        assert {hop["topic"] for hop in found["hops"]} == {f"ingress.replay.{table}"}
        assert found["read_at"] <= found["settled_at"] and found["attempts"] >= 1
        assert found["version"] == next(row for row in stack.dynamics.rows(table) if row[f"{table}id"] == key)["versionnumber"]
    dead = await record(stack, bad.upper())
    (hop,) = [each for each in dead["hops"] if each["hop"] == "dead_lettered"]
    assert (hop["status"], hop["topic"]) == (500, "ingress.dead-letters") and hop["outcome"], dead

    await stack.stop()
    stack.dynamics.upsert("contact", {"contactid": owner, "lastname": "Waits"})
    await stack.processes["writer-1"].terminate()
    await stack.start(wait=False)

    async def waiting() -> bool:
        return bool((await record(stack, owner))["hops"][-1]["hop"] == "waiting")

    await stack.until(waiting, "it has been read and waits", 20)
    assert (await record(stack, owner))["hops"][-1]["topic"] == "ingress.changes.contact"
    for key, table in ((new_key(), "contact"), (car, "contact"), (owner, "new_vehicle"), (owner, "nowhere")):
        assert_problem(await stack.http.get(f"{API}/records/{key}?table={table}"), 404, "never_seen")
    assert_problem(await stack.http.get(f"{API.replace('ingress', 'egress')}/records/{owner}"), 404, "never_seen")
