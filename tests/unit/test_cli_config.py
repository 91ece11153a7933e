"""`bridge config …`: what is asked, shown, saved and refused; files, and that applying twice changes nothing."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import Result

from bridge.model.config import default_ingress
from services.control.models.data_json import PlanIn, PlanOut
from services.control.models.workflow_json import ConfigIn, DraftIn, RestoreIn, RevisionsOut
from services.control.rules.lifecycle import dumped
from tests.unit.cli_server import (
    NOW,
    ControlServer,
    Reply,
    bridge,
    command,
    configuration,
    environment,
    problem,
    serving,
    shaped,
    validation,
    workflow,
)

CONFIG = "/workflows/ingress/config"
SAVED = dumped(default_ingress())
CHANGED = json.loads(json.dumps(SAVED))
CHANGED["tables"][0]["apply_deletes"] = True
COUNTS = {"create": 2, "update": 1, "unchanged": 90, "delete": 0, "filtered": 3, "rejected": 4}
TABLE_PLAN: dict[str, Any] = {
    "source": "contact",
    "target": "profile",
    "lane": "replay",
    "sample": 100,
    "total": 4000,
    "counts": COUNTS,
    "rejected": [{"code": "not_convertible", "reason": "age is no number", "count": 4, "keys": ["k-1", "k-2"]}],
    "truncated": [{"table": "contact", "source": "description", "target": "cusText", "count": 7, "length": 50}],
    "not_convertible": [{"table": "contact", "source": "age", "target": "cusAge", "count": 4, "length": None}],
    "unreplaced": [{"table": "contact", "source": "gendercode", "value": "3", "label": "Other", "count": 5}],
    "calls": {"sample": 3, "total": 120},
    "lowers": {"sample": 0, "total": 0, "limit": 100, "above": False},
    "deletes": {"sample": 30, "total": 1200, "limit": 500, "above": True},
}
LISTS = ("sample", "counts", "rejected", "truncated", "not_convertible", "unreplaced", "calls")
SUMS = {"lowers": {"sample": 0, "total": 0}, "deletes": {"sample": 30, "total": 1200}, "above_limits": True}
PLAN = shaped(PlanOut, {name: TABLE_PLAN[name] for name in LISTS} | SUMS | {"tables": [TABLE_PLAN]})


@pytest.fixture
def control() -> Iterator[ControlServer]:
    """Revision 3 is saved, everything is valid, and a plan can be had."""
    with serving() as server:
        server.on("GET", CONFIG, configuration(SAVED))
        server.on("POST", f"{CONFIG}/validate", validation())
        server.on("POST", f"{CONFIG}/plan", PLAN)
        server.on("PUT", CONFIG, configuration(CHANGED, 4))
        yield server


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that differs from what is saved."""
    made = tmp_path / "ingress.yaml"
    made.write_text(yaml.safe_dump({"workflow": "ingress", "config": CHANGED}))
    return made


def put(server: ControlServer) -> tuple[str | None, dict[str, Any]]:
    """If-Match and body of the only PUT."""
    (request,) = server.asked("PUT", CONFIG)
    ConfigIn.model_validate(request.body)
    return request.headers.get("if-match"), request.body


# -- get, set, diff, history, restore, plan ---------------------------------------------------------------------------------------


def test_get_prints_the_file_that_apply_takes(control: ControlServer) -> None:
    result = bridge(control, "config", "get", "ingress")

    assert yaml.safe_load(result.stdout) == {"workflow": "ingress", "config": SAVED}
    assert bridge(control, "config", "apply", "-f", "-", stdin=result.stdout).stdout == "Nothing to change.\n"
    assert json.loads(bridge(control, "config", "get", "ingress", "--format", "json").stdout)["config"] == SAVED
    assert json.loads(bridge(control, "config", "get", "ingress", "--json").stdout) == configuration(SAVED).body


def test_get_of_what_runs(control: ControlServer) -> None:
    assert bridge(control, "config", "get", "ingress", "--running").exit_code == 1

    control.on("GET", CONFIG, configuration(CHANGED, running=SAVED))

    assert yaml.safe_load(bridge(control, "config", "get", "ingress", "--running").stdout)["config"] == SAVED


def test_set_saves_the_file_as_it_is_over_the_saved_or_the_named_revision(control: ControlServer, file: Path) -> None:
    result = bridge(control, "config", "set", "ingress", "-f", str(file), "--comment", "why")
    assert (result.exit_code, "revision 4" in result.stdout) == (0, True)
    assert put(control) == ('"3"', {"config": CHANGED, "comment": "why"})

    bridge(control, "config", "set", "ingress", "-f", str(file), "--revision", "2")
    assert control.asked("PUT", CONFIG)[1].headers["if-match"] == '"2"'


def test_set_of_what_control_refuses_names_every_place(control: ControlServer, file: Path) -> None:
    errors = validation(("/tables/0/key", "the key must be contactid")).get("errors")
    control.on("PUT", CONFIG, problem(422, "invalid_configuration", errors=errors))

    result = bridge(control, "config", "set", "ingress", "-f", str(file))

    assert (result.exit_code, "/tables/0/key: the key must be contactid" in result.stderr) == (8, True)


def test_diff_compares_running_with_saved_and_saved_with_a_file(control: ControlServer, file: Path) -> None:
    assert "does not run" in bridge(control, "config", "diff", "ingress").stdout
    with_file = bridge(control, "config", "diff", "ingress", "-f", str(file))
    control.on("GET", CONFIG, configuration(SAVED, running=CHANGED))
    with_running = bridge(control, "config", "diff", "ingress", "--json")

    assert with_file.stdout.splitlines()[1].split() == ["/tables/0/apply_deletes", "no", "yes"]
    assert json.loads(with_running.stdout) == {"diff": [{"path": "/tables/0/apply_deletes", "from": True, "to": False}]}
    assert control.changing() == []


def test_history_and_restore(control: ControlServer) -> None:
    listed = [{"revision": 2, "saved_at": NOW, "saved_by": "anna", "comment": None}]
    history = shaped(RevisionsOut, {"revisions": listed})
    control.on("GET", f"{CONFIG}/revisions", history)
    control.on("POST", f"{CONFIG}/revisions/2/restore", configuration(SAVED, 4))

    shown = bridge(control, "config", "history", "ingress")
    assert shown.stdout.splitlines()[1].split() == ["2", "2026-03-31", "12:00:00Z", "anna", "–"]
    assert json.loads(bridge(control, "config", "history", "ingress", "--json").stdout) == history
    restored = bridge(control, "config", "restore", "ingress", "2", "--comment", "back")

    assert "Revision 2 is saved again as revision 4" in restored.stdout
    assert RestoreIn.model_validate(control.changing()[0].body).comment == "back"
    assert bridge(control, "config", "restore", "ingress", "9").exit_code == 6


def test_plan_shows_all_that_would_happen(control: ControlServer, file: Path) -> None:
    shown = bridge(control, "config", "plan", "ingress", "-f", str(file), "--sample", "500").stdout

    assert PlanIn.model_validate(control.changing()[0].body).model_dump() == {"config": CHANGED, "sample": 500}
    for text in ("contact → profile", "age is no number", "k-1, k-2", "description", "cusAge", "gendercode", "Other", "about 120"):
        assert text in shown
    assert shown.splitlines()[-1].split() == ["contact", "records", "deleted", "in", "Campaign", "30", "1200", "500", "ABOVE"]
    assert shown.splitlines()[1].split()[-6:] == [str(each) for each in COUNTS.values()]
    assert json.loads(bridge(control, "config", "plan", "ingress", "--json").stdout) == PLAN
    assert control.changing()[1].body == {"config": SAVED, "sample": 100}


# -- apply ------------------------------------------------------------------------------------------------------------------------


def apply(server: ControlServer, file: Path, *args: str) -> Result:
    return bridge(server, "config", "apply", "-f", str(file), *args)


def test_apply_shows_difference_and_plan_and_saves(control: ControlServer, file: Path) -> None:
    result = apply(control, file, "--yes", "--comment", "from the repository")

    assert result.exit_code == 0
    assert "/tables/0/apply_deletes" in result.stdout and "age is no number" in result.stdout
    assert "Saved as revision 4. It takes effect at the next stop and start." in result.stdout
    assert put(control) == ('"3"', {"config": CHANGED, "comment": "from the repository"})
    assert [each.path.rsplit("/", 1)[1] for each in control.requests] == ["config", "validate", "plan", "config"]


def test_apply_without_an_answer_saves_nothing(control: ControlServer, file: Path) -> None:
    result = apply(control, file)

    assert (result.exit_code, control.asked("PUT", CONFIG)) == (7, [])
    assert "/tables/0/apply_deletes" in result.stdout


def test_a_short_file_equals_what_was_saved_from_it(control: ControlServer, tmp_path: Path) -> None:
    pairs = [(each["source"], each["target"]) for each in SAVED["tables"][0]["fields"]]
    fields = "\n".join(f"    - {{source: {source}, target: {target}}}" for source, target in pairs)
    file = tmp_path / "short.yaml"
    file.write_text(
        "workflow: ingress\nconfig:\n  tables:\n  - source: contact\n    target: profile\n"
        f"    key: {{source: contactid, target: externalId}}\n    apply_deletes: false\n    fields:\n{fields}\n"
    )

    for _ in range(2):
        result = apply(control, file)
        assert (result.exit_code, result.stdout) == (0, "Nothing to change.\n")
    assert control.changing() == []
    assert json.loads(apply(control, file, "--json").stdout) == configuration(SAVED).body


def test_apply_of_a_file_with_errors_ends_with_1_and_each_path(control: ControlServer, file: Path) -> None:
    found = validation(("/tables/0/key", "the key must be contactid"), warnings=(("/tables/0", "large"),))
    control.on("POST", f"{CONFIG}/validate", found)

    result = apply(control, file, "--yes")

    assert (result.exit_code, control.asked("PUT", CONFIG)) == (1, [])
    assert "Warning: /tables/0: large" in result.stderr
    assert "/tables/0/key: the key must be contactid" in result.stderr
    DraftIn.model_validate(control.changing()[0].body)


def test_apply_goes_on_when_there_is_no_plan(control: ControlServer, file: Path) -> None:
    control.on("POST", f"{CONFIG}/plan", problem(503, "source_busy", "Dynamics does not answer."))

    result = apply(control, file, "--yes", "--json")

    assert (result.exit_code, json.loads(result.stdout)["revision"]) == (0, 4)
    assert "There is no plan: Title 503: Dynamics does not answer." in result.stderr


def test_apply_shows_what_somebody_else_has_saved_meanwhile(control: ControlServer, file: Path) -> None:
    theirs = json.loads(json.dumps(SAVED))
    theirs["tables"][0]["picklists"] = "display"
    control.on("GET", CONFIG, configuration(SAVED), configuration(theirs, 4, saved_by="ben"))
    control.on("PUT", CONFIG, problem(412, "stale_revision", "Revision 4 has been saved meanwhile."))

    result = apply(control, file, "--yes")

    assert result.exit_code == 5
    assert "Revision 4 was saved by ben" in result.stderr
    assert '/tables/0/picklists: theirs "display", ours "technical"' in result.stderr
    assert "/tables/0/apply_deletes: theirs false, ours true" in result.stderr


def test_apply_with_restart_stops_and_starts_and_waits(control: ControlServer, file: Path) -> None:
    control.on("POST", "/workflows/ingress/stop", Reply(202, workflow(status="RUNNING", desired="STOPPED")))
    control.on("POST", "/workflows/ingress/start", Reply(202, workflow(status="STARTING")))
    control.on("GET", "/workflows/ingress", workflow(), workflow(status="STARTING"), workflow(status="RUNNING"))

    result = apply(control, file, "--yes", "--restart")

    assert result.stdout.endswith("Saved as revision 4.\ningress is STOPPED.\ningress is RUNNING.\n")
    assert [each.path.rsplit("/", 1)[1] for each in control.changing()] == ["validate", "plan", "config", "stop", "start"]


def test_a_save_and_a_start_say_what_they_take_away(control: ControlServer, file: Path) -> None:
    taken: dict[str, Any] = {
        "sample": 100,
        "lowers": {"sample": 0, "total": 0},
        "deletes": {"sample": 3, "total": 1500},
        "above_limits": True,
    }
    control.on("PUT", CONFIG, configuration(CHANGED, 4, takes_away=taken))
    line = "In Campaign by a sample of 100 rows: about 1,500 records deleted; more than the limits, so some will be held.\n"
    assert line in apply(control, file, "--yes").stderr

    taken["deletes"]["total"], taken["above_limits"] = None, False
    control.on("POST", "/workflows/ingress/start", Reply(202, workflow(status="STARTING") | {"takes_away": taken}))
    assert bridge(control, "start", "ingress").stderr == "In Campaign by a sample of 100 rows: 3 records deleted.\n"
    control.on("POST", "/workflows/ingress/start", Reply(202, workflow(status="STARTING") | {"takes_away": None}))
    assert "is not known: a system did not answer" in bridge(control, "start", "ingress").stderr
    taken["deletes"]["sample"] = 0
    control.on("POST", "/workflows/ingress/start", Reply(202, workflow(status="STARTING") | {"takes_away": taken}))
    assert "In Campaign" not in bridge(control, "start", "ingress").stderr


def test_restart_happens_for_what_was_saved_before_and_does_not_run_yet_and_only_then(control: ControlServer, file: Path) -> None:
    control.on("GET", CONFIG, configuration(CHANGED, running=CHANGED))
    assert apply(control, file, "--yes", "--restart").exit_code == 0
    assert control.changing() == []

    difference = [{"path": "/tables/0/apply_deletes", "running": False, "saved": True}]
    control.on("GET", CONFIG, configuration(CHANGED, running=SAVED, diff=difference))
    control.on("POST", "/workflows/ingress/stop", Reply(202, workflow()))
    control.on("POST", "/workflows/ingress/start", Reply(202, workflow(status="RUNNING")))
    control.on("GET", "/workflows/ingress", workflow(), workflow(status="RUNNING"))
    assert apply(control, file, "--restart").exit_code == 7
    assert apply(control, file, "--yes", "--restart").exit_code == 0

    assert [each.path.rsplit("/", 1)[1] for each in control.changing()] == ["stop", "start"]


def asked_on_a_terminal(control: ControlServer, file: Path, answer: bytes) -> int:
    """The exit code of apply when this is typed."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command("config", "apply", "-f", str(file)),
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(control),
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        question = b""
        while not question.endswith(b"[y/N] "):
            question += process.stderr.read(1)
        os.write(ours, answer)
        code = process.wait(30)
    os.close(ours)
    os.close(theirs)
    return code


@pytest.mark.parametrize(("answer", "code", "saved"), [(b"y\n", 0, 1), (b"Yes\n", 0, 1), (b"\n", 7, 0), (b"n\n", 7, 0), (b"\x04", 7, 0)])
def test_on_a_terminal_apply_asks_and_only_yes_is_yes(control: ControlServer, file: Path, answer: bytes, code: int, saved: int) -> None:
    assert asked_on_a_terminal(control, file, answer) == code
    assert len(control.asked("PUT", CONFIG)) == saved


# -- edit -------------------------------------------------------------------------------------------------------------------------


def editor(folder: Path, *steps: str) -> str:
    """An editor whose n-th run runs the n-th of these Python lines (`text` is what the file holds), the last one again and again.
    What it saw is in seen-1, seen-2, …"""
    script = folder / "editor.py"
    script.write_text(
        "import pathlib, sys\n"
        f"file, folder = pathlib.Path(sys.argv[1]), pathlib.Path({str(folder)!r})\n"
        "run = len(list(folder.glob('seen-*'))) + 1\n"
        "text = file.read_text()\n"
        "(folder / f'seen-{run}').write_text(text)\n"
        f"steps = {list(steps)!r}\n"
        "exec(steps[min(run, len(steps)) - 1])\n"
        "file.write_text(text)\n"
    )
    return f"python3 '{script}'"


SWITCH = "text = text.replace('apply_deletes: false', 'apply_deletes: true')"


def edit(server: ControlServer, folder: Path, *steps: str) -> Result:
    return bridge(server, "config", "edit", "ingress", EDITOR=editor(folder, *steps), VISUAL="", TMPDIR=str(folder))


def drafts(folder: Path) -> list[Path]:
    return list(folder.glob("bridge-*/ingress.yaml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where drafts are made."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_edit_saves_what_the_editor_left(control: ControlServer, folder: Path) -> None:
    result = edit(control, folder, SWITCH)

    assert (result.exit_code, "revision 4" in result.stdout) == (0, True)
    assert put(control) == ('"3"', {"config": CHANGED})
    assert drafts(folder) == []


def test_edit_of_nothing_saves_nothing(control: ControlServer, folder: Path) -> None:
    result = edit(control, folder, "pass")

    assert (result.exit_code, result.stdout, control.asked("PUT", CONFIG)) == (0, "Nothing to change.\n", [])


def test_edit_brings_errors_back_as_comments_until_there_are_none(control: ControlServer, folder: Path) -> None:
    control.on("POST", f"{CONFIG}/validate", validation(("/tables/0/key", "wrong key")), validation())

    result = edit(control, folder, SWITCH, "text = text + '# a comment of mine: [\\n  bad: ['", "text = text[:text.index('# a')]")

    assert result.exit_code == 0
    assert put(control)[1]["config"] == CHANGED
    second, third = ((folder / f"seen-{number}").read_text() for number in (2, 3))
    assert "#! /tables/0/key: wrong key\n" in second and second.startswith("#! Correct this")
    assert "not YAML that can be read" in third and "/tables/0/key" not in third


@pytest.mark.parametrize(
    ("steps", "code"),
    [([SWITCH, "pass"], 1), ([SWITCH, "text = ''"], 7), ([SWITCH, "sys.exit(3)"], 7)],
    ids=["left as it was", "emptied", "editor failed"],
)
def test_edit_given_up_loses_nothing(control: ControlServer, folder: Path, steps: list[str], code: int) -> None:
    control.on("POST", f"{CONFIG}/validate", validation(("/tables/0/key", "wrong key")))

    result = edit(control, folder, *steps)

    (draft,) = drafts(folder)
    assert (result.exit_code, control.asked("PUT", CONFIG)) == (code, [])
    assert str(draft) in result.stderr
    assert "apply_deletes: true" in draft.read_text()
    assert stat.S_IMODE(draft.parent.stat().st_mode) == 0o700


def test_edit_that_cannot_be_saved_loses_nothing(control: ControlServer, folder: Path) -> None:
    control.on("GET", CONFIG, configuration(SAVED), configuration(SAVED, 4, saved_by="ben"))
    control.on("PUT", CONFIG, problem(412, "stale_revision"))

    result = edit(control, folder, SWITCH)

    (draft,) = drafts(folder)
    assert (result.exit_code, "saved by ben" in result.stderr, str(draft) in result.stderr) == (5, True, True)
    assert yaml.safe_load(draft.read_text())["config"] == CHANGED


def test_an_editor_that_is_not_there_is_wrong_usage(control: ControlServer, folder: Path) -> None:
    result = bridge(control, "config", "edit", "ingress", EDITOR="no-such-editor", VISUAL="")

    assert (result.exit_code, "set EDITOR" in result.stderr) == (2, True)
