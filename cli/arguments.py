"""Arguments and options that several commands share, and what they are given to work with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cli.api import Api, Connection
from cli.exit_codes import USAGE, Failure

DEFAULT_URL = "http://127.0.0.1:8080"

Name = Annotated[str, typer.Argument(metavar="WORKFLOW", help="ingress, egress or optin.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print the API's JSON, and nothing else on stdout.")]
Comment = Annotated[str | None, typer.Option("--comment", help="Why; it is kept with the change.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when it has happened.")]
Timeout = Annotated[float, typer.Option("--timeout", help="How long to wait, in seconds.", min=0)]
File = Annotated[str, typer.Option("--file", "-f", help="A YAML file as `config get` prints it; - reads stdin.", show_default=False)]
MaybeFile = Annotated[
    str | None, typer.Option("--file", "-f", help="A YAML file as `config get` prints it; - reads stdin.", show_default=False)
]


def connect(ctx: typer.Context) -> Api:
    """Control as the options and the environment name it. Raises USAGE."""
    connection = ctx.find_object(Connection)
    if connection is None:
        raise Failure(USAGE, "There is no connection to control.")
    return Api(connection)


def connection(url: str, token_file: Path | None, ca_file: Path | None, environment: Mapping[str, str] = os.environ) -> Connection:
    """`token_file` wins over BRIDGE_TOKEN, and that over BRIDGE_TOKEN_FILE. Raises USAGE for a token that cannot be one."""
    token = environment.get("BRIDGE_TOKEN")
    named = environment.get("BRIDGE_TOKEN_FILE")
    if token_file is not None or (not token and named):
        token = _token_from(token_file or Path(named or ""))
    token = (token or "").strip() or None
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise Failure(USAGE, "The token holds characters that a token cannot have; it is not shown here.")
    return Connection(url, token, str(ca_file) if ca_file else None)


def _token_from(file: Path) -> str:
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as exc:
        reason = (exc.strerror if isinstance(exc, OSError) else None) or "it is not text"
        raise Failure(USAGE, f"The token file {file} cannot be read: {reason}") from exc
    if not token:
        raise Failure(USAGE, f"The token file {file} is empty.")
    return token
