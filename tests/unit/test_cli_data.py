"""`bridge replay`, `tables`, `cursors`, `dead-letters`, `record`, `test`, `audit`, `whoami`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from services.control.models.data_json import (
    ChosenIn,
    CursorsOut,
    DiscardIn,
    DoneOut,
    JournalIn,
    LetterGroupsOut,
    LettersOut,
    RecordOut,
    ReplayIn,
    ReplayOut,
    TablesOut,
)
from services.control.models.system_json import AuditsOut, ChecksOut, RestoredOut, WhoOut
from tests.unit.cli_server import NOW, ControlServer, Reply, bridge, problem, serving, shaped

KEY, OTHER = "00df3854-8b49-484d-8f72-e552eb4a6dc2", "9e317117-0d4e-4612-b59d-29b871df9c26"
LETTERS = "/workflows/ingress/dead-letters"


@pytest.fixture
def control() -> Iterator[ControlServer]:
    with serving() as server:
        yield server


def letter(id: str = "0-7", **more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {"id": id, "key": "k-1", "table": "contact", "code": "value_refused", "reason": "email is refused"}
    known |= {
        "stage": "write",
        "target_status": 400,
        "when": NOW,
        "first_failed_at": NOW,
        "attempts": 3,
        "revision": 2,
        "fingerprint": "f00d",
    }
    return known | {"redriven": 0, "state": "open"} | more


def page(*letters: dict[str, Any], next: str | None = None, total: int = 9) -> dict[str, Any]:
    return shaped(LettersOut, {"dead_letters": list(letters), "total": total, "next": next})


def sent(server: ControlServer, model: type[BaseModel]) -> dict[str, Any]:
    """The body of the only request that changes something; it is what the API takes."""
    (request,) = server.changing()
    model.model_validate(request.body)
    body: dict[str, Any] = request.body
    return body


# -- tables, replay, cursors ------------------------------------------------------------------------------------------------------


def test_tables_show_progress_and_replays(control: ControlServer) -> None:
    progress = {"kind": "replay", "done": 1500, "total": 4000, "eta_s": 130.0, "started_at": NOW}
    replay = {"when": "now", "state": "running", "changed_since": NOW, "keys": 2, "requested_at": NOW, "requested_by": "anna"}
    known = {"source": "contact", "target": "profile", "phase": "live", "cursor_age_s": 3.2, "change_tracking_days_left": 89.95}
    more = {"rows_read": 12, "progress": progress, "replay_armed": False, "replay": replay}
    nothing = dict.fromkeys(("phase", "cursor_age_s", "change_tracking_days_left", "rows_read", "progress", "replay"))
    body = shaped(TablesOut, {"tables": [known | more, nothing | {"source": "a", "target": "b", "replay_armed": True}]})
    control.on("GET", "/workflows/ingress/tables", body)

    shown = bridge(control, "tables").stdout.splitlines()

    assert "replay 1,500 of 4,000, done in 2 min" in shown[1]
    assert "running (now, 2 keys, changed since 2026-03-31 12:00:00Z)" in shown[1]
    assert shown[2].split() == ["a", "b", *"–––––", "armed"]
    assert json.loads(bridge(control, "tables", "--json").stdout) == body


@pytest.mark.parametrize(
    ("options", "body"),
    [
        ([], {"when": "next-start"}),
        (["--next-start"], {"when": "next-start"}),
        (["--now"], {"when": "now"}),
        (["--now", "--key", KEY, "--key", OTHER], {"when": "now", "keys": [KEY, OTHER]}),
        (["--changed-since", "2026-03-01"], {"when": "next-start", "changed_since": "2026-03-01T00:00:00+00:00"}),
        (["--changed-since", "2026-03-01T08:00:00+02:00"], {"when": "next-start", "changed_since": "2026-03-01T08:00:00+02:00"}),
        (["--changed-since", "2026-03-01T08:00:00Z"], {"when": "next-start", "changed_since": "2026-03-01T08:00:00+00:00"}),
    ],
)
def test_replay_asks_for_what_was_said(control: ControlServer, options: list[str], body: dict[str, Any]) -> None:
    known = {"state": "armed", "changed_since": None, "keys": None, "requested_at": NOW, "requested_by": "anna"}
    answer = shaped(ReplayOut, known | {"when": body["when"]})
    control.on("POST", "/workflows/ingress/tables/contact/replay", Reply(202, answer))

    result = bridge(control, "replay", "contact", *options, "--json")

    assert (result.exit_code, json.loads(result.stdout)) == (0, answer)
    assert sent(control, ReplayIn) == body
    assert "begins now" in result.stderr or body["when"] == "next-start"


def test_replay_is_cancelled_and_refused(control: ControlServer) -> None:
    control.on("DELETE", "/workflows/ingress/tables/contact/replay", Reply(204))
    control.on("POST", "/workflows/ingress/tables/contact/replay", problem(409, "table_too_large"))

    assert bridge(control, "replay", "contact", "--cancel", "--json").stdout == ""
    assert bridge(control, "replay", "contact", "--cancel").exit_code == 0
    assert bridge(control, "replay", "contact").exit_code == 5
    for options in (["--now", "--next-start"], ["--cancel", "--now"], ["--changed-since", "yesterday"]):
        assert bridge(control, "replay", "contact", *options).exit_code == 2


def test_cursors_are_listed_with_or_without_list(control: ControlServer) -> None:
    cursor = {"name": "contact", "system": "dynamics", "updated_at": NOW, "position": {"phase": "live"}}
    body = shaped(CursorsOut, {"cursors": [cursor]})
    control.on("GET", "/workflows/ingress/cursors", body)

    short, long = bridge(control, "cursors", "ingress"), bridge(control, "cursors", "list", "ingress")

    assert short.stdout == long.stdout
    assert 'contact  dynamics  2026-03-31 12:00:00Z  {"phase": "live"}' in short.stdout
    assert json.loads(bridge(control, "cursors", "ingress", "--json").stdout) == body


def test_a_cursor_is_deleted_after_a_yes_only(control: ControlServer) -> None:
    control.on("DELETE", "/workflows/ingress/cursors/contact", Reply(204))

    assert bridge(control, "cursors", "delete", "ingress", "contact").exit_code == 7
    assert control.requests == []
    assert bridge(control, "cursors", "delete", "ingress", "contact", "--yes").exit_code == 0
    assert len(control.requests) == 1
    control.on("DELETE", "/workflows/ingress/cursors/contact", problem(409, "not_stopped"))
    assert bridge(control, "cursors", "delete", "ingress", "contact", "--yes").exit_code == 5


def test_the_journal_is_set(control: ControlServer) -> None:
    control.on("PUT", "/workflows/egress/cursors/journal", Reply(200, {"name": "journal"}))

    result = bridge(control, "cursors", "journal", "egress", "latest")

    assert (result.exit_code, sent(control, JournalIn)) == (0, {"position": "latest"})
    assert bridge(control, "cursors", "journal", "egress", "middle").exit_code == 2


# -- dead letters -----------------------------------------------------------------------------------------------------------------


def test_dead_letters_are_listed_by_page_and_cause(control: ControlServer) -> None:
    body = page(letter(), letter("0-6", state="redriven", redriven=2), next="0-6")
    control.on("GET", LETTERS, body)

    shown = bridge(control, "dead-letters", "ingress", "--fingerprint", "f00d", "--limit", "2", "--after", "0-8").stdout

    assert control.requests[0].query == {"fingerprint": "f00d", "limit": "2", "after": "0-8"}
    assert "email is refused" in shown and "redriven, was re-driven 2×" in shown
    assert shown.splitlines()[-1] == "2 of 9; go on with --after 0-6"
    assert json.loads(bridge(control, "dead-letters", "list", "ingress", "--json").stdout) == body


def test_keys_of_dead_letters_do_not_steer_the_terminal(control: ControlServer) -> None:
    control.on("GET", LETTERS, page(letter(key="\x1b[2Jk\x9b\n[b]")))

    shown = bridge(control, "dead-letters", "ingress").stdout

    assert "\\x1b[2Jk\\x9b" in shown and "[b]" in shown
    assert "\x1b" not in shown and "\x9b" not in shown


def test_groups_name_cause_and_cure(control: ControlServer) -> None:
    group = {"fingerprint": "f00d", "code": "value_refused", "count": 5, "open": 4, "first": NOW, "last": NOW, "sample": letter()}
    body = shaped(LetterGroupsOut, {"groups": [group | {"cause": "Campaign refuses it.", "cure": "Map another field."}]})
    control.on("GET", f"{LETTERS}/groups", body)

    shown = bridge(control, "dead-letters", "groups", "ingress").stdout

    for text in ("f00d  value_refused: 5 (4 open)", "Cause: Campaign refuses it.", "Cure: Map another field.", "Sample: 0-7, key k-1"):
        assert text in shown
    assert json.loads(bridge(control, "dead-letters", "groups", "ingress", "--json").stdout) == body


def test_show_finds_a_letter_on_a_later_page_and_asks_for_the_values_of_that_page_only(control: ControlServer) -> None:
    with_value = letter("0-3", value={"lastname": "Meyer"})
    control.on("GET", LETTERS, page(letter("0-9"), next="0-9"), page(letter("0-3"), next="0-3"), page(with_value, next="0-3"))

    shown = bridge(control, "dead-letters", "show", "ingress", "0-3", "--values")

    assert '"lastname": "Meyer"' in shown.stdout
    assert [(each.query.get("after"), each.query.get("values")) for each in control.requests] == [
        (None, None),
        ("0-9", None),
        ("0-9", "true"),
    ]


def test_show_of_one_letter_as_json_and_of_none(control: ControlServer) -> None:
    control.on("GET", LETTERS, page(letter("0-9")))

    found, none = (bridge(control, "dead-letters", "show", "ingress", each, "--json") for each in ("0-9", "0-1"))

    assert json.loads(found.stdout) == page(letter("0-9"))["dead_letters"][0]
    assert (none.exit_code, none.stdout) == (6, "")


@pytest.mark.parametrize(
    ("options", "body"),
    [
        (["--id", "0-1", "--id", "0-2"], {"ids": ["0-1", "0-2"]}),
        (["--fingerprint", "f00d"], {"fingerprint": "f00d"}),
        (["--all"], {"all": True}),
    ],
)
def test_redrive_and_discard_name_what_they_are_for(control: ControlServer, options: list[str], body: dict[str, Any]) -> None:
    control.on("POST", f"{LETTERS}/redrive", Reply(202, shaped(DoneOut, {"redriven": 2, "skipped": 1})))
    control.on("POST", f"{LETTERS}/discard", Reply(202, shaped(DoneOut, {"discarded": 3})))

    assert bridge(control, "dead-letters", "redrive", "ingress", *options).stdout == "2 sent again, 1 passed over.\n"
    assert sent(control, ChosenIn) == body
    discard = ["dead-letters", "discard", "ingress", *options, "--reason", "test data"]
    assert bridge(control, *discard).exit_code == 7
    assert len(control.requests) == 1
    assert bridge(control, *discard, "--yes").stdout == "3 given up, 0 passed over.\n"
    assert DiscardIn.model_validate(control.changing()[1].body).model_dump(exclude_none=True) == body | {"reason": "test data"}


@pytest.mark.parametrize("options", [[], ["--all", "--id", "0-1"], ["--fingerprint", "f", "--all"]])
def test_exactly_one_way_to_choose(control: ControlServer, options: list[str]) -> None:
    assert bridge(control, "dead-letters", "redrive", "ingress", *options).exit_code == 2
    assert bridge(control, "dead-letters", "discard", "ingress", "--reason", "x", "--yes", *options).exit_code == 2
    assert control.requests == []


def test_discard_needs_a_reason(control: ControlServer) -> None:
    assert bridge(control, "dead-letters", "discard", "ingress", "--all", "--yes").exit_code == 2


# -- records ----------------------------------------------------------------------------------------------------------------------


def test_a_record_is_shown_hop_by_hop(control: ControlServer) -> None:
    hop = {"hop": "read", "topic": "ingress.changes.contact", "partition": 1, "offset": 42, "version": 7, "outcome": None}
    hops = [hop | {"status": None, "attempts": None, "at": NOW}, hop | {"hop": "settled", "outcome": "written", "status": 200}]
    hops[1] |= {"attempts": 1, "at": NOW}
    known = {"key": "k-1", "table": "contact", "version": 7, "outcome": "written", "target_status": 200, "attempts": 1}
    body = shaped(RecordOut, known | {"read_at": NOW, "settled_at": NOW, "hops": hops})
    control.on("GET", "/workflows/ingress/records/k-1", body)

    shown = bridge(control, "record", "ingress", "k-1", "--table", "contact")

    assert control.requests[0].query == {"table": "contact"}
    last = shown.stdout.splitlines()[-1].split()
    assert last == ["settled", "ingress.changes.contact", "1", "42", "7", "written", "200", "1", "2026-03-31", "12:00:00Z"]
    assert json.loads(bridge(control, "record", "ingress", "k-1", "--json").stdout) == body


def test_a_record_that_was_never_seen_is_said_in_plain_words(control: ControlServer) -> None:
    control.on("GET", "/workflows/ingress/records/k-2", problem(404, "never_seen", "Nothing is known of it."))

    result = bridge(control, "record", "ingress", "k-2", "--json")

    assert (result.exit_code, result.stdout) == (6, "")
    assert "ingress has never seen a record with the key k-2." in result.stderr


# -- systems and people -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("skipped", 0), ("failed", 1)])
def test_a_failed_check_ends_with_1(control: ControlServer, status: str, code: int) -> None:
    checks = [{"name": "token", "status": "ok", "message": "granted", "hint": None}]
    checks.append({"name": "clock", "status": status, "message": "90 s apart", "hint": "Set the clock."})
    body = shaped(ChecksOut, {"system": "dynamics", "ok": status != "failed", "checks": checks})
    control.on("POST", "/systems/dynamics/test", body)

    shown = bridge(control, "test", "dynamics")

    assert (shown.exit_code, shown.stdout.splitlines()[2].split()) == (code, ["clock", status, "90", "s", "apart", "Set", "the", "clock."])
    as_json = bridge(control, "test", "dynamics", "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (code, body)
    assert bridge(control, "test", "elsewhere").exit_code == 2


def test_restored_is_said_with_its_reason(control: ControlServer) -> None:
    body = shaped(RestoredOut, {"ingress": 1, "optin": 1})
    control.on("POST", "/systems/dynamics/restored", Reply(202, body))

    shown = bridge(control, "restored", "--reason", "restored to 3 March", "--json")

    assert (shown.exit_code, json.loads(shown.stdout)) == (0, body)
    assert control.requests[0].body == {"reason": "restored to 3 March"}
    assert "read everything again" in shown.stderr
    assert bridge(control, "restored").exit_code == 2


def test_audit_and_whoami(control: ControlServer) -> None:
    entry = {"id": "0-1", "at": NOW, "by": "anna", "address": None, "workflow": "ingress", "what": "start", "before": None, "after": None}
    body = shaped(AuditsOut, {"entries": [entry | {"result": "done"}], "next": "0-1"})
    control.on("GET", "/audit", body)
    control.on("GET", "/me", shaped(WhoOut, {"name": "anna", "role": "operator"}))

    shown = bridge(control, "audit", "--limit", "1").stdout.splitlines()

    assert shown[1].split() == ["2026-03-31", "12:00:00Z", "anna", "–", "ingress", "start", "done"]
    assert (shown[-1], control.requests[0].query) == ("Go on with --after 0-1", {"limit": "1"})
    assert json.loads(bridge(control, "audit", "--json").stdout) == body
    assert bridge(control, "whoami").stdout == "anna (operator)\n"
