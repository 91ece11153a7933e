"""`python -m sandbox.dynamics --port 9001 [--contacts 5000 --vehicles 1000 --seed 7]`"""

from __future__ import annotations

import argparse
import asyncio
import signal

from aiohttp import web

from sandbox.dynamics import DynamicsSandbox


async def _serve(port: int, host: str, sandbox: DynamicsSandbox) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    runner = web.AppRunner(sandbox.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        print(f"Dynamics sandbox on http://{host}:{port}", flush=True)
        await ended.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(prog="sandbox.dynamics", description="A stand-in for Microsoft Dynamics 365.")
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a container")
    for name, default in (("contacts", 0), ("vehicles", 0), ("seed", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    sandbox = DynamicsSandbox()
    sandbox.load(options.contacts, options.vehicles, options.seed)
    asyncio.run(_serve(options.port, options.host, sandbox))


if __name__ == "__main__":
    main()
