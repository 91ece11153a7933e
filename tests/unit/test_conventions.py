"""Conventions of this repository: imports, settings page, schemas, sizes, style and types."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import fastavro
import pytest

from bridge.kafka.topics import (
    control_topics,
    egress_topics,
    guard_topic,
    ingress_decisions,
    ingress_topics,
    optin_topics,
    outcomes_topic,
    workflow_topics,
)
from bridge.model.config import IngressConfig
from bridge.model.desired import WORKFLOWS
from tests.every_setting import EVERY_SETTINGS
from tests.generate_docs import PAGES, filled

ROOT = Path(__file__).parents[2]
PURE = [
    "bridge/mapping/rows.py",
    "bridge/mapping/filters.py",
    "bridge/mapping/convert.py",
    "bridge/model/state.py",
    "bridge/dynamics/batch.py",
    "services/ingress/decide.py",
    "services/egress/pointers.py",
    "services/egress/payload.py",
    "services/egress/activity.py",
    "bridge/model/flags.py",
    "bridge/model/operators.py",
    "bridge/consent/words.py",
    "bridge/consent/hearing.py",
    "bridge/consent/rule.py",
    "bridge/consent/mapped.py",
    "bridge/consent/opt_out_wait.py",
    "bridge/consent/guard.py",
    "bridge/consent/profiles.py",
    "services/ingress/remembered.py",
    "services/optin/resolve.py",
    "services/optin/status.py",
    "services/optin/export.py",
    "services/optin/export_rows.py",
    "services/optin/export_times.py",
    "services/optin/export_notices.py",
    "services/optin/running.py",
    "bridge/consent/meaning.py",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "services/control/rules").glob("*.py"))),
]
OUTSIDE = {"asyncio", "socket", "time", "httpx", "confluent_kafka", "sqlite3", "os", "random", "subprocess", "aiohttp"}
SCHEMAS = {
    "ingress.changes.contact": "ChangeEvent",
    "ingress.replay.contact": "ChangeEvent",
    "egress.email-events": "EmailEvent",
    "optin.observations": "OptStatusObserved",
    "optin.decisions": "OptStatusDecided",
    "ingress.decisions": "OptStatusDecided",
}
JSON_TOPICS = {"cursors", "state", "dead-letters", "workflows", "services", "audit", "outcomes", "guard"}


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Within functions and under TYPE_CHECKING as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def offenders(folder: str, forbidden: str, but_not_in: str = "-") -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(folder)
        for name in imports(path)
        if (name == forbidden or name.startswith(forbidden + ".")) and not str(path.relative_to(ROOT)).startswith(but_not_in)
    ]


FLOORS = (  # each imports what is above it, and nothing below or beside it
    ("model",),
    ("mapping", "observe"),
    ("consent", "http"),
    ("flow", "campaign"),
    ("kafka", "dynamics"),
    ("process",),
)


def test_each_room_of_the_bridge_imports_only_those_above_it() -> None:
    floor = {f"bridge.{room}": number for number, rooms in enumerate(FLOORS) for room in rooms}
    wrong = []
    for path in modules("bridge"):
        if len(path.relative_to(ROOT).parts) > 2:
            here = f"bridge.{path.relative_to(ROOT).parts[1]}"
            there = {".".join(name.split(".")[:2]) for name in imports(path) if name.startswith("bridge.")} - {here}
            wrong += [f"{path.relative_to(ROOT)} imports {room}" for room in there if floor[room] >= floor[here]]

    assert wrong == []
    assert {path.name for path in (ROOT / "bridge").glob("*.py")} == {"__init__.py", "memory.py"}, "the others are in rooms"


STAIRCASE = ("settings", "models", "rules", "topics", "systems", "api", "pages")  # each imports from what is left of it
WEB = ("fastapi", "starlette", "uvicorn")


def test_control_stands_on_one_staircase() -> None:
    wrong = []
    for number, room in enumerate(STAIRCASE):
        allowed = {f"services.control.{each}" for each in STAIRCASE[: number + 1]}
        for path in modules(f"services/control/{room}") or [ROOT / f"services/control/{room}.py"]:
            names = [name for name in imports(path) if name.startswith("services.control")]
            wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in names if ".".join(name.split(".")[:3]) not in allowed]
    for room in STAIRCASE[: STAIRCASE.index("api")]:
        wrong += [each for web in WEB for each in offenders(f"services/control/{room}", web)]

    assert wrong == []
    on_top = {path.name for path in (ROOT / "services/control").glob("*.py")}
    assert on_top == {"__init__.py", "__main__.py", "settings.py", "cli.py"}, "the others are in rooms"


def test_imports_point_one_way() -> None:
    assert offenders("bridge", "services") == []
    assert offenders("bridge", "sandbox") == []
    assert offenders("services", "sandbox") == []
    assert offenders("sandbox", "bridge") == []
    assert offenders("sandbox", "services") == []


def test_the_command_line_works_with_the_rest_api_alone() -> None:
    assert [each for other in ("bridge", "services", "sandbox", "schemas") for each in offenders("cli", other)] == []


def test_only_tests_use_the_twins_in_memory() -> None:
    assert offenders("bridge", "bridge.memory") == []
    assert offenders("services", "bridge.memory") == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = modules("bridge", "services", "cli", "sandbox")
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in found}
    graph: dict[str, set[str]] = {name: set() for name in paths}
    for name, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                graph[name] |= {alias.name for alias in node.names} & paths.keys()
            elif isinstance(node, ast.ImportFrom):
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                graph[name] |= {each if each in paths else str(node.module) for each in inner} & paths.keys()

    tuple(TopologicalSorter(graph).static_order())  # raises CycleError, which names them


def test_every_class_has_a_name_of_its_own() -> None:
    where: dict[str, list[str]] = {}
    for path in modules("bridge", "services", "cli"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                where.setdefault(node.name, []).append(str(path.relative_to(ROOT)))

    assert {name: paths for name, paths in where.items() if len(paths) > 1} == {}


def test_only_the_kafka_room_knows_librdkafka() -> None:
    assert offenders("bridge", "confluent_kafka", but_not_in="bridge/kafka/") == []
    assert offenders("services", "confluent_kafka") == []
    assert offenders("bridge", "faust", but_not_in="bridge/kafka/") == []
    assert offenders("services", "faust") == []


def test_the_loops_know_neither_kafka_nor_the_systems() -> None:
    for room in ("bridge.kafka", "bridge.dynamics", "bridge.campaign"):
        assert offenders("bridge/flow", room) == []


@pytest.mark.parametrize("path", PURE)
def test_decisions_are_pure(path: str) -> None:
    assert not OUTSIDE & {name.split(".")[0] for name in imports(ROOT / path)}
    assert "datetime.now" not in (ROOT / path).read_text()


@pytest.mark.parametrize("name", PAGES)
def test_pages_say_what_the_code_says(name: str) -> None:
    """`make docs` writes them."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")

    assert "<!-- made: " in page
    assert filled(page) == page


def test_every_setting_is_in_the_settings_page() -> None:
    page = (ROOT / "docs/settings.md").read_text(encoding="utf-8")

    for settings in EVERY_SETTINGS:
        for info in settings.model_fields.values():
            assert info.alias is None or f"| `{info.alias}" in page, info.alias


def test_every_route_of_the_api_says_which_role_it_needs() -> None:
    undecided = []
    for path in modules("services/control/api"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AsyncFunctionDef) and any("routes." in ast.unparse(each) for each in node.decorator_list):
                asked = {ast.unparse(each.annotation) for each in node.args.args if each.annotation}
                if not asked & {"Viewer", "Operator", "Admin"}:
                    undecided.append(node.name)

    assert undecided == ["healthz", "readyz", "metrics"]


def test_every_topic_has_a_schema_or_is_json() -> None:
    workflows = [topic for workflow in WORKFLOWS for topic in workflow_topics(workflow)]
    consent = [*optin_topics(), outcomes_topic(), ingress_decisions(), guard_topic()]
    topics = [topic.name for topic in [*control_topics(), *workflows, *ingress_topics(["contact"]), *egress_topics(), *consent]]

    for topic in topics:
        assert topic in SCHEMAS or topic.rsplit(".", 1)[1] in JSON_TOPICS, topic
    for name in SCHEMAS.values():
        assert (ROOT / "schemas" / f"{name}.avsc").exists()


def test_every_schema_is_valid_and_documented() -> None:
    for path in (ROOT / "schemas").glob("*.avsc"):
        schema = json.loads(path.read_text())
        fastavro.parse_schema(schema)
        assert schema["namespace"] == "bridge"
        assert schema["doc"]
        assert all(field.get("doc") for field in schema["fields"]), path.name


def test_every_reason_code_is_explained_in_operations() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    halting = set()
    for path in modules("bridge", "services"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "HaltError":
                codes = [each.value for each in node.keywords if each.arg == "code"]
                halting |= {str(code.value) for code in codes if isinstance(code, ast.Constant)}

    assert halting
    assert {code for code in halting if f"`{code}`" not in page} == set()


def test_modules_and_functions_stay_small() -> None:
    long = []
    for path in modules("bridge", "services", "cli"):
        tree = ast.parse(path.read_text())
        if len(path.read_text().splitlines()) > 300:
            long.append(f"{path.relative_to(ROOT)}: more than 300 lines")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.end_lineno or 0) - node.lineno >= 50:
                long.append(f"{path.relative_to(ROOT)}: {node.name} is too long")

    assert long == []


def test_no_download_address_in_the_locks() -> None:
    for path in ROOT.glob("requirements*.lock"):
        assert "://" not in path.read_text()
        assert "--hash=sha256:" in path.read_text()


def test_the_default_configuration_is_valid() -> None:
    from bridge.model.config import default_ingress

    assert IngressConfig.model_validate(default_ingress().model_dump(by_alias=True)).configured()


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["mypy"]])
def test_style_and_types(command: list[str]) -> None:
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
