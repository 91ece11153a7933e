"""services.control.rules.losses: what a draft takes away, said before it does so."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.consent.settings import ConsentSettings
from bridge.model.config import IngressConfig, default_ingress
from services.control.models.data_json import LimitedOut
from services.control.rules.losses import limited, lowers, together, warn_of_what_goes, whole
from services.control.rules.validation import Findings

CONDITION = {"field": "statecode", "operator": "eq", "value": 0}


def warned(consent: ConsentSettings | None = None, **table: Any) -> list[tuple[str, str, str]]:
    raw = default_ingress().model_dump(mode="json", by_alias=True)
    raw["tables"][0] |= table
    findings = Findings()
    warn_of_what_goes(findings, IngressConfig.model_validate(raw), consent or ConsentSettings())
    return [(each.path, each.code, each.message) for each in findings.warnings]


def test_a_mapping_that_takes_nothing_away_warns_of_nothing() -> None:
    assert warned() == []
    assert warned(filter={"delete_filtered_out": True}) == [], "without a condition nothing is filtered out"


@pytest.mark.parametrize(("limit", "told"), [(None, "more than the larger of 500 and 2 %"), (40, "more than 40 within an hour are held")])
def test_switches_that_delete_are_warned_of_with_the_limit_that_applies(limit: int | None, told: str) -> None:
    consent = ConsentSettings(DELETE_LIMIT=limit)

    found = warned(consent, apply_deletes=True, filter={"conditions": [CONDITION], "delete_filtered_out": True})

    assert [each[:2] for each in found] == [
        ("/tables/0/filter/delete_filtered_out", "deletes_filtered_out"),
        ("/tables/0/apply_deletes", "applies_deletes"),
    ]
    assert all(told in message for _, _, message in found)


@pytest.mark.parametrize("name", ["blackListEmail", "denyListEmail"])
def test_a_mapped_opt_out_is_warned_of_with_the_limit_that_applies(name: str) -> None:
    ((path, code, message),) = warned(ConsentSettings(OPTIN_RELEASE_LIMIT=7), fields=[{"source": "donotemail", "target": name}])

    assert (path, code) == ("/tables/0/fields/0/target", "opt_out_mapped")
    assert message.startswith("blackListEmail") and "more than 7 within an hour are held" in message


def test_only_an_opt_out_that_is_there_is_taken_away() -> None:
    assert lowers({"blackListEmail": False}, {"blackListEmail": True})
    assert not lowers({"blackListEmail": False}, {"blackListEmail": False})
    assert not lowers({"blackListEmail": True}, {"blackListEmail": True})
    assert not lowers({"firstName": "Ada"}, {"blackListEmail": True})
    assert not lowers({"vip": False}, {"vip": True})


def test_a_sample_stands_for_all_rows() -> None:
    assert whole(5, 100, 10_000) == 500
    assert whole(5, 0, 10_000) is None
    assert whole(5, 100, None) is None
    assert whole(5, 100, 20) == 5, "there are more in the sample than Dynamics says there are"


@pytest.mark.parametrize(("found", "total", "above"), [(5, 500, False), (5, 501, True), (500, None, False), (501, None, True)])
def test_what_is_estimated_is_above_the_limit_or_not(found: int, total: int | None, above: bool) -> None:
    assert limited(found, total, 500) == LimitedOut(sample=found, total=total, limit=500, above=above)


def test_the_sum_is_not_known_where_one_table_is_not() -> None:
    known, unknown = limited(1, 10, 5), limited(2, None, 5)

    assert (together([known, known]).sample, together([known, known]).total) == (2, 20)
    assert (together([known, unknown]).sample, together([known, unknown]).total) == (3, None)
