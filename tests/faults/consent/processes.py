"""The roles of ingress and Opt In/Out as they run in a history: one process each, that may be killed at any of its steps."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from bridge.model.errors import HaltError
from bridge.model.events import event_headers
from services.optin.resolving import Resolving
from tests.faults.consent.campaign import Campaign
from tests.faults.consent.dynamics import COLUMNS, Dynamics
from tests.faults.consent.exports import File
from tests.faults.consent.kafka import Crash, Kafka, Life, State
from tests.faults.consent.product import Product
from tests.faults.consent.readers import CHANGES, OBSERVATIONS, REPLAY, ContactReader, TableReader, measured
from tests.faults.consent.running import WriterProcess
from tests.faults.consent.setup import Setup


class Processes:
    """`run` gives a role a slice of time; a process that was killed, or was never there, begins with what has reached Kafka."""

    def __init__(self, rng: random.Random, setup: Setup, kafka: Kafka, dynamics: Dynamics, campaign: Campaign, folder: Path) -> None:
        self._rng, self._setup, self._kafka, self._campaign = rng, setup, kafka, campaign
        self.campaign_answers = False  # always
        self.product = Product(setup, kafka, dynamics, campaign, folder)
        clock = self.clock = self.product.clock
        self.table_reader = TableReader(dynamics, kafka, clock, self.product.ingress_columns())
        self.contact_reader = ContactReader(dynamics, kafka, clock, COLUMNS)
        self.files: list[File] = []  # in the folder of exports
        self._writers: dict[str, WriterProcess] = {}
        self._resolver: tuple[Resolving, Life] | None = None
        self.roles = ["table-reader", "ingress-writer"]
        if setup.optin_runs:
            self.roles += ["contact-reader", "export-reader", "resolver", "optin-writer"]

    async def run(self, role: str, steps: int | None = None, most: int = 100) -> str:
        """How it ended. `steps`: until it is killed."""
        life = Life(steps)
        try:
            match role:
                case "table-reader":
                    self.table_reader.poll(life)
                case "contact-reader":
                    self.contact_reader.poll(life)
                case "export-reader":
                    self._read_exports(life)
                case "resolver":
                    await self._resolve(life, most)
                case _:
                    await self._write(role, life, most)
        except Crash:
            await self.end(role)
            return "killed"
        except HaltError as exc:
            await self.end(role)
            return f"halted: {exc.code}"
        return ""

    async def end(self, role: str) -> None:
        """The process is gone; another one takes over when the role runs next."""
        if role == "resolver":
            self._resolver = None
        elif (process := self._writers.pop(role, None)) is not None:
            await process.end()

    async def end_all(self) -> None:
        for role in self.roles:
            await self.end(role)

    async def go_on(self) -> None:
        """Time has passed: who slept goes on."""
        if not self._kafka.time.woken:
            return
        self._kafka.time.woken = False
        for role, process in list(self._writers.items()):
            try:
                await process.settle()
            except (Crash, HaltError):
                await self.end(role)

    async def map(self, mapped: tuple[int, ...]) -> None:
        """Another configuration was saved and started."""
        self.product.mapped = mapped
        self.table_reader.columns = self.product.ingress_columns()
        self.contact_reader.columns = tuple(COLUMNS[each] for each in mapped)
        await self.end_all()

    def lag(self) -> int:
        """What nobody has dealt with yet."""
        lag = self._kafka.lag([CHANGES, REPLAY])
        return lag + (self._kafka.lag([OBSERVATIONS, "optin.decisions"]) + len(self.files) if self._setup.optin_runs else 0)

    def lag_of_readers(self) -> bool:
        """Whether something was published that nobody has taken up yet."""
        topics = [OBSERVATIONS] if self._setup.optin_runs else []
        return self._kafka.lag(topics) > 0

    def redrive(self) -> int:
        """An admin publishes all dead letters again."""
        letters, self._kafka.letters = self._kafka.letters, []
        for record, _ in letters:
            kept = [each for each in record.headers if not each[0].startswith("parked-")]  # as control does
            self._kafka.append(replace(record, headers=kept))
        return len(letters)

    def _read_exports(self, life: Life) -> None:
        """The next file, with the product's own reading of it; its rows and the cursor behind it get out together."""
        if not self.files:
            return
        life.step()
        file = self.files.pop(0)
        answers = self.campaign_answers or self._rng.random() < 0.8  # Campaign, which is asked for its clock
        ahead = measured(self._campaign.clock, self.clock) if answers else None
        for row in self.product.rows(file):
            event = replace(row, ahead_ms=ahead)
            self._kafka.publish(OBSERVATIONS, event.contact_key, event, event_headers("live", file.name, "optin-reader/sim"))
        flags = [pair.campaign for pair in self.product.pairs()]
        for key, flag in file.heard(flags):
            if self._setup.zone or file.style.times != "local" or file.profiles[key].flags[flag].value:
                file.profiles[key].flags[flag].hear("optin")

    async def _resolve(self, life: Life, most: int) -> None:
        if self._resolver is None or self._resolver[1].dead:
            resolving = self.product.resolver(life)
            await resolving.gain([0])
            self._resolver = (resolving, life)
        resolving, own = self._resolver
        own.left = life.left
        at = self._kafka.committed[OBSERVATIONS]
        records = self._kafka.topics[OBSERVATIONS][at : at + most]
        if records:
            await resolving.take(records)
            own.step()
            self._kafka.committed[OBSERVATIONS] = at + len(records)

    async def _write(self, role: str, life: Life, most: int) -> None:
        process = self._writers.get(role)
        if process is None:
            process = self._writers[role] = self._begin(role, life)
        process.life.left = life.left
        await process.slice(most)
        process.life.left = None

    def _begin(self, role: str, life: Life) -> WriterProcess:
        ingress = role == "ingress-writer"
        handler: Any = self.product.ingress_handler(life) if ingress else self.product.optin_handler(life)
        topics = (CHANGES, REPLAY) if ingress else ("optin.decisions",)
        state = State(self._kafka.states["ingress" if ingress else "optin"], life)
        return WriterProcess(handler, topics, state, self._kafka, self.clock, life, self._rng.randrange(1 << 30))
