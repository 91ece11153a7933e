"""services.ingress.decide against a tiny Campaign: whatever the order and however often, the newest version is what it ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.mapping.rows import Mapped
from bridge.model.config import TableMapping
from bridge.model.events import ChangeEvent, Value
from bridge.model.state import Digests, Known
from services.ingress.decide import Change, Create, Delete, Nothing, Update, change, decide_delete, decide_upsert, merge
from tests.unit.fakes import an_event

DIGESTS = Digests("key")
FLAG = "isExternal"  # no opt-out: those are decided in bridge/consent
TABLE = TableMapping.model_validate(
    {
        "source": "contact",
        "target": "profile",
        "key": {"source": "contactid", "target": "externalId"},
        "fields": [{"source": name, "target": name} for name in ("firstName", "fax", FLAG)],
        "apply_deletes": True,
    }
)
OUTCOMES: dict[type, str] = {Create: "created", Update: "updated"}


@dataclass
class TinyCampaign:
    """One record, and what the writer keeps of it. Refuses calls that are no use."""

    record: dict[str, Value] | None = None
    known: Known | None = None
    calls: list[str] = field(default_factory=list)

    def take(self, wanted: Change) -> None:
        event = wanted.event
        if event.op == "delete":
            decision = decide_delete(wanted, TABLE, self.known)
        else:
            mapped = Mapped(event.key, dict(event.fields), frozenset())
            decision = decide_upsert(wanted, TABLE, mapped, self.known, DIGESTS)
        match decision:
            case Create(fields):
                assert self.record is None, "creates what is there"
                self.record = dict(fields)
            case Update(fields):
                assert self.record is not None, "updates what is not there"
                assert fields, "an update of nothing"
                for name, value in fields.items():
                    assert self.record.get(name) != value, f"sends {name} unchanged"
                self.record |= fields
            case Delete():
                assert self.record is not None or self.known is None or wanted.merged > 1, "deletes what is known to be gone"
                self.record = None
            case Nothing(_, None):
                return
        if not isinstance(decision, Nothing):
            self.calls.append(type(decision).__name__)
        outcome = OUTCOMES.get(type(decision)) or getattr(decision, "outcome", "")
        assert decision.then is not None
        self.known = Known(**{name: getattr(decision.then, name) for name in Known.__slots__} | {"outcome": outcome})


def content(record: dict[str, Value] | None) -> dict[str, Value] | None:
    return None if record is None else {name: value for name, value in record.items() if value not in (None, False)}


@st.composite
def histories(draw: st.DrawFn, flags: Sequence[bool] = (True, False)) -> list[ChangeEvent]:
    """A row's life as its reader told it. A delete carries the highest version seen, which other rows may have moved."""
    version, events = 0, list[ChangeEvent]()
    for _ in range(draw(st.integers(1, 6))):
        if draw(st.integers(0, 3)) == 0:
            version += draw(st.integers(0, 2)) if version else 1
            events.append(an_event(op="delete", version=version))
        else:
            version += draw(st.integers(1, 2))
            fields: dict[str, Value] = {"firstName": draw(st.sampled_from(["Ada", "Bea"])), "fax": draw(st.sampled_from([None, "1"]))}
            fields[FLAG] = draw(st.sampled_from(list(flags)))
            lane = draw(st.sampled_from(["live", "live", "initial", "replay", "resync"]))
            events.append(an_event(fields, version=version, lane=lane))  # type: ignore[arg-type]
    return events


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[ChangeEvent], list[list[ChangeEvent]]]:
    """A history, and how it arrives: in any order, some of it twice, in portions that are merged while they wait."""
    events: list[ChangeEvent] = draw(histories())
    again = draw(st.lists(st.sampled_from(events), max_size=4))
    order = draw(st.permutations(events + again))
    portions: list[list[ChangeEvent]] = [[]]
    for event in order:
        apart = draw(st.booleans())
        if portions[-1] and apart:
            portions.append([])
        portions[-1].append(event)
    return events, portions


def newest(events: Sequence[ChangeEvent]) -> ChangeEvent:
    """By version; at equal versions the delete, which came after."""
    return max(events, key=lambda event: (event.version or 0, event.op == "delete"))


@settings(max_examples=500)
@given(deliveries())
def test_in_any_order_and_however_often_campaign_ends_as_the_newest_version_says(
    delivered: tuple[list[ChangeEvent], list[list[ChangeEvent]]],
) -> None:
    events, portions = delivered
    campaign = TinyCampaign()

    for portion in portions:
        campaign.take(reduce(merge, map(change, portion)))

    last = newest(events)
    expected = None if last.op == "delete" else content(dict(last.fields))
    assert content(campaign.record) == expected


@given(histories())
def test_all_of_it_again_is_no_call(events: list[ChangeEvent]) -> None:
    campaign = TinyCampaign()
    for event in events:
        campaign.take(change(event))
    calls = list(campaign.calls)

    for event in events:
        campaign.take(change(event))

    assert campaign.calls == calls


@given(histories())
def test_all_that_waits_is_one_call(events: list[ChangeEvent]) -> None:
    campaign = TinyCampaign()

    campaign.take(reduce(merge, map(change, events)))

    assert len(campaign.calls) == 1


@given(histories(), st.randoms(use_true_random=False))
def test_what_is_left_of_several_changes_does_not_depend_on_their_order(events: list[ChangeEvent], rng: object) -> None:
    shuffled = list(events)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]

    one, other = reduce(merge, map(change, events)), reduce(merge, map(change, shuffled))

    assert (one.event, one.full, one.merged) == (other.event, other.full, other.merged)


def test_the_newer_version_of_two_waiting_changes_is_left_whichever_came_first() -> None:
    old, new = change(an_event(version=1, lane="replay")), change(an_event(version=2))

    for merged in (merge(old, new), merge(new, old)):
        assert (merged.event, merged.full, merged.merged) == (new.event, True, 2)


def test_at_equal_versions_a_delete_is_the_newer_one() -> None:
    row, gone = change(an_event(version=3)), change(an_event(op="delete", version=3))

    assert merge(row, gone).event.op == merge(gone, row).event.op == "delete"


def test_without_versions_the_later_arrival_is_newer() -> None:
    first, second = change(an_event(version=None)), change(an_event({"a": 1}, version=3))

    assert merge(first, second).event is second.event
    assert merge(second, first).event is first.event
