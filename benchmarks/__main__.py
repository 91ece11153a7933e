"""`python -m benchmarks [names]`: runs all benchmarks, or those named, and prints a table; `--json FILE` writes the same, with the load
before each. 1 if a bound is not met, or a benchmark could not be run to its end: the others are run all the same."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import calls, control, egress, lag, latency, memory, optin, pipeline, reader, recovery, throughput
from benchmarks.measure import Figure

MODULES = (calls, throughput, pipeline, reader, latency, memory, recovery, lag, control, egress, optin)
ALL: dict[str, Callable[[], list[Figure]]] = {module.__name__.rpartition(".")[2]: module.run for module in MODULES}


def arguments_of(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ALL)}; without any all of them")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(given)
    if unknown := [name for name in arguments.names if name not in ALL]:
        parser.error(f"{', '.join(unknown)}: there is no such benchmark")
    return arguments


def main() -> int:
    arguments = arguments_of(sys.argv[1:])
    table = Table("benchmark", "figure", "measured", "must be", "")
    results = []
    for name in arguments.names or ALL:
        load, figures = os.getloadavg()[0], _figures(name)
        for figure in figures:
            bound = f"{'≤' if figure.bound[0] == '<=' else '≥'} {figure.bound[1]:g}" if figure.bound else ""
            mark = "" if figure.bound is None else "ok" if figure.holds else "NOT MET"
            table.add_row(name, figure.name, f"{figure.value:.3g} {figure.unit}", bound, mark)
            results.append({"benchmark": name, **asdict(figure), "holds": figure.holds, "load": load})
    Console(width=120).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))
    return 0 if all(result["holds"] for result in results) else 1


def _figures(name: str) -> list[Figure]:
    """Of one benchmark; one that fails is a figure, too, that does not hold."""
    try:
        return ALL[name]()
    except Exception:
        traceback.print_exc()
        return [Figure("could not be run to its end", 1, "", ("<=", 0))]


if __name__ == "__main__":
    sys.exit(main())
