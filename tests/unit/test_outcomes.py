"""services.control.topics.decision_outcomes: what came of a decision, as far as it can be told (consent.md, rule 8)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bridge.model.events import OptStatusDecided
from bridge.model.state import Known
from services.control.rules.decision_records import Decision
from services.control.topics.decision_outcomes import _outcome

AT = datetime(2026, 3, 1, tzinfo=UTC)
EVENT = OptStatusDecided("c-1", "campaign", {"blackListEmail": True}, "opted-out-in-dynamics", {}, AT)
DECIDED = Decision(0, 5, "c-1", "contact", "campaign", "release", "", None, (), AT, EVENT, "", "", None, None, 5)


@pytest.mark.parametrize(("committed", "last_at", "wanted"), [(6, 5, "done"), (5, 5, "waiting"), (20, 30, "waiting"), (31, 30, "done")])
def test_a_decision_waits_until_the_writer_has_passed_the_last_of_its_copies(committed: int, last_at: int, wanted: str) -> None:
    assert _outcome(replace(DECIDED, last_at=last_at), {0: committed}, {}) == wanted


def test_what_became_of_the_copy_became_of_the_decision() -> None:
    known = {"c-1/campaign": Known(partition=0, offset=30, outcome="dead_lettered")}

    assert _outcome(replace(DECIDED, last_at=30), {0: 31}, known) == "dead_lettered"
    assert _outcome(DECIDED, {0: 31}, known) == "done"
