"""One topic through a Faust agent, in batches, acknowledged last (decision D8): no tables, no topics of Faust's own.

Faust gives an event to the agent, the agent puts it into a queue, and the queue is handed over in batches of what has arrived. An event is
acknowledged when its batch has been dealt with, so that what was not is read again by whoever owns its partition then.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

import faust
from confluent_kafka import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from bridge.kafka.client import REFUSED, SESSION_TIMEOUT_MS, Names, error_for, trouble
from bridge.kafka.lease import Lease
from bridge.kafka.membership import Membership
from bridge.kafka.reader import TopicReader
from bridge.kafka.settings import KafkaSettings
from bridge.model.errors import BridgeError, HaltError, RetryError
from bridge.model.events import Record
from bridge.observe.log import log

BATCH = 500
WAITING = 2 * BATCH  # events taken from Faust that no batch has begun with
LOOK_EVERY_S = 0.5
QUIET_S = 2.0  # Faust has committed by then what it was told


class _Thread(driver.AIOKafkaConsumerThread):
    """Faust asks for committed records only when it writes in transactions itself, and has no setting for it."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer: Any = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


class _FaustTransport(driver.Transport):
    Consumer = _Consumer


class StreamListener(Protocol):
    """Whose the events are; called in the event loop, one call at a time."""

    async def gain(self, partitions: Collection[int]) -> None:
        """These partitions are ours, all others are not. Raises RetryError or HaltError."""

    async def take(self, records: Sequence[Record]) -> None:
        """Returns when the records may be forgotten. Raises RetryError (begin again) or HaltError."""

    async def lose(self, partitions: Collection[int]) -> None:
        """Nothing may be done for these partitions any more."""


class FaustStream:
    """One run. `group` is the app's id and the consumer group; `partitions` of `topic`."""

    def __init__(
        self, settings: KafkaSettings, group: str, topic: str, partitions: int, folder: Path, listener: StreamListener, lease: Lease
    ) -> None:
        names = Names(settings)
        self._settings, self._partitions, self._listener, self._lease = settings, partitions, listener, lease
        self._group, self._topic, self._bare, self._folder = names.group(group), names.topic(topic), topic, folder
        self._mine: frozenset[int] = frozenset()
        self._one = asyncio.Lock()  # a partition is not given away in the middle of a batch
        self._arrived: asyncio.Queue[Any] = asyncio.Queue(WAITING)
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._taken_at = 0.0
        self._passed: dict[int, int] = {}  # partition → its end, up to which all is committed
        self.membership = Membership(self._group)
        self.rebalances = 0

    async def run(self) -> None:
        """Until cancelled; then the batch under way is finished, its offsets are committed and the group is left. Raises HaltError, or
        RetryError to be started again."""
        await asyncio.to_thread(self._check_retention)
        quieten()
        app = self._app()
        tasks = [asyncio.create_task(each) for each in (self._hand_over(), self._look_after(app), self._pass_by(app))]
        try:
            await app.start()
            done, _ = await asyncio.wait([*tasks, self._failed], return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            async with self._one:
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await app.stop()
            del self._listener  # Faust keeps every app for ever, and with it this object: the listener's producer must not stay as well

    def _app(self) -> faust.App:
        self._folder.mkdir(parents=True, exist_ok=True)
        app = faust.App(
            self._group,
            broker=[f"kafka://{each.strip()}" for each in self._settings.bootstrap_servers.split(",")],
            broker_credentials=credentials(self._settings),
            broker_session_timeout=SESSION_TIMEOUT_MS / 1000,
            broker_heartbeat_interval=2.0,
            broker_commit_interval=1.0,
            consumer_auto_offset_reset="earliest",  # for a group that has never committed; see _check_retention for all others
            stream_wait_empty=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            datadir=self._folder,
            loop=asyncio.get_running_loop(),
        )
        app.transport = _FaustTransport(app.conf.broker_consumer, app, asyncio.get_running_loop())
        topic = app.topic(self._topic, key_serializer="raw", value_serializer="raw")
        app.agent(topic, name=self._topic)(self._agent)
        hooks: Any = app  # its signals are typed for handlers that take anything
        hooks.on_partitions_assigned.connect(self._assigned, weak=False)
        hooks.on_partitions_revoked.connect(self._revoked, weak=False)
        app.finalize()
        return app

    async def _agent(self, stream: Any) -> None:
        async for event in stream.noack().events():
            await self._arrived.put(event)

    async def _hand_over(self) -> None:
        while True:
            events = [await self._arrived.get()]
            async with self._one:
                while len(events) < BATCH and not self._arrived.empty():
                    events.append(self._arrived.get_nowait())
                ours = [event for event in events if event.message.partition in self._mine]  # what was not is read by another
                await self._listener.take([self._record(event.message) for event in ours])
                for event in ours:
                    event.ack()
                self._taken_at = time.monotonic()

    def _record(self, message: Any) -> Record:
        return Record(
            topic=self._bare,
            partition=message.partition,
            offset=message.offset,
            timestamp_ms=int(message.timestamp * 1000),
            key=message.key,
            value=message.value,
            headers=tuple((str(name), bytes(value or b"")) for name, value in message.headers or ()),
        )

    async def _assigned(self, _: faust.App, assigned: Collection[Any], **_more: Any) -> None:
        self.membership.assigned()
        mine = sorted(each.partition for each in assigned if each.topic == self._topic)
        log("partitions_assigned", partitions=mine)
        self.rebalances += 1
        async with self._one:
            try:
                await self._listener.gain(mine)
            except Exception as exc:
                self._fail(exc)
                return
            self._mine = frozenset(mine)
        self._passed, self._taken_at = {}, time.monotonic()
        self._lease.renew()

    async def _revoked(self, _: faust.App, revoked: Collection[Any], **_more: Any) -> None:
        self.membership.left()
        gone = sorted(each.partition for each in revoked if each.topic == self._topic)
        async with self._one:
            self._mine -= set(gone)
            try:
                await self._listener.lose(gone)
            except Exception as exc:
                self._fail(exc)

    def _fail(self, exc: Exception) -> None:
        if not self._failed.done():
            self._failed.set_exception(exc)

    async def _look_after(self, app: faust.App) -> None:
        """Notices that Faust has given up, and that this process was held up for so long that its partitions may be somebody else's."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if app.should_stop or app.crashed:
                raise _ended(app.crash_reason)
            self._lease.check()
            self._lease.renew()

    async def _pass_by(self, app: faust.App) -> None:
        """Commits, when nothing is to be done, what Faust never does, since no event lies there: markers of transactions (a re-driven
        letter's) behind the last one, and the beginning of a partition that has had none. Lag would stay above 0."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._mine and self._arrived.empty() and not self._one.locked() and time.monotonic() - self._taken_at > QUIET_S:
                await self._commit_ends(app.consumer)

    async def _commit_ends(self, consumer: Any) -> None:
        assigned = [number for number in sorted(self._mine) if TP(self._topic, number) in consumer.assignment()]
        try:
            ends = {number: consumer.highwater(TP(self._topic, number)) for number in assigned}  # as the last fetch told it: no request
            if all(end is None or end <= self._passed.get(number, -1) for number, end in ends.items()):
                return
            beyond = await asyncio.to_thread(self._beyond, assigned)
        except AssertionError:  # aiokafka's, of a partition that has just been taken away
            return
        except BridgeError as exc:
            trouble("committing", exc)
            return
        finally:
            self._taken_at = time.monotonic()  # not again at once
        if beyond and await consumer._commit({TP(self._topic, number): end for number, end in beyond.items()}):
            self._passed |= beyond

    def _beyond(self, partitions: Sequence[int]) -> dict[int, int]:
        """The ends of those partitions that hold no event from the committed offset on."""
        with closing(TopicReader(self._settings, self._group)) as reader:
            committed, ends = reader.committed(self._topic, self._partitions), {}
            for number in partitions:
                low, end = reader.range(self._topic, number)
                if next(iter(reader.read(self._topic, number, max(low, committed[number]), end)), None) is None:
                    ends[number] = end
            return ends

    def _check_retention(self) -> None:
        with closing(TopicReader(self._settings, self._group)) as reader:
            committed = reader.committed(self._topic, self._partitions)
            first = [reader.range(self._topic, number)[0] for number in range(self._partitions)]
            if expired := {number: at for number, at in enumerate(first) if committed[number] < at}:
                with suppress(BridgeError):  # another instance is there, and has told it
                    reader.commit(self._topic, expired)  # it is told once: the next start goes on with what is left
                raise HaltError(
                    f"Kafka, consuming: observations that were waiting in {self._topic} have been deleted by the topic's retention",
                    code="backlog_expired",
                    hint="Delete the workflow's cursors, then start: all contacts are read again; ask for a full export of Campaign.",
                    origin="kafka",
                )


def _ended(why: BaseException | None) -> BridgeError:
    """What to make of Faust's end: most reasons pass by themselves. Its client's errors carry Kafka's own number."""
    code = None if isinstance(why, OSError) else getattr(why, "errno", None)
    if code in REFUSED:
        return error_for(KafkaError(code), "consuming")
    return RetryError("Kafka, consuming: the consumer ended", code="kafka_unavailable")


def credentials(settings: KafkaSettings) -> Any:
    """The security settings of librdkafka as Faust wants them; None for PLAINTEXT. Raises HaltError for what Faust cannot do."""
    given = settings.client()
    protocol = given.get("security.protocol", "PLAINTEXT").upper()
    context = _tls(given) if protocol.endswith("SSL") else None
    if protocol == "PLAINTEXT":
        return None
    if protocol == "SSL":
        return faust.SSLCredentials(context)
    mechanism = given.get("sasl.mechanism", given.get("sasl.mechanisms", "")).upper()
    if mechanism not in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"):
        raise HaltError(
            f"KAFKA_SASL_MECHANISM {mechanism or '(none)'} is not possible for the resolver",
            code="kafka_refused",
            hint="Use PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or client certificates.",
            origin="configuration",
        )
    user, password = given.get("sasl.username", ""), given.get("sasl.password", "")
    return faust.SASLCredentials(username=user, password=password, ssl_context=context, mechanism=mechanism)


def _tls(given: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=given.get("ssl.ca.location"), cadata=given.get("ssl.ca.pem"))
    context.check_hostname = given.get("ssl.endpoint.identification.algorithm", "https").lower() != "none"
    if given.get("enable.ssl.certificate.verification", "true").lower() == "false":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate := given.get("ssl.certificate.location"):
        context.load_cert_chain(certificate, given.get("ssl.key.location"), given.get("ssl.key.password"))
    return context


class _FaustLines(logging.Handler):
    """Warnings of Faust and its client as lines of ours: the logger and the text without its arguments, which may hold anything."""

    def emit(self, record: logging.LogRecord) -> None:
        if "Missing sensor state" not in str(record.msg):  # which comes at the first rebalance of every start
            log("faust_warning", "warning", logger=record.name, reason=str(record.msg)[:200])


def quieten() -> None:
    for name in ("faust", "mode", "aiokafka"):
        logger = logging.getLogger(name)
        if not any(isinstance(each, _FaustLines) for each in logger.handlers):
            logger.addHandler(_FaustLines(logging.WARNING))
            logger.propagate = False
