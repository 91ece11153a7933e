"""bridge.model.state: what is known of a record, and digests that tell nothing of the values (decisions D3, D12)."""

from __future__ import annotations

import base64
import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from bridge.model.state import Digests, Known

values = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text())
knowns = st.builds(
    Known,
    version=st.none() | st.integers(0, 2**63 - 1),
    exists=st.booleans(),
    gone=st.booleans(),
    visible=st.booleans(),
    outcome=st.text(max_size=10),
    digests=st.dictionaries(st.text(max_size=5), st.text(max_size=12)),
    status=st.none() | st.integers(100, 599),
)


@given(knowns)
def test_what_is_known_survives_kafka(known: Known) -> None:
    assert Known.from_json(known.to_json()) == known


def test_members_of_a_later_version_are_ignored_and_missing_ones_have_their_defaults() -> None:
    assert Known.from_json(b'{"version": 3, "invented_later": true}') == Known(version=3)


def test_a_record_nobody_has_seen_is_not_there_nor_gone() -> None:
    known = Known()

    assert (known.version, known.exists, known.gone, dict(known.digests)) == (None, False, False, {})


@given(st.text(), values, values)
def test_equal_values_have_equal_digests_and_others_do_not(name: str, left: object, right: object) -> None:
    digests = Digests("key")

    same = json.dumps(left) == json.dumps(right)

    assert (digests.one(name, left) == digests.one(name, right)) is same


def test_yes_and_one_and_their_texts_are_four_values() -> None:
    digests = Digests("key")

    assert len({digests.one("flag", value) for value in (True, 1, "true", "1")}) == 4


def test_an_empty_value_differs_from_an_empty_text() -> None:
    assert Digests("key").one("fax", None) != Digests("key").one("fax", "")


@given(values)
def test_without_the_key_a_value_cannot_be_guessed_from_its_digest(value: object) -> None:
    assert Digests("key").one("email", value) != Digests("other key").one("email", value)


@given(values)
def test_the_same_value_in_two_fields_does_not_show(value: object) -> None:
    assert Digests("key").one("email", value) != Digests("key").one("phone", value)


def test_a_digest_survives_a_restart() -> None:
    assert Digests("key").of({"email": "ada@example.com"}) == Digests("key").of({"email": "ada@example.com"})


def test_neither_value_nor_key_stands_in_the_state() -> None:
    known = Known(digests=Digests("the-digest-key").of({"email": "ada@example.com"}))

    written = known.to_json()

    assert b"ada" not in written
    assert b"the-digest-key" not in written


@given(st.text(), st.text())
def test_a_digest_of_a_text_is_that_of_the_pair_as_json(name: str, value: str) -> None:
    """State that other versions wrote stays good: the short way to the same text is the same text."""
    keyed = hashlib.blake2b(key=hashlib.blake2b(b"key", digest_size=32, person=b"bridge-state").digest(), digest_size=9)
    keyed.update(json.dumps([name, value], ensure_ascii=False, separators=(",", ":")).encode())

    assert Digests("key").one(name, value) == base64.urlsafe_b64encode(keyed.digest()).decode()
