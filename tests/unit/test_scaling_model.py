"""benchmarks.model: what so many records need, and that docs/scaling.md says nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import needs
from benchmarks.model import checked, predicted, read, sections, table
from benchmarks.needs import Case, Costs, Figures

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


def lines(found: object) -> dict[str, str]:
    return {line.what: line.value for line in found}  # type: ignore[attr-defined]


def measured(*per_record: float) -> Figures:
    """One figure of one workload at 10, 100 and 1,000 records."""
    return {"contact": {str(10 ** (n + 1)): {"bytes": value} for n, value in enumerate(per_record)}}


def test_a_cost_that_grows_linearly_is_predicted_from_two_smaller_sizes() -> None:
    size, real, line = predicted(measured(7.0, 7.0, 7.0), "contact", "bytes") or (0, 0.0, 0.0)

    assert (size, real) == (1000, 7000)
    assert line == pytest.approx(7000)


def test_what_a_start_costs_once_is_not_taken_for_a_cost_of_each_record() -> None:
    once, each = 50.0, 2.0
    found = predicted(measured(*((once + each * n) / n for n in (10, 100, 1000))), "contact", "bytes")

    assert found is not None
    assert found[1] == pytest.approx(found[2])


def test_a_cost_that_grows_faster_shows_as_an_error() -> None:
    found = predicted(measured(10, 100, 1000), "contact", "bytes")  # the square of the size

    assert found is not None
    assert found[2] < 0.2 * found[1]


def test_two_sizes_are_no_check() -> None:
    assert predicted(measured(1, 2), "contact", "bytes") is None


def test_costs_are_those_of_the_largest_size() -> None:
    assert Costs(measured(1, 2, 3)).of("contact", "bytes") == 3


def test_each_table_adds_two_topics_and_two_subjects() -> None:
    none, one = lines(needs.topics(Case(tables=0))), lines(needs.topics(Case(tables=1)))

    assert int(one["topics"]) - int(none["topics"]) == 2
    assert int(one["subjects in the registry"]) - int(none["subjects in the registry"]) == 2
    assert int(one["partitions, one replica"]) == int(one["topics"]) * Case().partitions


def test_hours_of_a_load_follow_from_the_licence_alone() -> None:
    head, contacts, _ = needs.loading(Case(contacts=3_600_000))

    assert head[1:] == ["10/s", "25/s", "50/s", "100/s", "200/s"]
    assert contacts[1:] == ["100 h", "40 h", "20 h", "10 h", "5 h"]


def test_disk_grows_with_the_records() -> None:
    costs = Costs(read())
    small, large = Case(contacts=1_000_000), Case(contacts=2_000_000)

    for (what, before, _), (_, after, _) in zip(needs.state_dir(small, costs), needs.state_dir(large, costs), strict=True):
        assert before < after <= 2 * before, what


def test_the_page_says_what_the_model_says() -> None:
    page = PAGE.read_text()
    found = dict(re.findall(r"<!-- ([a-z ]+) -->\n(.*?)\n<!-- end -->", page, re.DOTALL))

    computed = sections(Case(), read())

    assert found.keys() == computed.keys()
    for name, text in computed.items():
        assert found[name] == text, f"{name}: run python -m benchmarks.model --write"


def test_tables_have_as_many_marks_as_columns() -> None:
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |"


def test_contacts_were_measured_at_three_sizes() -> None:
    assert len([line for line in checked(read()).splitlines() if line.startswith("| contact: ")]) >= 8
