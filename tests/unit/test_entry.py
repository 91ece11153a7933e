"""A signal reaches the service, however busy its loop is."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUSY = """
import asyncio, threading, time
from bridge.process.entry import on_signal

async def main():
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    on_signal(stop.set)

    def flood():
        for _ in range(200_000):
            loop.call_soon_threadsafe(lambda: None)
        print("full", flush=True)

    flooding = threading.Thread(target=flood)
    flooding.start()
    flooding.join()      # the loop takes nothing meanwhile: the pipe that wakes it is full
    time.sleep(1)        # the signal comes now
    await asyncio.wait_for(stop.wait(), 5)

asyncio.run(main())
"""


def test_a_signal_is_heard_although_other_threads_have_filled_the_loops_pipe() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "full\n"
        process.send_signal(signal.SIGTERM)
        errors = process.stderr.read()

    assert (process.returncode, errors) == (0, "")
