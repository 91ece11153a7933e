"""Text that can be stored everywhere, and how JSON with other text is noticed."""

from __future__ import annotations

import json

import httpx
import pytest

from bridge.http.answers import parse_json
from bridge.model.text import mended, storable, storable_json, suspect


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Hi \ud83d", "Hi \ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("a\x00b\x0bc\x1f\ufffe\uffffd", "abcd"),
        ("\x7f\x80 stays", "\x7f\x80 stays"),
        ("tab\tline\nreturn\r", "tab\tline\nreturn\r"),
        ("\U0001f600 é \u200d 漢", "\U0001f600 é \u200d 漢"),
        ("", ""),
    ],
)
def test_a_text_is_storable_with_all_that_can_be_stored(text: str, wanted: str) -> None:
    before = mended["texts"]

    assert storable(text) == wanted
    assert mended["texts"] - before == (text != wanted)
    assert storable(wanted) == wanted
    wanted.encode()


def test_members_lists_and_names_are_mended_and_all_else_is_left() -> None:
    odd = {"a\x00": ["\ud83d", {"b": "\x01x"}], "n": 5, "t": True, "z": None}

    assert storable_json(odd) == {"a": ["\ufffd", {"b": "x"}], "n": 5, "t": True, "z": None}


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("text", ["\x00", "\x1f", "\ufffe", "\uffff", "\ud83d"])
def test_json_with_such_a_character_is_noticed_however_it_is_written(text: str, ascii_only: bool) -> None:
    raw = json.dumps({"a": text}, ensure_ascii=ascii_only or text == "\ud83d").encode()  # half a character travels as an escape only

    assert suspect(raw)
    answer = parse_json(httpx.Response(200, content=raw, request=httpx.Request("GET", "https://x/")))
    answer["a"].encode()


def test_ordinary_pages_are_not_searched_text_by_text() -> None:
    assert not suspect(json.dumps({"name": "Zoë 漢 \U0001f600", "n": "a\tb\n"}, ensure_ascii=False).encode())
