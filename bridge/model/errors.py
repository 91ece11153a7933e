"""The three kinds of failure, sorted by what the loop does next (architecture decision D4).

BridgeError
├─ RetryError    wait, then send the same record again     429, 502-504, timeout, broker away
│  └─ ParkError  the same, but only this key waits          a parent that is not there yet
├─ RejectError   dead-letter this record and carry on       400, does not fit schema or mapping
└─ HaltError     stop the workflow, status FAILED           401, 403, unusable settings or mapping

Messages hold methods, paths, statuses, keys, field names and codes; never field values, response bodies or secrets.
"""

from __future__ import annotations

from typing import Literal

Origin = Literal["source", "target", "kafka", "registry", "configuration", "service"]
Stage = Literal["decode", "map", "write"]


class BridgeError(Exception):
    """Base of all errors that the loops handle. `code` is a stable machine word, the message is for people. `opt_outs`: how many opt-outs
    wait because of it."""

    def __init__(self, message: str, *, code: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.opt_outs = 0


class RetryError(BridgeError):
    """The outside cannot take this now. `retry_after_s`: what it asked for, else None and the loop backs off.

    `attempts`: after so many tries of one record it is rejected instead; None tries for ever.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "unavailable",
        status: int | None = None,
        retry_after_s: float | None = None,
        attempts: int | None = None,
    ) -> None:
        super().__init__(message, code=code, status=status)
        self.retry_after_s = retry_after_s
        self.attempts = attempts


class ParkError(RetryError):
    """This key has to wait for something else, for at most `budget_s` (None: the loop's own budget). Others pass. `waits_for`: keys one of
    which it may be that is missing; when such a record is made, it is tried at once. Its own key among them: when news of it comes."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int | None = None,
        budget_s: float | None = None,
        waits_for: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(message, code=code, status=status)
        self.budget_s = budget_s
        self.waits_for = waits_for


class RejectError(BridgeError):
    """This record can never be written as it is. `stage` says where that showed."""

    def __init__(self, message: str, *, code: str, stage: Stage = "write", status: int | None = None) -> None:
        super().__init__(message, code=code, status=status)
        self.stage = stage


class HaltError(BridgeError):
    """Nothing can go on until a person acts. `hint` is the way out, in plain words."""

    def __init__(self, message: str, *, code: str, hint: str, origin: Origin, status: int | None = None) -> None:
        super().__init__(message, code=code, status=status)
        self.hint = hint
        self.origin = origin
