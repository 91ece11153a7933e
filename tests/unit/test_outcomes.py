"""services.control.outcomes: what came of a decision, as far as it can be told (consent.md, rule 8)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bridge.model.events import OptStatusDecided
from bridge.model.state import Known
from services.control.outcomes import _outcome
from services.control.proof import Decision

AT = datetime(2026, 3, 1, tzinfo=UTC)
EVENT = OptStatusDecided("c-1", "campaign", {"blackListEmail": True}, "opted-out-in-dynamics", {}, AT)
DECIDED = Decision(0, 5, "c-1", "contact", "campaign", "release", "", None, (), AT, EVENT, "", "", None, None, 5)


@pytest.mark.parametrize(("committed", "last_at", "wanted"), [(6, 5, "done"), (5, 5, "waiting"), (20, 30, "waiting"), (31, 30, "done")])
def test_a_decision_waits_until_the_writer_has_passed_the_last_of_its_copies(committed: int, last_at: int, wanted: str) -> None:
    assert _outcome(replace(DECIDED, last_at=last_at), {0: committed}, {}) == wanted


@pytest.mark.parametrize("known", [Known(offset=5), Known(offset=30), Known(offset=9, letters=["0-4", "0-5"])])
def test_what_became_of_it_is_told_of_its_place_its_copy_or_its_letter(known: Known) -> None:
    of_it = {"c-1/campaign": replace(known, outcome="dead_lettered")}

    assert _outcome(replace(DECIDED, last_at=30), {0: 31}, of_it) == "dead_lettered"
    assert _outcome(replace(DECIDED, at=6, part=1, last_at=31), {1: 32}, of_it) == "done"
