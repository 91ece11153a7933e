"""bridge.campaign.journal: which of the links leads on."""

from __future__ import annotations

import httpx
import pytest

from bridge.campaign.journal import next_link

ASKED = "https://events.example/events/organizations/1"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (['</a>; rel="next"'], "/a"),
        (['</b>; rel="next-archive"', '</a>; rel="next"'], "/a"),
        (['</b>; rel="next-archive", </a>; rel=next, </c>; rel="count"'], "/a"),
        (["</a>; rel=next;title=on"], "/a"),
        (['</a>; REL = "NEXT"'], "/a"),
        (['</b>; rel="next-archive"'], None),
        (["</b>; rel=nextpage"], None),
        (['</b>; rel="validate"'], None),
    ],
)
def test_only_next_is_next(lines: list[str], found: str | None) -> None:
    response = httpx.Response(200, headers=[("Link", line) for line in lines])

    assert next_link(response, ASKED) == (found and f"https://events.example{found}")
