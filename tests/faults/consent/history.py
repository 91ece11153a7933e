"""One history, from its seed to its judgement."""

from __future__ import annotations

import random
from pathlib import Path

from tests.faults.consent import exports, held
from tests.faults.consent.campaign import Campaign
from tests.faults.consent.dynamics import Dynamics
from tests.faults.consent.judge import Judge
from tests.faults.consent.kafka import Clock, Kafka, Time
from tests.faults.consent.people import People
from tests.faults.consent.processes import Processes
from tests.faults.consent.setup import DAYS, Setup
from tests.faults.consent.truth import Book, Hearer

ROUNDS = 25  # so many rounds after the last word are enough for everything
WAKINGS = 300  # so often somebody who sleeps wakes in one of them; a parked record of a day does so some fifty times


class Violated(AssertionError):
    """The contract does not hold in this history; the text tells it from its beginning."""


class History:
    """What happens is drawn from `seed`; `told` is the story of it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.rng, self.told = seed, random.Random(seed), list[str]()
        self.setup = Setup.drawn(self.rng)
        self.time = Time()
        self.kafka = Kafka(self.time)
        self.book = Book(self.setup.direction)
        self.dynamics = Dynamics(self.book, Clock(self.time, self.setup.dynamics))
        self.campaign = Campaign(self.setup.flags, self.book, Clock(self.time, self.setup.campaign))
        self.people = People(self.rng, self.setup, self.dynamics, self.campaign)
        self.processes = Processes(self.rng, self.setup, self.kafka, self.dynamics, self.campaign, folder)
        self.judge = Judge(self.setup, self.book, self.dynamics, self.campaign, self.processes.table_reader, self._tell)
        self.dynamics.tell = self.campaign.tell = self._tell
        self.dynamics.before_call = self.campaign.before_call = self._before_call
        self._written: list[exports.File] = []
        self._held_up: list[exports.File] = []
        self._exported = -1
        self._settling = False

    async def live(self) -> None:
        """Raises Violated."""
        try:
            self._tell(f"{self.setup}")
            self.people.begin()
            for _ in range(self.rng.choice((0, 0, 1, 2))):
                await self._all_goes_on()
            for _ in range(self.setup.steps):
                await self._step()
            await self._settle()
            self.judge.at_rest(self.people.keys, self.people.restored)
            await self._quiet_day()
        finally:
            await self.processes.end_all()
            await self.time.wake_all()
        if self.judge.problems:
            raise Violated("\n".join([*self.told, *(f"** {each}" for each in self.judge.problems), f"BRIDGE_SEED={self.seed}"]))

    async def _step(self) -> None:
        self.time.pass_ms(self.setup.pause(self.rng))
        await self.processes.go_on()
        chance = self.rng.random()
        if chance < 0.45:
            if (deed := self.people.deed()) is not None:
                self._tell(deed)
        elif chance < 0.7:
            await self._all_goes_on()
        elif chance < 0.9:
            await self._work()
        else:
            await self._accident()

    async def _all_goes_on(self) -> None:
        """A day as it should be: an export, and everybody does his part."""
        if self.setup.optin_runs and self.rng.random() < 0.7:
            self._export(full=self.rng.random() < 0.3, style=exports.Style.drawn(self.rng) if self.rng.random() < 0.3 else exports.Style())
        for role in self.processes.roles:
            await self._run(role)

    async def _work(self) -> None:
        """Some of the roles have their turn, one of them is killed in it."""
        roles = self.rng.sample(self.processes.roles, self.rng.randint(1, len(self.processes.roles)))
        if self.setup.optin_runs and self.rng.random() < 0.5:
            self._export(full=self.rng.random() < 0.3, style=exports.Style.drawn(self.rng))
        killed = self.rng.choice(roles) if self.rng.random() < 0.5 else ""
        for role in roles:
            await self._run(role, self.rng.randint(0, 12) if role == killed else None, self.rng.choice((1, 3, 100)))
            if self.rng.random() < 0.1:
                self.time.pass_ms(self.rng.choice((100, 1_000)))

    async def _run(self, role: str, steps: int | None = None, most: int = 100) -> None:
        ended = await self.processes.run(role, steps, most)
        self._tell(f"{role} runs{f', {ended}' if ended else ''}")

    async def _accident(self) -> None:
        accidents = (
            self._mapping,
            self._lost_state,
            self._lost_cursor,
            self._replay,
            self._outage,
            self._days_of_outage,
            self._takeover,
            self._file_again,
            self._redrive,
            self._release,
            self._restored,
        )
        await self.rng.choice(accidents)()

    async def _mapping(self) -> None:
        mapped = self.rng.choice(((0, 1), (0,), (1,)))
        await self.processes.map(mapped)
        self._tell(f"maps flags {mapped}")

    async def _lost_state(self) -> None:
        """The state topic is lost, with or without the cursors, or its digests cannot be told apart any more."""
        workflow: Hearer = self.rng.choice(("ingress", "optin"))
        await self.processes.end_all()
        if lost := self.rng.random() < 0.7:
            self.kafka.states[workflow].clear()
        else:
            self.processes.product.secrets[workflow] += "'"
        self._forget(workflow)
        self._tell(f"loses the state of {workflow}" if lost else f"gets a new digest key for {workflow}")
        if self.rng.random() < 0.6:
            self._forget_cursor(workflow)

    def _forget(self, workflow: Hearer) -> None:
        self.book.forgotten(workflow)
        if workflow == "optin":
            self.processes.contact_reader.seen.clear()

    async def _lost_cursor(self) -> None:
        self._forget_cursor(self.rng.choice(("ingress", "optin")))

    def _forget_cursor(self, workflow: str) -> None:
        (self.processes.table_reader if workflow == "ingress" else self.processes.contact_reader).cursor = None
        self._tell(f"loses the cursors of {workflow}")

    async def _replay(self) -> None:
        if self.processes.table_reader.cursor is not None:
            self.processes.table_reader.replay(self.people.keys)
            self._tell("replays")

    async def _outage(self) -> None:
        number, how = self.rng.choice((1, 3, 12)), self.rng.choice(("busy", "bare", "lost", "Dynamics"))
        if how == "Dynamics":
            self.dynamics.down = number
        else:
            self.campaign.down = [how] * number
        self._tell(f"{number} calls will fail ({how})")

    async def _days_of_outage(self) -> None:
        """Longer than an opt-out waits, and people go on: what is given up lies in the dead letters then, until an admin sends it again."""
        system, until = self.rng.choice((self.campaign, self.dynamics)), self.time.now + 2 * DAYS
        begun = len(self.kafka.topics["optin.decisions"])
        system.down_until = until + 60_000
        self._tell(f"{'Campaign' if system is self.campaign else 'Dynamics'} answers nothing but 500 for two days")
        key = self.rng.choice(self.people.keys)
        for number in (0, 1):
            if said := self.people.opts_out(key, number, in_campaign=system is self.dynamics):
                self._tell(said)
            await self._all_goes_on()
            self.time.pass_ms(20_000)
        while self.time.now < until:
            await self._sleep(until)
        if self.setup.optin_runs:
            await self._run("optin-writer")
        self._tell(f"{len(self.kafka.letters)} dead letters, and it is over in a minute")
        self.judge.given_up(self.kafka, begun, "campaign" if system is self.campaign else "dynamics")

    async def _takeover(self) -> None:
        await self.processes.end(role := self.rng.choice(self.processes.roles))
        self._tell(f"another instance takes over {role}")

    async def _file_again(self) -> None:
        """A file that was read, or was held up, is there (again)."""
        if files := [*self._held_up, *self._written]:
            self.processes.files.append(file := self.rng.choice(files))
            self._tell(f"finds {file.name} in the folder")

    async def _redrive(self) -> None:
        if number := self.processes.redrive():
            self._tell(f"publishes {number} dead letters again")

    async def _release(self) -> None:
        if items := held.open_items(self.kafka):
            item = self.rng.choice(items)
            self.judge.released.add((item.key or b"").decode())
            held.release(self.kafka, item, self.processes.clock)
            self._tell(f"releases {item.topic} {item.offset}")

    async def _restored(self) -> None:
        """An admin says that Dynamics was restored."""
        if self.people.restored is not None and self.setup.declares:
            self.people.restored = None
            self.processes.table_reader.epoch += 1
            self.processes.contact_reader.epoch += 1
            self._tell("declares Dynamics restored")

    def _export(self, full: bool, style: exports.Style) -> None:
        """Campaign writes a file: all profiles, or those that were changed since the last one. Some arrive later than others."""
        since = -(1 << 60) if full else self._exported
        keys = sorted(key for key, each in self.campaign.profiles.items() if each.modified > since)
        self._exported = self.time.now + self.setup.campaign
        if not keys:
            return
        self.rng.shuffle(keys)
        file = exports.made(len(self._written) + 1, self._exported, style, self.campaign.profiles, keys)
        late = not self._settling and self.rng.random() < 0.15
        (self._held_up if late else self.processes.files).append(file)
        self._written.append(file)
        self._tell(f"exports {'all' if full else 'changed'} profiles, {len(keys)}{', held up' if late else ''}: {file.name} {style}")

    def _before_call(self, what: str) -> None:
        """Somebody acts just before a call: between a look and a write of Dynamics, which notices; of Campaign before the look."""
        if self._settling or what not in ("read", "row", "patch") or self.rng.random() > 0.03:
            return
        self.time.pass_ms(1)
        if deed := self.people.click():
            self._tell(f"  before {what}: {deed}")
        self.time.pass_ms(1)

    async def _settle(self) -> None:
        """Whatever was wrong is mended; then it has to come to rest."""
        self._settling = True
        self.time.pass_ms(1)
        self.processes.campaign_answers, self.dynamics.down, self.campaign.down = True, 0, []
        self.dynamics.down_until = self.campaign.down_until = 0
        if self.setup.mends:
            self.people.mend()
        self.time.pass_ms(1)
        await self._restored()
        await self.processes.map((0, 1))
        if self.people.campaign_changed and not self.setup.optin_runs:
            await self._write_all_again()
        self.processes.files += self._held_up
        self._tell("settles")
        still = 0
        for number in range(ROUNDS):
            before = self.judge.changes
            await self._round(full=still == 1)
            redriven = self.processes.redrive() if number < 8 else 0  # some can never be written
            still = still + 1 if self.judge.changes == before and not redriven else 0
            if still >= 2 and self.processes.lag() == 0 and self.time.next_waking() is None:
                return
            await self._sleep()
        self.judge.problem("it does not come to rest")

    async def _write_all_again(self) -> None:
        """Nothing tells ingress that Campaign was restored: with a new digest key it compares every record (docs/settings.md)."""
        self.processes.product.secrets["ingress"] += "'"
        self._forget("ingress")
        await self._run("table-reader")
        await self._replay()

    async def _sleep(self, until: int | None = None) -> None:
        """Until nobody waits for anything any more, or until then; a minute at least."""
        self.time.pass_ms(60_000)
        await self.processes.go_on()
        for _ in range(WAKINGS):
            waking = self.time.next_waking() or until
            if waking is None or (until is None and self.processes.lag_of_readers()):
                return
            self.time.pass_ms(max(0, min(waking, until or waking) - self.time.now))
            await self.processes.go_on()
            if until is not None and self.time.now >= until:
                return

    async def _round(self, full: bool) -> None:
        if self.setup.optin_runs and (self.setup.exports or self.people.campaign_changed):  # else nothing would tell of that
            self._export(full, exports.Style())
        for role in self.processes.roles:
            await self._until_done(role)

    async def _until_done(self, role: str) -> None:
        if ended := await self.processes.run(role):
            self._tell(f"{role}, {ended}")
        while role == "export-reader" and self.processes.files:
            await self.processes.run(role)

    async def _quiet_day(self) -> None:
        """After all is settled another day changes nothing."""
        before = self.judge.changes
        self.time.pass_ms(DAYS)
        await self.processes.go_on()
        for full in (True, False):
            await self._round(full)
        if self.judge.changes != before:
            self.judge.problem("a quiet day makes calls that change something")

    def _tell(self, what: str) -> None:
        self.told.append(f"{self.time.now / 1000:>12.3f}  {what}")
