"""TLS as control and its clients speak it, and the log."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from aiohttp import web

from bridge.http.transport import build_client, send
from bridge.model.errors import RetryError
from bridge.observe.log import log
from services.control import __main__ as entry
from tests.unit.control_app import SECRET, bearer, logging_as

FORGED = 'GET /x\n{"event":"forged"}\r\x1b[2J'


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Certificate and key, of nobody anyone trusts."""
    tool = shutil.which("openssl")
    assert tool is not None, "these tests make a certificate with openssl: install it"
    cert, key = (tmp_path_factory.mktemp("tls") / name for name in ("cert.pem", "key.pem"))
    made = [
        tool,
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    subprocess.run(
        [*made, "-keyout", str(key), "-out", str(cert), "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True
    )
    return cert, key


def test_tls_is_1_2_at_least_with_forward_secrecy(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    config = uvicorn.Config(_nowhere, ssl_certfile=str(cert), ssl_keyfile=str(key), log_config=None)
    config.load()

    assert config.ssl is not None
    assert config.ssl.minimum_version >= ssl.TLSVersion.TLSv1_2
    names = [str(each["name"]) for each in config.ssl.get_ciphers()]
    assert names[0].startswith("TLS_")
    assert not [name for name in names if not name.startswith(("TLS_", "ECDHE-", "DHE-"))]
    assert not [name for name in names if name.endswith(("-SHA", "-MD5")) or "NULL" in name or "RC4" in name or "DES" in name]
    assert not {"ssl_ciphers", "ssl_version"} & set(re.findall(r"(\w+)=", inspect.getsource(entry._listen)))


async def _nowhere(scope: Any, receive: Any, send: Any) -> None:
    return None


async def test_a_certificate_of_nobody_we_trust_ends_the_connection(certificate: tuple[Path, Path]) -> None:
    asked: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(request.headers["Authorization"])
        return web.Response()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    server = web.Application()
    server.router.add_get("/", handler)
    runner = web.AppRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0, ssl_context=context)
    await site.start()
    port = cast(Any, site._server).sockets[0].getsockname()[1]
    try:
        async with build_client(5, 1) as http:
            with pytest.raises(RetryError) as caught:
                await send(http, http.build_request("GET", f"https://localhost:{port}/", headers=bearer(SECRET)))
    finally:
        await runner.cleanup()

    assert asked == []
    assert caught.value.code == "network" and SECRET not in str(caught.value)


def test_a_log_line_is_one_line_of_json_in_utc_on_stderr_whatever_it_tells(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as("json"):
        log("refused", "warning", by="me", address="10.0.0.1", what=FORGED, code="not_signed_in")

    told = capsys.readouterr()
    (line,) = told.err.splitlines()
    assert told.out == "" and "\x1b" not in line
    found = json.loads(line)
    assert (found["event"], found["level"], found["service"], found["instance"]) == ("refused", "warning", "control", "one")
    assert (found["by"], found["address"], found["what"], found["code"]) == ("me", "10.0.0.1", FORGED, "not_signed_in")
    assert found["timestamp"].endswith("Z")


def test_what_a_request_tells_does_not_steer_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    with logging_as("console"):
        log("refused", "warning", by="me", what=FORGED)

    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1 and "\x1b[2J" not in told
