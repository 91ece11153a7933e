"""`EntityDefinitions`: tables, columns, choices and relationships [contract 6]."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from sandbox.dynamics import filters
from sandbox.dynamics.store import Store
from sandbox.dynamics.tables import CHOICE_TYPES, LOOKUPS, Column, Table
from sandbox.dynamics.wire import Answer, Call, ODataError, no_property, no_segment, query_error, unsupported

Definition = dict[str, Any]
_PATH = re.compile(r"EntityDefinitions(?:\(LogicalName='(?P<table>[^']*)'\)(?:/(?P<rest>.+))?)?")
_ATTRIBUTES = re.compile(
    r"Attributes(?:\(LogicalName='(?P<name>[^']*)'\))?(?:/Microsoft\.Dynamics\.CRM\.(?P<cast>\w+)AttributeMetadata)?(?P<options>/OptionSet)?"
)
_CASTS = (
    "Picklist", "State", "Status", "Boolean", "String", "Memo", "DateTime", "Integer", "Decimal", "Double", "Money",
    "Lookup", "MultiSelectPicklist",
)  # fmt: skip
FORMATS = {"emailaddress": "Email", "telephone": "Phone", "mobilephone": "Phone", "fax": "Phone"}  # by a part of the name
_WITH_OPTIONS = ("Picklist", "State", "Status", "Boolean", "MultiSelectPicklist")


def answer(store: Store, call: Call) -> Answer:
    """Any path that starts with EntityDefinitions. Raises ODataError 400, 404 or 501."""
    found = _PATH.fullmatch(call.path)
    if found is None or call.method != "GET":
        raise unsupported(f"{call.method} {call.path}")
    for name in call.query:
        if name.startswith("$") and name not in ("$select", "$filter", "$expand"):
            raise query_error(f"The query parameter {name} is not supported.")
    if found["table"] is None:
        return _listed(call, [_table(table) for table in store.tables.values()], "EntityMetadata", "EntityDefinitions")
    table = store.tables.get(found["table"])
    if table is None:
        text = f"The entity with a name = '{found['table']}' was not found in the MetadataCache."
        raise ODataError(404, "0x80060888", text)
    rest, where = found["rest"], f"EntityDefinitions('{table.name}')"
    if not rest:
        return Answer(
            200,
            {"@odata.context": _context(call, "EntityDefinitions", "/$entity")} | _picked(call, _table(table), "EntityMetadata"),
        )
    if rest == "Keys":
        return _listed(call, [], "EntityKeyMetadata", f"{where}/Keys")
    if rest == "ManyToOneRelationships":
        rows = [row for column in table.columns.values() for row in _relationships(table, column)]
        return _listed(call, rows, "OneToManyRelationshipMetadata", f"{where}/{rest}")
    return _attributes(store, call, table, rest, where)


def _attributes(store: Store, call: Call, table: Table, rest: str, where: str) -> Answer:
    found = _ATTRIBUTES.fullmatch(rest)
    if found is None or (found["cast"] and found["cast"] not in _CASTS):
        raise no_segment(rest)
    cast, name = found["cast"] or "", found["name"]
    kind = f"{cast}AttributeMetadata"
    secured = {name for of, name in store.secured if of == table.name}
    shown = [_as_cached(store, call, table, column) for column in table.columns.values()]
    rows = [row for column in shown for row in _columns(table, column, cast, column.name in secured)]
    if cast and name:
        rows = [row for row in rows if row["LogicalName"] == name]
    if name is None:
        if found["options"]:
            raise no_segment("OptionSet")
        return _listed(call, [row for row in rows if not cast or row["@odata.type"].endswith(f".{kind}")], kind, f"{where}/{rest}")
    row = next(
        (row for row in rows if row["LogicalName"] == name and row["@odata.type"].endswith(f".{cast}AttributeMetadata" if cast else "")),
        None,
    )
    if row is None:
        raise ODataError(404, "0x80060888", f"Could not find an attribute with name '{name}' on '{table.name}'.")
    if found["options"]:
        options = row.get("OptionSet")
        if options is None:
            raise no_segment("OptionSet")
        return Answer(
            200,
            {"@odata.context": _context(call, f"{where}/{rest}", "/$entity")} | _picked(call, options, "OptionSetMetadata"),
        )
    return Answer(200, {"@odata.context": _context(call, f"{where}/{rest}", "/$entity")} | _picked(call, row, kind))


def _as_cached(store: Store, call: Call, table: Table, column: Column) -> Column:
    """Without the options that the cache does not know yet, unless the caller wants to read past it [2]."""
    since = store.now().timestamp() - store.settings.metadata_lag_s
    late = {value for (of, name, value), at in store.options_added.items() if (of, name) == (table.name, column.name) and at > since}
    if not late or call.header("Consistency") == "Strong":
        return column
    return replace(column, options={value: label for value, label in column.options.items() if value not in late})


def _context(call: Call, what: str, suffix: str = "") -> str:
    select = call.query.get("$select")
    return f"{call.root}$metadata#{what}{f'({select})' if select else ''}{suffix}"


def _listed(call: Call, rows: Iterable[Definition], kind: str, where: str) -> Answer:
    """The rows that pass `$filter`: equality and order of plain values, with and/or/not; no functions."""
    test: Callable[[Any], bool] = lambda _: True  # noqa: E731
    if call.query.get("$filter"):
        known = next(iter(rows := list(rows)), {})
        test = filters.compiled(call.query["$filter"], lambda path: _resolved(path, known, kind), functions=False)
    return Answer(200, {"@odata.context": _context(call, where), "value": [_picked(call, row, kind) for row in rows if test(row)]})


def _resolved(path: str, known: Definition, kind: str) -> tuple[Callable[[Any], Any], Callable[[str, Any], Any]]:
    parts = path.split("/")
    if known and (parts[0] not in known or parts[0].endswith("Label") or parts[0].startswith("Display")):
        raise no_property(path, kind)

    def value(row: Any) -> Any:
        for part in parts:
            row = row.get(part) if isinstance(row, dict) else None
        return row

    return value, lambda _, literal: literal


def _picked(call: Call, row: Definition, kind: str) -> Definition:
    """`$select` and `$expand` applied; MetadataId and the type always come along."""
    expanded = {part.partition("(")[0].strip() for part in call.query.get("$expand", "").split(",") if part.strip()}
    select = [part.strip() for part in call.query.get("$select", "").split(",") if part.strip()]
    offered = ("OptionSet", "GlobalOptionSet") if "OptionSet" in row else ()
    if expanded - set(offered):
        raise unsupported(f"$expand={call.query['$expand']}")
    for name in select:
        if name not in row or name in offered:
            raise no_property(name, kind)
    shown = {name: value for name, value in row.items() if name not in offered}
    if select:
        shown = {name: row[name] for name in ("@odata.type", *select, "MetadataId") if name in row}
    return shown | {name: row[name] for name in offered if name in expanded}


def _id(*names: str) -> str:
    return str(uuid5(NAMESPACE_OID, "/".join(names)))


def _label(text: str | None) -> Definition:
    """Without any label if the text is empty, with one that is null if it is None."""
    one = {
        "Label": text,
        "LanguageCode": 1033,
        "IsManaged": False,
        "MetadataId": _id("label", str(text)),
        "HasChanged": None,
    }
    return {"LocalizedLabels": [one], "UserLocalizedLabel": one} if text != "" else {"LocalizedLabels": [], "UserLocalizedLabel": None}


def _managed(value: Any, name: str) -> Definition:
    return {"Value": value, "CanBeChanged": True, "ManagedPropertyLogicalName": name}


def _table(table: Table) -> Definition:
    prefix, _, rest = table.name.rpartition("_")
    schema = f"{prefix}_{rest.capitalize()}" if prefix else table.name.capitalize()
    return {
        "MetadataId": _id(table.name), "LogicalName": table.name, "SchemaName": schema,
        "EntitySetName": table.set_name, "LogicalCollectionName": table.set_name,
        "PrimaryIdAttribute": table.key, "PrimaryNameAttribute": table.primary_name, "ObjectTypeCode": table.code,
        "DisplayName": _label(table.label), "DisplayCollectionName": _label(f"{table.label}s"),
        "IsCustomEntity": table.custom, "IsActivity": table.activity, "IsIntersect": False, "IsPrivate": False,
        "OwnershipType": "UserOwned", "TableType": "Standard", "ChangeTrackingEnabled": table.tracked,
        "CanChangeTrackingBeEnabled": _managed(True, "canchangetrackingbeenabled"),
        "IsOptimisticConcurrencyEnabled": True,
    }  # fmt: skip


def _columns(table: Table, column: Column, cast: str, secured: bool) -> list[Definition]:
    """The column, followed by the virtual companion that shows its label; what only a cast shows needs `cast`."""
    virtual, writable = column.type == "MultiSelectPicklist", not column.readonly
    kind = "Lookup" if column.type in LOOKUPS else {"Uniqueidentifier": ""}.get(column.type, column.type)
    level = "SystemRequired" if column.name == table.key else "ApplicationRequired" if column.name in ("lastname", "subject") else "None"
    base: Definition = {
        "@odata.type": f"#Microsoft.Dynamics.CRM.{kind}AttributeMetadata", "MetadataId": _id(table.name, column.name),
        "LogicalName": column.name, "SchemaName": column.schema_name,
        "AttributeType": "Virtual" if virtual else column.type, "AttributeTypeName": {"Value": f"{column.type}Type"},
        "DisplayName": _label(column.label), "IsCustomAttribute": column.is_custom,
        "IsPrimaryId": column.name == table.key, "IsPrimaryName": column.name == table.primary_name,
        "IsValidForRead": True, "IsValidForCreate": writable and column.type != "State",
        "IsValidForUpdate": writable and column.name != table.key, "IsValidODataAttribute": True,
        "AttributeOf": None, "IsLogical": False, "IsSecured": secured,
        "RequiredLevel": _managed(level, "canmodifyrequirementlevelsettings"),
    }  # fmt: skip
    if cast:
        return [base | _cast(table, column)]
    if column.type not in (*CHOICE_TYPES, *LOOKUPS, "Boolean", "MultiSelectPicklist"):
        return [base]
    name = f"{column.name}name"
    kind = "String" if column.type in LOOKUPS else "Virtual"
    companion: Definition = {
        "@odata.type": f"#Microsoft.Dynamics.CRM.{kind if kind == 'String' else ''}AttributeMetadata",
        "MetadataId": _id(table.name, name), "LogicalName": name, "SchemaName": f"{column.schema_name}Name",
        "AttributeType": kind, "AttributeTypeName": {"Value": f"{kind}Type"}, "AttributeOf": column.name,
        "DisplayName": _label(""), "IsValidForCreate": False, "IsValidForUpdate": False, "IsLogical": True,
        "IsValidODataAttribute": False, "IsPrimaryId": False, "IsPrimaryName": False,
    }  # fmt: skip
    return [base, base | companion]


def _cast(table: Table, column: Column) -> Definition:
    """What a column of this type has beyond the common properties."""
    match column.type:
        case "String" | "Memo":
            form = column.format or next((form for part, form in FORMATS.items() if part in column.name), "Text")
            return {"MaxLength": column.length, "FormatName": {"Value": form}, "Format": form}
        case "DateTime":
            form = column.format or ("DateOnly" if column.behavior == "DateOnly" else "DateAndTime")
            return {"Format": form, "DateTimeBehavior": {"Value": column.behavior}}
        case "Integer" | "Decimal" | "Double" | "Money":
            return {"MinValue": column.low, "MaxValue": column.high, "Precision": column.precision}
        case kind if kind in LOOKUPS:
            return {"Targets": list(column.targets)}
        case kind if kind in _WITH_OPTIONS:
            options = _option_set(table, column)
            return {
                "DefaultValue" if kind == "Boolean" else "DefaultFormValue": column.default,
                "OptionSet": options,
                "GlobalOptionSet": options if column.shared else None,
            }
    return {}


def _option_set(table: Table, column: Column) -> Definition:
    name = column.name if column.shared else f"{table.name}_{column.name}"
    options = [_option(table, column, value, text) for value, text in column.options.items()]
    chosen: Definition = {"Options": options}
    if column.type == "Boolean":
        chosen = {"TrueOption": options[0], "FalseOption": options[1]}
    kind = column.type if column.type in ("Boolean", "State", "Status") else "Picklist"
    return chosen | {
        "Description": _label(""), "DisplayName": _label(column.label), "IsCustomOptionSet": table.custom,
        "IsGlobal": column.shared, "IsManaged": False, "IsCustomizable": _managed(True, "iscustomizable"), "Name": name,
        "OptionSetType": kind, "IntroducedVersion": None, "MetadataId": _id("options", name), "HasChanged": None,
    }  # fmt: skip


def _option(table: Table, column: Column, value: int, text: str | None) -> Definition:
    extra: Definition = {}
    if column.type == "State":
        statuses = table.columns["statuscode"].states
        extra = {"DefaultStatus": next(status for status, state in statuses.items() if state == value), "InvariantName": text}
    elif column.type == "Status":
        extra = {"State": column.states[value], "TransitionData": None}
    common = {"Description": _label(""), "Color": None, "IsManaged": False, "MetadataId": None, "HasChanged": None}
    return {"Value": value, "Label": _label(text)} | common | extra


def _relationships(table: Table, column: Column) -> list[Definition]:
    return [
        {
            "MetadataId": _id("relationship", table.name, nav, target),
            "SchemaName": f"{table.name}_{target}_{column.schema_name}",
            "RelationshipType": "OneToManyRelationship", "ReferencingEntity": table.name,
            "ReferencingAttribute": column.name, "ReferencedEntity": target, "ReferencedAttribute": f"{target}id",
            "ReferencingEntityNavigationPropertyName": nav,
        }
        for nav, targets in column.navigation.items()
        for target in targets
    ]  # fmt: skip
