"""services.control.rules.actions: Dynamics was restored, and cursors whose source epoch is to be kept. Pure."""

from __future__ import annotations

from typing import Any

from bridge.model.desired import Desired
from services.control.rules import actions
from services.control.rules.actions import RESTORED, TOPIC
from tests.unit.test_commands import BY, OTHER, audits, fresh, run


def epochs(view: dict[str, Any]) -> dict[str, int]:
    return {each: Desired.from_json(view.get(each) or {}).epoch for each in ("ingress", "egress", "optin")}


def test_restored_raises_the_epoch_of_what_reads_dynamics_in_one_go_and_is_audited() -> None:
    view = fresh()

    result, writes = run(view, actions.restored(BY, "restored to 3 March"))

    assert result == {"ingress": 1, "optin": 1}
    assert epochs(view) == {"ingress": 1, "egress": 0, "optin": 1}
    (entry,) = audits(writes)
    assert {name: entry[name] for name in ("by", "from", "what", "result")} == {
        "by": "anna",
        "from": "192.0.2.7",
        "what": "restored",
        "result": "done",
    }
    assert entry["before"] == {"ingress": 0, "optin": 0}
    assert entry["after"] == {"ingress": 1, "optin": 1, "reason": "restored to 3 March"}


def test_nothing_else_of_what_should_run_changes() -> None:
    view = fresh()
    run(view, actions.start("ingress", ("STOPPED", 0), BY, "go"))
    before = Desired.from_json(view["ingress"])

    run(view, actions.restored(OTHER, "r"))

    after = Desired.from_json(view["ingress"])
    assert after.epoch == 1
    assert {**after.to_json(), "epoch": 0} == before.to_json()


def test_two_presses_are_two_epochs_and_one_whose_answer_was_lost_is_one() -> None:
    view = fresh()
    press = actions.restored(BY, "r")
    run(view, press)

    again, writes = run(view, press)
    assert (again, writes) == ({"ingress": 1, "optin": 1}, [])

    assert run(view, actions.restored(OTHER, "r"))[0] == {"ingress": 2, "optin": 2}
    assert view[RESTORED] == {"at": OTHER.at, "by": OTHER.name}


def test_the_epoch_outlives_start_and_stop() -> None:
    view = fresh()
    run(view, actions.restored(BY, "r"))

    run(view, actions.start("ingress", ("STOPPED", 0), BY, None))
    assert epochs(view)["ingress"] == 1
    run(view, actions.stop("ingress", BY, None))

    assert epochs(view)["ingress"] == 1


def test_a_cursor_that_is_forgotten_leaves_its_epoch_behind() -> None:
    view = fresh()

    _, writes = run(view, actions.set_cursor("optin", "dynamics:contact", None, BY, epoch=2))

    assert epochs(view)["optin"] == 2
    assert [write for write in writes if write[0] == "optin.cursors"] == [("optin.cursors", "dynamics:contact", None)]


def test_a_cursor_of_an_epoch_that_is_known_writes_the_cursor_only() -> None:
    view = fresh()
    run(view, actions.restored(BY, "r"))

    _, writes = run(view, actions.set_cursor("optin", "dynamics:contact", None, BY, epoch=1))

    assert not [write for write in writes if write[0] == TOPIC]
