"""Campaign's resources and their fields as it describes them itself (campaign.md §2.2, §5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.campaign.client import CampaignClient
from bridge.campaign.errors import REPUBLISH, NotFound
from bridge.http.answers import readable
from bridge.mapping.convert import Kind, TargetField
from bridge.model.errors import HaltError, RejectError, RetryError

EXT, CUSTOM = "profileAndServicesExt", "customResources"
KINDS: dict[str, Kind] = {
    "string": "string",
    "memo": "string",
    "uuid": "string",
    "long": "integer",
    "short": "integer",
    "byte": "integer",
    "int64": "integer",
    "integer": "integer",
    "float": "number",
    "double": "number",
    "number": "number",
    "boolean": "boolean",
    "date": "date",
    "datetime": "datetime",
}


@dataclass(frozen=True, slots=True)
class Resource:
    """`path`: where its records are, below /campaign/. `fields`: by dotted name. `parents`: the resources it is linked to, which may hide
    it; the name of one that is not told is empty."""

    name: str
    path: str
    fields: Mapping[str, TargetField]
    parents: frozenset[str] = frozenset()

    @property
    def has_parents(self) -> bool:
        return bool(self.parents)

    def field(self, name: str) -> TargetField | None:
        """A field by its dotted name. Members of an item that the metadata does not describe are taken for plain text."""
        parent = self.fields.get(name.rpartition(".")[0])
        if name not in self.fields and parent is not None and parent.kind == "item":
            return TargetField(name, "string")
        return self.fields.get(name)

    def only(self, names: Iterable[str]) -> dict[str, TargetField]:
        """The fields of these names, which must be there."""
        found = {name: self.field(name) for name in names}
        return {name: field for name, field in found.items() if field is not None}


async def read_resource(client: CampaignClient, name: str) -> Resource:
    """Raises HaltError if the resource is not there or not published."""
    unclear: list[RetryError] = []
    path, described_at = await _found(client, name, unclear)
    for place in described_at:
        described = await tried(client, place, unclear)
        if described is None:
            continue
        content = described.get("content")
        with readable(f"Campaign: description of {name}"):
            fields = {field.name: field for field in _fields(content, "")} if isinstance(content, Mapping) else {}
        if fields:
            return Resource(name, path, fields, frozenset() if name == "profile" else _parents(fields.values()))
        unclear.append(RetryError(f"Campaign: {place}: the answer describes no resource", code="bad_answer"))
    raise unclear[0] if unclear else _missing(name)


def missing_fields(resource: Resource, wanted: list[str]) -> HaltError | None:
    """The error to halt with if a mapped field is not there or cannot be written."""
    for name in wanted:
        field = resource.field(name)
        if field is None or field.read_only or field.kind in ("link", "collection", "item"):
            what = "does not exist" if field is None else "cannot be written"
            return HaltError(
                f"field {name} of Campaign resource {resource.name} {what}",
                code="target_field_unusable",
                hint="Correct the mapping, or publish the field in Campaign, then start again.",
                origin="target",
            )
    return None


async def _found(client: CampaignClient, name: str, unclear: list[RetryError]) -> tuple[str, list[str]]:
    """The path of a resource and the places that may describe it, none if it is in no list: the link in the list first, as Campaign gives
    it."""
    for family in (EXT, CUSTOM):
        entry = (await listing(client, family, unclear)).get(name)
        if isinstance(entry, Mapping) or (family == EXT and name == "profile"):
            href = [str(entry["href"])] if isinstance(entry, Mapping) and entry.get("href") else []
            return f"{family}/{name}", [*href, f"{family}/resourceType/{name}", f"profileAndServices/resourceType/{name}"]
    return "", []


async def listing(client: CampaignClient, family: str, unclear: list[RetryError]) -> Mapping[str, Any]:
    """The published resources of a family, by name."""
    return await tried(client, family, unclear) or await tried(client, f"{family}/", unclear) or {}


async def tried(client: CampaignClient, place: str, unclear: list[RetryError]) -> Mapping[str, Any] | None:
    """What is there; None if nothing is. Whether a list or a description is published varies between instances. `unclear` gets a 404 that
    is not Campaign's own: it does not matter if what is looked for is found elsewhere."""
    try:
        return await client.get(place)
    except (RejectError, NotFound):
        return None
    except RetryError as exc:
        if exc.status != 404:
            raise
        unclear.append(exc)
        return None
    except HaltError as exc:
        if exc.code in ("target_not_published", "foreign_link"):
            return None
        raise


def _missing(name: str) -> HaltError:
    return HaltError(
        f"Campaign resource {name} does not exist or is not published",
        code="target_resource_missing",
        hint=REPUBLISH,
        origin="target",
    )


def _fields(content: Mapping[str, Any], prefix: str) -> list[TargetField]:
    found = []
    for api_name, described in content.items():
        if not isinstance(described, Mapping):
            continue
        nested = described.get("content")
        if described.get("type") == "item" and isinstance(nested, Mapping):
            found += _fields(nested, f"{prefix}{api_name}.")
        else:
            found.append(_field(prefix + api_name, described))
    return found


def _parents(fields: Iterable[TargetField]) -> frozenset[str]:
    return frozenset(field.link for field in fields if field.kind == "link")


def _field(name: str, described: Mapping[str, Any]) -> TargetField:
    raw = str(described.get("resType") or described.get("type") or "string")
    broad = str(described.get("type") or "")
    kind: Kind
    match broad:
        case "link" | "collection" | "enumeration" | "item":
            kind = broad
        case _:
            kind = KINDS.get(raw) or KINDS.get(broad) or "string"
    length = str(described.get("length") or "")
    return TargetField(
        name=name,
        kind=kind,
        raw_type=raw,
        length=int(length) if kind == "string" and length.isdigit() and int(length) > 0 else None,
        read_only=bool(described.get("readOnly")) or name == "PKey",
        label=str(described.get("label") or ""),
        options=_options(described.get("values")) if kind == "enumeration" else (),
        policy=str(described.get("dataPolicy") or ""),
        link=str(described.get("resTarget") or "") if kind == "link" else "",
    )


def _options(values: Any) -> tuple[tuple[str, str], ...]:
    """(name, label) of each value; `values` is an object by name or a list (its layout is not documented)."""
    entries = values.items() if isinstance(values, Mapping) else ((each.get("name"), each) for each in values or ())
    return tuple(
        (str(name), str(each.get("label") or name) if isinstance(each, Mapping) else str(name))
        for name, each in entries
        if name != "__Invalid_value__"
    )
