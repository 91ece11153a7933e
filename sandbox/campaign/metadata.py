"""Resource lists, resource types and filter descriptions (contract 3.6, 5.1, 5.2)."""

from __future__ import annotations

from typing import Any

from sandbox.campaign.model import NUMBERS, Field, Resource
from sandbox.campaign.reading import filters_of
from sandbox.campaign.store import CONTEXTS, Database

HIGH_LEVEL = dict.fromkeys(NUMBERS, "number") | {"enum": "enumeration"}
TECHNICAL = {"enum": "byte", "item": "", "collection": "link"}
KIND = {"item": "element", "link": "link", "collection": "link"}


def _token(database: Database, subject: str) -> str:
    return database.tokens.seal(subject, CONTEXTS["metadata"], 51)[1:]


def _values(names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    numbered = {name: str(value) for value, name in enumerate(names)} | {"__Invalid_value__": "255"}
    return {name: {"name": name, "label": name.capitalize(), "value": value} for name, value in numbered.items()}


def _field(database: Database, resource: Resource, field: Field) -> dict[str, Any]:
    """The 19 members; links and collections have `resTarget`, enumerations `values`, items `content` on top."""
    technical = "string" if field.type == "enum" and field.length else TECHNICAL.get(field.type, field.type)
    described: dict[str, Any] = {
        "PKey": _token(database, f"{resource.name}.{field.name}"),
        "apiName": field.name,
        "category": "99_none",
        "dataPolicy": database.settings.data_policies.get(f"{resource.name}.{field.name}", ""),
        "desc": "",
        "displayFormat": "",
        "help": "",
        "label": field.name,
        "lazyLoaded": False,
        "length": str(field.length),
        "mandatory": False,
        "metadata": KIND.get(field.type, "attribute"),
        "privacy": "firstParty",
        "queryable": True,
        "readOnly": field.read_only,
        "resName": "",
        "resType": technical,
        "sortable": field.type not in KIND,
        "type": HIGH_LEVEL.get(field.type, field.type),
    }
    if field.target:
        described["resTarget"] = field.target
    if field.names:
        described["values"] = _values(field.names)
    if field.members:
        described["content"] = {name: _field(database, resource, member) for name, member in field.members.items()}
    return described


def resource_type(database: Database, root: str, family: str, resource: Resource) -> dict[str, Any]:
    """Identification keys are in no metadata (5.3)."""
    shown = sorted(name for name in resource.fields if resource.visible(name, family))
    return {
        "PKey": _token(database, resource.name),
        "apiName": "resourceType",
        "compatibleResources": {},
        "content": {name: _field(database, resource, resource.fields[name]) for name in shown},
        "data": f"/{family}/{resource.name}/",
        "filters": {"href": f"{root}/{family}/resourceType/{resource.name}/filters"},
        "help": resource.label,
        "href": f"{root}/{family}/{resource.name}/metadata",
        "label": resource.label,
        "mandatory": False,
        "name": resource.name,
        "pkgStatus": "never",
        "readOnly": False,
        "schema": resource.schema,
        "type": "item",
    }


def filters(database: Database, family: str, resource: Resource) -> dict[str, Any]:
    def described(name: str, parameters: tuple[str, ...]) -> dict[str, Any]:
        template = "&".join(f"{parameter}=$value" for parameter in parameters)
        return {
            "PKey": _token(database, f"{resource.name}/{name}"),
            "category": "99_none",
            "condition": {name: {"enabledIf": "", "expr": f"@{name} = $({name})"} for name in parameters},
            "data": f"/{family}/{resource.name}/{name}?{template}",
            "formType": "none",
            "fragmentName": name,
            "label": name,
            "metadata": {name: {"name": name, "type": "string"} for name in parameters},
            "webPage": "",
        }

    return {name: described(name, parameters) for name, parameters in filters_of(resource, family).items()}


def resource_list(database: Database, root: str, family: str) -> dict[str, Any]:
    """The published resources of one family, shortened."""
    listed: dict[str, Any] = {"apiName": "resourceType"}
    for name, table in sorted(database.tables.items()):
        resource = table.resource
        if resource.published and family in resource.families:
            fields = {each: {"label": each} for each in sorted(resource.fields) if resource.visible(each, family)}
            listed[name] = {
                "content": fields,
                "data": f"/{family}/{name}/",
                "help": resource.label,
                "href": f"{root}/{family}/{name}/metadata",
                "name": name,
                "type": "collection",
            }
    return listed
