"""Configurations over the API: saving, refusing, and when they take effect (control-api.md, F86, F87)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.e2e.helpers import everything_passed, run
from tests.e2e.stack import CONTACT_FIELDS, Stack, contacts, vehicles

CONFIG = "/api/v1/workflows/ingress/config"


async def put(stack: Stack, config: Any, **headers: str) -> httpx.Response:
    """Saves a configuration with these headers, by default with the right If-Match."""
    etag = (await stack.http.get(CONFIG)).headers["etag"]
    return await stack.http.put(CONFIG, json={"config": config}, headers=headers or {"If-Match": etag})


def assert_problem(answer: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """The answer is an RFC 9457 problem of ours; its body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    body: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "code"} <= body.keys()
    assert body["status"] == status
    assert body["code"] and body["title"] and body["detail"]
    if code is not None:
        assert body["code"] == code
    return body


async def test_f90_out_of_the_box_revision_1_maps_contact_to_profile(stack: Stack) -> None:
    answer = await stack.http.get(CONFIG)

    body = answer.json()
    assert (answer.status_code, answer.headers["etag"], body["revision"]) == (200, '"1"', 1)
    (table,) = body["config"]["tables"]
    assert (table["source"], table["target"], table["key"]) == ("contact", "profile", {"source": "contactid", "target": "externalId"})
    assert {field["target"] for field in table["fields"]} >= {"firstName", "lastName", "email", "phone", "location.city"}
    assert body["running"] is None


async def test_saving_needs_the_etag_of_what_was_edited(stack: Stack) -> None:
    etag = (await stack.http.get(CONFIG)).headers["etag"]
    config = {"tables": [contacts()]}

    assert_problem(await stack.http.put(CONFIG, json={"config": config}), 428)
    saved = await put(stack, config, **{"If-Match": etag})
    assert (saved.status_code, saved.json()["revision"], saved.headers["etag"]) == (200, 2, '"2"')
    assert_problem(await put(stack, {"tables": []}, **{"If-Match": etag}), 412)

    now = await stack.http.get(CONFIG)
    assert (now.json()["revision"], now.headers["etag"], len(now.json()["config"]["tables"])) == (2, '"2"', 1)


TWICE = {"firstname": "firstName", "middlename": "firstName"}
INVALID: list[tuple[str, dict[str, Any], str]] = [
    ("two fields to one target (F123)", {"tables": [contacts(fields=TWICE)]}, "/tables/0/fields/1/target"),
    ("a table twice (F102)", {"tables": [contacts(), contacts()]}, "/tables/1/"),
    ("contact with another key (F112)", {"tables": [contacts() | {"key": {"source": "contactid", "target": "email"}}]}, "/tables/0/key"),
    (
        "a replacement of an unmapped field (F127)",
        {"tables": [contacts(replacements=[{"source": "gendercode", "from": "1", "to": "male"}])]},
        "/tables/0/replacements/0",
    ),
    ("an unknown member", {"tables": [contacts(colour="red")]}, "/tables/0/colour"),
    ("an unknown member of the configuration", {"tables": [], "speed": 3}, "/speed"),
    (
        "an unknown operator",
        {"tables": [contacts(filter={"conditions": [{"field": "statecode", "operator": "like", "value": 0}]})]},
        "/tables/0/filter/conditions/0/operator",
    ),
    ("a wrong type", {"tables": [contacts(apply_deletes="perhaps")]}, "/tables/0/apply_deletes"),
]


async def test_invalid_configurations_are_refused_with_the_place_of_every_error(stack: Stack) -> None:
    for what, config, path in INVALID:
        validated = await stack.http.post(f"{CONFIG}/validate", json={"config": config})
        assert validated.status_code == 200, what
        assert not validated.json()["valid"], what

        body = assert_problem(await put(stack, config), 422)

        assert body["errors"], what
        assert all(set(error) == {"path", "code", "message"} and error["code"] and error["message"] for error in body["errors"]), what
        assert any(error["path"].startswith(path) for error in body["errors"]), (what, body["errors"])
        assert validated.json()["errors"] == body["errors"], what
    assert (await stack.get("/workflows/ingress/config"))["revision"] == 1


async def test_unknown_members_and_broken_bodies_are_refused(stack: Stack) -> None:
    config = {"tables": [contacts()]}
    headers = {"If-Match": (await stack.http.get(CONFIG)).headers["etag"]}

    unknown = await stack.http.put(CONFIG, json={"config": config, "colour": "red"}, headers=headers)
    assert assert_problem(unknown, 422)["errors"][0]["path"] == "/colour"
    assert_problem(await stack.http.post("/api/v1/workflows/ingress/start", json={"force": True}), 422)
    broken = await stack.http.put(CONFIG, content=b"{", headers={**headers, "Content-Type": "application/json"})
    assert_problem(broken, 422)
    large = await stack.http.put(CONFIG, json={"config": config, "comment": "x" * 1_100_000}, headers=headers)
    assert_problem(large, 413)
    assert (await stack.workflow())["status"] == "STOPPED"


async def test_validate_saves_nothing(stack: Stack) -> None:
    before = await stack.get("/workflows/ingress/config")

    answer = await stack.http.post(f"{CONFIG}/validate", json={"config": {"tables": [contacts(), vehicles()]}})

    checked = answer.json()
    assert (checked["valid"], checked["errors"]) == (True, [])
    assert {each["code"] for each in checked["warnings"]} == {"longer_than_target"}
    assert await stack.get("/workflows/ingress/config") == before


async def test_f86_f87_edits_take_effect_at_the_next_start_and_show_until_then(stack: Stack) -> None:
    key = stack.dynamics.upsert("contact", {"firstname": "Anna", "lastname": "Meyer", "jobtitle": "Nurse"})
    await run(stack, contacts())
    await everything_passed(stack)

    await stack.configure(contacts(fields=CONTACT_FIELDS | {"jobtitle": "salutation"}, apply_deletes=True))
    edited = await stack.workflow()
    assert (edited["pending_changes"], edited["saved_revision"], edited["running_revision"]) == (True, 3, 2)
    shown = await stack.get("/workflows/ingress/config")
    assert shown["running"]["revision"] == 2
    assert {each["path"] for each in shown["diff"]} >= {"/tables/0/apply_deletes"}
    assert {"path": "/tables/0/apply_deletes", "running": False, "saved": True} in shown["diff"]

    stack.dynamics.upsert("contact", {"contactid": key, "lastname": "Maier"})
    gone = await everything_passed(stack)
    stack.dynamics.delete("contact", gone)
    await everything_passed(stack)
    profile = stack.campaign.get("profile", key) or {}
    assert (profile["lastName"], profile["salutation"]) == ("Maier", "")
    assert stack.campaign.get("profile", gone) is not None

    await stack.stop()
    await stack.start()
    await everything_passed(stack)
    restarted = await stack.workflow()
    assert (restarted["pending_changes"], restarted["saved_revision"], restarted["running_revision"]) == (False, 3, 3)
    assert (await stack.get("/workflows/ingress/config"))["diff"] == []
    assert (stack.campaign.get("profile", key) or {})["salutation"] == "Nurse"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/workflows/nothing", 404),
        ("POST", "/api/v1/workflows/nothing/start", 404),
        ("GET", "/api/v1/workflows/nothing/config", 404),
        ("GET", "/api/v1/nothing", 404),
        ("DELETE", "/api/v1/workflows/ingress", 405),
        ("GET", "/api/v1/workflows/ingress/start", 405),
        ("GET", "/api/v1/workflows/ingress/backlog/history?minutes=-1", 422),
    ],
)
async def test_every_error_is_a_problem_with_a_code(stack: Stack, method: str, path: str, status: int) -> None:
    assert_problem(await stack.http.request(method, path), status)


# All of control-api.md, and /me, which the pages need.
CONTRACT_TEXT = """
get /healthz
get /metrics
get /readyz
get /api/v1/audit
get /api/v1/events
get /api/v1/me
get /api/v1/systems/{system}
get /api/v1/systems/{system}/tables
get /api/v1/systems/{system}/tables/{table}/fields
get /api/v1/workflows
get /api/v1/workflows/ingress/tables
get /api/v1/workflows/{id}
get /api/v1/workflows/{id}/backlog/history
get /api/v1/workflows/{id}/config
get /api/v1/workflows/{id}/config/revisions
get /api/v1/workflows/{id}/config/revisions/{number}
get /api/v1/workflows/{id}/cursors
get /api/v1/workflows/{id}/dead-letters
get /api/v1/workflows/{id}/dead-letters/groups
get /api/v1/workflows/{id}/decisions
get /api/v1/workflows/{id}/held
get /api/v1/workflows/{id}/records/{key}
post /api/v1/systems/dynamics/restored
post /api/v1/systems/{system}/test
post /api/v1/workflows/ingress/tables/{table}/replay
post /api/v1/workflows/{id}/config/plan
post /api/v1/workflows/{id}/config/revisions/{number}/restore
post /api/v1/workflows/{id}/config/validate
post /api/v1/workflows/{id}/dead-letters/discard
post /api/v1/workflows/{id}/dead-letters/redrive
post /api/v1/workflows/{id}/held/discard
post /api/v1/workflows/{id}/held/release
post /api/v1/workflows/{id}/start
post /api/v1/workflows/{id}/stop
put /api/v1/workflows/egress/cursors/journal
put /api/v1/workflows/{id}/config
delete /api/v1/workflows/ingress/tables/{table}/replay
delete /api/v1/workflows/{id}/cursors/{name}
"""
CONTRACT: set[tuple[str, str]] = {(method, path) for method, path in map(str.split, CONTRACT_TEXT.strip().splitlines())}


def operations_of(described: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method, path) for path, methods in described["paths"].items() for method in methods}


async def test_openapi_lists_every_path_with_its_errors(stack: Stack) -> None:
    described = (await stack.http.get("/openapi.json")).json()

    assert operations_of(described) == CONTRACT
    one = "/api/v1/workflows/{id}"
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"], (path, method, status)
    assert {"404", "412", "422", "428"} <= described["paths"][f"{one}/config"]["put"]["responses"].keys()
    assert {"202", "404", "409"} <= described["paths"][f"{one}/start"]["post"]["responses"].keys()
