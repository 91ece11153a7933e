"""services.ingress.decide: what one change means for Campaign, rule by rule (decisions D3, D7; campaign.md §14.9 - 14.12)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bridge.mapping.rows import Mapped, Skip
from bridge.model.config import TableMapping
from bridge.model.events import Lane, Value
from bridge.model.state import Digests, Known
from services.ingress.decide import (
    Create,
    Decision,
    Delete,
    Nothing,
    Update,
    change,
    decide_delete,
    decide_upsert,
    merge,
)
from tests.unit.fakes import an_event

DIGESTS = Digests("key")
ADA: dict[str, Value] = {"firstName": "Ada", "email": "ada@example.com"}


def a_table(*, apply_deletes: bool = True, delete_filtered_out: bool = False) -> TableMapping:
    return TableMapping.model_validate(
        {
            "source": "contact",
            "target": "profile",
            "key": {"source": "contactid", "target": "externalId"},
            "filter": {"delete_filtered_out": delete_filtered_out},
            "apply_deletes": apply_deletes,
        }
    )


def written(fields: dict[str, Value], version: int | None = 5, **more: Any) -> Known:
    """What is known of a record that Campaign holds with these fields."""
    return Known(version=version, exists=True, outcome="updated", digests=DIGESTS.of(fields), **more)


def upsert(
    fields: dict[str, Value] | Skip,
    known: Known | None,
    *,
    version: int | None = 6,
    lane: Lane = "live",
    first_only: frozenset[str] = frozenset(),
    table: TableMapping | None = None,
) -> Decision:
    mapped = fields if isinstance(fields, Skip) else Mapped("c-1", fields, first_only)
    return decide_upsert(change(an_event(version=version, lane=lane)), table or a_table(), mapped, known, DIGESTS)


def delete(known: Known | None, *, version: int | None = 6, apply_deletes: bool = True) -> Decision:
    return decide_delete(change(an_event(op="delete", version=version)), a_table(apply_deletes=apply_deletes), known)


def known_after(decision: Decision) -> Known:
    assert decision.then is not None
    return decision.then


def test_a_record_nobody_has_written_is_created_without_its_empty_fields() -> None:
    decision = upsert({**ADA, "fax": None}, None)

    assert isinstance(decision, Create)
    assert decision.fields == ADA
    assert (decision.then.exists, decision.then.version) == (True, 6)


def test_an_unchanged_record_is_no_call() -> None:
    decision = upsert(ADA, written(ADA))

    assert isinstance(decision, Nothing)
    assert (decision.outcome, known_after(decision).version) == ("unchanged", 6)


def test_f119_only_the_changed_fields_are_sent() -> None:
    decision = upsert({**ADA, "firstName": "Augusta"}, written(ADA))

    assert isinstance(decision, Update)
    assert decision.fields == {"firstName": "Augusta"}


def test_a_field_that_became_empty_is_sent_as_empty() -> None:
    decision = upsert({**ADA, "email": None}, written(ADA))

    assert isinstance(decision, Update)
    assert decision.fields == {"email": None}


def test_a_newly_mapped_field_is_sent() -> None:
    decision = upsert({**ADA, "phone": "1"}, written(ADA))

    assert isinstance(decision, Update)
    assert decision.fields == {"phone": "1"}


def test_after_an_update_the_same_row_again_is_no_call() -> None:
    first = upsert({**ADA, "firstName": "Augusta"}, written(ADA))

    second = upsert({**ADA, "firstName": "Augusta"}, known_after(first), version=7)

    assert isinstance(second, Nothing)
    assert second.outcome == "unchanged"


@pytest.mark.parametrize("lane", ["live", "resync"])
def test_f120_a_field_with_apply_updates_off_is_not_sent_with_a_later_change(lane: Lane) -> None:
    decision = upsert({"firstName": "Augusta", "email": "new"}, written(ADA), lane=lane, first_only=frozenset({"email"}))

    assert isinstance(decision, Update)
    assert decision.fields == {"firstName": "Augusta"}


@pytest.mark.parametrize("lane", ["live", "resync"])
def test_f120_a_change_of_nothing_but_such_a_field_is_no_call(lane: Lane) -> None:
    decision = upsert({**ADA, "email": "new"}, written(ADA), lane=lane, first_only=frozenset({"email"}))

    assert isinstance(decision, Nothing)
    assert decision.outcome == "unchanged"


@pytest.mark.parametrize("lane", ["live", "resync", "initial", "replay"])
def test_f120_such_a_field_goes_out_when_the_record_is_created(lane: Lane) -> None:
    decision = upsert(ADA, None, lane=lane, first_only=frozenset({"email"}))

    assert isinstance(decision, Create)
    assert decision.fields == ADA


@pytest.mark.parametrize("lane", ["initial", "replay"])
def test_f120_a_held_back_change_goes_out_with_the_next_replay(lane: Lane) -> None:
    only = frozenset({"email"})
    held = upsert({**ADA, "email": "new"}, written(ADA), first_only=only)

    decision = upsert({**ADA, "email": "new"}, known_after(held), version=7, lane=lane, first_only=only)

    assert isinstance(decision, Update)
    assert decision.fields == {"email": "new"}


def test_f120_a_held_field_that_has_not_changed_is_not_replayed() -> None:
    only = frozenset({"email"})
    renamed = upsert({**ADA, "firstName": "Augusta"}, written(ADA), first_only=only)

    decision = upsert({**ADA, "firstName": "Augusta"}, known_after(renamed), version=7, lane="replay", first_only=only)

    assert isinstance(decision, Nothing)


def test_an_older_event_never_overwrites_a_newer_one() -> None:
    decision = upsert({"firstName": "Old"}, written(ADA, version=5), version=4)

    assert decision == Nothing("stale")


@pytest.mark.parametrize("lane", ["initial", "replay"])
def test_a_replay_that_a_live_change_has_overtaken_brings_the_fields_that_the_change_does_not(lane: Lane) -> None:
    held, known = frozenset({"email"}), written({"firstName": "Live", "email": "old@example.com"}, version=9)
    row: dict[str, Value] = {"firstName": "Old", "email": "new@example.com"}

    decision = upsert(row, known, version=8, lane=lane, first_only=held)

    assert isinstance(decision, Update) and decision.fields == {"email": "new@example.com"}
    after = known_after(decision)
    assert (after.version, after.digests["firstName"]) == (9, known.digests["firstName"])
    assert upsert(row, after, version=8, lane=lane, first_only=held) == Nothing("stale"), "once"
    older: dict[str, Value] = {"firstName": "Old", "email": "older@example.com"}
    assert upsert(older, after, version=7, lane=lane, first_only=held) == Nothing("stale"), "never an older one over it"


@pytest.mark.parametrize("more", [{"gone": True}, {"times": {"held-delete": "x"}}, {"exists": False}])
def test_what_is_gone_or_waits_for_a_person_is_left_to_what_is_newer(more: dict[str, Any]) -> None:
    known = replace(written(ADA, version=9), **more)

    assert upsert({"email": "new@example.com"}, known, version=8, lane="replay", first_only=frozenset({"email"})) == Nothing("stale")


def test_a_resync_that_was_overtaken_brings_nothing() -> None:
    known = written(ADA, version=9)

    assert upsert({"email": "new@example.com"}, known, version=8, lane="resync", first_only=frozenset({"email"})) == Nothing("stale")


def test_an_older_event_does_not_bring_a_deleted_record_back() -> None:
    gone = known_after(delete(written(ADA, version=5), version=6))

    assert upsert(ADA, gone, version=5) == Nothing("stale")
    assert upsert(ADA, gone, version=6) == Nothing("stale")


def test_a_record_that_came_back_after_its_delete_is_created_again() -> None:
    gone = known_after(delete(written(ADA, version=5), version=6))

    assert isinstance(upsert(ADA, gone, version=7), Create)


def test_the_same_version_again_with_other_columns_is_written() -> None:
    """A resync after a column was added to the mapping."""
    decision = upsert({**ADA, "phone": "1"}, written(ADA, version=5), version=5, lane="resync")

    assert isinstance(decision, Update)


def test_an_event_without_version_is_applied_and_the_version_seen_is_not_forgotten() -> None:
    after = known_after(upsert({"firstName": "Newer"}, written(ADA, version=5), version=None))

    assert upsert({"firstName": "Old"}, after, version=4) == Nothing("stale")


def test_an_incomplete_row_leaves_everything_as_it_is() -> None:
    assert upsert(Skip.INCOMPLETE, written(ADA)) == Nothing("incomplete")


@pytest.mark.parametrize("known", [None, written(ADA)])
def test_f136_no_a_row_that_is_filtered_out_is_left_alone(known: Known | None) -> None:
    decision = upsert(Skip.FILTERED, known, table=a_table(delete_filtered_out=False))

    assert isinstance(decision, Nothing)
    assert decision.outcome == "filtered"
    assert known_after(decision).exists is (known is not None)


def test_f136_yes_a_row_that_is_filtered_out_is_deleted_in_campaign() -> None:
    decision = upsert(Skip.FILTERED, written(ADA), table=a_table(delete_filtered_out=True))

    assert isinstance(decision, Delete)
    assert decision.outcome == "filtered"
    assert (decision.then.exists, decision.then.gone) == (False, False)


def test_f136_yes_a_row_that_was_never_written_needs_no_delete() -> None:
    decision = upsert(Skip.FILTERED, None, table=a_table(delete_filtered_out=True))

    assert isinstance(decision, Nothing)


def test_f136_yes_a_merged_change_may_have_been_written_before_a_crash_so_it_is_deleted() -> None:
    both = merge(change(an_event(version=1)), change(an_event(version=2)))

    assert isinstance(decide_upsert(both, a_table(delete_filtered_out=True), Skip.FILTERED, None, DIGESTS), Delete)


def test_f136_a_row_that_passes_its_filter_again_is_created_again() -> None:
    table = a_table(delete_filtered_out=True)
    filtered = upsert(Skip.FILTERED, written(ADA), table=table)

    assert isinstance(upsert(ADA, known_after(filtered), version=7, table=table), Create)


def test_f139_yes_a_delete_is_passed_on() -> None:
    decision = delete(written(ADA))

    assert isinstance(decision, Delete)
    assert (decision.then.exists, decision.then.gone, decision.then.digests) == (False, True, {})


def test_f139_yes_a_delete_of_a_record_we_know_nothing_of_is_passed_on() -> None:
    assert isinstance(delete(None), Delete)


def test_f139_no_a_delete_is_ignored_and_campaign_keeps_the_record() -> None:
    decision = delete(written(ADA), apply_deletes=False)

    assert isinstance(decision, Nothing)
    assert decision.outcome == "delete_ignored"
    assert (known_after(decision).exists, known_after(decision).gone) == (True, True)


def test_f139_no_a_record_that_comes_back_is_updated_as_campaign_still_has_it() -> None:
    ignored = known_after(delete(written(ADA), version=6, apply_deletes=False))

    decision = upsert({**ADA, "firstName": "Augusta"}, ignored, version=7)

    assert isinstance(decision, Update)
    assert decision.fields == {"firstName": "Augusta"}


@pytest.mark.parametrize("outcome", ["deleted", "delete_ignored"])
def test_a_second_delete_is_no_call(outcome: str) -> None:
    known = Known(version=6, gone=True, outcome=outcome)

    decision = delete(known, version=8)

    assert isinstance(decision, Nothing)
    assert decision.outcome == "unchanged"
    assert known_after(decision).version == 8


@pytest.mark.parametrize("outcome", ["filtered", "dead_lettered"])
def test_a_delete_of_a_record_that_we_have_never_written_is_passed_on(outcome: str) -> None:
    """An earlier integration may have made it."""
    assert isinstance(delete(Known(version=5, outcome=outcome)), Delete)


def test_a_delete_that_is_older_than_what_is_known_is_stale() -> None:
    assert delete(written(ADA, version=9), version=8) == Nothing("stale")


def test_a_delete_without_version_is_applied_and_keeps_the_version_known() -> None:
    decision = delete(written(ADA, version=9), version=None)

    assert isinstance(decision, Delete)
    assert decision.then.version == 9


def test_a_delete_that_was_merged_with_a_change_is_passed_on_to_be_sure() -> None:
    both = merge(change(an_event(version=1)), change(an_event(op="delete", version=2)))

    assert isinstance(decide_delete(both, a_table(), Known(version=0, outcome="filtered")), Delete)


@pytest.mark.parametrize(("lane", "full"), [("live", False), ("resync", False), ("initial", True), ("replay", True)])
def test_an_initial_load_and_a_replay_are_full(lane: Lane, full: bool) -> None:
    assert change(an_event(lane=lane)).full is full
