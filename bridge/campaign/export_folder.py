"""The folder of Campaign's opt-out exports, wherever it is (campaign.md §10.1): what the feed of exports needs of it.

A file lies in the folder itself, is claimed into `processing` and put away into `processed` or `failed`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

PROCESSING = "processing"
NUMBERED = re.compile(r"~~[0-9]+(?=\.|$)")
PutAway = Literal["processed", "failed"]
Outcome = Literal["moved", "kept", "changed", "gone"]
Copy = Literal["whole", "changed", "refused"]


class ExportFolder(Protocol):
    """All raise RetryError (away, cut) or HaltError (refused)."""

    async def waiting(self) -> list[ExportFile]:
        """Exports to be read, oldest first, and those claimed by somebody who has not finished them. Not what is still being written."""

    async def claim(self, file: ExportFile) -> ExportFile | None:
        """Takes a file for ourselves, if this account may: where it is now, and as what. None: it is gone."""

    async def finished(self, file: ExportFile) -> PutAway | None:
        """Where this very file has been put away, if it has."""

    async def fetch(self, file: ExportFile, to: Path) -> Copy:
        """Copies a file; what is in `to` already is its beginning. `changed`: it is not there any more, or not the same; `refused`: this
        account may not read it."""

    async def put_away(self, file: ExportFile, where: PutAway) -> Outcome:
        """Moves a file, under a name that is free there. `kept`: this account may not; `changed`: it is not what was read any more, and
        has stayed; `gone`: it is not there."""


@dataclass(frozen=True, slots=True)
class ExportFile:
    """`at`: its path within the folder. `size` in bytes, `mtime` in whole seconds since 1970, as the server says."""

    at: str
    size: int
    mtime: int

    @property
    def claimed(self) -> bool:
        return self.at.startswith(f"{PROCESSING}/")

    @property
    def name(self) -> str:
        """As it was given. What is not UTF-8 in it stands as surrogates: `shown` is for people."""
        name = self.at.rpartition("/")[2]
        return NUMBERED.sub("", name, 1) if self.claimed else name

    def same(self, other: ExportFile) -> bool:
        return (self.size, self.mtime) == (other.size, other.mtime)


def numbered(name: str, number: int) -> str:
    """`export~~2.csv.gz` is the second of its name."""
    stem, dot, rest = name.partition(".")
    return name if number == 1 else f"{stem}~~{number}{dot}{rest}"


def shown(name: str) -> str:
    """A file's name as it can be logged and published: what cannot be printed, or is no UTF-8, stands as `\\x…`."""
    return "".join(each if each.isprintable() else _escaped(each) for each in name)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
