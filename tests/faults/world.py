"""A workflow at work while something goes wrong: what is poured in, how its processes are treated, and what must be true in the end.

`World` is what the three workflows share; tests/faults/worlds.py has them.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import httpx

from sandbox.kafka.local import free_port
from tests.e2e.helpers import group_state, headers_of, messages
from tests.e2e.stack import Process, Stack
from tests.faults.proxy import Proxy

CANARY = "Canarybird"  # part of every name, mail and address of a person
CALLS = 8  # at once
IN_FLIGHT = CALLS + CALLS // 2  # records in work: calls, and what waits for Kafka
SETTLED_WITHIN_S = 150.0
DEADLINE_S, LATE_S = 10.0, 5.0  # of a heartbeat, and of showing what is known (control-api.md)
LAUNCHER = (sys.executable, "-m", "tests.faults.launch")
MORE_FILES, MORE_MB = 20, 20  # connections kept open, and the heap of a process that has met its first fault


class World:
    """One workflow. Its processes are called `<role>-1`, and `<role>-2` where there are more."""

    id: ClassVar[str]
    roles: ClassVar[Sequence[str]]
    settings: ClassVar[dict[str, str]] = {}

    def __init__(self, stack: Stack, rng: random.Random) -> None:
        self.stack, self.rng = stack, rng
        self.proxies: dict[str, Proxy] = {}
        self.own: dict[str, dict[str, str]] = {}  # more environment, by role
        self.launchers: dict[str, Sequence[str]] = {}  # how a role is started, if not plainly
        self.may_repeat = 0  # writes that were in flight when a process or an answer was lost: they may come again
        self.letters = 0  # records that belong into the dead letters
        self.down: dict[str, float] = {}  # since when an instance cannot answer
        self.untruths: list[str] = []
        self._metrics: dict[str, int] = {}
        self._before: dict[str, tuple[int, int, int]] = {}

    # -- of each workflow -----------------------------------------------------------------------------------------------------

    async def configure(self) -> None:
        raise NotImplementedError

    def dose(self) -> None:
        """Changes the source, by a little."""
        raise NotImplementedError

    def wrong(self) -> list[str]:
        """What is not (yet) in the target as it should be."""
        raise NotImplementedError

    def progress(self) -> int:
        """Grows with every write that a target takes."""
        raise NotImplementedError

    def disorder(self) -> list[str]:
        """Keys whose writes came in another order than their changes."""
        return []

    def repeats(self) -> int:
        """Writes that wrote what had been written already."""
        return 0

    # -- processes ------------------------------------------------------------------------------------------------------------

    def start(self, role: str, number: int = 1, **environment: str) -> Process:
        """Starts an instance, with the role's own settings and these."""
        name = f"{role}-{number}"
        port = self._metrics.setdefault(name, free_port())
        more = {"METRICS_PORT": str(port)} | self.own.get(role, {}) | environment
        process = self.stack.service(role, name, self.launchers.get(role, ()), **more)
        self.down.pop(name, None)
        return process

    def process(self, role: str, number: int = 1) -> Process:
        return self.stack.processes[f"{role}-{number}"]

    def kill(self, role: str, number: int = 1) -> None:
        self.process(role, number).kill()
        self.down[f"{role}-{number}"] = time.monotonic()
        self.may_repeat += IN_FLIGHT

    async def end(self, role: str, number: int = 1) -> None:
        """SIGTERM: 0, within 10 s; whom it meets before it can hear of it (Python is still importing) ends at once."""
        process, began = self.process(role, number), time.monotonic()
        hears = "service_started" in process.log.read_text()
        code = await process.terminate(within_s=10)
        told = f"{role} ended with {code} after {time.monotonic() - began:.1f} s\n{self.stack.logs()}"
        assert code == 0 or (code == -signal.SIGTERM and not hears), told
        self.down[f"{role}-{number}"] = time.monotonic()

    def pause(self, role: str) -> None:
        """SIGSTOP."""
        self.process(role).popen.send_signal(signal.SIGSTOP)
        self.down[f"{role}-1"] = time.monotonic()

    def resume(self, role: str) -> None:
        self.process(role).popen.send_signal(signal.SIGCONT)
        self.down.pop(f"{role}-1", None)

    # -- the course of a test -------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Configures and starts everything; returns when all is RUNNING and a first dose has arrived."""
        await self.configure()
        for role in self.roles:
            self.start(role)
        self.dose()
        await self.stack.start()
        await self.until_right("the first dose arrives")
        self._before = {name: self._resources(process) for name, process in self.stack.processes.items()}

    @asynccontextmanager
    async def pouring(self, every_s: float = 0.3) -> AsyncIterator[None]:
        """Doses all the time, and an eye on what control says of it."""
        tasks = [asyncio.create_task(self._pour(every_s)), asyncio.create_task(self._watch())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    async def at_work(self, within_s: float = 60) -> None:
        """Until something has been written from now on."""
        before = self.progress()

        async def moved() -> bool:
            return self.progress() > before

        await self.stack.until(moved, "something is written", within_s)

    async def a_while(self, seconds: float) -> None:
        """A random part of so many seconds."""
        await asyncio.sleep(self.rng.random() * seconds)

    async def until_right(self, what: str = "everything arrives", within_s: float = SETTLED_WITHIN_S) -> None:
        async def right() -> bool:
            await asyncio.sleep(0.4)  # to look is dear, and the systems are in this process
            return not self.wrong()

        try:
            await self.stack.until(right, what, within_s)
        except AssertionError as exc:
            raise AssertionError(f"{exc}\n--- wrong\n" + "\n".join(self.wrong()[:20])) from None

    async def settled(self) -> None:
        """Everything has arrived, and all that must be true after a fault is."""
        await self.stack.until_status("RUNNING", 90)
        await self.until_right()
        await self.stack.until_caught_up(90)
        await self.until_right("nothing is spoiled afterwards", 10)
        assert not self.untruths, self.untruths
        assert not self.disorder(), self.disorder()
        repeated = self.repeats()
        assert repeated <= self.may_repeat, f"{repeated} writes were repeated, at most {self.may_repeat} were in flight"
        letters = (await self.stack.get(f"/workflows/{self.id}/dead-letters"))["dead_letters"]
        assert len(letters) == self.letters, letters
        await self._nothing_told()
        await self._resources_are_back()

    async def _pour(self, every_s: float) -> None:
        while True:
            self.dose()
            await asyncio.sleep(every_s)

    async def _watch(self) -> None:
        """RUNNING is no answer for a role that nobody has heard of for longer than the deadline."""
        while True:
            await asyncio.sleep(0.5)
            try:
                status = (await self.stack.workflow())["status"]
            except (httpx.HTTPError, AssertionError):
                continue
            now, names = time.monotonic(), list(self.stack.processes)
            for role in self.roles:
                since = [now - self.down[name] if name in self.down else 0.0 for name in names if name.startswith(role)]
                if since and min(since) > DEADLINE_S + LATE_S and status == "RUNNING":
                    self.untruths.append(f"RUNNING, {min(since):.1f} s after the last {role} was heard of")

    # -- what must be true of every run -----------------------------------------------------------------------------------------

    async def _nothing_told(self) -> None:
        """No personal value and no secret in a log, a metric, an answer, a header, or a topic that is no event's."""
        texts = {path.name: path.read_text(errors="replace") for path in self.stack.folder.glob("*.log")}
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            for name, port in self._metrics.items():
                if self.stack.processes[name].popen.poll() is None:
                    texts[f"metrics of {name}"] = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
        for path in ("/metrics", "/api/v1/workflows", f"/api/v1/workflows/{self.id}", f"/api/v1/workflows/{self.id}/dead-letters"):
            texts[path] = (await self.stack.http.get(path)).text
        topics = ("state", "cursors", "dead-letters")
        for topic in (*(f"{self.id}.{each}" for each in topics), "control.services", "control.workflows", "control.audit"):
            found = await asyncio.to_thread(messages, self.stack.kafka, topic)
            values = [] if topic.endswith("dead-letters") else [(each.value() or b"").decode(errors="replace") for each in found]
            texts[topic] = "\n".join([*values, *(str(headers_of(each)) for each in found)])
        tokens = [*self.stack.campaign.gateway.tokens, *self.stack.dynamics.tokens._valid_until]
        for secret in (CANARY, "sandbox-secret", *tokens):
            told = [name for name, text in texts.items() if secret in text]
            assert not told, f"{secret[:12]}… is told: {told}"

    def _resources(self, process: Process) -> tuple[int, int, int]:
        """Its pid, open files, and resident memory in MB."""
        proc = Path(f"/proc/{process.popen.pid}")
        pages = int((proc / "statm").read_text().split()[1])
        return process.popen.pid, len(list((proc / "fd").iterdir())), pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000

    async def _resources_are_back(self) -> None:
        """Of the processes that lived through it."""
        grown: list[str] = []
        for name, (pid, files, megabytes) in self._before.items():
            process = self.stack.processes[name]
            if process.popen.pid != pid:
                continue
            assert process.popen.poll() is None, f"{name} has ended: {process.popen.returncode}\n{self.stack.logs()}"
            _, now_files, now_megabytes = self._resources(process)
            print(f"{name}: {files} → {now_files} files, {megabytes} → {now_megabytes} MB")
            if now_files > files + MORE_FILES or now_megabytes > megabytes + MORE_MB:
                grown.append(f"{name}: {files} → {now_files} files, {megabytes} → {now_megabytes} MB")
        assert not grown, grown


def versions_of(names: Sequence[str]) -> list[int]:
    """The numbers at the ends of these names."""
    return [int(name.rsplit(" ", 1)[1]) for name in names]


def judged(histories: dict[str, list[int]]) -> tuple[list[str], int]:
    """Keys whose versions went backwards, and how many versions were written twice in a row."""
    backwards = [f"{key}: {seen}" for key, seen in histories.items() if sorted(seen) != seen]
    repeated = sum(sum(number - 1 for number in Counter(seen).values()) for seen in histories.values())
    return backwards, repeated


async def until_left(world: World, group: str) -> None:
    """Until a consumer group has no member."""

    async def empty() -> bool:
        return (await asyncio.to_thread(group_state, world.stack.kafka, group))[1] == 0

    await world.stack.until(empty, f"{group} is empty", 20)
