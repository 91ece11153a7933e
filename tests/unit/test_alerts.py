"""Alert rules, scrape configuration and dashboard: the real promtool takes them, and they name nothing that is not there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.control.api.exposition import METRICS

ROOT = Path(__file__).parents[2]
PROMETHEUS, GRAFANA = ROOT / "deploy/prometheus", ROOT / "deploy/grafana"
OPERATIONS = "docs/operations.md"
NAME = re.compile(r"\bbridge_[a-z0-9_]+")
PARTS = ("_bucket", "_sum", "_count")  # of a histogram
INWARD = {"not_found", "query_refused", "tracking_expired"}  # codes that become others before anybody sees them
OF_CONTROL = {each.name for each in METRICS}
OF_SERVICES = {
    "bridge_service_records_total",
    "bridge_service_parked_keys",
    "bridge_calls_total",
    "bridge_call_seconds",
    "bridge_poll_age_seconds",
    "bridge_tracking_days_left",
    "bridge_retry_after_seconds",
    "bridge_rebalances_total",
    "bridge_api_budget_left",
}


def names(expression: str) -> set[str]:
    return {_whole(name) for name in NAME.findall(expression)}


def _whole(name: str) -> str:
    return next((name.removesuffix(part) for part in PARTS if name.endswith(part)), name)


def anchors(page: str) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rules() -> list[dict[str, Any]]:
    loaded: dict[str, Any] = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())
    return [rule for group in loaded["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    dashboard: dict[str, Any] = json.loads((GRAFANA / "dashboards/bridge.json").read_text())
    found: list[dict[str, Any]] = dashboard["panels"]
    return found


@pytest.mark.parametrize(
    "command",
    [("check", "config", "prometheus.yml"), ("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")],
    ids=" ".join,
)
def test_promtool_takes_it(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_name_metrics_that_there_are() -> None:
    assert {name for rule in rules() for name in names(rule["expr"])} <= OF_CONTROL | OF_SERVICES


def test_every_alert_says_what_it_is_and_leads_to_its_section() -> None:
    known = anchors(OPERATIONS)
    for rule in rules():
        notes = rule["annotations"]
        assert notes["summary"] and notes["description"] and rule["labels"]["severity"] in ("critical", "warning")
        assert notes["runbook"] == f"{OPERATIONS}#{rule['alert'].lower()}"
        assert rule["alert"].lower() in known, f"{OPERATIONS} has no section {rule['alert']}"


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    tests: dict[str, Any] = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())
    cases = [case for test in tests["tests"] for case in test["alert_rule_test"]]

    assert {rule["alert"] for rule in rules()} == {case["alertname"] for case in cases if case["exp_alerts"]}


def test_every_panel_has_a_title_and_asks_for_metrics_that_there_are() -> None:
    known = OF_CONTROL | OF_SERVICES
    for panel in panels():
        assert panel["title"] and panel["targets"]
        for target in panel["targets"]:
            asked = names(target["expr"])
            assert asked <= known
            assert asked or "up{" in target["expr"], panel["title"]


def test_the_dashboard_shows_every_metric_of_the_services() -> None:
    shown = {name for panel in panels() for target in panel["targets"] for name in names(target["expr"])}

    assert shown >= OF_SERVICES


def test_the_dashboards_queries_are_promql(tmp_path: Path) -> None:
    """As recording rules promtool parses them; the variable of the page stands for anything."""
    expressions = [target["expr"].replace("$workflow", ".*") for panel in panels() for target in panel["targets"]]
    found = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(expressions)]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": found}]}))

    done = subprocess.run(["promtool", "check", "rules", "panels.yml"], cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_the_dashboard_and_its_source() -> None:
    source: dict[str, Any] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())
    provider: dict[str, Any] = yaml.safe_load((GRAFANA / "provisioning/dashboards/bridge.yml").read_text())

    assert {panel["datasource"]["uid"] for panel in panels()} == {each["uid"] for each in source["datasources"]}
    assert provider["providers"][0]["options"]["path"] == "/etc/grafana/dashboards"


def test_every_code_of_a_reason_or_a_dead_letter_is_told_of() -> None:
    """With both names of a code that says whose it is (`source_…`, `target_…`)."""
    page, untold = (ROOT / OPERATIONS).read_text(), []
    for path in [*(ROOT / "bridge").rglob("*.py"), *(ROOT / "services").glob("[eio]*/*.py")]:
        for code in re.findall(r'code=f?"([\w{}.]+)"', path.read_text()):
            named = [re.sub(r"\{[^}]*\}", origin, code) for origin in ("source", "target")]
            if code not in INWARD and not any(f"`{each}`" in page for each in named):
                untold.append(f"{path.name}: {code}")

    assert untold == []
