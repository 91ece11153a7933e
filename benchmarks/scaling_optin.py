"""Opt In/Out at scale: both sides of every contact are observed, the resolver keeps what it knows of each. For benchmarks/scaling.py."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.lean import key
from benchmarks.rig import Notes, Rig, rigged, told, until_told
from benchmarks.watch import folder_bytes
from sandbox.campaign.exports import COLUMNS, NO_FLAGS, Form
from tests.e2e.consent import EMAIL, PHONE, config

PAIRS = (
    EMAIL,
    PHONE,
    ("donotpostalmail", "blackListPostalMail"),
    ("donotfax", "blackListFax"),
    ("donotbulkemail", "blackList"),
)
OPTED_OUT = 20  # one in so many profiles says no to e-mail
PART = 10_000  # rows of an export that are made at once
PATIENCE_S, LONGEST_S = 120, 3600


async def measured(notes: Notes, _: str, contacts: int) -> None:
    async with rigged(notes, "optin", contacts, CONTROL_START_DEADLINE_S="3600") as rig:
        stack = rig.stack
        await stack.save(config(*PAIRS))
        reader = stack.service("reader")
        stack.service("resolver")
        await stack.start(wait=False)
        await until_told(stack, reader, "load_started", PATIENCE_S)
        observing, resolving = rig.cpu("reader-1"), rig.cpu("resolver-1")
        await _until_resolved(rig, contacts)
        notes.each("reader, CPU s per 1,000 contacts of Dynamics", (rig.cpu("reader-1") - observing) * 1000)
        notes.each("resolver, CPU s per 1,000 contacts of Dynamics", (rig.cpu("resolver-1") - resolving) * 1000)
        _sizes(rig, "of Dynamics")
        observing, resolving = rig.cpu("reader-1"), rig.cpu("resolver-1")
        (export,) = list((stack.folder / "sftp").rglob("exports"))
        _write(export / f"d365_optout_{datetime.now(UTC):%Y%m%d_%H%M%S}.csv", contacts)
        await until_told(stack, reader, "export_done", LONGEST_S)
        await _until_resolved(rig, 2 * contacts)
        notes.each("reader, CPU s per 1,000 rows of an export", (rig.cpu("reader-1") - observing) * 1000)
        notes.each("resolver, CPU s per 1,000 rows of an export", (rig.cpu("resolver-1") - resolving) * 1000)
        _sizes(rig, "of both")
        await rig.idle("GET contacts")
        rig.peaks("of the load")
        await _restart(rig)


def _write(path: Path, contacts: int) -> None:
    """An export of all profiles, as Campaign's workflow writes it, under its name when it is whole."""
    earlier = datetime.now(UTC) - timedelta(days=1)
    stamp = f"{earlier:%Y-%m-%d %H:%M:%S}.000Z"
    form, part = Form(), path.with_suffix(".part")
    with part.open("wb") as file:
        for first in range(0, contacts, PART):
            rows = [_profile(number, stamp) for number in range(first, min(first + PART, contacts))]
            content = form.file(rows)
            file.write(content if first == 0 else content[content.index(b"\n") + 1 :])
    part.rename(path)


def _profile(number: int, stamp: str) -> dict[str, object]:
    said = {"blackListEmail": True, "blackListEmailLastModified": stamp} if number % OPTED_OUT == 0 else {}
    row: dict[str, object] = {**NO_FLAGS, "externalId": key(number), "lastModified": stamp, **said}
    return {name: row.get(name, "") for name in COLUMNS}


async def _until_resolved(rig: Rig, observations: int) -> None:
    """Read, and no lag of the resolver. What the writer would do waits: it is not running."""

    async def done() -> bool:
        workflow = await rig.stack.workflow()
        groups = {each["group"]: each["topics"] for each in workflow["backlog"]["groups"]}
        lag = sum(topic["lag"] for topic in groups.get("optin-resolver", []))
        ended = sum(each["end"] for topic in groups.get("optin-resolver", []) for each in topic["partitions"])
        return bool(lag == 0 and ended >= observations)

    await rig.stack.until(done, f"{observations} observations resolved", LONGEST_S)


def _sizes(rig: Rig, heard: str) -> None:
    """What has been written so far, observations `heard`; nothing is compacted yet."""
    for topic in ("optin.observations", "optin.state", "optin.decisions"):
        rig.notes.each(f"Kafka bytes per contact, {topic}, {heard}", rig.broker.topic_bytes(topic))


async def _restart(rig: Rig) -> None:
    """The resolver takes everything without a local copy."""
    stack, notes = rig.stack, rig.notes
    await stack.processes["resolver-1"].terminate(PATIENCE_S)
    notes.each("STATE_DIR bytes per contact, resolver", folder_bytes(stack.folder / "state-resolver-1", "*.sqlite"))
    shutil.rmtree(stack.folder / "state-resolver-1")
    resolver = stack.service("resolver")
    await until_told(stack, resolver, "partitions_assigned", PATIENCE_S)
    before = rig.cpu("resolver-1")
    await until_told(stack, resolver, "state_loaded", LONGEST_S, stack.kafka.partitions)
    notes.note("restart without local copy, records read back", sum(each["records"] for each in told(resolver, "state_loaded")))
    notes.each("restart without local copy, CPU s per 1,000 contacts", (rig.cpu("resolver-1") - before) * 1000)
