"""What an answer says, if it is one: proxies, sign-in pages and half answers say nothing of what was asked, and are waited out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from bridge.model.errors import RetryError
from bridge.model.json_text import loads
from bridge.model.text import storable_json, suspect

BAD_ANSWER_TRIES = 100  # of one record, an hour and a half; in an outage they have no end (bridge/flow/failures.py)


def where(response: httpx.Response) -> str:
    """Method, path and status of an answer, for error messages: neither query nor body, both can hold personal data."""
    return f"{response.request.method} {response.request.url.path} -> {response.status_code}"


def bad_answer(response: httpx.Response, what: str, system: str = "") -> RetryError:
    """Of an answer that says nothing of what was asked for: half of one, or that of something between us and `system`. `what` is wrong."""
    text = f"{system}: {where(response)}: {what}" if system else f"{where(response)}: {what}"
    return RetryError(text, code="bad_answer", status=response.status_code, attempts=BAD_ANSWER_TRIES)


def is_page(response: httpx.Response) -> bool:
    """Whether the body is a page of HTML or XML: neither system writes any, proxies and sign-in pages do."""
    return response.content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def is_unauthorized(response: httpx.Response) -> bool:
    """Whether our token was refused: a 401 that is no page of a proxy, or names how to sign in, as HTTP demands."""
    return response.status_code == 401 and ("www-authenticate" in response.headers or not is_page(response))


def parse_json(response: httpx.Response) -> Any:
    """The body as JSON, decimals exact, texts storable. Raises RetryError: half an answer or a gateway's page is no answer."""
    try:
        found = loads(response.content)
        return storable_json(found) if suspect(response.content) else found
    except (ValueError, RecursionError) as exc:
        raise bad_answer(response, "the answer is not JSON") from exc


def parse_object(response: httpx.Response) -> dict[str, Any]:
    """The body as a JSON object. Raises RetryError."""
    found = parse_json(response)
    if not isinstance(found, dict):
        raise bad_answer(response, "the answer is not a JSON object")
    return found


def refusal(response: httpx.Response) -> Any:
    """The body of a refusal as JSON, None if it is none. For its codes, never to be shown."""
    try:
        return loads(response.content)
    except ValueError:
        return None


@contextmanager
def readable(place: str) -> Iterator[None]:
    """While an answer is taken apart that came whole. Raises RetryError where it has not the form it must have."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
        raise RetryError(f"{place}: the answer has not its form", code="bad_answer", attempts=BAD_ANSWER_TRIES) from exc
