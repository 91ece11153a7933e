"""`python -m sandbox.campaign --port 9002`: serves until SIGTERM or SIGINT, prints one line once it listens."""

from __future__ import annotations

import argparse
import asyncio
import signal

from sandbox.campaign.server import CampaignSandbox
from sandbox.web import serving


async def run(port: int) -> None:
    """Serves on 127.0.0.1:`port` (0: a free one) until a signal comes."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    sandbox = CampaignSandbox()
    async with serving(sandbox.app(), port) as url:
        urls = f"CAMPAIGN_URL={url}/{sandbox.settings.organization} IMS={url}/ims CAMPAIGN_JOURNAL_URL={url}{sandbox.journal_path}"
        print(f"Campaign sandbox: {urls}", flush=True)
        await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="sandbox.campaign", description=__doc__)
    parser.add_argument("--port", type=int, default=9002)
    asyncio.run(run(parser.parse_args().port))


if __name__ == "__main__":
    main()
