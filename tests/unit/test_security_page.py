"""docs/security.md: every test it names is there, every item of ASVS 5.0 is decided, and what it tells is what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bridge.kafka.topics import control_topics
from bridge.model.config import Filter, IngressConfig, TableMapping
from bridge.model.settings import Url
from services.control.api import live_stream, table_routes
from services.control.api.access import PER_SECOND, SESSION_S
from services.control.api.door import API, LARGEST_BODY, LONGEST_PATH, LONGEST_S, TELL_EVERY_S
from services.control.api.web_app import ASK_EVERY_S
from services.control.models import data_json, workflow_json
from services.control.systems import connections
from tests.every_setting import EVERY_SETTINGS
from tests.unit.control_app import roles_needed

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
TEXT = PAGE.read_text(encoding="utf-8")
ITEM = re.compile(r"\b\d+\.\d+\.\d+\b")
ROW = re.compile(r"^\| (\d+\.\d+\.\d+[^|]*) \|(.+)\|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[a-z0-9_/]+\.py)::(test_\w+)`")

# How many items of levels 1 and 2 each section of ASVS 5.0.0 has; they come first in every section. V9, V10 and V17 are decided as a whole.
SECTIONS = """
1.1:2 1.2:9 1.3:11 1.4:3 1.5:2 2.1:3 2.2:3 2.3:4 2.4:1 3.2:2 3.3:4 3.4:6 3.5:5 3.7:2 4.1:3 4.2:1 4.3:2 4.4:4 5.1:1
5.2:3 5.3:2 5.4:3 6.1:3 6.2:12 6.3:4 6.4:4 6.5:5 6.6:3 6.8:4 7.1:3 7.2:4 7.3:2 7.4:5 7.5:2 7.6:2 8.1:2 8.2:3 8.3:1
8.4:1 11.1:2 11.2:3 11.3:3 11.4:4 11.5:1 11.6:1 12.1:3 12.2:2 12.3:4 13.1:1 13.2:5 13.3:2 13.4:5 14.1:2 14.2:4 14.3:3
15.1:3 15.2:3 15.3:7 16.1:1 16.2:5 16.3:4 16.4:3 16.5:3
"""


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def items(text: str) -> list[str]:
    """Items, with `1.2.6–1.2.8` written out."""
    for first, last in re.findall(r"(\d+\.\d+\.\d+)–(\d+\.\d+\.\d+)", text):
        stem = first.rpartition(".")[0]
        text += "".join(f" {stem}.{number}" for number in range(int(first.rpartition(".")[2]) + 1, int(last.rpartition(".")[2])))
    return ITEM.findall(text)


def test_every_item_that_is_met_names_a_test_that_exists() -> None:
    rows = ROW.findall(section("Met"))
    wrong = []
    for item, rest in rows:
        named = TEST.findall(rest.rsplit("|", 1)[-1])
        if len(rest.split("|")) != 3 or not named:
            wrong.append(f"{item}: no test")
        for path, name in named:
            file = ROOT / path
            if not file.exists() or not re.search(rf"^(async )?def {name}\(", file.read_text(encoding="utf-8"), re.MULTILINE):
                wrong.append(f"{item}: {path}::{name}")

    assert len(rows) > 50
    assert wrong == []


def test_every_test_that_the_page_names_anywhere_exists() -> None:
    for path, name in TEST.findall(TEXT):
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), f"{path}::{name}"


def test_every_item_of_levels_1_and_2_is_decided_exactly_once() -> None:
    met = [item for cell, _ in ROW.findall(section("Met")) for item in items(cell)]
    unmet = [item for cell, _ in ROW.findall(section("Not met")) for item in items(cell)]
    other = items(section("Does not apply"))
    decided = [item for item in met + unmet + other if not item.startswith(("9.", "10.", "17."))]
    counts = [each.split(":") for each in SECTIONS.split()]
    expected = [f"{name}.{number}" for name, count in counts for number in range(1, int(count) + 1)]

    assert sorted(decided) == sorted(expected)
    assert all(f"V{chapter}" in section("Does not apply") for chapter in (5, 9, 10, 17))


def test_what_is_not_met_says_what_an_operator_can_do() -> None:
    rows = ROW.findall(section("Not met"))

    assert rows
    assert all(len(rest.split("|")) == 2 and rest.split("|")[1].strip() for _, rest in rows)


def test_the_limits_in_the_page_are_those_of_the_code() -> None:
    told = section("Limits")
    limits = (
        (f"{LARGEST_BODY // 2**20} MiB", LARGEST_BODY % 2**20 == 0),
        (f"{PER_SECOND} requests a second", True),
        (f"{LONGEST_S:.0f} s", True),
        (f"{SESSION_S // 3600} hours", SESSION_S % 3600 == 0),
        (f"{live_stream.MOST_LISTENERS} listeners", True),
        (f"{connections.ASK_WITHIN_S:.0f} s", True),
        (f"{table_routes.MOST_WAITING:,} records", True),
        (f"{table_routes.MOST_ROWS:,} rows", True),
        (f"{_longest(workflow_json.CommandIn, 'comment'):,} characters", True),
        (f"{_longest(data_json.ChosenIn, 'ids'):,} ids", True),
        (f"{_longest(IngressConfig, 'tables'):,} tables", True),
        (f"{_longest(TableMapping, 'fields'):,} fields", True),
        (f"{_longest(TableMapping, 'replacements'):,} replacements", True),
        (f"{_longest(Filter, 'conditions'):,} conditions", True),
        (f"{LONGEST_PATH} characters", True),
        ("in ten seconds", TELL_EVERY_S == 10),
        ("once a second", ASK_EVERY_S == 1),
    )
    assert [text for text, whole in limits if not whole or text not in told] == []


def _longest(model: Any, name: str) -> int:
    return int(next(each.max_length for each in model.model_fields[name].metadata if hasattr(each, "max_length")))


async def test_the_roles_in_the_page_are_those_of_the_routes(tmp_path: Path) -> None:
    rows = dict(re.findall(r"^\| `(viewer|operator|admin)` \| (.+) \|$", section("Roles"), re.MULTILINE))
    told = {(role, call) for role, text in rows.items() for call in re.findall(r"`((?:POST|PUT|DELETE) [^`]+)`", text)}

    needed = await roles_needed(tmp_path)
    assert told == {(role, f"{method} {path.removeprefix(API)}") for (method, path), role in needed.items() if method != "GET"}
    assert "?values=true" in rows["admin"]


def test_the_page_names_every_address_control_connects_to() -> None:
    told = section("What control talks to")
    urls = [info.alias for room in EVERY_SETTINGS for info in room.model_fields.values() if info.annotation is str and _is_url(info)]

    assert len(urls) >= 5
    assert [alias for alias in [*urls, "KAFKA_BOOTSTRAP_SERVERS"] if f"`{alias}`" not in told] == []


def _is_url(info: Any) -> bool:
    return any(each in Url.__metadata__ for each in info.metadata)  # type: ignore[attr-defined]


def test_the_logs_of_the_page_are_those_of_the_code() -> None:
    audit = next(topic for topic in control_topics() if topic.name == "control.audit")
    days = int(dict(audit.config)["retention.ms"]) // 86_400_000

    assert f"`control.audit`, {days} days" in section("Logs")
    assert "stderr" in section("Logs")
