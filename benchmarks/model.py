"""What an installation of a given size needs: `python -m benchmarks.model` prints the tables of docs/scaling.md.

Costs of one record are measured (benchmarks/scaling.py; its figures are kept in benchmarks/measured.json) and multiplied
(benchmarks/needs.py). The measurements are checked against a straight line. All is pure but `read` and `main`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from benchmarks import needs
from benchmarks.needs import Case, Costs, Figures, Line

MEASURED, PAGE = Path(__file__).with_name("measured.json"), Path(__file__).parents[1] / "docs" / "scaling.md"
GB = 1e9
CHECKED = [
    ("contact", "reader, load, CPU s per 1,000 records"),
    ("contact", "reader, comparison, CPU s per 1,000 records"),
    ("contact", "writers, CPU s per 1,000 records"),
    ("contact", "Kafka, CPU s per 1,000 records"),
    ("contact", "writers, a change, CPU s per 1,000"),
    ("contact", "calls of Campaign per record, POST"),
    ("contact", "Kafka bytes per record, ingress.replay.contact"),
    ("contact", "Kafka bytes per record, ingress.state"),
    ("contact", "STATE_DIR bytes per record, writers"),
    ("contact", "restart without local copy, more CPU s than with it per 1,000 records"),
    ("contact", "requests to Kafka per record"),
    ("partition", "bytes of one record"),
    ("partition", "a new record, CPU µs"),
    ("comparison", "bytes of one record"),
    ("comparison", "a key that is listed, CPU µs"),
    ("comparison", "an event that is noted, CPU µs"),
    ("optin", "reader, CPU s per 1,000 contacts of Dynamics"),
    ("optin", "resolver, CPU s per 1,000 contacts of Dynamics"),
    ("optin", "resolver, CPU s per 1,000 rows of an export"),
    ("optin", "Kafka bytes per contact, optin.state, of both"),
    ("optin", "STATE_DIR bytes per contact, resolver"),
    ("egress", "writer, CPU s per 1,000 events (start included)"),
    ("egress", "Kafka bytes per event, egress.email-events"),
]


def predicted(measured: Figures, workload: str, name: str) -> tuple[int, float, float] | None:
    """(size, measured, predicted): the total at the largest of three sizes, and what the line through the two smaller ones says."""
    sizes = sorted((int(size), figures[name]) for size, figures in measured[workload].items() if name in figures)
    if len(sizes) < 3:
        return None
    (a, first), (b, second), (c, third) = sizes[-3:]
    slope = (b * second - a * first) / (b - a)
    return c, c * third, b * second + slope * (c - b)


def read(path: Path = MEASURED) -> Figures:
    found: Figures = json.loads(path.read_text())
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown, the first column to the left."""
    marks = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, marks, *rows])


def _lines(lines: Sequence[Line]) -> str:
    return table(["what", "figure", "how"], [[line.what, line.value, line.how] for line in lines])


def _bytes(named: Sequence[tuple[str, float, str]], replicas: int) -> str:
    total = sum(size for _, size, _ in named)
    rows = [[what, f"{size / GB:.1f}", f"{size * replicas / GB:.0f}", how] for what, size, how in named]
    return table(
        ["GB", "one replica", f"{replicas} replicas", "how"], [*rows, ["all", f"{total / GB:.0f}", f"{total * replicas / GB:.0f}", ""]]
    )


def needed(case: Case, measured: Figures) -> str:
    """What docs/scaling.md says of this size."""
    costs = Costs(measured)
    head, *hours = needs.loading(case)
    local = [[what, f"{size / GB:.1f}", how] for what, size, how in needs.state_dir(case, costs)]
    parts = {
        "Topics and registry": _lines(needs.topics(case)),
        "Kafka's disk": _bytes(needs.kafka_disk(case, costs), case.replicas),
        "STATE_DIR": table(["GB, in all instances of a role", "", "how"], local),
        "Processors": _lines(needs.work(case, costs)),
        "Hours of a first load, at so many licensed calls": table(head, hours),
        "Requests": _lines(needs.systems(case, costs)),
        "Memory": _lines(needs.memory(costs)),
    }
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in parts.items())


def sizes(measured: Figures, workload: str) -> str:
    """Every figure of a workload at each size."""
    columns = sorted(measured[workload], key=int)
    names = list(dict.fromkeys(name for size in columns for name in measured[workload][size]))
    rows = [
        [name, *(f"{measured[workload][size][name]:.3g}" if name in measured[workload][size] else "" for size in columns)] for name in names
    ]
    return table([workload, *(f"{int(size):,d}" for size in columns)], rows)


def checked(measured: Figures) -> str:
    """The line through the two smaller sizes against the largest one."""
    rows = []
    for workload, name in CHECKED:
        if (found := predicted(measured, workload, name)) is not None:
            size, real, line = found
            rows.append(
                [f"{workload}: {name}", f"{size:,d}", f"{line / size:.4g}", f"{real / size:.4g}", f"{(line / real - 1) * 100:+.0f} %"]
            )
    return table(["a record's", "records", "by the line through two smaller sizes", "measured", "error"], rows)


def sections(case: Case, measured: Figures) -> Mapping[str, str]:
    """The parts of docs/scaling.md that are computed, by their mark."""
    found = {"needs": needed(case, measured), "checked": checked(measured)}
    return found | {f"measured {workload}": sizes(measured, workload) for workload in measured}


def filled(page: str, found: Mapping[str, str]) -> str:
    """The page with these parts between their marks."""
    for name, text in found.items():
        start = page.index(mark := f"<!-- {name} -->\n") + len(mark)
        page = page[:start] + text + page[page.index("\n<!-- end -->", start) :]
    return page


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model", description=__doc__)
    for each in fields(Case):
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=type(each.default), default=each.default)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scaling.md instead")
    options = vars(parser.parse_args())
    write = options.pop("write")
    found = sections(Case(**options), read())
    if write:
        PAGE.write_text(filled(PAGE.read_text(), found))
    else:
        print("\n\n".join(f"<!-- {name} -->\n{text}\n<!-- end -->" for name, text in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
