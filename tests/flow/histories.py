"""Histories of one writer: records come, calls are slow, refused or wait, partitions go and come back, the process begins again.

What must hold whatever happens: one call a key at a time; a key ends with its newest record, in the target and in the state; each record
that could be decoded is written, or is a dead letter, or went in a newer one; nothing stays in hand.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from dataclasses import replace

from bridge.memory import MemoryDeadLetters, MemoryState
from bridge.model.events import Headers, Record
from tests.flow.writing import LIVE, PARTITIONS, REPLAY, Outcome, Rig, ScriptedHandler, away, no_parent, record, refused, turns, until

KEYS = ("a", "b", "c", "d", "e")
REPLAYED = ("d", "e")  # a key lies in one topic here: what merges two of them goes by versions, which these records have not
OUTCOMES: tuple[Outcome, ...] = (None, None, None, away(1), away(attempts=1000), no_parent(), refused())


class History:
    """`rng` decides all. `log`: what lies in each partition of each topic; `said` tells the story."""

    def __init__(self, seed: int) -> None:
        self.rng, self.seed = random.Random(seed), seed
        self.handler, self.state, self.letters = ScriptedHandler(), MemoryState(), MemoryDeadLetters()
        self.log: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self.said: list[str] = []
        self.published_again: set[str] = set()
        self.rig = self._begin({})

    async def live(self) -> None:
        """Raises AssertionError with the story."""
        run = asyncio.create_task(self.rig.writer.run())
        try:
            for _ in range(self.rng.randint(10, 50)):
                deed = self.rng.choices((self._arrives, self._slow, self._fast, self._rebalance), (12, 3, 3, 2))[0]
                await deed()
                if self.rng.random() < 0.04:
                    run = await self._restart(run)
                await turns(self.rng.choice((0, 1, 3, 20)))
                assert not run.done(), run
            for gate in self.handler.slow.values():
                gate.set()
            await until(lambda: run.done() or self.rig.ledger.waiting() == 0)
            await turns(20)
            self._judge()
        except AssertionError as exc:
            raise AssertionError("\n".join([*self.said, f"{exc}", f"BRIDGE_SEED={self.seed}"])) from exc
        finally:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)

    def _begin(self, committed: dict[tuple[str, int], int]) -> Rig:
        rig = Rig(
            concurrency=self.rng.randint(1, 4),
            park_budget_s=1e9,
            most_parked=self.rng.choice((1, 2, 20_000)),
            state=self.state,
            letters=self.letters,
            handler=self.handler,
        )
        rig.publish_again = self._again
        for place in ((topic, number) for topic in (LIVE, REPLAY) for number in range(PARTITIONS)):
            rig.ledger.own(place, committed.get(place))
        return rig

    async def _arrives(self) -> None:
        key = self.rng.choice(KEYS)
        self.handler.script[key].append(self.rng.choice(OUTCOMES))
        place = (REPLAY if key in REPLAYED else LIVE, KEYS.index(key) % PARTITIONS)
        number = sum(len(each) for each in self.log.values())
        value = f"bad{number}" if self.rng.random() < 0.05 else f"{number:05}"
        self._append(record(key, len(self.log[place]), value, topic=place[0], partition=place[1]))

    def _append(self, each: Record) -> None:
        self.log[each.position].append(each)
        self.said.append(f"{_text(each.key)} {_text(each.value)} arrives at {each.topic}-{each.partition}-{each.offset}")
        self.rig.offer(each)

    def _again(self, each: Record, headers: Headers) -> None:
        """The writer publishes a parked record at the end of its topic."""
        self.published_again.add(_text(each.key))
        self._append(replace(each, offset=len(self.log[each.position]), headers=tuple(headers)))

    async def _slow(self) -> None:
        self.handler.slow_down(key := self.rng.choice(KEYS))
        self.said.append(f"calls of {key} are slow")

    async def _fast(self) -> None:
        for key, gate in list(self.handler.slow.items()):
            if self.rng.random() < 0.5:
                gate.set()
                del self.handler.slow[key]
                self.said.append(f"calls of {key} are answered")

    async def _rebalance(self) -> None:
        """Partitions go and come back at once; what was not committed is read again."""
        gone = self.rng.sample(range(PARTITIONS), self.rng.randint(1, PARTITIONS))
        places = [(topic, number) for topic in (LIVE, REPLAY) for number in gone]
        self.said.append(f"partitions {gone} go")
        await self.rig.writer.release(places)
        committed = self._committed()
        for place in places:
            self.rig.ledger.disown(place)
        await turns(self.rng.choice((0, 5, 30)))
        self.said.append(f"partitions {gone} come back")
        for place in places:
            self.rig.ledger.own(place, committed.get(place, 0))
            self.rig.offer(*self.log[place][committed.get(place, 0) :])

    async def _restart(self, run: asyncio.Task[None]) -> asyncio.Task[None]:
        """A stop, or kill -9, after which less is committed."""
        killed, before = self.rng.random() < 0.5, self._committed()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        committed = before if killed else self._committed()
        self.said.append("is killed and begins again" if killed else "stops and begins again")
        self.handler.busy.clear()
        self.rig = self._begin(committed)
        fresh = asyncio.create_task(self.rig.writer.run())
        for place, records in self.log.items():
            self.rig.offer(*records[committed.get(place, 0) :])
        return fresh

    def _committed(self) -> dict[tuple[str, int], int]:
        return {place: at for place in self.log for at in [self._reached(place)]}

    def _reached(self, place: tuple[str, int]) -> int:
        """The offset a commit would name."""
        waiting = self.rig.ledger._open.get(place)
        return next(iter(waiting)) if waiting else self.rig.ledger._next.get(place, 0)

    def _judge(self) -> None:
        assert self.rig.writer.parked() == 0 and not self.rig.writer.full(True)
        letters = {letter.record.value for letter in self.letters.letters}  # of it, or of its copy
        for key in KEYS:
            records = [each for place in self.log.values() for each in place if each.key == key.encode()]
            good = [each for each in records if not _text(each.value).startswith("bad")]
            bad = [each for each in records if _text(each.value).startswith("bad")]
            assert all(each.value in letters for each in bad), f"a bad record of {key} is in no letter"
            ended = set(self.handler.ended[key])
            assert all(_text(each.value) in ended for each in good), f"a record of {key} was not written"
            known = self.state.get(KEYS.index(key) % PARTITIONS, key)
            if good and key not in self.published_again:  # else an older one may come once more: versions would tell
                newest = good[-1]
                assert self.handler.ended[key][-1] == _text(newest.value), f"{key} does not end with its newest record"
                assert known is not None and known.offset == newest.offset, f"the state of {key} is not of its newest record"


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode()
