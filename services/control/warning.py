"""What a draft of ingress makes possible that takes something away: deletes in Campaign, opt-outs that are taken back. Pure.

Said when a configuration is checked and saved; how many there would be only a plan can tell.
"""

from __future__ import annotations

from bridge.consent.settings import ConsentSettings
from bridge.model.config import IngressConfig
from bridge.model.flags import OPT_OUT_FLAGS, canonical_flag
from services.control.validation import Finding, Findings

DELETES = "the larger of 500 and 2 % of the table's records"  # bridge/consent/guard.py
LOWERS = "the larger of 100 and 1 % of the contacts"


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
