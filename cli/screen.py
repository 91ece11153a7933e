"""What a command prints: with --json the API's document and nothing else on stdout, else tables and sentences."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn

from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.exit_codes import NOT_CONFIRMED, Failure

WIDE = 200  # columns, where there is no terminal that limits them
STATUS_STYLES = {"RUNNING": "green", "STARTING": "yellow", "FAILED": "bold red", "STOPPED": "dim", "ok": "green", "failed": "bold red"}


class PipeConsole(Console):
    """A console that leaves a broken pipe to the command: rich would end the process with 1."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def console() -> Console:
    """For stdout. Nothing in a value is taken for markup."""
    fixed = sys.stdout.isatty() or bool(os.environ.get("COLUMNS"))
    return PipeConsole(file=sys.stdout, markup=False, highlight=False, emoji=False, soft_wrap=False, width=None if fixed else WIDE)


class Screen:
    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def show(self, document: Any, *parts: RenderableType) -> None:
        """The answer: the document with --json (nothing if there is none), else the parts."""
        if self.as_json:
            if document is not None:
                print_json(document)
            return
        for part in parts:
            console().print(part)

    def tell(self, text: str) -> None:
        """A sentence for people: on stdout, or on stderr where stdout belongs to the JSON."""
        print(clean(text), file=sys.stderr if self.as_json else sys.stdout, flush=True)


@contextmanager
def live() -> Iterator[Callable[[RenderableType], None]]:
    """Shows what it is called with: on a terminal in the place of the last one, in a pipe below it."""
    screen = console()
    if not screen.is_terminal:
        yield screen.print
        return
    with Live(console=screen, auto_refresh=False) as shown:
        yield lambda part: shown.update(part, refresh=True)


def warn(text: str) -> None:
    print(clean(text), file=sys.stderr, flush=True)


def print_json(document: Any, one_line: bool = False) -> None:
    ascii_only = not (sys.stdout.encoding or "").lower().startswith("utf")
    print(json.dumps(document, indent=None if one_line else 2, ensure_ascii=ascii_only), flush=True)


def confirm(question: str, yes: bool) -> None:
    """Returns if the answer is yes. Raises NOT_CONFIRMED if it is anything else, or if there is nobody to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure(NOT_CONFIRMED, "Nothing was done: there is no terminal to ask on. Give --yes to go on without a question.")
    print(f"{clean(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Failure(NOT_CONFIRMED, "Nothing was done.")


def clean(text: str) -> str:
    """Without control characters: keys and reasons come from other systems, and must not steer the terminal."""
    return "".join(each if each.isprintable() or each == "\n" else f"\\x{ord(each):02x}" for each in text)


def cell(value: Any) -> Text:
    """A value in a table: a dash for null, true and false in words."""
    if value is None:
        return Text("–", style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    text = clean(value) if isinstance(value, str) else clean(json.dumps(value, ensure_ascii=False))
    return Text(text, style=STATUS_STYLES.get(text, ""))


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Columns are as wide as they have to be; long texts fold. Values that are Text already are kept."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading, overflow="fold")
    for row in rows:
        made.add_row(*(each if isinstance(each, Text) else cell(each) for each in row))
    return made


def when(text: str | None) -> str | None:
    """A time of the API to the second, in UTC as it came."""
    if text is None:
        return None
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def duration(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
