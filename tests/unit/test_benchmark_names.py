"""Which benchmarks `python -m benchmarks` runs."""

from __future__ import annotations

import pytest

from benchmarks.__main__ import ALL, arguments_of


def test_without_names_it_runs_all_of_them_as_make_bench_asks() -> None:
    assert arguments_of(["--json", "x.json"]).names == []


def test_those_that_are_named_have_to_be_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments_of([*ALL]).names == [*ALL]
    with pytest.raises(SystemExit):
        arguments_of(["memory", "nothing"])
    assert "nothing: there is no such benchmark" in capsys.readouterr().err
