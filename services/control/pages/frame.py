"""What all pages have in common: the templates, the header's organisation and instances, who is signed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bridge import __version__
from services.control.api.access import Access, Principal
from services.control.settings import ControlSettings

WEB = ("https://", "http://")


@dataclass(frozen=True, slots=True)
class Link:
    """`href` None: where we are."""

    label: str
    href: str | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """Where else one can go from the header (F35-F37)."""

    orgs: Sequence[Link]
    instances: Sequence[Link]


def places(text: str, org: str) -> Places:
    """From CONTROL_INSTANCES: `name=https://…` by comma. A name `org/instance` belongs to that organisation, any other to our own.
    Entries that are not an address of the web are left out: they become links."""
    orgs: dict[str, Link] = {}
    instances: list[Link] = []
    for entry in text.split(","):
        name, _, href = (part.strip() for part in entry.partition("="))
        if not name or not href.startswith(WEB):
            continue
        owner, slash, rest = (part.strip() for part in name.partition("/"))
        if slash and owner != org:
            orgs.setdefault(owner, Link(owner, href))
        else:
            instances.append(Link(rest if slash else name, href))
    return Places([*orgs.values()], instances)


class Frame:
    """Renders pages. Everything that goes into a template is escaped."""

    folder = Path(__file__).parent

    def __init__(self, settings: ControlSettings, access: Access) -> None:
        self._access = access
        self._templates = Environment(
            loader=FileSystemLoader(self.folder / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._common = {
            "org": settings.org_name,
            "instance": settings.instance_name,
            "places": places(settings.instances, settings.org_name),
            "version": __version__,
        }

    def page(self, template: str, who: Principal, crumbs: Sequence[Link] = (), status: int = 200, **more: Any) -> HTMLResponse:
        """A page of the frame. `crumbs`: the way here, the page itself last; none on the first page."""
        return self.render(template, status, who=who, open=self._access.tokens is None, crumbs=crumbs, **more)

    def render(self, template: str, status: int = 200, **more: Any) -> HTMLResponse:
        return HTMLResponse(self._templates.get_template(template).render(**self._common, **more), status)
