"""What `make test` tries of the fault tests (tests/faults/choosing.py)."""

from __future__ import annotations

from tests.faults.choosing import chosen

TAKES = {f"test {number}": (40.0, False) for number in range(50)} | {"kills": (50.0, True)}


def test_as_many_as_fit_into_the_time_are_chosen_and_some_always() -> None:
    for seed in range(20):
        found = chosen(TAKES, seed, 300)
        assert "kills" in found
        assert len(found) == 1 + 6


def test_the_same_seed_chooses_the_same_and_another_one_others() -> None:
    assert chosen(TAKES, 1) == chosen(dict(reversed(TAKES.items())), 1)
    assert chosen(TAKES, 1) != chosen(TAKES, 2)


def test_what_may_not_be_left_out_is_tried_even_if_it_takes_longer() -> None:
    assert chosen({"kills": (50.0, True), "other": (5.0, False)}, 1, 10) == {"kills"}
