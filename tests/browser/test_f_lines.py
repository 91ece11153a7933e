"""Every line of the inventory of the original (F1 to F207) that is visible on a page has a test here that carries its number."""

from __future__ import annotations

import re
from pathlib import Path

ALL = range(1, 208)
BEHAVIOUR = "behaviour between the systems, tested end to end (tests/e2e)"
NOT_VISIBLE: dict[range, str] = {
    range(1, 9): "purpose and prerequisites of the original; nothing of them is a page",
    range(10, 13): "commercial set-up and support of the original",
    range(13, 25): "set-up in Adobe's and Microsoft's own consoles",
    range(26, 31): "access by Adobe's product profiles and regional addresses; here tokens and roles, see test_outages.py",
    range(141, 158): BEHAVIOUR,
    range(162, 175): "what is written into Dynamics for an event; visible there, not here",
    range(192, 195): "calls and volumes that are licensed; the number of calls is on the first page and in a plan",
    range(196, 199): "limits and storage of Campaign",
    range(200, 208): "advice on privacy procedures and operations, in docs/",
}


def numbers(folder: Path) -> set[int]:
    """F-numbers in the names of the tests."""
    names = [name for file in sorted(folder.glob("test_*.py")) for name in re.findall(r"def (test_\w+)\(", file.read_text("utf-8"))]
    return {int(number) for name in names for number in re.findall(r"_f(\d+)(?=_|$)", name)}


def test_every_visible_f_line_is_checked() -> None:
    hidden = {number for lines in NOT_VISIBLE for number in lines}
    checked = numbers(Path(__file__).parent)
    assert sorted(set(ALL) - hidden - checked) == [], "no test carries these numbers"
    assert sorted(checked & hidden) == [], "these are said not to be visible"
    assert checked <= set(ALL)
