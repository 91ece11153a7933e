"""The doors of the two systems: what an answer means (campaign.md §1.5, §3.8, §4.6; dataverse.md §1.4, §4.7, §8, §9)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from bridge.campaign import errors as campaign
from bridge.campaign.errors import Duplicate, NotFound
from bridge.dynamics import errors as dynamics
from bridge.dynamics.errors import QueryRefused, TrackingExpired
from bridge.model.errors import BridgeError, HaltError, RejectError, RetryError

CANARY = "ada@example.com"
RST = "RST-360011 An error has occurred - please contact your administrator."
PROXY = f"<html>{CANARY} already exists, duplicate key, Unable to find document, rc=-2003, XTK-170036</html>"
KEY_TAKEN = f'duplicate key value violates unique constraint "x" DETAIL:  Key (sx)=({CANARY}) already exists.'
QUOTED = (
    *(f"{CANARY} already exists", "duplicate key", "O'Brien already exists", f"PGS-220000 PostgreSQL error: ERROR:  {KEY_TAKEN}"),
    *("Error rc=-2003", "BAS-010040", "it's BAS-010040 of A with the same key x"),
)


def an_answer(status: int, body: str, **headers: str) -> httpx.Response:
    request = httpx.Request("PATCH", f"https://host.example/campaign/profile?email={CANARY}")
    return httpx.Response(status, content=body.encode(), headers=headers, request=request)


def gateway(code: int, message: str) -> str:
    return json.dumps({"error_code": str(code), "message": f"{message} {CANARY}"})


def routing(code: int) -> str:
    return json.dumps({"code": code, "message": f"Oops. Something went wrong. Check your URI and try again. {CANARY}"})


def odata(code: str, message: str = "") -> str:
    return json.dumps({"error": {"code": code, "message": f"{message} {CANARY}"}})


CAMPAIGN: list[tuple[int, str, type[BridgeError], str]] = [
    # §1.5, the gateway
    (403, gateway(403000, "Api Key is required"), HaltError, "target_refused"),
    (403, gateway(403003, "Api Key is invalid"), HaltError, "target_refused"),
    (503, gateway(503000, "Could not validate Api Key"), RetryError, "target_busy"),
    (403, gateway(403010, "Oauth token is missing."), HaltError, "target_refused"),
    (401, gateway(401013, "Oauth token is not valid"), HaltError, "target_refused"),
    (503, gateway(503010, "Could not validate the oauth token"), RetryError, "target_busy"),
    (403, gateway(403011, "Scope mismatch"), HaltError, "target_refused"),
    (403, gateway(403020, "Oauth token missing or invalid"), HaltError, "target_refused"),
    (403, gateway(403023, "Profile is not valid"), HaltError, "target_refused"),
    (403, gateway(403024, "Not allowed to read the profile"), HaltError, "target_refused"),
    (403, gateway(503020, "Could not read the profile"), RetryError, "target_busy"),
    (403, gateway(403012, "Your IP is blacklisted"), HaltError, "target_refused"),
    (403, gateway(403013, "Your IP is not whitelisted"), HaltError, "target_refused"),
    (429, gateway(429001, "Service usage limit reached"), RetryError, "target_busy"),
    (429, gateway(429002, "Developer key usage limit reached"), RetryError, "target_busy"),
    (429, gateway(429050, "Too many requests"), RetryError, "target_busy"),
    (503, "", RetryError, "target_busy"),
    # §1.5, the router
    (500, routing(500), HaltError, "target_not_routed"),
    (502, routing(502), HaltError, "target_not_routed"),
    # without an envelope
    (502, f"<html>{CANARY}</html>", RetryError, "target_busy"),
    (504, "", RetryError, "target_busy"),
    (429, "", RetryError, "target_busy"),
    # neither Campaign nor its gateway: a proxy, whatever it quotes
    *((status, PROXY, RetryError, "bad_answer") for status in (302, 400, 401, 403, 404, 405, 407, 410, 413, 414, 431, 451, 500, 501, 520)),
    *((status, "Forbidden", RetryError, "bad_answer") for status in (401, 403, 404, 405, 407, 413)),
    *((status, "", RetryError, "bad_answer") for status in (204, 307, 400, 401, 403, 404, 413)),
    *((404, body, RetryError, "bad_answer") for body in ("404 page not found\n", '{"detail": "Not Found"}', "null", "[]", "7")),
    (404, gateway(404000, "no such route"), RetryError, "bad_answer"),
    (413, gateway(413000, "too large"), RetryError, "bad_answer"),
    (400, gateway(400000, "no"), RejectError, "refused"),
    (400, "this value is none", RejectError, "refused"),
    # §3.8, nothing found
    (
        404,
        f"{RST} Unable to find document with path 'Profile' from key '{CANARY}:0' (document with schema 'profile' and name 'x')",
        NotFound,
        "not_found",
    ),
    (
        500,
        f"'{CANARY}' attribute unknown (see definition of 'Profiles (nms:recipient)' schema). XTK-170036 Unable to parse expression "
        f"'@id = @{CANARY}'.",
        RejectError,
        "value_refused",
    ),
    (500, f"'@{CANARY}' is not a valid constant", RejectError, "value_refused"),
    (404, f"{RST} Error rc=-2003", HaltError, "target_not_published"),
    (404, f"{RST} unknown document", NotFound, "not_found"),
    # §4.6, the engine
    (500, RST, RetryError, "target_error"),
    (
        500,
        f"A 'Service' with the same key '{CANARY}' already exists. PGS-220000 PostgreSQL error: ERROR:  duplicate key value violates "
        f'unique constraint "nmsservice_name" DETAIL:  Key (sname)=({CANARY}) already exists.',
        Duplicate,
        "duplicate_key",
    ),
    (
        500,
        f"{RST} The value '{CANARY}' is not valid for the 'nms:recipient:gender' enumeration of the '@gender' field",
        RejectError,
        "value_refused",
    ),
    (500, "Cannot update the 'age' property that is read-only", RejectError, "read_only_field"),
    (500, f"'{CANARY}' property is not valid for the 'profile' resource.", RejectError, "unknown_field"),
    (
        500,
        f"{RST} RST-360012 Inconsistent operation on resource 'service' – Cannot update key 'SVC3' to '{CANARY}'.",
        RejectError,
        "key_change_refused",
    ),
    (500, "PGS-220000 PostgreSQL error: ERROR:  value too long for type character varying(30)", RejectError, "value_too_long"),
    # what a text quotes is somebody's value
    *(
        (500, f"{RST} The value '{quoted}' is not valid for the 'x' enumeration of the '@y' field", RejectError, "value_refused")
        for quoted in QUOTED
    ),
    *((500, f"'{quoted}' property is not valid for the 'profile' resource.", RejectError, "unknown_field") for quoted in QUOTED),
    (
        500,
        f"PGS-220000 PostgreSQL error: ERROR:  value too long DETAIL: Failing row contains (1, {QUOTED[0]}).",
        RejectError,
        "value_too_long",
    ),
    (500, "The service already exists.", RetryError, "target_error"),
    (500, f"PGS-220000 PostgreSQL error: ERROR:  {KEY_TAKEN}", Duplicate, "duplicate_key"),
    (
        500,
        f"A 'Profile' with the same key 'O'Brien' already exists. PGS-220000 PostgreSQL error: ERROR:\n{KEY_TAKEN}",
        Duplicate,
        "duplicate_key",
    ),
    (500, "A 'Profile' with the same key 'c-1' already exists.", Duplicate, "duplicate_key"),
    (500, f"BAS-010040 Cannot convert '{CANARY}'(type text) to integer (32 bit) type", HaltError, "target_not_published"),
]

PROXIES = (204, 301, 302, 303, 307, 308, 400, 402, 403, 404, 405, 407, 409, 410, 411, 412, 413, 414, 415, 431, 451)
DYNAMICS: list[tuple[int, str, type[BridgeError], str]] = [
    # §1.4
    (401, "", HaltError, "source_refused"),
    (403, odata("0x80072560", "The user is not a member of the organization."), HaltError, "source_forbidden"),
    (403, odata("0x80095ffc"), HaltError, "source_forbidden"),
    (403, odata("0x80040220", "Principal user is missing prvReadContact privilege"), HaltError, "source_forbidden"),
    # §4.7
    (400, odata("0x80060888", 'The "$filter" query parameter isn\'t supported'), QueryRefused, "query_refused"),
    (400, odata("0x80072491", "Entity x isn't enabled for change tracking."), HaltError, "change_tracking_off"),
    (400, odata("0x80072492"), HaltError, "change_tracking_off"),
    (400, odata("0x80044352", "Version stamp associated with the client has expired."), TrackingExpired, "tracking_expired"),
    (410, odata("0x80044352"), TrackingExpired, "tracking_expired"),
    (410, "", RetryError, "bad_answer"),
    (410, odata(""), TrackingExpired, "tracking_expired"),
    # §8
    *((429, odata(code), RetryError, "source_busy") for code in ("0x80072322", "0x80072321", "0x80072326")),
    *((status, f"<html>{CANARY}</html>", RetryError, "source_busy") for status in (408, 500, 502, 503, 504)),
    *((500, odata(code), RetryError, "source_busy") for code in ("0x80044150", "0x80044151", "0x80073000", "0x8004A001")),
    *((400, odata(code), RetryError, "source_busy") for code in ("0x80072323", "0x80072324", "0x8004A001")),
    # §9
    (404, odata("0x80040217", "Entity 'contact' Does Not Exist"), QueryRefused, "query_refused"),
    *((status, odata(code), RetryError, "source_busy") for status in (400, 404) for code in ("0x80060891", "0x80040216")),  # §8.3
    (404, odata("0x8006088a", "Resource not found for the segment"), HaltError, "source_table_missing"),
    (404, odata("0x8006088A"), HaltError, "source_table_missing"),
    (400, odata("0x80060888", "Could not find a property named"), QueryRefused, "query_refused"),
    (400, odata("0x80048d19"), QueryRefused, "query_refused"),
    (400, odata("0x0", "Invalid property"), QueryRefused, "query_refused"),
    (400, odata("0x80040203"), QueryRefused, "query_refused"),
    (500, odata("0x80040216", "An unexpected error occurred."), RetryError, "source_busy"),
    (403, odata("0x8004F502"), HaltError, "source_forbidden"),
    (404, odata(""), QueryRefused, "query_refused"),
    (405, odata("0x80060888"), QueryRefused, "query_refused"),
    (412, odata("0x80060882"), QueryRefused, "query_refused"),
    (413, odata("0x8004418A"), QueryRefused, "query_refused"),
    # something before it
    *((status, f"<html>{CANARY}</html>", RetryError, "bad_answer") for status in (*PROXIES, 401)),
    *((status, body, RetryError, "bad_answer") for status in PROXIES for body in ("", "Forbidden", '{"error": "no"}', '{"error": {}}')),
]


def check(error: BridgeError, status: int, kind: type[BridgeError], code: str) -> None:
    assert (type(error), error.code, error.status) == (kind, code, status)
    shown = f"{error} {error!r} {getattr(error, 'hint', '')}"
    assert CANARY not in shown
    assert f"PATCH /campaign/profile -> {status}" in str(error)
    assert not isinstance(error, HaltError) or error.hint


@pytest.mark.parametrize(("status", "body", "kind", "code"), CAMPAIGN)
def test_each_answer_of_campaign_is_of_one_kind_and_its_text_goes_no_further(
    status: int, body: str, kind: type[BridgeError], code: str
) -> None:
    check(campaign.error_for(an_answer(status, body), None), status, kind, code)


@pytest.mark.parametrize(("status", "body", "kind", "code"), [row for row in CAMPAIGN if not row[1].startswith(("{", "<")) and row[1]])
def test_a_text_of_campaign_may_come_as_a_json_string(status: int, body: str, kind: type[BridgeError], code: str) -> None:
    check(campaign.error_for(an_answer(status, json.dumps(body)), None), status, kind, code)


@pytest.mark.parametrize(("status", "body", "kind", "code"), DYNAMICS)
def test_each_answer_of_dynamics_is_of_one_kind_and_its_text_goes_no_further(
    status: int, body: str, kind: type[BridgeError], code: str
) -> None:
    check(dynamics.error_for(an_answer(status, body), None, "source"), status, kind, code)


def test_a_401_that_says_how_to_sign_in_is_no_page_of_a_proxy() -> None:
    answer = an_answer(401, "<html>Access is denied</html>", **{"WWW-Authenticate": "Bearer authorization_uri=https://login.example"})

    assert isinstance(dynamics.error_for(answer, None, "source"), HaltError)


@pytest.mark.parametrize("body", ["", gateway(429050, "Too many requests")])
@pytest.mark.parametrize("wait", [7.0, None])
def test_a_busy_campaign_keeps_the_wait_it_asked_for(body: str, wait: float | None) -> None:
    error = campaign.error_for(an_answer(429, body), wait)

    assert isinstance(error, RetryError)
    assert (error.retry_after_s, error.attempts) == (wait, None)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_dynamics_keeps_the_wait_it_asked_for(status: int) -> None:
    error = dynamics.error_for(an_answer(status, odata("0x80072322")), 30, "source")

    assert isinstance(error, RetryError)
    assert error.retry_after_s == 30


def test_campaigns_unexplained_error_is_not_tried_for_ever() -> None:
    error = campaign.error_for(an_answer(500, RST), None)

    assert isinstance(error, RetryError)
    assert error.attempts is not None


def test_a_full_storage_of_dynamics_is_not_tried_again_and_again() -> None:
    """`0x80072325`: of the three database limits the only one that does not pass by itself (§8.3)."""
    error = dynamics.error_for(an_answer(503, odata("0x80072325")), None, "source")

    assert isinstance(error, HaltError)


@pytest.mark.parametrize("body", ["null", "[]", "3", '"text"', '{"error": null}', '{"error": []}', "{", "\ufffe"])
@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_body_in_no_known_form_is_an_error_all_the_same(status: int, body: str) -> None:
    kinds: tuple[Any, ...] = (RetryError, RejectError, HaltError, QueryRefused)

    assert isinstance(campaign.error_for(an_answer(status, body), None), kinds)
    assert isinstance(dynamics.error_for(an_answer(status, body), None, "source"), kinds)


def test_a_refused_query_that_must_work_halts_and_keeps_its_status() -> None:
    error = dynamics.error_for(an_answer(400, odata("0x80060888")), None, "source")
    assert isinstance(error, QueryRefused)

    halted = dynamics.refused(error)

    assert (halted.code, halted.origin, halted.status) == ("source_query_refused", "source", 400)
