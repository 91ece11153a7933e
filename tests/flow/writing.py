"""A writer loop with memory twins, a scripted handler and a clock that does not wait: what the tests of the loop are built on."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from bridge.flow.offsets import OffsetLedger, Position
from bridge.flow.ports import Result, Route
from bridge.flow.waits import LetterLimit
from bridge.flow.writer import Writer
from bridge.memory import MemoryDeadLetters, MemoryState
from bridge.model.errors import BridgeError, ParkError, RejectError, RetryError
from bridge.model.events import Headers, Record
from bridge.model.permission import call_guard
from bridge.model.state import Known
from bridge.observe.tracing import OFF, Tracer
from tests.clock import FakeClock

LIVE, REPLAY = "live", "replay"
PARTITIONS = 3
AT_THE_END = 100_000  # offsets from here on are those of records that were published again


@dataclass(frozen=True)
class Work:
    """The test's event: all values of one key that are to be written with one call, oldest first."""

    key: str
    values: tuple[str, ...]


Outcome = BaseException | Result | None  # to raise, to return; None: written


def record(key: str, offset: int, value: str = "", *, topic: str = LIVE, partition: int = 0, headers: Headers = ()) -> Record:
    """`value` beginning with "bad" cannot be decoded; by default it tells where the record is from."""
    return Record(topic, partition, offset, 1_700_000_000_000 + offset, key.encode(), (value or f"{key}{offset}").encode(), headers)


def away(retry_after_s: float | None = None, attempts: int | None = None) -> RetryError:
    return RetryError("503", code="target_busy", status=503, retry_after_s=retry_after_s, attempts=attempts)


def no_parent(budget_s: float | None = None) -> ParkError:
    return ParkError("hidden", code="parent_missing", status=404, budget_s=budget_s)


def refused() -> RejectError:
    return RejectError("500", code="value_refused", status=500)


class ScriptedHandler:
    """Does for each key what `script` says next, then writes. `calls` are the calls that reached the target, in order.

    A key in `held` waits before its call, one in `slow` during it, until the event is set.
    """

    sums = False

    def __init__(self) -> None:
        self.script: dict[str, list[Outcome]] = defaultdict(list)
        self.always: dict[str, Callable[[], Outcome]] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.slow: dict[str, asyncio.Event] = {}
        self.calls: list[Work] = []
        self.ended: dict[str, list[str]] = defaultdict(list)  # values written or refused for good, in that order
        self.known: list[Known | None] = []  # what each call was told of its record
        self.busy: set[str] = set()
        self.unknown: list[BridgeError] = []  # raised by turns while a record whose value begins with "news" is decoded
        self.most_busy = 0

    def hold(self, key: str) -> asyncio.Event:
        return self.held.setdefault(key, asyncio.Event())

    def slow_down(self, key: str) -> asyncio.Event:
        return self.slow.setdefault(key, asyncio.Event())

    def route(self, record: Record) -> Route:
        key = (record.key or b"").decode()
        return Route(key, key, record.topic == LIVE)

    async def decode(self, record: Record) -> Work:
        value = (record.value or b"").decode()
        if value.startswith("bad"):
            raise RejectError("no event of ours", code="not_avro", stage="decode")
        if value.startswith("news") and self.unknown:
            raise self.unknown.pop(0)
        return Work(self.route(record).key, (value,))

    def merge(self, waiting: Work, arrived: Work) -> tuple[Work, bool]:
        return Work(waiting.key, waiting.values + arrived.values), True

    def rejected(self, event: Work, known: Known | None) -> Known:
        return known or Known()

    async def write(self, event: Work, known: Known | None) -> Result:
        assert event.key not in self.busy, f"two calls at once for {event.key}"
        self.busy.add(event.key)
        self.most_busy = max(self.most_busy, len(self.busy))
        try:
            return await self._call(event, known)
        finally:
            self.busy.discard(event.key)

    async def _call(self, event: Work, known: Known | None) -> Result:
        if event.key in self.held:
            await self.held[event.key].wait()
        call_guard.get()()
        self.calls.append(event)
        self.known.append(known)
        if event.key in self.slow:
            await self.slow[event.key].wait()
        await asyncio.sleep(0)
        waiting = self.script[event.key]
        outcome = waiting.pop(0) if waiting else self.always.get(event.key, lambda: None)()
        if outcome is None or isinstance(outcome, Result | RejectError):
            self.ended[event.key] += event.values
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome or Result("updated", Known(exists=True))

    def called(self) -> list[str]:
        """The keys called, in order."""
        return [call.key for call in self.calls]


class CountingLedger(OffsetLedger):
    """Counts how often each record was settled."""

    def __init__(self) -> None:
        super().__init__()
        self.settled: Counter[tuple[Position, int]] = Counter()

    def settle(self, position: Position, offset: int) -> None:
        self.settled[position, offset] += 1
        super().settle(position, offset)


class FailingLetters(MemoryDeadLetters):
    """Keeps nothing for the first `failures` times."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    async def put(self, record: Record, error: RejectError, **facts: object) -> None:
        if self.failures > 0:
            self.failures -= 1
            raise RetryError("broker away")
        await super().put(record, error, **facts)  # type: ignore[arg-type]


class FailingState(MemoryState):
    """Keeps nothing for the first `failures` times."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    async def put(self, partition: int, key: str, known: Known) -> None:
        await asyncio.sleep(0)
        if self.failures > 0:
            self.failures -= 1
            raise RetryError("broker away")
        await super().put(partition, key, known)


@dataclass
class Rig:
    """One writer and all around it. Make it inside a running loop."""

    concurrency: int = 4
    park_budget_s: float = 3600.0
    capacity: int = 1000
    most_parked: int = 20_000
    folder: Path | None = None
    in_a_row: int = 10_000
    state: MemoryState = field(default_factory=MemoryState)
    letters: MemoryDeadLetters = field(default_factory=MemoryDeadLetters)
    handler: ScriptedHandler = field(default_factory=ScriptedHandler)
    ledger: CountingLedger = field(default_factory=CountingLedger)
    clock: FakeClock = field(default_factory=FakeClock)
    tracer: Tracer = OFF
    requeued: list[tuple[Record, Headers]] = field(default_factory=list)
    comes_again: bool = True
    publish_again: Callable[[Record, Headers], None] | None = None  # instead
    before_requeue: Callable[[Record], None] = lambda _: None
    lease_check: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        for topic in (LIVE, REPLAY):
            for partition in range(PARTITIONS):
                self.ledger.own((topic, partition), None)
        self.writer = Writer(
            self.handler,
            self.state,
            self.letters,
            self._requeue,
            self.ledger,
            LetterLimit(self.in_a_row, 1.0),
            self.clock,
            random.Random(7),
            concurrency=self.concurrency,
            park_budget_s=self.park_budget_s,
            lease_check=self.lease_check,
            capacity=self.capacity,
            most_parked=self.most_parked,
            folder=self.folder,
            tracer=self.tracer,
        )

    async def _requeue(self, record: Record, headers: Headers) -> None:
        """It comes again, behind all others."""
        if self.publish_again is not None:
            self.publish_again(record, headers)
            return
        self.before_requeue(record)
        self.requeued.append((record, headers))
        if self.comes_again:
            self.offer(replace(record, offset=AT_THE_END + len(self.requeued), headers=tuple(headers)))

    def offer(self, *records: Record) -> None:
        """As the consumer does: noted in the ledger first."""
        for each in records:
            self.ledger.read(each.position, each.offset, each.timestamp_ms)
        self.writer.offer(records)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.writer.run())
        try:
            yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def work(self, *records: Record) -> None:
        """Offers these records to a running writer and returns when all are settled."""
        self.offer(*records)
        async with self.running() as run:
            await until(lambda: run.done() or self.ledger.waiting() == 0)
            if run.done():
                run.result()

    def settled(self, *records: Record) -> bool:
        """Whether each of these was settled, exactly once."""
        return all(self.ledger.settled[each.position, each.offset] == 1 for each in records)

    def waits(self) -> list[float]:
        """Sleeps of the loop, without the short looks of a release."""
        return [seconds for seconds in self.clock.slept if seconds != 0.02]


async def until(condition: Callable[[], object], turns: int = 20_000) -> None:
    """Lets the loop turn until `condition` holds."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


async def turns(n: int = 200) -> None:
    """Lets the loop turn for a while: time enough for what should not happen."""
    for _ in range(n):
        await asyncio.sleep(0)


def backed_off(waits: Iterable[float], expected: Iterable[float]) -> bool:
    """Whether the waits are the expected ones, each shortened by up to a quarter."""
    pairs = list(zip(waits, expected, strict=True))
    return all(0.75 * wanted <= wait <= wanted for wait, wanted in pairs)
