"""`python -m services.control token new|list|revoke`: the tokens of CONTROL_TOKENS_FILE."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge.model.clock import SystemClock
from bridge.model.settings import EXIT_UNUSABLE_SETTINGS, SettingsError
from services.control.api.access import RANKS, Tokens


def main(arguments: Sequence[str]) -> int:
    parser = _parser()
    chosen = parser.parse_args(arguments)
    path = chosen.file or (Path(given) if (given := os.environ.get("CONTROL_TOKENS_FILE")) else None)
    if path is None:
        print("CONTROL_TOKENS_FILE: missing; set it, or give --file", file=sys.stderr)
        return EXIT_UNUSABLE_SETTINGS
    try:
        return _run(chosen, Tokens(path))
    except SettingsError as exc:
        print("\n".join(exc.problems), file=sys.stderr)
        return EXIT_UNUSABLE_SETTINGS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.control token", description=__doc__)
    parser.add_argument("--file", type=Path, help="the tokens file (default: CONTROL_TOKENS_FILE)")
    anywhere = argparse.ArgumentParser(add_help=False)
    anywhere.add_argument("--file", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", parents=[anywhere], help="make a token; it is shown only now")
    new.add_argument("--role", choices=list(RANKS), required=True)
    new.add_argument("--name", required=True, help="who or what uses it; stands in the audit")
    commands.add_parser("list", parents=[anywhere], help="names, roles and ages")
    revoke = commands.add_parser("revoke", parents=[anywhere], help="make a token invalid at once")
    revoke.add_argument("--name", required=True)
    return parser


def _run(chosen: argparse.Namespace, tokens: Tokens) -> int:
    match chosen.command:
        case "new":
            print(tokens.add(chosen.name, chosen.role, SystemClock().now().isoformat()))
            print(f"{chosen.name} is {chosen.role}. The token is shown only now; control knows it within a second.", file=sys.stderr)
        case "list":
            for entry in tokens.entries():
                print(f"{entry['name']}\t{entry['role']}\t{entry['created']}")
        case _:
            if not tokens.revoke(chosen.name):
                print(f"there is no token named {chosen.name}", file=sys.stderr)
                return 1
    return 0
