"""What each command writes, given everything that `control.workflows` holds. Pure: the store commits it in one transaction.

Keys of `control.workflows`: `<id>` desired state, `<id>/revisions/<n>` a configuration, `<id>/dead-letters/<uuid>` letters that were
re-driven or discarded (`{"action", "ids", "at", "by"}`), `<id>/held/<uuid>` items that were held and have been released or discarded
(the same members), `dynamics/restored` who last said that Dynamics was restored, and when.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from bridge.kafka.commands import View, Write
from bridge.model.config import Config
from bridge.model.desired import Desired, Replay, Status, Workflow
from bridge.model.events import Record
from services.control.rules import lifecycle
from services.control.rules.lifecycle import SHAPES

TOPIC, AUDIT = "control.workflows", "control.audit"
RESTORED = "dynamics/restored"
FROM_DYNAMICS: tuple[Workflow, ...] = ("ingress", "optin")
Action = Literal["redriven", "discarded"]
HeldAction = Literal["released", "discarded"]
Change = Callable[[View], tuple[Any, Sequence[Write | Record]]]


@dataclass(frozen=True, slots=True)
class By:
    """Who gives a command, from where, and when (ISO 8601)."""

    name: str
    address: str | None
    at: str


class Stale(Exception):
    """Somebody else has saved since; `current` is the revision there is now."""

    def __init__(self, current: int) -> None:
        super().__init__(f"revision {current} has been saved meanwhile")
        self.current = current


class NotConfigured(Exception):
    """There is nothing to start yet."""


class NotStopped(Exception):
    """The workflow has to be stopped for this."""


class NotRunning(Exception):
    """The workflow has to run for this."""


def first_revisions(at: str) -> Change:
    def change(view: View) -> tuple[None, list[Write | Record]]:
        missing = [workflow for workflow in SHAPES if f"{workflow}/revisions/1" not in view]
        return None, [(TOPIC, f"{each}/revisions/1", _first(each, at)) for each in missing]

    return change


def start(workflow: Workflow, seen: tuple[Status, int], by: By, comment: str | None) -> Change:
    """`seen`: status and generation that whoever gives the command has seen: of two who start what FAILED, one does. Raises
    NotConfigured."""

    def change(view: View) -> tuple[None, list[Write | Record]]:
        saved = latest(view, workflow)
        if not SHAPES[workflow].model_validate(saved["config"]).configured():
            raise NotConfigured
        before = desired(view, workflow)
        status = seen[0] if seen[1] == before.generation else "STARTING"
        after = lifecycle.started(before, status, saved["revision"], saved["config"], by.name, by.at, comment)
        return None, _desired_writes(workflow, "start", before, after, by, comment)

    return change


def stop(workflow: Workflow, by: By, comment: str | None) -> Change:
    def change(view: View) -> tuple[None, list[Write | Record]]:
        before = desired(view, workflow)
        return None, _desired_writes(workflow, "stop", before, lifecycle.stopped(before, by.name, by.at, comment), by, comment)

    return change


def save(workflow: Workflow, config: Config, expected: int, by: By, comment: str | None, what: str = "config") -> Change:
    """A new revision, if `expected` is still the latest; its JSON. Raises Stale."""

    def change(view: View) -> tuple[dict[str, Any], list[Write | Record]]:
        current = latest(view, workflow)
        number = int(current["revision"])
        if number == expected + 1 and (current["saved_at"], current["saved_by"]) == (by.at, by.name):
            return current, []  # ours: the commit went through, its answer did not
        if number != expected:
            raise Stale(number)
        value = revision(number + 1, config, by, comment)
        differs = [each["path"] for each in lifecycle.difference(current["config"], value["config"])]
        entry = audit(what, by, {"revision": number}, {"revision": number + 1, "changed": differs})
        return value, [(TOPIC, f"{workflow}/revisions/{number + 1}", value), (AUDIT, workflow, entry)]

    return change


def ask_replay(table: str, request: Replay, by: By) -> Change:
    """Raises NotRunning for one that is to begin now."""

    def change(view: View) -> tuple[None, list[Write | Record]]:
        before = desired(view, "ingress")
        if request["when"] == "now":
            if before.desired != "RUNNING":
                raise NotRunning
            after = replace(before, replays={**before.replays, table: request})
        else:
            after = replace(before, armed={**before.armed, table: request})
        about = {"table": table, "when": request["when"], "changed_since": request["changed_since"]}
        keys = {"keys": None if request["keys"] is None else len(request["keys"])}
        return None, [(TOPIC, "ingress", after.to_json()), (AUDIT, "ingress", audit("replay", by, None, about | keys))]

    return change


def cancel_replay(table: str, by: By) -> Change:
    def change(view: View) -> tuple[None, list[Write | Record]]:
        before = desired(view, "ingress")
        after = replace(
            before,
            replays={name: each for name, each in before.replays.items() if name != table},
            armed={name: each for name, each in before.armed.items() if name != table},
        )
        entry = audit("replay-cancel", by, {"table": table}, None)
        writes: list[Write | Record] = [(AUDIT, "ingress", entry)]
        return None, writes if after == before else [(TOPIC, "ingress", after.to_json()), *writes]

    return change


def set_cursor(workflow: Workflow, key: str, value: Mapping[str, Any] | None, by: By, epoch: int = 0) -> Change:
    """None forgets the cursor. What is read after it belongs to source epoch `epoch` at least, which was that of the one before: else it
    would look old. Raises NotStopped."""

    def change(view: View) -> tuple[None, list[Write | Record]]:
        before = desired(view, workflow)
        if before.desired != "STOPPED":
            raise NotStopped
        entry = audit("cursor", by, {"cursor": key}, None if value is None else dict(value))
        writes: list[Write | Record] = [(f"{workflow}.cursors", key, value), (AUDIT, workflow, entry)]
        return None, writes if epoch <= before.epoch else [(TOPIC, workflow, replace(before, epoch=epoch).to_json()), *writes]

    return change


def restored(by: By, reason: str) -> Change:
    """Begins a new source epoch in what reads Dynamics; the epochs there are then."""

    def change(view: View) -> tuple[dict[Workflow, int], list[Write | Record]]:
        before: dict[Workflow, Desired] = {each: desired(view, each) for each in FROM_DYNAMICS}
        mark = {"at": by.at, "by": by.name}
        if view.get(RESTORED) == mark:
            return {each: found.epoch for each, found in before.items()}, []  # ours: the commit went through, its answer did not
        after = {each: replace(found, epoch=found.epoch + 1) for each, found in before.items()}
        epochs = {each: found.epoch for each, found in after.items()}
        told = {"ingress": epochs["ingress"], "optin": epochs["optin"], "reason": reason}
        entry = audit("restored", by, {each: found.epoch for each, found in before.items()}, told)
        writes: list[Write | Record] = [(TOPIC, each, found.to_json()) for each, found in after.items()]
        return epochs, [*writes, (TOPIC, RESTORED, mark), (AUDIT, "control", entry)]

    return change


def settle_letters(workflow: Workflow, action: Action, letters: Mapping[str, Sequence[Record]], by: By, reason: str | None) -> Change:
    """Marks those of `letters` (id → what is to be published for it) that are still open and publishes them again; how many."""

    def change(view: View) -> tuple[int, list[Write | Record]]:
        settled = marks(view, workflow)
        chosen = [each for each in letters if each not in settled]
        if not chosen:
            return sum(len(each["ids"]) for each in _own_marks(view, workflow, by, letters)), []
        mark = {"action": action, "ids": chosen, "at": by.at, "by": by.name}
        what = "redrive" if action == "redriven" else "discard"
        entry = audit(what, by, None, {action: len(chosen), "first": chosen[0], "reason": reason})
        again = [record for each in chosen for record in letters[each]]
        return len(chosen), [*again, (TOPIC, f"{workflow}/dead-letters/{uuid.uuid4().hex}", mark), (AUDIT, workflow, entry)]

    return change


def settle_held(workflow: Workflow, action: HeldAction, items: Mapping[str, Sequence[Record]], by: By, reason: str) -> Change:
    """Marks those of `items` (id → what is to be published for it) that nobody has dealt with, and publishes them; how many."""

    def change(view: View) -> tuple[int, list[Write | Record]]:
        prefix = f"{workflow}/held/"
        found = [mark for key, mark in view.items() if key.startswith(prefix) and mark]
        settled = {each for mark in found for each in mark["ids"]}
        chosen = [each for each in items if each not in settled]
        if not chosen:  # by others; or by this very command, whose commit went through and whose answer did not
            own = [mark for mark in found if (mark["at"], mark["by"]) == (by.at, by.name) and set(mark["ids"]) <= items.keys()]
            return sum(len(mark["ids"]) for mark in own), []
        mark = {"action": action, "ids": chosen, "at": by.at, "by": by.name}
        what = "held-release" if action == "released" else "held-discard"
        entry = audit(what, by, None, {action: len(chosen), "first": chosen[0], "reason": reason})
        again = [record for each in chosen for record in items[each]]
        return len(chosen), [*again, (TOPIC, f"{prefix}{uuid.uuid4().hex}", mark), (AUDIT, workflow, entry)]

    return change


def desired(view: View, workflow: Workflow) -> Desired:
    return Desired.from_json(view.get(workflow) or {})


def latest(view: View, workflow: Workflow) -> dict[str, Any]:
    prefix = f"{workflow}/revisions/"
    revisions: list[dict[str, Any]] = [value for key, value in view.items() if key.startswith(prefix)]
    return max(revisions, key=lambda value: int(value["revision"]))


def marks(view: Mapping[str, Any], workflow: Workflow) -> dict[str, Action]:
    """What became of the dead letters that somebody dealt with, by id."""
    prefix = f"{workflow}/dead-letters/"
    return {each: mark["action"] for key, mark in view.items() if key.startswith(prefix) and mark for each in mark["ids"]}


def _own_marks(view: Mapping[str, Any], workflow: Workflow, by: By, letters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those that this very command wrote: the commit went through, its answer did not."""
    found = [mark for key, mark in view.items() if key.startswith(f"{workflow}/dead-letters/") and mark]
    return [mark for mark in found if (mark["at"], mark["by"]) == (by.at, by.name) and set(mark["ids"]) <= letters.keys()]


def revision(number: int, config: Config, by: By, comment: str | None) -> dict[str, Any]:
    return {
        "revision": number,
        "saved_at": by.at,
        "saved_by": by.name,
        "comment": comment,
        "config": lifecycle.dumped(config),
    }


def audit(what: str, by: By, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, result: str = "done") -> dict[str, Any]:
    return {"at": by.at, "by": by.name, "from": by.address, "what": what, "before": before, "after": after, "result": result}


def _first(workflow: Workflow, at: str) -> dict[str, Any]:
    return revision(1, lifecycle.default_config(workflow), By("control", None, at), "out of the box")


def _desired_writes(workflow: Workflow, what: str, before: Desired, after: Desired, by: By, comment: str | None) -> list[Write | Record]:
    told = {"desired": after.desired, "revision": after.revision, "comment": comment}
    writes: list[Write | Record] = [(AUDIT, workflow, audit(what, by, {"desired": before.desired}, told))]
    return writes if after is before else [(TOPIC, workflow, after.to_json()), *writes]
