"""What a record about decisions says: a decision of either workflow with its headers, or what came of one. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from bridge.kafka.follower import Entry
from bridge.model.desired import Workflow
from bridge.model.events import Headers, OptStatusDecided, System

Kind = Literal["release", "delete"]
DELETE: Kind = "delete"
LATEST_MS = 253_402_300_799_000  # the last second of the year 9999: whoever writes a record chooses its time
ID = re.compile(r"[0-9]{1,9}-[0-9]{1,18}")
WRITTEN = {"written", "executed"}  # of ingress; the record is made when the target has answered
OF_INGRESS = {*WRITTEN, "kept", "held", "voided"}
OF_OPTIN = {"updated", "unchanged", "absent", "observed_again", "stale", "dead_lettered"}


class Odd(Exception):
    """A record that is not what its topic holds. The text says why, without values."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is held and open."""

    releases: int = 0
    deletes: int = 0

    @property
    def total(self) -> int:
        return self.releases + self.deletes


@dataclass(frozen=True, slots=True)
class Row:
    """A decision as it is kept. `decides`: the flags, or `delete`; `voids`: the kind of held item it makes void, or empty."""

    part: int
    at: int
    key: str
    table: str
    target: str
    time: int
    guard: str
    kind: str
    decides: Sequence[str]
    voids: str
    headers: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a decision of Opt In/Out, as its writer told; `at` in ISO 8601, of an outcome that was written when that was."""

    outcome: str
    status: int | None
    at: str


@dataclass(frozen=True, slots=True)
class Told(Outcome):
    """The same, with the decision it is about (`partition-offset`)."""

    decision: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """`guard`: empty, `held` or `released`; `action`: what an operator did with a held one; `waits`: its flags that are still held;
    `event` None: it cannot be read. `outcome`: empty if nothing has been told of it; `status`: the answer of the target. `last_at`: where
    it is last, if it was published again while it waited."""

    part: int
    at: int
    key: str
    table: str
    target: System | None
    kind: Kind
    guard: str
    action: str | None
    waits: Sequence[str]
    time: datetime
    event: OptStatusDecided | None
    origin: str
    outcome: str
    status: int | None
    written_at: datetime | None
    last_at: int

    @property
    def id(self) -> str:
        return f"{self.part}-{self.at}"


def row(workflow: Workflow, entry: Entry) -> Row:
    """Raises Odd."""
    facts = _facts(entry.headers)
    if entry.value is None or not entry.key:
        raise Odd("it has no value" if entry.key else "it has no key")
    guard = facts.get("guard", "")
    kind = facts.get("kind", "release")
    decides = [each for each in facts.get("flags", "").split(",") if each]
    if kind not in ("release", DELETE):
        raise Odd("its header kind is neither release nor delete")
    if guard == "held" and not decides:
        raise Odd("it is held and its header flags does not say what")
    if guard == "held" and (kind == DELETE) != (decides == [DELETE]):
        raise Odd("its headers kind and flags do not go together")
    time = min(max(entry.timestamp_ms, 0), LATEST_MS)
    headers_ = "\n".join(f"{name.encode('utf-8', 'replace').hex()}={value.hex()}" for name, value in entry.headers)
    target = facts.get("target", "campaign" if workflow == "ingress" else "")
    about = (entry.partition, entry.offset, entry.key, facts.get("table", "contact"), target, time)
    return Row(*about, guard, kind, decides, facts.get("voids", ""), headers_, entry.value)


def outcome(entry: Entry) -> Told:
    """Raises Odd."""
    try:
        told: Any = json.loads(entry.value or b"")
    except (ValueError, RecursionError) as exc:
        raise Odd("it is no JSON") from exc
    if not isinstance(told, Mapping) or not ID.fullmatch(str(told.get("decision"))):
        raise Odd("it does not say of which decision it is")
    if str(told.get("outcome")) not in OF_OPTIN:
        raise Odd("its outcome is none of ours")
    status = told.get("status")
    known = isinstance(status, int) and not isinstance(status, bool) and 0 <= status < 1000
    return Told(told["outcome"], status if known else None, _iso(told.get("at")) or _of_ms(entry.timestamp_ms), told["decision"])


def decision(
    found: Any, event: OptStatusDecided | None, action: str | None, waits: Sequence[str], told: Outcome | None, last_at: int
) -> Decision:
    """`found`: a row of the table. `last_at`: see Decision."""
    facts = _facts(headers(found["headers"]))
    time = datetime.fromtimestamp(found["time"] / 1000, UTC)
    came_of, status, written = _of_headers(facts, time) if found["workflow"] == "ingress" else _of_writer(told)
    target: System | None = next((each for each in ("dynamics", "campaign") if each == (event.target if event else found["target"])), None)
    kind: Kind = DELETE if found["kind"] == DELETE or facts.get("flags") == DELETE else "release"
    about = (found["part"], found["at"], found["key"], found["tbl"], target, kind, found["guard"])
    return Decision(*about, action, waits, time, event, facts.get("origin", ""), came_of, status, written, last_at)


def headers(text: str) -> Headers:
    pairs = (line.partition("=") for line in text.split("\n") if line)
    return [(bytes.fromhex(name).decode(), bytes.fromhex(value)) for name, _, value in pairs]


def _of_headers(facts: Mapping[str, str], time: datetime) -> tuple[str, int | None, datetime | None]:
    told, text = facts.get("outcome", ""), facts.get("status", "")
    status = int(text) if re.fullmatch(r"[0-9]{1,3}", text) else None
    return told if told in OF_INGRESS else "", status, time if told in WRITTEN else None


def _of_writer(told: Outcome | None) -> tuple[str, int | None, datetime | None]:
    if told is None:
        return "", None, None
    return told.outcome, told.status, datetime.fromisoformat(told.at) if told.outcome == "updated" else None


def _facts(found: Headers) -> dict[str, str]:
    return {name: value.decode("utf-8", "replace") for name, value in found}


def _iso(text: Any) -> str | None:
    """The moment as it is told, if it is one with an offset."""
    try:
        return text if datetime.fromisoformat(text).tzinfo is not None else None
    except (TypeError, ValueError):
        return None


def _of_ms(timestamp_ms: int) -> str:
    return datetime.fromtimestamp(min(max(timestamp_ms, 0), LATEST_MS) / 1000, UTC).isoformat()
