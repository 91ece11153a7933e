"""services.control.rules.actions: what each command writes to `control.workflows` and `control.audit`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from bridge.model.config import EgressConfig, EgressEvents, default_ingress
from bridge.model.desired import Desired, Replay
from bridge.model.events import Record
from services.control.rules import actions
from services.control.rules.actions import AUDIT, TOPIC, By, NotConfigured, NotRunning, NotStopped, Stale
from services.control.rules.lifecycle import dumped
from services.control.topics.held_items import configured_by

BY = By("anna", "192.0.2.7", "2026-01-01T00:00:00+00:00")
OTHER = By("bert", "192.0.2.8", "2026-01-01T00:00:01+00:00")


def run(view: dict[str, Any], change: actions.Change) -> tuple[Any, list[Any]]:
    """Carries a command out on `view`, as CommandLog would; its result and what it wrote."""
    result, writes = change(view)
    for write in writes:
        if not isinstance(write, Record) and write[0] == TOPIC:
            view[write[1]] = write[2]
    return result, list(writes)


def audits(writes: Sequence[Any]) -> list[Mapping[str, Any]]:
    return [write[2] for write in writes if not isinstance(write, Record) and write[0] == AUDIT]


def fresh() -> dict[str, Any]:
    view: dict[str, Any] = {}
    run(view, actions.first_revisions(BY.at))
    return view


def asked(when: str = "next-start", id: str = "r1") -> Replay:
    return Replay(id=id, when=when, changed_since=None, keys=None, requested_at=BY.at, requested_by="anna")  # type: ignore[typeddict-item]


def desired(view: Mapping[str, Any]) -> Desired:
    return Desired.from_json(view["ingress"])


def test_out_of_the_box_every_workflow_has_a_first_revision_made_once() -> None:
    view = fresh()

    assert set(view) == {f"{each}/revisions/1" for each in ("ingress", "egress", "optin")}
    assert run(view, actions.first_revisions(BY.at))[1] == []


def test_start_takes_the_configuration_saved_at_that_moment() -> None:
    view = fresh()

    _, writes = run(view, actions.start("ingress", ("STOPPED", 0), BY, "go"))

    assert (desired(view).desired, desired(view).revision, desired(view).generation) == ("RUNNING", 1, 1)
    assert desired(view).config == dumped(default_ingress())
    (entry,) = audits(writes)
    assert {name: entry[name] for name in ("by", "from", "what", "result")} == {
        "by": "anna",
        "from": "192.0.2.7",
        "what": "start",
        "result": "done",
    }


def test_start_pressed_again_changes_nothing_but_is_noted() -> None:
    view = fresh()
    run(view, actions.start("ingress", ("STOPPED", 0), BY, None))

    _, writes = run(view, actions.start("ingress", ("RUNNING", 0), BY, None))

    assert desired(view).generation == 1
    assert len(writes) == len(audits(writes)) == 1


def test_of_two_who_start_what_has_failed_one_does() -> None:
    view = fresh()
    run(view, actions.start("ingress", ("STOPPED", 0), BY, None))

    run(view, actions.start("ingress", ("FAILED", 1), BY, None))
    run(view, actions.start("ingress", ("FAILED", 1), BY, None))

    assert desired(view).generation == 2


def test_what_is_not_configured_is_not_started() -> None:
    with pytest.raises(NotConfigured):
        run(fresh(), actions.start("egress", ("STOPPED", 0), BY, None))


def test_a_save_on_an_older_revision_is_stale_and_writes_nothing() -> None:
    view = fresh()
    config = EgressConfig(events=EgressEvents(click=True))
    run(view, actions.save("egress", config, 1, BY, None))

    with pytest.raises(Stale) as told:
        run(view, actions.save("egress", config, 1, OTHER, None))

    assert told.value.current == 2
    assert "egress/revisions/3" not in view


def test_commands_whose_answer_was_lost_recognise_what_they_wrote() -> None:
    view = fresh()
    config = EgressConfig(events=EgressEvents(click=True))
    for _ in range(2):
        saved, _ = run(view, actions.save("egress", config, 1, BY, None))
        count, _ = run(view, actions.settle_letters("ingress", "redriven", letters("0-1", "0-2"), BY, None))

    assert saved["revision"] == 2
    assert "egress/revisions/3" not in view
    assert count == 2


def test_the_comment_of_a_command_that_changes_nothing_is_kept() -> None:
    _, writes = run(fresh(), actions.stop("ingress", BY, "again"))

    assert audits(writes)[0]["after"]["comment"] == "again"


def test_the_audit_of_a_save_says_which_members_changed() -> None:
    _, writes = run(fresh(), actions.save("egress", EgressConfig(events=EgressEvents(click=True)), 1, BY, None))

    (entry,) = audits(writes)
    assert entry["after"] == {"revision": 2, "changed": ["/events/click"]}


def test_a_replay_for_the_next_start_waits_for_it_and_is_taken_along() -> None:
    view = fresh()
    run(view, actions.ask_replay("contact", asked(), BY))
    assert (dict(desired(view).armed), dict(desired(view).replays)) == ({"contact": asked()}, {})

    run(view, actions.start("ingress", ("STOPPED", 0), BY, None))

    assert (dict(desired(view).armed), dict(desired(view).replays)) == ({}, {"contact": asked()})


def test_a_replay_now_needs_a_running_workflow_and_no_new_generation() -> None:
    view = fresh()
    with pytest.raises(NotRunning):
        run(view, actions.ask_replay("contact", asked("now"), BY))
    run(view, actions.start("ingress", ("STOPPED", 0), BY, None))

    run(view, actions.ask_replay("contact", asked("now"), BY))

    assert (desired(view).generation, list(desired(view).replays)) == (1, ["contact"])


def test_a_replay_survives_a_stop_and_can_be_called_off() -> None:
    view = fresh()
    run(view, actions.start("ingress", ("STOPPED", 0), BY, None))
    run(view, actions.ask_replay("contact", asked("now"), BY))
    run(view, actions.stop("ingress", BY, None))
    assert list(desired(view).replays) == ["contact"]

    run(view, actions.cancel_replay("contact", BY))
    _, again = run(view, actions.cancel_replay("contact", BY))

    assert dict(desired(view).replays) == {}
    assert len(again) == len(audits(again)) == 1


def test_a_cursor_is_forgotten_only_while_stopped() -> None:
    view = fresh()
    _, writes = run(view, actions.set_cursor("ingress", "dynamics:contact", None, BY))
    assert ("ingress.cursors", "dynamics:contact", None) in writes

    run(view, actions.start("ingress", ("STOPPED", 0), BY, None))
    with pytest.raises(NotStopped):
        run(view, actions.set_cursor("ingress", "dynamics:contact", None, BY))


def letters(*ids: str) -> dict[str, list[Record]]:
    return {each: [Record("ingress.changes.contact", 1, 0, 0, b"k", b"v")] for each in ids}


def test_letters_are_re_driven_once_whoever_asks_again() -> None:
    view = fresh()

    first, writes = run(view, actions.settle_letters("ingress", "redriven", letters("0-1", "0-2"), BY, None))
    second, again = run(view, actions.settle_letters("ingress", "redriven", letters("0-2", "0-3"), BY, None))
    third, nothing = run(view, actions.settle_letters("ingress", "discarded", letters("0-1"), BY, "old"))

    assert (first, second, third) == (2, 1, 0)
    assert len([each for each in writes if isinstance(each, Record)]) == 2
    assert len([each for each in again if isinstance(each, Record)]) == 1
    assert nothing == []
    assert actions.marks(view, "ingress") == {"0-1": "redriven", "0-2": "redriven", "0-3": "redriven"}


def test_discarded_letters_go_nowhere_and_the_reason_is_kept() -> None:
    view = fresh()

    count, writes = run(view, actions.settle_letters("ingress", "discarded", {"0-1": []}, BY, "test data"))

    assert count == 1
    assert [each for each in writes if isinstance(each, Record)] == []
    assert audits(writes)[0]["after"]["reason"] == "test data"


def items(*ids: str) -> dict[str, list[Record]]:
    return {each: [Record("ingress.changes.contact", 0, 0, 0, each.encode(), b"", ())] for each in ids}


def test_what_is_held_is_settled_once_in_one_transaction_with_its_audit() -> None:
    view = fresh()

    count, writes = run(view, actions.settle_held("ingress", "released", items("0-1", "0-2"), BY, "asked by phone"))
    late, nothing = run(view, actions.settle_held("ingress", "discarded", items("0-2"), OTHER, "too late"))

    assert (count, late, nothing) == (2, 0, [])
    assert [write.key for write in writes if isinstance(write, Record)] == [b"0-1", b"0-2"]
    (entry,) = audits(writes)
    assert (entry["what"], entry["after"]) == ("held-release", {"released": 2, "first": "0-1", "reason": "asked by phone"})
    (mark,) = [value for key, value in view.items() if key.startswith("ingress/held/")]
    assert (mark["action"], mark["ids"], mark["by"]) == ("released", ["0-1", "0-2"], "anna")


def test_an_id_of_one_workflow_is_not_that_of_another_and_marks_of_before_are_still_read() -> None:
    view = fresh() | {"optin/held/of-before": {"action": "released", "ids": ["0-1"], "at": BY.at, "by": "bert"}}

    assert run(view, actions.settle_held("optin", "released", items("0-1"), BY, "x"))[0] == 0
    assert run(view, actions.settle_held("ingress", "released", items("0-1"), BY, "x"))[0] == 1


def test_a_command_on_held_items_whose_answer_was_lost_recognises_what_it_wrote() -> None:
    view = fresh()
    twice = [run(view, actions.settle_held("ingress", "discarded", items("0-1"), BY, "x")) for _ in range(2)]

    assert [count for count, _ in twice] == [1, 1] and twice[1][1] == []


SAVED_BY = {1: "control", 2: "anna", 3: "bert"}


@pytest.mark.parametrize(
    ("desired_state", "who"),
    [
        (Desired("RUNNING", 1, 2), "anna"),
        (Desired("STOPPED", 2, 2), "bert"),
        (Desired(), "bert"),
        (Desired("RUNNING", 1, 9), None),
    ],
)
def test_the_configuration_that_counts_is_the_one_that_runs_else_the_last_one(desired_state: Desired, who: str | None) -> None:
    assert configured_by(desired_state, SAVED_BY) == who
