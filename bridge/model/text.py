"""Text that can be stored everywhere: in Avro and UTF-8, in XML, which Campaign is built on, and in its database. Pure but for a counter.

Half a character of UTF-16 (left where a text was cut in the middle of an emoji) becomes U+FFFD; NUL, control characters and the two
non-characters that XML 1.0 forbids are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
HALF = re.compile("[\ud800-\udfff]")
SUSPECT = re.compile(rb"\\u(?:d[89a-f]|00[01]|fff[ef])|\xef\xbf[\xbe\xbf]|[\x00-\x08\x0b\x0c\x0e-\x1f]", re.IGNORECASE)
mended: Counter[str] = Counter()
"""`texts`: how many this process has mended."""


def storable(text: str) -> str:
    """The text without what cannot be stored; the same object where there is nothing of the kind."""
    if not HALF.search(text) and not FORBIDDEN.search(text):
        return text
    mended["texts"] += 1
    return FORBIDDEN.sub("", HALF.sub("\ufffd", text))


def storable_json(value: Any) -> Any:
    """The same for all texts in what `json.loads` gave, names of members included."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, list):
        return [storable_json(each) for each in value]
    if isinstance(value, dict):
        return {storable(name): storable_json(each) for name, each in value.items()}
    return value


def suspect(raw: bytes) -> bool:
    """Whether a JSON text may hold such characters: pages of thousands of rows are not searched text by text."""
    return SUSPECT.search(raw) is not None
