"""How a plan looks. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from cli.screen import table

COUNTS = ("create", "update", "unchanged", "delete", "filtered", "rejected")


def plan_parts(plan: Mapping[str, Any]) -> list[RenderableType]:
    """Counts by table, then what would go wrong, then the calls. A list that is empty is left out."""
    parts: list[RenderableType] = [_counts(plan)]
    rejected = [(each["code"], each["reason"], each["count"], ", ".join(each["keys"])) for each in plan["rejected"]]
    parts += _section("Rejected: these rows would become dead letters", ["CODE", "REASON", "ROWS", "KEYS"], rejected)
    headings = ["TABLE", "FIELD", "TARGET", "LENGTH", "ROWS"]
    parts += _section("Truncated: longer than the target field", headings, map(_field, plan["truncated"]))
    parts += _section("Not convertible to the type of the target field", headings, map(_field, plan["not_convertible"]))
    values = [(each["table"], each["source"], each["value"], each["label"], each["count"]) for each in plan["unreplaced"]]
    parts += _section("Picklist values without a replacement", ["TABLE", "FIELD", "VALUE", "LABEL", "ROWS"], values)
    total = plan["calls"]["total"]
    whole = (
        "not known for all rows, because Dynamics does not tell how many there are" if total is None else f"about {total:,} for all rows"
    )
    parts.append(Text(f"\nCalls to Campaign: {plan['calls']['sample']:,} for the sample, {whole}."))
    return [*parts, *_taken(plan)]


def _taken(plan: Mapping[str, Any]) -> list[RenderableType]:
    """What would be taken away, of each table: opt-outs and records. Above a limit the consent guard would hold some."""
    found = [
        (each["source"], what, each[name]["sample"], each[name]["total"], each[name]["limit"], "ABOVE" if each[name]["above"] else None)
        for each in plan["tables"]
        for name, what in (("lowers", "opt-outs taken away"), ("deletes", "records deleted in Campaign"))
        if each[name]["sample"]
    ]
    return _section("Taken away: what goes beyond the limit in an hour is held", ["TABLE", "WHAT", "SAMPLE", "ALL", "LIMIT", ""], found)


def takes_away_line(told: Mapping[str, Any] | None) -> str | None:
    """Of the answer to a save or a start of ingress; None if nothing is taken away."""
    if told is None:
        return "How much it takes away in Campaign is not known: a system did not answer in time. `bridge config plan ingress` tries again."
    found = [
        f"{_about(told[name])} {what}"
        for name, what in (("lowers", "opt-outs taken away"), ("deletes", "records deleted"))
        if told[name]["sample"]
    ]
    if not found:
        return None
    held = "; more than the limits, so some will be held" if told["above_limits"] else ""
    return f"In Campaign by a sample of {told['sample']:,} rows: {', '.join(found)}{held}."


def _about(estimate: Mapping[str, Any]) -> str:
    return f"{estimate['sample']:,}" if estimate["total"] is None else f"about {estimate['total']:,}"


def _counts(plan: Mapping[str, Any]) -> RenderableType:
    rows = [
        (f"{each['source']} → {each['target']}", each["lane"], each["sample"], each["total"], *(each["counts"][name] for name in COUNTS))
        for each in plan["tables"]
    ]
    if len(rows) > 1:
        rows.append(("all", None, plan["sample"], None, *(plan["counts"][name] for name in COUNTS)))
    return table(["TABLE", "LANE", "SAMPLE", "OF", *(name.upper() for name in COUNTS)], rows)


def _field(each: Mapping[str, Any]) -> tuple[Any, ...]:
    return each["table"], each["source"], each["target"], each["length"], each["count"]


def _section(title: str, headings: list[str], rows: Iterable[tuple[Any, ...]]) -> list[RenderableType]:
    listed = list(rows)
    return [Text(f"\n{title}", style="bold"), table(headings, listed)] if listed else []
