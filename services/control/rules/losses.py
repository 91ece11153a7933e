"""What a draft of ingress takes away: deletes in Campaign, opt-outs that are taken back. Pure.

Which of them it makes possible is said when a configuration is checked and saved; how many there would be only a plan can tell, and how
many the limits of the consent guard let through.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.consent.settings import ConsentSettings
from bridge.model.config import IngressConfig
from bridge.model.flags import OPT_OUT_FLAGS, canonical_flag
from services.control.models.data_json import LimitedOut
from services.control.models.workflow_json import EstimateOut
from services.control.rules.validation import Finding, Findings

DELETES = "the larger of 500 and 2 % of the table's records"  # bridge/consent/guard.py
LOWERS = "the larger of 100 and 1 % of the contacts"


def takes_away(config: IngressConfig) -> bool:
    """Whether anything in it can delete a record in Campaign or take back an opt-out."""
    return any(each.apply_deletes or (each.filter.delete_filtered_out and each.filter.conditions) or each.flags() for each in config.tables)


def warn_of_what_goes(findings: Findings, config: IngressConfig, consent: ConsentSettings) -> None:
    """Adds a warning for each switch that deletes, and for each opt-out that is mapped."""
    deletes = f"more than {_limit(consent.delete_limit, DELETES)}"
    lowers = f"more than {_limit(consent.release_limit, LOWERS)}"
    for number, table in enumerate(config.tables):
        path = f"/tables/{number}"
        if table.filter.delete_filtered_out and table.filter.conditions:
            text = (
                "records that the filter leaves out are deleted in Campaign, also those that are there already; see how many with a plan; "
            )
            _warn(findings, f"{path}/filter/delete_filtered_out", "deletes_filtered_out", f"{text}{deletes} within an hour are held")
        if table.apply_deletes:
            text = "what is deleted in Dynamics is deleted in Campaign; "
            _warn(findings, f"{path}/apply_deletes", "applies_deletes", f"{text}{deletes} within an hour are held")
        for place, mapped in enumerate(table.fields if table.target == "profile" else ()):
            if (flag := canonical_flag(mapped.target)) in OPT_OUT_FLAGS:
                text = f"{flag} is an opt-out: true goes out always, false only when it was taken back in Dynamics since; "
                _warn(findings, f"{path}/fields/{place}/target", "opt_out_mapped", f"{text}{lowers} within an hour are held")


def _warn(findings: Findings, path: str, code: str, text: str) -> None:
    findings.warnings.append(Finding(path, code, text))


def _limit(setting: int | None, otherwise: str) -> str:
    return otherwise if setting is None else str(setting)


def lowers(body: dict[str, Any], current: dict[str, Any]) -> bool:
    """Whether writing `body` takes away an opt-out that Campaign has now."""
    return any(body.get(flag) is False and current.get(flag) is True for flag in OPT_OUT_FLAGS)


def whole(found: int, sample: int, total: int | None) -> int | None:
    """The same for all rows, by proportion; None if nobody knows how many there are, or none was tried."""
    return None if total is None or sample == 0 else round(found * max(total, sample) / sample)


def limited(found: int, whole: int | None, limit: int) -> LimitedOut:
    return LimitedOut(sample=found, total=whole, limit=limit, above=(found if whole is None else whole) > limit)


def together(tables: Sequence[LimitedOut]) -> EstimateOut:
    totals = [each.total for each in tables if each.total is not None]
    return EstimateOut(sample=sum(each.sample for each in tables), total=sum(totals) if len(totals) == len(tables) else None)
