"""A draft against everything that is known: its own shape, the other workflows, and the metadata of both systems if they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from bridge.campaign.metadata import Resource
from bridge.consent.settings import ConsentSettings
from bridge.dynamics.activities import read_activities
from bridge.model.config import Config, EgressConfig, IngressConfig, OptinConfig
from bridge.model.desired import Workflow
from bridge.model.errors import BridgeError, HaltError
from services.control.models.system_json import System
from services.control.rules.losses import warn_of_what_goes
from services.control.rules.metadata_fit import SourceTable, fit_ingress, fit_optin
from services.control.rules.validation import Finding, Findings, check
from services.control.systems.connections import NAMES, NotAnswered, Systems
from services.egress.activity import wanted_tables

T = TypeVar("T")
MISSING = ("source_table_missing", "target_resource_missing")


async def validated(workflow: Workflow, raw: Any, saved: Mapping[Workflow, Config], systems: Systems, consent: ConsentSettings) -> Findings:
    """`saved`: the saved configuration of every workflow. What cannot be asked for is a warning, not an error: an operator can save while a
    system is away."""
    findings = check(workflow, raw, saved)
    if isinstance(findings.config, IngressConfig):
        await _ingress(systems, findings, findings.config)
        warn_of_what_goes(findings, findings.config, consent)
    elif isinstance(findings.config, EgressConfig) and findings.config.configured():
        await _egress(systems, findings)
    elif isinstance(findings.config, OptinConfig) and findings.config.mappings:
        sources = await _all(systems, findings, "dynamics", {"contact": _source(systems, "contact")})
        fit_optin(findings, findings.config, sources.get("contact"))
    return findings


async def _ingress(systems: Systems, findings: Findings, config: IngressConfig) -> None:
    asked = {table.source: _source(systems, table.source) for table in config.tables}
    wanted = {table.target: systems.resource(table.target) for table in config.tables} if systems.configured("campaign") else {}
    sources = await _all(systems, findings, "dynamics", asked)
    resources: dict[str, Resource | None] = await _all(systems, findings, "campaign", wanted)
    fit_ingress(findings, config, sources, resources, zoned=systems.zone() is not None)


async def _egress(systems: Systems, findings: Findings) -> None:
    """Tables that are missing are a warning: the solution may be installed later, and the writer checks them again before it begins."""
    if not systems.configured("dynamics"):
        return
    try:
        wanted = list(wanted_tables(systems.timeline).values())
        await systems.asked("dynamics", read_activities(systems.dynamics, wanted, False))
    except HaltError as exc:
        findings.warnings.append(Finding("/events", exc.code, f"{exc}. {exc.hint}"))
    except (BridgeError, NotAnswered) as exc:
        findings.warnings.append(Finding("", "dynamics_not_checked", f"not checked against {NAMES['dynamics']}'s tables: {exc}"))


async def _source(systems: Systems, name: str) -> SourceTable:
    tables, columns, secured = await asyncio.gather(systems.tables("dynamics"), systems.fields("dynamics", name), systems.secured(name))
    tracked = next((bool(each.change_tracking) for each in tables if each.name == name), False)
    return SourceTable(tracked, {column.name: column for column in columns}, secured)


async def _all(systems: Systems, findings: Findings, system: System, asked: Mapping[str, Awaitable[T]]) -> dict[str, T | None]:
    """The answers by name, None for what does not exist; without what could not be asked for, of which a warning tells."""
    answers = await asyncio.gather(*asked.values(), return_exceptions=True)
    found: dict[str, T | None] = {}
    why = None if systems.configured(system) else "it is not configured in control"
    for name, answer in zip(asked, answers, strict=True):
        if isinstance(answer, HaltError) and answer.code in MISSING:
            found[name] = None
        elif isinstance(answer, BridgeError | NotAnswered):
            why = str(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found[name] = answer
    if why is not None:
        text = f"not checked against {NAMES[system]}'s tables and fields: {why}"
        findings.warnings.append(Finding("", f"{system}_not_checked", text))
    return found
