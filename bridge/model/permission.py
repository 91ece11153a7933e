"""Whether the current task may still call a system."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

call_guard: ContextVar[Callable[[], None]] = ContextVar("call_guard", default=lambda: None)
"""Asked last before each call of the current task; raises to prevent it (the writer: "is this partition still ours?")."""
