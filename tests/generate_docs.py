"""Writes what the code knows into docs/: settings, metrics, rooms. `make docs` runs it; a test compares.

A table lies between `<!-- made: <name> -->` and `<!-- end -->`; all around it is written by hand.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bridge.model.settings import Secret, Settings
from bridge.observe.metrics import METRICS as OF_SERVICES
from bridge.observe.metrics import Definition
from services.control.api.exposition import METRICS as OF_CONTROL
from tests.every_setting import EVERY_SETTINGS

ROOT = Path(__file__).parents[1]
ROOMS = ("bridge/*", "services/*", "services/control/*", "cli", "sandbox")
PAGES = ("settings.md", "operations.md", "architecture.md")
PLACE = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings_table(settings: type[Settings]) -> Iterable[str]:
    """Default and meaning as the fields tell them; `(default: …)` in a description wins over the value."""
    yield "| variable | default | meaning |"
    yield "|---|---|---|"
    for info in settings.model_fields.values():
        if not info.alias:
            continue
        meaning = info.description or ""
        default = _shown(info)
        if told := re.search(r" \(default: ([^()]*)\)", meaning):
            default, meaning = told[1], meaning.replace(told[0], "")
        name = f"`{info.alias}(_FILE)`" if info.annotation is Secret else f"`{info.alias}`"
        yield f"| {name} | {default} | {meaning} |"


def _shown(info: Any) -> str:
    if info.is_required():
        return "required"
    value = info.default
    if info.default_factory is not None or value in (None, ""):
        return "–"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def metrics_table(definitions: Iterable[Definition]) -> Iterable[str]:
    yield "| name | kind | unit | meaning |"
    yield "|---|---|---|---|"
    for each in definitions:
        labels = f"{{{','.join(each.labels)}}}" if each.labels else ""
        yield f"| `{each.name}{labels}` | {each.kind} | {each.unit} | {each.meaning} |"


def rooms_table() -> Iterable[str]:
    """Each package with the first sentences of its docstring."""
    yield "| room | what is in it |"
    yield "|---|---|"
    for pattern in ROOMS:
        for path in sorted(ROOT.glob(f"{pattern}/__init__.py")):
            told = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            if told:
                yield f"| `{path.parent.relative_to(ROOT)}/` | {told.splitlines()[0]} |"


TABLES: Mapping[str, Callable[[], Iterable[str]]] = {
    **{each.__name__: partial(settings_table, each) for each in EVERY_SETTINGS},
    "metrics_of_control": partial(metrics_table, OF_CONTROL),
    "metrics_of_services": partial(metrics_table, OF_SERVICES),
    "rooms": rooms_table,
}


def filled(page: str) -> str:
    """The page with its tables as the code has them now. Raises KeyError for a table that nobody makes."""
    return PLACE.sub(lambda place: place[1] + "\n".join(TABLES[place[2]]()) + "\n" + place[3], page)


def main() -> None:
    for name in PAGES:
        path = ROOT / "docs" / name
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
