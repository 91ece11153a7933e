"""Finds values in an event whose shape is only known by configuration (RFC 6901, with names that may have a prefix). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Pointers:
    """Several JSON pointers, by comma; the first that leads to a value counts.

    A step matches a member of just that name, else the one member that has the name behind a prefix: `/timestamp` finds `xdm:timestamp`,
    `/delivery/deliveryName` finds `https://ns.adobe.com/experience/campaign/delivery` and in it `deliveryName`.
    """

    def __init__(self, text: str) -> None:
        self._paths: Sequence[Sequence[str]] = [
            [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]] for pointer in text.split(",")
        ]

    def first(self, document: Any) -> Any:
        """None if none of them leads to a value."""
        return next((value for value in self.all(document) if value is not None and value != ""), None)

    def all(self, document: Any) -> list[Any]:
        """What each of them leads to, None where it leads nowhere."""
        return [_follow(document, path) for path in self._paths]


def local(name: str) -> str:
    """A name without its prefix: behind the last `:`, `/` or `#`."""
    return name.rsplit("/", 1)[-1].rsplit("#", 1)[-1].rsplit(":", 1)[-1]


def _follow(document: Any, path: Sequence[str]) -> Any:
    for step in path:
        if isinstance(document, dict):
            document = document[step] if step in document else _prefixed(document, step)
        elif isinstance(document, list) and step.isdigit() and int(step) < len(document):
            document = document[int(step)]
        else:
            return None
    return document


def _prefixed(members: dict[str, Any], step: str) -> Any:
    found = [value for name, value in members.items() if local(name) == step]
    return found[0] if len(found) == 1 else None
