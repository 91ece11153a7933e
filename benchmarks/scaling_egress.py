"""E-mail events at scale: from a journal that holds all of them to the timeline. For benchmarks/scaling.py."""

from __future__ import annotations

from time import monotonic

from benchmarks.lean import key
from benchmarks.rig import Notes, rigged
from benchmarks.watch import folder_bytes

KINDS = ("send", "send", "send", "send", "send", "send", "send", "open", "open", "click")
EACH = 10  # events of a contact
PART = 2000
LONGEST_S = 3600


async def measured(notes: Notes, _: str, events: int) -> None:
    async with rigged(notes, "egress", 1) as rig:
        stack = rig.stack
        for first in range(0, events, PART):
            numbers = range(first, min(first + PART, events))
            part = [{"kind": KINDS[n % len(KINDS)], "external_id": key(n % max(events // EACH, 1))} for n in numbers]
            answer = await stack.http.post(f"{stack.campaign_url}/_admin/journal/emit", json={"events": part}, timeout=60)
            answer.raise_for_status()
        await stack.save({"events": dict.fromkeys(("send", "open", "click", "bounce"), True)})
        for role in ("reader", "writer"):
            stack.service(role)
        started = {name: rig.cpu(name) for name in ("reader-1", "writer-1")}
        await stack.start(wait=False)
        began = monotonic()

        async def there() -> bool:
            return int((await rig.asked("dynamics", "numbered", "POST"))["activities"]) >= events

        await stack.until(there, f"{events} activities", LONGEST_S)
        notes.note("read and written, wall s", monotonic() - began)
        await stack.until_caught_up(LONGEST_S)
        notes.each("reader, CPU s per 1,000 events (start included)", (rig.cpu("reader-1") - started["reader-1"]) * 1000)
        notes.each("writer, CPU s per 1,000 events (start included)", (rig.cpu("writer-1") - started["writer-1"]) * 1000)
        notes.each("calls of Dynamics per event", (await rig.calls("dynamics"))["POST $batch"])
        for topic in ("egress.email-events", "egress.state"):
            notes.each(f"Kafka bytes per event, {topic}", rig.broker.topic_bytes(topic))
        rig.peaks("of the load")
        await stack.processes["writer-1"].terminate(LONGEST_S)
        state = folder_bytes(stack.folder / "state-writer-1", "*.sqlite")
        notes.each("STATE_DIR bytes per contact", state, max(events // EACH, 1))
