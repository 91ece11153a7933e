"""`bridge status`, `start`, `stop`, `backlog`: what they ask, show and wait for."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from cli.graph import GraphPoint, graph
from services.control.models.workflow_json import CommandIn
from tests.unit.cli_server import (
    NOW,
    ControlServer,
    Reply,
    backlog,
    bridge,
    command,
    environment,
    event,
    problem,
    reason,
    samples,
    serving,
    workflow,
)

FAILED = workflow(status="FAILED", reason=reason())


@pytest.fixture
def control() -> Iterator[ControlServer]:
    with serving() as server:
        yield server


# -- status -----------------------------------------------------------------------------------------------------------------------


def test_status_shows_every_workflow_with_its_backlog_and_pending_changes(control: ControlServer) -> None:
    first = workflow(status="RUNNING", pending_changes=True, backlog=backlog(1234567, "DRAINING"))
    control.on("GET", "/workflows", {"workflows": [first, workflow("egress", configured=False), workflow("optin")]})

    lines = bridge(control, "status").stdout.splitlines()

    assert lines[0].split() == ["WORKFLOW", "NAME", "STATUS", "BACKLOG", "DESIRED", "SINCE", "CHANGES"]
    assert lines[1].split("  ")[0] == "ingress"
    assert "RUNNING  1,234,567 (DRAINING)  RUNNING  2026-03-31 12:00:00Z  pending" in lines[1]
    assert "not configured" in lines[2]
    assert len(lines) == 4


def test_a_backlog_that_is_not_known_is_not_zero(control: ControlServer) -> None:
    control.on("GET", "/workflows/ingress", workflow(status="RUNNING", backlog=backlog(None, "UNKNOWN")))

    assert "unknown (UNKNOWN)" in bridge(control, "status", "ingress").stdout


def test_a_failed_workflow_shows_its_reason_and_hint_and_ends_with_1(control: ControlServer) -> None:
    control.on("GET", "/workflows/ingress", FAILED)

    result = bridge(control, "status", "ingress")

    assert result.exit_code == 1
    assert "no writer has been heard of [writer, service_silent]" in result.stdout
    assert "What to do: Start it." in result.stdout


def test_json_is_the_answer_of_the_api(control: ControlServer) -> None:
    everything = {"workflows": [FAILED, workflow("egress"), workflow("optin")]}
    control.on("GET", "/workflows", everything)
    control.on("GET", "/workflows/ingress", FAILED)

    assert json.loads(bridge(control, "status", "--json").stdout) == everything
    one = bridge(control, "status", "ingress", "--json")
    assert (json.loads(one.stdout), one.stderr, one.exit_code) == (FAILED, "", 1)


def test_control_characters_and_markup_of_a_reason_do_not_reach_the_terminal(control: ControlServer) -> None:
    bad = workflow(status="FAILED", reason=reason(message="\x1b]0;title\x07 [red]x[/red]"))
    control.on("GET", "/workflows/ingress", bad)

    shown = bridge(control, "status", "ingress").stdout

    assert "\\x1b]0;title\\x07 [red]x[/red]" in shown
    assert "\x1b" not in shown


def lines_of(process: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def watching(control: ControlServer, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command(*args), env=environment(control), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_watch_follows_the_stream_of_events(control: ControlServer) -> None:
    starting, running = workflow(status="STARTING"), workflow(status="RUNNING")
    control.on("GET", "/workflows", {"workflows": [workflow(), workflow("egress")]})

    def events() -> Iterator[bytes]:
        yield b": a comment\n\n"
        yield event(starting)
        yield b"event: other\ndata: {}\n\n"
        yield event(starting)  # nothing new
        yield event(running)
        control.ended.wait(30)

    control.on("GET", "/events", Reply(events=events))
    with watching(control, "status", "--watch", "--json") as process:
        seen = lines_of(process, 4)
        process.kill()

    assert [(each["id"], each["status"]) for each in seen] == [
        ("ingress", "STOPPED"),
        ("egress", "STOPPED"),
        ("ingress", "STARTING"),
        ("ingress", "RUNNING"),
    ]
    assert seen[3] == running
    assert len(control.asked("GET", "/workflows")) == 2


def test_watch_asks_every_second_where_there_is_no_stream_and_survives_that_control_is_away(control: ControlServer) -> None:
    away = problem(503, "kafka_unavailable")
    control.on("GET", "/workflows/ingress", workflow(), away, workflow(status="STARTING"), workflow(status="RUNNING"))

    with watching(control, "status", "ingress", "--watch", "--json") as process:
        seen = lines_of(process, 3)
        process.kill()

    assert [each["status"] for each in seen] == ["STOPPED", "STARTING", "RUNNING"]
    assert len(control.asked("GET", "/events")) == 1


def test_watch_ends_when_control_refuses(control: ControlServer) -> None:
    control.on("GET", "/workflows/ingress", workflow(status="RUNNING"), problem(401, "unauthorized"))

    result = bridge(control, "status", "ingress", "--watch")

    assert result.exit_code == 4
    assert "RUNNING" in result.stdout


def test_watch_ends_when_the_first_question_is_not_answered(control: ControlServer) -> None:
    control.on("GET", "/workflows", problem(503, "kafka_unavailable"))

    assert bridge(control, "status", "--watch").exit_code == 9


def on_a_terminal(control: ControlServer, *args: str, until: bytes) -> tuple[bytes, int]:
    """What a terminal is sent until this text is in it, and the exit code after Ctrl-C."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command(*args), env=environment(control, COLUMNS="100"), stdin=theirs, stdout=theirs, stderr=theirs) as process:
        seen = b""
        while until not in seen:
            seen += os.read(ours, 4096)
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
    os.close(ours)
    os.close(theirs)
    return seen, code


def test_watch_on_a_terminal_changes_one_table_in_its_place(control: ControlServer) -> None:
    control.on("GET", "/workflows/ingress", workflow(), problem(503, "kafka_unavailable", "Kafka is away."), FAILED)

    seen, code = on_a_terminal(control, "status", "ingress", "--watch", until=b"What to do: Start it.")

    assert code == 130
    assert b"STOPPED" in seen and b"Not up to date. Title 503: Kafka is away." in seen
    assert b"\x1b[1A" in seen or b"\x1b[2K" in seen


def test_backlog_watch_on_a_terminal_draws_in_place(control: ControlServer) -> None:
    control.on("GET", "/workflows/ingress/backlog/history", samples(0))
    control.on("GET", "/workflows/ingress", *(workflow(backlog=backlog(9, as_of=NOW + timedelta(seconds=each))) for each in (1, 2)))

    seen, code = on_a_terminal(control, "backlog", "ingress", "--watch", until="9 │".encode())

    assert code == 130
    assert "█".encode() in seen or b"9 (IDLE)" in seen


# -- start and stop ---------------------------------------------------------------------------------------------------------------


def test_start_and_stop_send_the_command_with_its_comment(control: ControlServer) -> None:
    control.on("POST", "/workflows/ingress/start", Reply(202, workflow(status="STARTING")))
    control.on("POST", "/workflows/ingress/stop", Reply(202, workflow(status="RUNNING", desired="STOPPED")))

    started = bridge(control, "start", "ingress", "--comment", "after the holidays")
    stopped = bridge(control, "stop", "ingress", "--json")

    assert (started.exit_code, started.stdout) == (0, "ingress will be RUNNING; it is STARTING now.\n")
    assert (stopped.exit_code, json.loads(stopped.stdout)["desired"]) == (0, "STOPPED")
    first, second = control.changing()
    assert CommandIn.model_validate(first.body).comment == "after the holidays"
    assert second.body is None


def test_wait_returns_when_it_runs_even_if_control_is_away_in_between(control: ControlServer) -> None:
    starting, running = workflow(status="STARTING"), workflow(status="RUNNING")
    control.on("POST", "/workflows/ingress/start", Reply(202, starting))
    control.on("GET", "/workflows/ingress", starting, problem(503, "kafka_unavailable"), running)

    result = bridge(control, "start", "ingress", "--wait", "--json")

    assert (result.exit_code, json.loads(result.stdout), result.stderr) == (0, running, "ingress is RUNNING.\n")


def test_wait_for_a_workflow_that_fails_ends_with_1_and_the_reason(control: ControlServer) -> None:
    control.on("POST", "/workflows/ingress/start", Reply(202, workflow(status="STARTING")))
    control.on("GET", "/workflows/ingress", FAILED)

    result = bridge(control, "start", "ingress", "--wait")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "ingress is FAILED.\nno writer has been heard of [writer, service_silent]\nWhat to do: Start it.\n"


def test_wait_ends_with_1_when_it_takes_too_long_or_somebody_else_decides(control: ControlServer) -> None:
    stopping = workflow(status="RUNNING", desired="STOPPED")
    control.on("POST", "/workflows/ingress/stop", Reply(202, stopping))
    control.on("GET", "/workflows/ingress", stopping)
    late = bridge(control, "stop", "ingress", "--wait", "--timeout", "0")

    control.on("GET", "/workflows/ingress", workflow(status="STARTING"))
    other = bridge(control, "stop", "ingress", "--wait")

    assert (late.exit_code, other.exit_code) == (1, 1)
    assert "not STOPPED after 0 s" in late.stderr
    assert "Somebody else" in other.stderr


def test_start_of_what_is_not_configured_is_a_conflict(control: ControlServer) -> None:
    control.on("POST", "/workflows/egress/start", problem(409, "not_configured", "There is nothing to do yet."))

    result = bridge(control, "start", "egress", "--wait")

    assert (result.exit_code, "There is nothing to do yet." in result.stderr) == (5, True)


def test_a_name_cannot_lead_to_another_route(control: ControlServer) -> None:
    assert bridge(control, "stop", "../../ingress?x=").exit_code == 6
    assert control.requests[0].path == "/api/v1/workflows/../../ingress?x=/stop"
    assert control.requests[0].query == {}


# -- backlog ----------------------------------------------------------------------------------------------------------------------


def points(*records: int | None) -> list[GraphPoint]:
    return [GraphPoint(NOW + timedelta(minutes=number), each) for number, each in enumerate(records)]


def test_the_graph_rises_to_its_maximum() -> None:
    assert graph(points(*range(10)), 9, 13, 2) == [
        "9 │     ▂▃▅▇█",
        "0 │▁▃▅▆██████",
        "  └──────────",
        "   -9 min now",
    ]


def test_zero_unknown_and_no_sample_look_different() -> None:
    bottom = graph(points(0, None, 9), 9, 14, 2)[1]

    assert bottom == "0 │        ▁?█"


def test_a_stretch_shows_its_highest_value_and_is_unknown_only_if_nothing_is_known() -> None:
    top, bottom, *_ = graph(points(*[0] * 10, None, 5, *[None] * 9), 20, 13, 2)

    assert (top[3:], bottom[3:]) == ("     █    ", "▁▁▁▁▁█????")


def test_a_sample_holds_until_the_next_one_unless_that_comes_late() -> None:
    sampled = [GraphPoint(NOW + timedelta(seconds=at), each) for at, each in ((0, 9), (4, None), (8, 0), (12, 9), (60, 0))]

    assert graph(sampled, 1, 33, 2)[1] == "0 │██??▁▁█                      ▁"


def test_a_graph_of_nothing_and_one_of_zeros_can_be_drawn() -> None:
    assert graph([], 60, 40, 4)[3].rstrip() == "0 │"
    assert graph(points(*[0] * 10), 9, 13, 2)[:2] == ["0 │" + " " * 10, "0 │" + "▁" * 10]
    assert set(graph(points(None, None), 9, 13, 2)[1][3:]) == {" ", "?"}


def test_backlog_shows_the_numbers_and_the_graph(control: ControlServer) -> None:
    found = backlog(310, "DRAINING", drain_rate_per_s=40.1, eta_s=400.0, oldest_age_s=8.2)
    control.on("GET", "/workflows/ingress", workflow(status="RUNNING", backlog=found))
    control.on("GET", "/workflows/ingress/backlog/history", samples(0, 1240, None, 310))

    result = bridge(control, "backlog", "ingress", "--minutes", "15", COLUMNS="100")

    lines = result.stdout.splitlines()
    assert (
        lines[0] == "The workflow ingress: 310 (DRAINING), 40.1/s, done in 7 min, oldest 8.2 s"[:60].rstrip()
        or "310 (DRAINING)" in lines[0]
    )
    assert any(line.startswith("1,240 │") for line in lines)
    assert "?" in result.stdout and "█" in result.stdout and "-15 min" in result.stdout
    assert control.asked("GET", "/workflows/ingress/backlog/history")[0].query == {"minutes": "15"}


def test_backlog_as_json_is_the_history(control: ControlServer) -> None:
    control.on("GET", "/workflows/ingress/backlog/history", samples(1, None))

    result = bridge(control, "backlog", "ingress", "--json")

    assert json.loads(result.stdout) == samples(1, None)


def test_backlog_watch_draws_what_comes_and_gives_a_line_of_json_for_each(control: ControlServer) -> None:
    control.on("GET", "/workflows/ingress/backlog/history", samples(0))
    following = [workflow(backlog=backlog(each, "GROWING", as_of=NOW + timedelta(seconds=each))) for each in (1, 22, 333)]
    control.on("GET", "/workflows/ingress", *following, problem(403, "forbidden"))
    drawn = bridge(control, "backlog", "ingress", "--watch")
    assert drawn.exit_code == 4
    assert [top in drawn.stdout for top in (" 1 │", "22 │", "333 │")] == [False, True, True]

    control.on("GET", "/workflows/ingress", *following, problem(403, "forbidden"))
    result = bridge(control, "backlog", "ingress", "--watch", "--json")

    assert [json.loads(line)["records"] for line in result.stdout.splitlines()] == [1, 22, 333]
    assert [json.loads(line) for line in result.stdout.splitlines()] == [each["backlog"] for each in following]


@pytest.mark.parametrize(("health", "code"), [("ok", 0), ("degraded", 3), ("unknown", 3)])
def test_strict_status_ends_with_3_while_a_workflow_cannot_do_its_work(control: ControlServer, health: str, code: int) -> None:
    control.on("GET", "/workflows", {"workflows": [workflow("ingress", "RUNNING"), workflow("egress", "RUNNING", health=health)]})

    assert bridge(control, "status", "--strict").exit_code == code
    assert bridge(control, "status").exit_code == 0
