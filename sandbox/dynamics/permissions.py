"""What the application user may do with secured columns: see sandbox.dynamics.security."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ALLOWED = 4


@dataclass(frozen=True)
class Permission:
    """What the application user's profile says of a column; `through`: his own profile or a team's, None: no profile names it."""

    read: int = ALLOWED
    unmasked: int = 0
    update: int = ALLOWED
    masked: bool = False
    through: Literal["user", "team"] | None = "user"


Permissions = dict[tuple[str, str], Permission]  # by table and column: the secured ones
