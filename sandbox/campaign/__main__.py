"""`python -m sandbox.campaign --port 9002`: serves until SIGTERM or SIGINT, prints one line once it listens."""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from sandbox.campaign.server import CampaignSandbox
from sandbox.web import serving


async def run(host: str, port: int, sftp_name: str, sftp_port: int | None, sftp_home: Path | None, sftp_exports: bool) -> None:
    """Serves on `host`:`port` (0: a free one) until a signal comes; the same for SFTP, None: no SFTP."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    sandbox = CampaignSandbox()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(sandbox.app(), port, host))
        urls = f"CAMPAIGN_URL={url}/{sandbox.settings.organization} IMS={url}/ims CAMPAIGN_JOURNAL_URL={url}{sandbox.journal_path}"
        if sftp_port is not None:
            home = sftp_home or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="campaign-sftp-")))
            home.mkdir(parents=True, exist_ok=True)
            access = await stack.enter_async_context(sandbox.sftp_serving(home, sftp_port, sftp_exports, host, sftp_name))
            urls += "".join(f" {name}={value}" for name, value in access.environment().items())
        print(f"Campaign sandbox: {urls}", flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="sandbox.campaign", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a container")
    parser.add_argument("--port", type=int, default=9002)
    parser.add_argument("--sftp-port", type=int, help="0: a free one; without: no SFTP")
    parser.add_argument("--sftp-name", default="127.0.0.1", help="how clients call the SFTP server, for known_hosts")
    parser.add_argument("--sftp-home", type=Path, help="holds files, host_key, client_key and known_hosts; without: a temporary folder")
    parser.add_argument("--no-sftp-exports", dest="sftp_exports", action="store_false", help="d365_loads/exports is not there yet")
    asyncio.run(run(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
