"""`python -m benchmarks [names]`: runs all benchmarks, or those named, and prints a table; `--json FILE` writes the same, with the load of the
machine before each. 1 if a bound is not met, or if a benchmark could not be run to its end: the others are run all the same."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import calls, control, egress, lag, latency, memory, optin, pipeline, reader, recovery, throughput

MODULES = (calls, throughput, pipeline, reader, latency, memory, recovery, lag, control, egress, optin)
ALL = {module.__name__.rpartition(".")[2]: module.run for module in MODULES}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*ALL, []], default=list(ALL))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    table = Table("benchmark", "figure", "measured", "must be", "")
    results = []
    for name in arguments.names or ALL:
        for figure in ALL[name]():
            bound = f"{'≤' if figure.bound[0] == '<=' else '≥'} {figure.bound[1]:g}" if figure.bound else ""
            mark = "" if figure.bound is None else "ok" if figure.holds else "NOT MET"
            table.add_row(name, figure.name, f"{figure.value:.3g} {figure.unit}", bound, mark)
            results.append({"benchmark": name, **asdict(figure), "holds": figure.holds})
    Console(width=120).print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2))
    return 0 if all(result["holds"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
