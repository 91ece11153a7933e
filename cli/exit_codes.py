"""How a command ends when it does not end well: one exception, with the exit code that docs/cli.md promises.

Failure        the exit code, and what is said on stderr
└─ Refusal     control answered with a problem (RFC 9457); its status and machine word
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NO = 1
USAGE = 2
UNREACHABLE = DEGRADED = 3
NOT_ALLOWED = 4
CONFLICT = 5
NOT_FOUND = 6
NOT_CONFIRMED = 7
INVALID = 8
PROBLEM = 9
INTERRUPTED = 130

MEANINGS = {
    0: "done",
    NO: "the answer is no: a check failed, a workflow is FAILED, a configuration has errors",
    USAGE: "wrong usage, or a file that cannot be used",
    UNREACHABLE: "control cannot be reached; with `status --strict` also: a workflow is degraded",
    NOT_ALLOWED: "not allowed (401, 403)",
    CONFLICT: "conflict (409, 412)",
    NOT_FOUND: "not found (404)",
    NOT_CONFIRMED: "not confirmed",
    INVALID: "refused as invalid (422, 428, 413, 429 and other 4xx)",
    PROBLEM: "control, or a system behind it, has a problem (5xx)",
    INTERRUPTED: "interrupted (Ctrl-C, or nobody reads the output any more)",
}


class Failure(Exception):
    """Ends the command with `exit_code`; the lines go to stderr."""

    def __init__(self, exit_code: int, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.exit_code, self.lines = exit_code, lines


class Refusal(Failure):
    """Control answered `status` with a problem. `code`: its machine word, empty if the answer was no problem of control's."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        title = str(problem.get("title") or f"HTTP {status}")
        detail = problem.get("detail")
        super().__init__(exit_code(status), f"{title}: {detail}" if detail else title, *found_errors(problem.get("errors")))
        self.status, self.code = status, str(problem.get("code") or "")


def exit_code(status: int) -> int:
    """The exit code for an HTTP status from 300 on."""
    if status in (401, 403):
        return NOT_ALLOWED
    if status in (409, 412):
        return CONFLICT
    if status == 404:
        return NOT_FOUND
    if 400 <= status < 500:
        return INVALID
    return PROBLEM if status >= 500 else UNREACHABLE


def found_errors(errors: Any) -> Sequence[str]:
    """`path: message` of each of a problem's or a validation's errors."""
    if not isinstance(errors, list):
        return []
    return [f"{each.get('path') or '/'}: {each.get('message')}" for each in errors if isinstance(each, Mapping)]
