"""The command `bridge`: its options, its commands, and how it ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cli import applying, backlog, configuration, cursors, editing, held, redriving, systems, workflows
from cli.arguments import DEFAULT_URL, connection
from cli.exit_codes import INTERRUPTED, MEANINGS, Failure
from cli.screen import warn

EPILOG = "Exit codes:\n\n" + "\n\n".join(f"{code}  {meaning}" for code, meaning in MEANINGS.items())
ENVIRONMENT = "The token comes from BRIDGE_TOKEN, or from the file that BRIDGE_TOKEN_FILE or --token-file names."


class Commands(TyperGroup):
    """Turns a Failure into its lines on stderr and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except Failure as failure:
            for line in failure.lines:
                warn(line)
            raise typer.Exit(failure.exit_code) from failure
        except BrokenPipeError as exc:
            forget_stdout()
            raise typer.Exit(INTERRUPTED) from exc
        return result


app = typer.Typer(
    name="bridge",
    cls=Commands,
    help="Campaign Bridge from the command line, over the REST API of control. " + ENVIRONMENT,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they print variables, and a token may be among them
)


@app.callback()
def options(
    ctx: typer.Context,
    url: Annotated[str, typer.Option("--url", envvar="BRIDGE_URL", help="Where control is.")] = DEFAULT_URL,
    token_file: Annotated[Path | None, typer.Option("--token-file", help="A file with the token.")] = None,
    ca_file: Annotated[Path | None, typer.Option("--ca-file", envvar="BRIDGE_CA_FILE", help="Trust this CA (PEM).")] = None,
) -> None:
    ctx.obj = connection(url, token_file, ca_file)


for module in (workflows, configuration, applying, editing, cursors, redriving, held, backlog, systems):
    module.add(app)


def forget_stdout() -> None:
    """Nobody reads any more: what is left goes nowhere, so that Python does not complain at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Ends the process with one of the exit codes."""
    code: Any = 0
    try:
        app()
    except SystemExit as ended:
        code = ended.code
    except KeyboardInterrupt:
        code = INTERRUPTED
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        forget_stdout()
        code = INTERRUPTED
    sys.exit(code)
