"""`bridge held`, `bridge decisions`, and what `bridge status` says of a workflow that warns while it runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.control.models.consent_json import DecisionsOut, HeldIn, HeldItemsOut, SettledOut
from tests.unit.cli_server import NOW, ControlServer, Reply, backlog, bridge, problem, reason, serving, shaped, workflow

ADA, BOB = "00df3854-8b49-484d-8f72-e552eb4a6dc2", "9e317117-0d4e-4612-b59d-29b871df9c26"
HELD, DECISIONS = "/workflows/optin/held", "/workflows/optin/decisions"
HEAD = b"id,contact,target,flag,value,rule,campaign,campaign_changed_at,dynamics,dynamics_changed_at,decided_at,outcome\r\n"


@pytest.fixture
def control() -> Iterator[ControlServer]:
    with serving() as server:
        yield server


WORDS = {"campaign": False, "campaign_changed_at": NOW, "campaign_from": "d365_optout_1.csv row 12", "dynamics": True}
INGRESS_HELD = "/workflows/ingress/held"


def held(contact: str = ADA, **more: Any) -> dict[str, Any]:
    known = {"id": "0-7", "kind": "release", "table": "contact", "key": contact, "target": "dynamics", "flags": ["donotemail"]}
    return known | {"rule": "campaign-is-later", "words": {"donotemail": WORDS}, "since": NOW} | more


def decision(**more: Any) -> dict[str, Any]:
    inputs = {"campaign": False, "campaign_changed_at": NOW, "dynamics": None, "dynamics_changed_at": None}
    known = {"id": "0-7", "contact": ADA, "target": "dynamics", "flags": {"donotemail": False}, "rule": "campaign-is-later"}
    return known | {"inputs": {"donotemail": inputs}, "decided_at": NOW, "outcome": "written"} | more


def csv_of(*lines: bytes) -> Reply:
    return Reply(200, HEAD + b"".join(each + b"\r\n" for each in lines), {"Content-Type": "text/csv; charset=utf-8"})


# -- held -------------------------------------------------------------------------------------------------------------------------


def test_held_items_are_listed_by_page_with_what_both_systems_said(control: ControlServer) -> None:
    body = shaped(HeldItemsOut, {"items": [held(), held(BOB, flags=["donotemail", "donotfax"])], "total": 9, "next": "0-7"})
    control.on("GET", HELD, body)

    shown = bridge(control, "held", "list", "--limit", "2", "--after", "0-5").stdout

    assert control.requests[0].query == {"limit": "2", "after": "0-5"}
    assert f"0-7  release  {ADA}  dynamics" in " ".join(shown.split("\n")).replace("   ", "  ")
    assert "donotemail opted in, donotfax opted in" in shown and "campaign-is-later" in shown
    assert "donotemail opted in since 2026-03-31 12:00:00Z (d365_optout_1.csv row 12)" in shown
    assert "donotemail opted out" in shown
    assert shown.splitlines()[-1] == "2 of 9; go on with --after 0-7"
    assert json.loads(bridge(control, "held", "list", "--json").stdout) == body


def test_what_ingress_holds_tells_deletes_and_their_tables(control: ControlServer) -> None:
    car = held(BOB, kind="delete", table="new_vehicle", target="campaign", flags=["delete"], rule="filtered-out", words={})
    control.on("GET", INGRESS_HELD, shaped(HeldItemsOut, {"items": [car, held(rule="", words={})], "total": 2, "next": None}))

    first, second = bridge(control, "held", "list", "ingress").stdout.splitlines()[1:3]

    assert first.split() == ["0-7", "delete", "new_vehicle", BOB, "campaign", "deleted", "filtered-out", "2026-03-31", "12:00:00Z"]
    assert "(cannot be read)" in second


CHOSEN = [
    (["--contact", ADA], {"contacts": [ADA]}),
    (["--contact", ADA, "--contact", BOB], {"contacts": [ADA, BOB]}),
    (["--id", "0-7", "--id", "0-8"], {"ids": ["0-7", "0-8"]}),
    (["--all"], {"all": True}),
]


@pytest.mark.parametrize(("options", "body"), CHOSEN)
@pytest.mark.parametrize(("what", "past"), [("release", "released"), ("discard", "discarded")])
@pytest.mark.parametrize(("named", "where"), [([], HELD), (["optin"], HELD), (["ingress"], INGRESS_HELD)])
def test_what_is_held_is_settled_after_a_yes_only(
    control: ControlServer, named: list[str], where: str, what: str, past: str, options: list[str], body: dict[str, Any]
) -> None:
    answer = shaped(SettledOut, {past: 2, "skipped": 1})
    control.on("POST", f"{where}/{what}", Reply(202, answer))
    command = ["held", what, *named, *options, "--reason", "asked by phone"]

    assert bridge(control, *command).exit_code == 7
    assert control.requests == []
    assert bridge(control, *command, "--yes").stdout == f"2 {past}, 1 passed over.\n"
    as_json = bridge(control, *command, "--yes", "--json")
    assert (json.loads(as_json.stdout), as_json.stderr) == (answer, f"2 {past}, 1 passed over.\n")
    assert HeldIn.model_validate(control.changing()[0].body).model_dump(exclude_none=True) == body | {"reason": "asked by phone"}


@pytest.mark.parametrize(
    "options",
    [["--reason", "x"], ["--reason", "x", "--all", "--contact", ADA], ["--reason", "x", "--id", "0-7", "--all"], ["--all"]],
)
def test_one_way_to_choose_and_a_reason_are_needed(control: ControlServer, options: list[str]) -> None:
    for what in ("release", "discard"):
        assert bridge(control, "held", what, "--yes", *options).exit_code == 2
    assert control.requests == []


@pytest.mark.parametrize(
    ("status", "code", "exit_code"), [(403, "second_person_needed", 4), (422, "invalid", 8), (503, "still_reading", 9)]
)
def test_a_refusal_ends_as_documented(control: ControlServer, status: int, code: str, exit_code: int) -> None:
    control.on("POST", f"{HELD}/release", problem(status, code))

    result = bridge(control, "held", "release", "--all", "--reason", "x", "--yes", "--json")

    assert (result.exit_code, result.stdout) == (exit_code, "")


# -- decisions --------------------------------------------------------------------------------------------------------------------


def test_decisions_tell_rule_both_sides_and_outcome(control: ControlServer) -> None:
    two = {"donotemail": False, "donotfax": True}
    inputs = decision()["inputs"]["donotemail"] | {"dynamics": True}
    several = decision(id="0-6", flags=two, inputs=dict.fromkeys(two, inputs), outcome="waiting")
    body = shaped(DecisionsOut, {"decisions": [decision(), several], "next": "0-6"})
    control.on("GET", DECISIONS, body)

    shown = bridge(control, "decisions", "--contact", ADA, "--limit", "2", "--after", "0-8").stdout

    assert control.requests[0].query == {"contact": ADA, "limit": "2", "after": "0-8"}
    assert shown.splitlines() == [
        f"2026-03-31 12:00:00Z  {ADA}  dynamics: donotemail opted in  campaign-is-later, written",
        "    campaign: opted in since 2026-03-31 12:00:00Z",
        "    dynamics: never seen",
        f"2026-03-31 12:00:00Z  {ADA}  dynamics: donotemail opted in, donotfax opted out  campaign-is-later, waiting",
        "    campaign: donotemail opted in since 2026-03-31 12:00:00Z",
        "    campaign: donotfax opted in since 2026-03-31 12:00:00Z",
        "    dynamics: donotemail opted out",
        "    dynamics: donotfax opted out",
        "Go on with --after 0-6",
    ]
    assert json.loads(bridge(control, "decisions", "--json").stdout) == body


def test_decisions_of_ingress_tell_where_it_was_read_when_it_was_written_and_the_answer(control: ControlServer) -> None:
    words = decision()["inputs"]["donotemail"] | {"dynamics": True, "dynamics_from": "version 915244"}
    written = decision(target="campaign", inputs={"donotemail": words}, written_at=NOW, status=204)
    gone = decision(table="new_vehicle", kind="delete", target="campaign", flags={}, inputs={}, rule="filtered-out", outcome="held")
    control.on("GET", "/workflows/ingress/decisions", shaped(DecisionsOut, {"decisions": [written, gone], "next": None}))

    assert bridge(control, "decisions", "ingress").stdout.splitlines() == [
        f"2026-03-31 12:00:00Z  {ADA}  campaign: donotemail opted in  campaign-is-later, written",
        "    campaign: opted in since 2026-03-31 12:00:00Z",
        "    dynamics: opted out (version 915244)",
        "    written 2026-03-31 12:00:00Z, answered 204",
        f"2026-03-31 12:00:00Z  new_vehicle {ADA}  campaign: delete  filtered-out, held",
    ]


def test_all_decisions_are_put_together_into_one_file(control: ControlServer, tmp_path: Path) -> None:
    first, second = f"0-9,{ADA},dynamics,donotemail,True,a", f'0-8,{ADA},dynamics,donotemail,False,"a,b"'
    control.on("GET", DECISIONS, csv_of(first.encode()), csv_of(second.encode()), csv_of())
    file = tmp_path / "ada.csv"

    result = bridge(control, "decisions", "--contact", ADA, "--csv", str(file))

    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"2 lines in {file}.\n")
    assert file.read_bytes() == HEAD + first.encode() + b"\r\n" + second.encode() + b"\r\n"
    assert [each.query for each in control.requests] == [
        {"contact": ADA, "limit": "1000"},
        {"contact": ADA, "limit": "1000", "after": "0-9"},
        {"contact": ADA, "limit": "1000", "after": "0-8"},
    ]
    assert {each.headers["accept"] for each in control.requests} == {"text/csv"}


def test_csv_goes_to_stdout_and_nothing_else_does(control: ControlServer) -> None:
    control.on("GET", DECISIONS, csv_of(b"0-9,x"), csv_of())

    result = bridge(control, "decisions", "--csv", "-")

    assert result.stdout.splitlines() == [HEAD.decode().strip(), "0-9,x"]
    assert result.stderr == ""


def test_a_file_is_left_alone_when_control_refuses_and_said_to_be_incomplete_when_it_breaks_off(
    control: ControlServer, tmp_path: Path
) -> None:
    file = tmp_path / "ada.csv"
    file.write_text("before")
    control.on("GET", DECISIONS, problem(403, "forbidden"))

    assert bridge(control, "decisions", "--csv", str(file)).exit_code == 4
    assert file.read_text() == "before"

    control.on("GET", DECISIONS, csv_of(b"0-9,x"), problem(503, "still_reading"))
    broken = bridge(control, "decisions", "--csv", str(file))
    assert (broken.exit_code, f"The file {file} is not complete." in broken.stderr) == (9, True)


@pytest.mark.parametrize("options", [["--json"], ["--limit", "3"], ["--after", "0-1"]])
def test_csv_goes_with_contact_only(control: ControlServer, options: list[str]) -> None:
    assert bridge(control, "decisions", "--csv", "-", *options).exit_code == 2
    assert control.requests == []


def test_a_file_that_cannot_be_written_is_wrong_usage(control: ControlServer, tmp_path: Path) -> None:
    control.on("GET", DECISIONS, csv_of())

    assert bridge(control, "decisions", "--csv", str(tmp_path / "nowhere" / "a.csv")).exit_code == 2


def test_that_no_decision_is_kept_is_said(control: ControlServer) -> None:
    control.on("GET", DECISIONS, shaped(DecisionsOut, {"decisions": [], "next": None}))

    assert bridge(control, "decisions", "--contact", ADA).stdout == "No decision is kept.\n"


# -- status -----------------------------------------------------------------------------------------------------------------------


def test_status_of_a_workflow_that_runs_warns_and_ends_with_0(control: ControlServer) -> None:
    told = reason(code="releases_held", message="3 decisions are held", hint="See whether they are meant.", role="resolver")
    control.on("GET", "/workflows/optin", workflow("optin", "RUNNING", reason=told, backlog=backlog(0, "IDLE", held=3)))

    result = bridge(control, "status", "optin")

    assert result.exit_code == 0
    assert "0 (IDLE), 3 held" in result.stdout
    assert "optin: warning: 3 decisions are held [resolver, releases_held]" in result.stdout
    assert "What to do: See whether they are meant." in result.stdout
