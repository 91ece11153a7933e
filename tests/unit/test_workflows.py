"""services.control.rules.lifecycle: status from desired state and heartbeats, and what commands do (control-api.md, decision D6)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model.config import CONTACT_FIELDS, IngressConfig
from bridge.model.desired import HEARTBEAT_DEADLINE_S, WORKFLOWS, Desired, Heartbeat, Reason, Status, Workflow
from services.control.rules.lifecycle import (
    ROLES,
    SHAPES,
    Beat,
    Verdict,
    default_config,
    difference,
    dumped,
    started,
    stopped,
    verdict,
)
from tests.unit.fakes import NOON

START_DEADLINE_S, NOW_S = 120.0, 30.0
REASON = Reason("source_refused", "refused", "Check the credentials.", "source")


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def desired(what: str = "RUNNING", generation: int = 3, since_s: float = 0) -> Desired:
    return Desired(what, generation, 1, {}, at(since_s).isoformat(), "ada")  # type: ignore[arg-type]


def a_beat(
    role: str = "reader",
    status: Status = "RUNNING",
    *,
    age_s: float = 1,
    generation: int = 3,
    instance: str = "host-1",
    since_s: float = 0,
    reason: Reason | None = None,
    left: bool = False,
) -> Beat:
    """Heard `age_s` before `told` looks."""
    beat = Heartbeat("ingress", role, instance, status, generation, 1, at(since_s).isoformat(), "0.1.0", reason)
    return Beat(beat, age_s, int(at(NOW_S - age_s).timestamp() * 1000), left)


def told(*beats: Beat, wanted: Desired | None = None, now_s: float = NOW_S, workflow: Workflow = "ingress") -> Verdict:
    return verdict(workflow, wanted or desired(), beats, at(now_s), START_DEADLINE_S)


def test_running_when_every_role_says_so() -> None:
    assert told(a_beat("reader"), a_beat("writer")) == Verdict("RUNNING")


def test_running_when_one_of_several_instances_of_a_role_does() -> None:
    beats = [a_beat("reader"), a_beat("writer"), a_beat("writer", "STARTING", instance="host-2")]

    assert told(*beats) == Verdict("RUNNING")


def test_optin_has_a_third_role() -> None:
    assert told(a_beat("reader"), a_beat("writer"), workflow="optin").status == "STARTING"
    assert told(a_beat("reader"), a_beat("writer"), a_beat("resolver"), workflow="optin").status == "RUNNING"


def test_starting_until_every_role_runs() -> None:
    assert told(a_beat("reader")).status == "STARTING"
    assert told(a_beat("reader"), a_beat("writer", "STARTING")).status == "STARTING"
    assert told().status == "STARTING"


def test_what_runs_an_earlier_command_does_not_count() -> None:
    assert told(a_beat("reader"), a_beat("writer", generation=2)).status == "STARTING"


def test_failed_when_nobody_has_come_by_the_start_deadline() -> None:
    late = told(a_beat("reader"), now_s=START_DEADLINE_S + 1)

    assert (late.status, late.role) == ("FAILED", "writer")
    assert late.reason is not None
    assert (late.reason.code, late.reason.origin) == ("service_silent", "service")
    assert late.reason.hint
    assert late.since == at(START_DEADLINE_S).isoformat(), "since the deadline, whenever it is looked at"


def test_failed_when_a_role_is_starting_for_too_long_with_what_it_waits_for() -> None:
    late = told(a_beat("reader"), a_beat("writer", "STARTING", reason=REASON), now_s=START_DEADLINE_S + 1)

    assert late == Verdict("FAILED", "writer", REASON, at(START_DEADLINE_S).isoformat())


def test_a_service_that_came_late_gets_its_own_time_to_start() -> None:
    now = START_DEADLINE_S + 10

    assert told(a_beat("reader"), a_beat("writer", "STARTING", since_s=now - 5), now_s=now).status == "STARTING"


def test_failed_as_soon_as_a_role_says_that_it_halted() -> None:
    result = told(a_beat("reader", "FAILED", reason=REASON), a_beat("writer"))

    assert (result.status, result.role, result.reason) == ("FAILED", "reader", REASON)
    assert result.since == a_beat("reader", "FAILED").heartbeat.since


def test_failed_when_one_instance_halted_though_another_runs() -> None:
    result = told(a_beat("reader"), a_beat("reader", "FAILED", instance="host-2", reason=REASON), a_beat("writer"))

    assert result.status == "FAILED"


@pytest.mark.parametrize("silent", ["reader", "writer"])
def test_no_heartbeat_within_its_deadline_is_never_running(silent: str) -> None:
    beats = [a_beat(role, age_s=HEARTBEAT_DEADLINE_S + 0.1 if role == silent else 1) for role in ROLES["ingress"]]

    result = told(*beats)

    assert (result.status, result.role) == ("FAILED", silent)
    assert result.since == at(NOW_S - 0.1).isoformat(), "the deadline after its last heartbeat"


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("age_s", [11, 60, 3600])
def test_a_service_that_has_gone_is_failed_however_long_ago(left: bool, age_s: float) -> None:
    gone = told(a_beat("reader"), a_beat("writer", age_s=age_s, left=left), now_s=NOW_S)

    assert (gone.status, gone.role) == ("FAILED", "writer")
    assert gone.reason is not None and gone.reason.code == "service_silent"


def test_a_service_that_left_runs_until_its_deadline_and_then_waits_for_the_one_that_starts() -> None:
    assert told(a_beat("reader"), a_beat("writer", age_s=9, left=True)).status == "RUNNING"
    gone = a_beat("writer", age_s=11, left=True)

    assert told(a_beat("reader"), gone, a_beat("writer", "STARTING", instance="host-2", since_s=29)).status == "STARTING"
    assert told(a_beat("reader"), gone, a_beat("writer", instance="host-2")).status == "RUNNING"
    assert told(a_beat("reader"), gone, wanted=desired(generation=4)).status == "STARTING", "not after another start"


@pytest.mark.parametrize(("left", "age_s"), [(True, 1), (True, 60), (False, 60)])
def test_a_service_that_halted_and_went_keeps_its_reason(left: bool, age_s: float) -> None:
    halted = a_beat("writer", "FAILED", age_s=age_s, left=left, since_s=4, reason=REASON)

    assert told(a_beat("reader"), halted) == Verdict("FAILED", "writer", REASON, at(4).isoformat())


def test_a_failure_of_an_earlier_command_does_not_count() -> None:
    failed = a_beat("reader", "FAILED", generation=2, reason=REASON)

    assert told(failed, a_beat("writer")).status == "STARTING"


def test_an_old_failure_of_an_instance_that_is_gone_does_not_count() -> None:
    gone = a_beat("reader", "FAILED", age_s=60, instance="host-0", reason=REASON)

    assert told(gone, a_beat("reader"), a_beat("writer")).status == "RUNNING"


@pytest.mark.parametrize("status", ["RUNNING", "STARTING"])
def test_while_stopping_the_status_stays_running(status: Status) -> None:
    assert told(a_beat("reader", "STOPPED"), a_beat("writer", status), wanted=desired("STOPPED")).status == "RUNNING"


def test_stopped_when_all_say_so_or_nobody_is_there() -> None:
    stop = desired("STOPPED")

    assert told(a_beat("reader", "STOPPED"), a_beat("writer", "STOPPED"), wanted=stop).status == "STOPPED"
    assert told(wanted=stop).status == "STOPPED"
    assert told(wanted=Desired()).status == "STOPPED"


def test_stopped_when_those_that_ran_have_gone() -> None:
    stop = desired("STOPPED")

    assert told(a_beat("reader", left=True), a_beat("writer", age_s=11), wanted=stop).status == "STOPPED"


beats = st.lists(
    st.builds(
        a_beat,
        role=st.sampled_from(["reader", "writer", "resolver"]),
        status=st.sampled_from(["RUNNING", "STOPPED", "STARTING", "FAILED"]),
        age_s=st.floats(0, 60),
        generation=st.integers(2, 4),
        instance=st.sampled_from(["a", "b"]),
        since_s=st.floats(0, 200),
        reason=st.sampled_from([None, REASON]),
        left=st.booleans(),
    ),
    max_size=8,
)


@given(beats, st.sampled_from(WORKFLOWS), st.sampled_from(["RUNNING", "STOPPED"]), st.floats(0, 300))
def test_running_is_only_what_fresh_heartbeats_say(heard: list[Beat], workflow: Workflow, what: str, now_s: float) -> None:
    result = told(*heard, wanted=desired(what), now_s=now_s, workflow=workflow)

    assert result.reason is None or result.status == "FAILED"
    if result.status == "RUNNING" and what == "RUNNING":
        running = {beat.heartbeat.role for beat in heard if beat.fresh and beat.heartbeat.status == "RUNNING"}
        assert running >= set(ROLES[workflow])
    if what == "STOPPED":
        assert result.status in ("RUNNING", "STOPPED")


def test_start_takes_the_saved_revision_of_this_moment() -> None:
    after = started(desired("STOPPED"), "STOPPED", 7, {"tables": []}, "ada", "now", "go")

    assert (after.desired, after.generation, after.revision, after.config) == ("RUNNING", 4, 7, {"tables": []})
    assert (after.changed_by, after.changed_at, after.comment) == ("ada", "now", "go")


@pytest.mark.parametrize("status", ["RUNNING", "STARTING"])
def test_start_of_what_runs_changes_nothing_not_even_the_revision(status: Status) -> None:
    before = desired()

    assert started(before, status, 9, {"tables": [1]}, "ada", "now", None) is before


def test_start_of_what_failed_starts_again() -> None:
    after = started(desired(), "FAILED", 9, {}, "ada", "now", None)

    assert (after.desired, after.generation, after.revision) == ("RUNNING", 4, 9)


def test_stop_keeps_the_revision_and_is_a_new_command() -> None:
    after = stopped(desired(), "ada", "now", "enough")

    assert (after.desired, after.generation, after.revision, after.comment) == ("STOPPED", 4, 1, "enough")


def test_stop_of_what_is_stopped_changes_nothing() -> None:
    before = desired("STOPPED")

    assert stopped(before, "ada", "now", None) is before


def test_f90_out_of_the_box_contacts_go_to_profiles() -> None:
    config = default_config("ingress")

    assert isinstance(config, IngressConfig)
    (table,) = config.tables
    assert (table.source, table.target, table.key.source, table.key.target) == ("contact", "profile", "contactid", "externalId")
    assert {field.source: field.target for field in table.fields} == CONTACT_FIELDS


@pytest.mark.parametrize("workflow", WORKFLOWS)
def test_a_configuration_survives_being_kept(workflow: Workflow) -> None:
    config = default_config(workflow)

    assert SHAPES[workflow].model_validate(dumped(config)) == config
    assert config.configured() is (workflow == "ingress")


@pytest.mark.parametrize(
    ("running", "saved", "expected"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("/a", 1, 2)]),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, [("/a/b/1", 2, 3)]),
        ({"a": [1]}, {"a": [1, 2]}, [("/a/1", None, 2)]),
        ({"a": [1, 2]}, {"a": [1]}, [("/a/1", 2, None)]),
        ({}, {"a": 1}, [("/a", None, 1)]),
        ({"a": 1}, {}, [("/a", 1, None)]),
    ],
)
def test_a_difference_is_told_by_json_pointer(running: Any, saved: Any, expected: list[tuple[str, Any, Any]]) -> None:
    told_differences = [(each["path"], each["running"], each["saved"]) for each in difference(running, saved)]

    assert told_differences == expected


json_values = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["x", "y"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
)


@given(json_values)
def test_equal_configurations_do_not_differ(value: Any) -> None:
    assert difference(value, value) == []
