"""Links that a server gives are followed to its own origin only: a token must not go elsewhere."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import urljoin

import httpx

from bridge.http.answers import BAD_ANSWER_TRIES
from bridge.model.errors import HaltError, Origin, RetryError


def same_origin(link: str, base: str, origin: Origin) -> str:
    """`link`, made absolute, if it leads to the origin of `base`. Raises HaltError: a token must not go elsewhere; RetryError for a link
    that leads nowhere."""
    home = _parsed(base)
    try:
        target = httpx.URL(urljoin(base, link))
        there = (target.scheme, target.host, _port(target))
    except (httpx.InvalidURL, ValueError):
        raise RetryError(f"{home.host}: a link that cannot be read", code="bad_answer", attempts=BAD_ANSWER_TRIES) from None
    if there != (home.scheme, home.host, _port(home)):
        raise _foreign(f"to another host ({target.host})", home, origin)
    return str(target)


@lru_cache(maxsize=16)
def _parsed(base: str) -> httpx.URL:
    """There are few of these, and each call asks for one: parsing costs more than sending."""
    return httpx.URL(base)


def _foreign(where_to: str, home: httpx.URL, origin: Origin) -> HaltError:
    return HaltError(
        f"a link of the server leads {where_to}, not to the configured {home.host}",
        code="foreign_link",
        hint="Check the configured URL; a proxy in between may rewrite links.",
        origin=origin,
    )


def _port(url: httpx.URL) -> int | None:
    return url.port or {"http": 80, "https": 443}.get(url.scheme)
