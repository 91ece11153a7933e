"""Dead letters for people: the list, the groups with cause and cure, and what re-drive and discard do."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any

from bridge.flow.failures import without_parking
from bridge.kafka.avro import Decoder, load_schema
from bridge.kafka.client import Names, headers_of
from bridge.kafka.reader import TopicReader
from bridge.kafka.registry import HttpRegistry
from bridge.kafka.settings import KafkaSettings
from bridge.model.desired import Workflow
from bridge.model.errors import RejectError
from bridge.model.events import ChangeEvent, EmailEvent, OptStatusDecided, OptStatusObserved, Record
from services.control.models.data_json import ChosenIn, DoneOut, LetterGroupOut, LetterOut
from services.control.rules import actions
from services.control.rules.actions import Action, By
from services.control.topics.archive import Archive, redriven
from services.control.topics.store import Store

AT_ONCE = 500  # letters in one transaction

MAPPING = "Correct the mapping or add a replacement, save, stop and start the workflow, then re-drive."
CURES: Mapping[str, tuple[str, str]] = {
    "not_convertible": ("A value does not fit the type of its Campaign field.", MAPPING),
    "key_too_long": ("The key is longer than the Campaign field that holds it.", "Choose a longer key field in Campaign, then re-drive."),
    "too_long": (
        "An address, a number or an id is longer than its Campaign field; it is not cut, since it would be another one.",
        "Lengthen the field in Campaign and publish, or correct the value in Dynamics, then re-drive.",
    ),
    "value_refused": ("Campaign refuses a value of the record.", MAPPING),
    "value_too_long": ("A value is longer than Campaign takes.", "Lengthen the field in Campaign and publish, then re-drive."),
    "unknown_field": (
        "Campaign does not know a mapped field any more.",
        "Publish the field in Campaign or take it out of the mapping, then re-drive.",
    ),
    "read_only_field": ("A mapped field cannot be written in Campaign.", MAPPING),
    "field_missing": ("Campaign asks for a field that the record does not bring.", "Map the mandatory field, then re-drive."),
    "key_change_refused": (
        "Campaign does not let the key of a record change.",
        "Take the key field out of the field mappings, then re-drive.",
    ),
    "duplicate_key": (
        "Another record of Campaign holds the same unique value.",
        "Remove the duplicate in Campaign or Dynamics, then re-drive.",
    ),
    "parent_missing": (
        "The record this one is linked to did not come to Campaign in time.",
        "Bring the parent (map or replay its table, or look for its dead letter), then re-drive.",
    ),
    "bad_answer": (
        "Something before the system answered for it, a hundred times, to this record alone.",
        "Find the proxy or firewall that takes exception to it, then re-drive.",
    ),
    "target_error": ("The target failed again and again without saying why.", "See whether it is well, then re-drive."),
    "contact_key_missing": (
        "The event does not say which contact it belongs to: the profile has no externalId, or it is elsewhere in the event.",
        "Discard those of profiles that are not from Dynamics; else correct CAMPAIGN_EVENT_CONTACT_KEY and re-drive.",
    ),
    "contact_key_unusable": (
        "The profile's externalId is not the id of a contact.",
        "Discard those of profiles that are not from Dynamics; else correct CAMPAIGN_EVENT_CONTACT_KEY and re-drive.",
    ),
    "event_time_missing": ("The event does not say when it happened.", "Correct CAMPAIGN_EVENT_OCCURRED_AT, then re-drive."),
    "contact_missing": (
        "The contact of the event did not come to Dynamics in time, or was deleted there.",
        "Restore the contact and re-drive; else discard.",
    ),
    "activity_refused": (
        "Dynamics refuses the activity.",
        "See the code in the reason: a column's limits, a plug-in of the environment. Change that, then re-drive.",
    ),
    "profile_missing": (
        "The contact has no profile in Campaign.",
        "Bring it there (map or replay contact), then re-drive; else discard.",
    ),
    "flag_refused": (
        "A system refuses the flag.",
        "See the code in the reason: a column that cannot be written, a plug-in of the environment. Change that, then re-drive.",
    ),
    "event_too_large": (
        "A row with its columns is larger than Kafka takes.",
        "Take the longest column out of the mapping, or raise max.message.bytes of the topics and KAFKA_MESSAGE_MAX_BYTES; then replay "
        "its key and discard.",
    ),
    "not_storable": (
        "A column holds what an event cannot carry.",
        "Take the column out of the mapping or correct it in Dynamics; then replay its key and discard.",
    ),
    "not_sendable": ("A value cannot be sent as JSON: somebody else writes to our topic.", "Find the producer and stop it, then discard."),
    "not_avro": ("The message is not one of ours: somebody else writes to our topic.", "Find the producer and stop it, then discard."),
    "unknown_schema": ("The message's schema is not in the registry.", "Restore the registry's subjects, then re-drive; else discard."),
    "other_schema": ("The message was written with a schema that ours cannot read.", "Find the producer and stop it, then discard."),
    "not_this_event": ("The message is another kind of event than its topic holds.", "Find the producer and stop it, then discard."),
    "misplaced": ("The event belongs to another table or key than its message.", "Find the producer and stop it, then discard."),
}
OTHER = ("See the reason.", "Remove the cause, then re-drive.")


class Letters:
    """Raises RetryError or HaltError when Kafka or the registry do not answer."""

    def __init__(self, settings: KafkaSettings, archive: Archive, store: Store) -> None:
        self._settings, self._names, self._archive, self._store = settings, Names(settings), archive, store
        registry = HttpRegistry(settings, patience_s=0)
        self._decoders: Mapping[Workflow, Decoder[Any]] = {
            "ingress": Decoder(registry, load_schema("ChangeEvent"), ChangeEvent),
            "egress": Decoder(registry, load_schema("EmailEvent"), EmailEvent),
        }
        self._optin: Mapping[str, Decoder[Any]] = {
            "optin.observations": Decoder(registry, load_schema("OptStatusObserved"), OptStatusObserved),
            "optin.decisions": Decoder(registry, load_schema("OptStatusDecided"), OptStatusDecided),
        }

    async def page(self, workflow: Workflow, after: str | None, limit: int, fingerprint: str | None, values: bool) -> list[LetterOut]:
        """Newest first. `values`: with the decoded events."""
        rows = self._archive.letters(workflow, after, limit, fingerprint)
        shown = await self._values(workflow, [row["id"] for row in rows]) if values else {}
        return [letter_out(row, shown.get(row["id"])) for row in rows]

    def groups(self, workflow: Workflow) -> list[LetterGroupOut]:
        return [
            LetterGroupOut(
                fingerprint=group.fingerprint,
                code=group.sample["code"],
                count=group.count,
                open=group.open,
                first=datetime.fromisoformat(group.first),
                last=datetime.fromisoformat(group.last),
                sample=letter_out(group.sample),
                cause=CURES.get(group.sample["code"], OTHER)[0],
                cure=CURES.get(group.sample["code"], OTHER)[1],
            )
            for group in self._archive.groups(workflow)
        ]

    async def settle(self, workflow: Workflow, action: Action, chosen: ChosenIn, by: By, reason: str | None = None) -> DoneOut:
        """Re-drives or discards. Letters that were dealt with before, or that retention has deleted, are passed over."""
        ids = self._archive.open(workflow, chosen.fingerprint) if chosen.ids is None else list(dict.fromkeys(chosen.ids))
        done = 0
        for start in range(0, len(ids), AT_ONCE):
            batch = [each for each in ids[start : start + AT_ONCE] if self._archive.letter(workflow, each) is not None]
            found = await asyncio.to_thread(self._raw, workflow, batch)
            letters = {each: record_again(record, self._names, workflow) for each, record in found.items()}
            if action == "discarded":
                again: dict[str, Sequence[Record]] = {each: [] for each in letters}
            else:
                again = {each: [record] for each, record in letters.items() if record is not None}
            done += await self._store.run(actions.settle_letters(workflow, action, again, by, reason))
        if action == "discarded":
            return DoneOut(discarded=done, skipped=len(ids) - done)
        return DoneOut(redriven=done, skipped=len(ids) - done)

    async def _values(self, workflow: Workflow, ids: Sequence[str]) -> dict[str, Any]:
        found = await asyncio.to_thread(self._raw, workflow, ids)
        return {each: await self._value(workflow, record) for each, record in found.items()}

    async def _value(self, workflow: Workflow, record: Record) -> Any:
        """The event; of a letter that a reader wrote what the system gave it; bytes for what is neither."""
        source = self._names.bare((record.header("dlq.topic") or b"").decode("utf-8", "replace"))
        with suppress(RejectError, KeyError):
            decoder = self._optin[source] if workflow == "optin" else self._decoders[workflow]
            return asdict(await decoder.decode(record.value))
        with suppress(ValueError):
            if (record.value or b"")[:1] == b"{":
                return json.loads(record.value or b"")
        return {"base64": base64.b64encode(record.value or b"").decode()}

    def _raw(self, workflow: Workflow, ids: Sequence[str]) -> dict[str, Record]:
        """The letters as they lie in Kafka; without those that are not there any more. Blocks."""
        topic, by_partition = self._names.topic(f"{workflow}.dead-letters"), dict[int, list[int]]()
        for each in ids:
            part, _, at = each.partition("-")
            by_partition.setdefault(int(part), []).append(int(at))
        found: dict[str, Record] = {}
        with closing(TopicReader(self._settings)) as reader:
            for number, offsets in by_partition.items():
                low, high = reader.range(topic, number)
                wanted = {offset for offset in offsets if low <= offset < high}
                for message in reader.read(topic, number, min(wanted), max(wanted) + 1) if wanted else ():
                    if (offset := message.offset() or 0) in wanted:
                        stamp = message.timestamp()[1]
                        record = Record(topic, number, offset, stamp, message.key(), message.value(), headers_of(message))
                        found[f"{number}-{offset}"] = record
        return found


def letter_out(row: sqlite3.Row, value: Any = None) -> LetterOut:
    return LetterOut(
        id=row["id"],
        key=row["key"],
        table=row["table_name"],
        code=row["code"],
        reason=row["reason"],
        stage=row["stage"],
        target_status=row["status"],
        when=datetime.fromisoformat(row["failed_at"]),
        first_failed_at=datetime.fromisoformat(row["first_failed_at"]),
        attempts=row["attempts"],
        revision=row["revision"],
        fingerprint=row["fingerprint"],
        redriven=row["redriven"],
        state=row["state"],
        value=value,
    )


def record_again(letter: Record, names: Names, workflow: Workflow) -> Record | None:
    """What goes back to where the letter came from: the original key, bytes and headers, and how often it has been re-driven now.
    None for a letter that names a topic which is not this workflow's, or that has no value."""
    topic = names.bare((letter.header("dlq.topic") or b"").decode("utf-8", "replace"))
    partition = (letter.header("dlq.partition") or b"").decode("ascii", "replace")
    ours = topic.startswith(f"{workflow}.") and not topic.endswith((".dead-letters", ".cursors", ".state"))
    if not ours or not partition.isdigit() or letter.value is None:
        return None
    kept = [header for header in without_parking(letter.headers) if not header[0].startswith("dlq.")]  # else its time to wait is up at once
    count = redriven(letter.headers) + 1
    return Record(topic, int(partition), 0, 0, letter.key, letter.value, [*kept, ("dlq.redriven", str(count).encode())])
