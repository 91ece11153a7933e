"""What comes in a request: names that stand in addresses, numbers, sizes; and how often others are asked for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.model.config import IngressConfig
from bridge.model.desired import Workflow
from services.control.api.access import Tokens
from services.control.models.data_json import ChosenIn
from services.control.rules.lifecycle import SHAPES
from services.control.rules.validation import check
from tests.clock import FakeClock
from tests.unit.control_app import AT, bearer, build, client, read_archive

HOSTILE = ("contact')/x", "../users", "a b", "a?$x=1", "a&b", "a#b", "a%2fb", "a\n", "", "1a", "é", "a-b", "a.b.", ".a", "a" * 300)
GUID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"


@pytest.fixture
def token(tmp_path: Path) -> str:
    return Tokens(tmp_path / "tokens").add("me", "admin", AT)


def table(**changed: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"source": "contact", "target": "profile", "key": {"source": "contactid", "target": "externalId"}}
    return made | {"fields": [{"source": "firstname", "target": "location.address1"}]} | changed


def drafts(name: str) -> Iterator[tuple[Workflow, dict[str, Any]]]:
    """A configuration with this name in each place there is."""
    places: list[dict[str, Any]] = [
        {"source": name},
        {"target": name},
        {"key": {"source": name, "target": "externalId"}},
        {"key": {"source": "contactid", "target": name}},
        {"fields": [{"source": name, "target": "email"}]},
        {"fields": [{"source": "firstname", "target": name}]},
        {"replacements": [{"source": name, "from": "a", "to": "b"}]},
        {"filter": {"conditions": [{"field": name, "operator": "is_empty"}]}},
    ]
    for place in places:
        yield "ingress", {"tables": [table(**place)]}
    yield "optin", {"direction": "bidirectional", "mappings": [{"source": name, "target": "blackListEmail"}]}
    yield "optin", {"direction": "bidirectional", "mappings": [{"source": "donotemail", "target": name}]}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_could_lead_elsewhere_in_an_address_is_no_name(name: str) -> None:
    for workflow, draft in drafts(name):
        findings = check(workflow, draft, {})
        assert findings.errors and findings.config is None, draft


@pytest.mark.parametrize("name", ["contact", "_x1", "New_Table", "cusX"])
def test_names_as_the_systems_have_them_are_names(name: str) -> None:
    for workflow, draft in drafts(name):
        assert SHAPES[workflow].model_validate(draft)


def test_only_fields_of_campaign_have_dots() -> None:
    IngressConfig.model_validate({"tables": [table(fields=[{"source": "a", "target": "b.c.d"}])]})
    for wrong in (table(source="a.b"), table(target="a.b"), table(fields=[{"source": "a.b", "target": "c"}])):
        assert check("ingress", {"tables": [wrong]}, {}).config is None


async def test_no_table_is_asked_for_whose_name_could_lead_elsewhere(token: str, tmp_path: Path) -> None:
    async with client(build(tmp_path / "tokens"), **bearer(token)) as http:
        for name in ("contact')%2fx", "a%3fb", "a%20b", "..%5cx", "x" * 129, "a'"):
            answer = await http.get(f"/api/v1/systems/dynamics/tables/{name}/fields")
            assert answer.status_code in (404, 422), name
            assert (await http.post(f"/api/v1/systems/{name}/test")).status_code in (404, 422)


@pytest.mark.parametrize("key", ["contacts(1)/x", "", *(f"{GUID}{more}" for more in (")/x", "?$x=1", "/..", "\n"))])
async def test_a_key_of_a_replay_that_could_lead_elsewhere_in_an_address_is_no_key(token: str, tmp_path: Path, key: str) -> None:
    body = {"when": "now", "keys": [GUID, key]}
    async with client(build(tmp_path / "tokens"), **bearer(token)) as http:
        answer = await http.post("/api/v1/workflows/ingress/tables/contact/replay", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert [each["path"] for each in answer.json()["errors"]] == ["/keys/1"]


@pytest.mark.parametrize(
    "draft",
    [
        {"tables": [table()] * 201},
        {"tables": [table(fields=[{"source": "a", "target": "b"}] * 1001)]},
        {"tables": [table(replacements=[{"source": "a", "from": "b", "to": "c"}] * 5001)]},
        {"tables": [table(filter={"conditions": [{"field": "a", "operator": "is_empty"}] * 201})]},
    ],
)
def test_lists_of_tables_fields_replacements_and_conditions_have_an_end(draft: dict[str, Any]) -> None:
    findings = check("ingress", draft, {})

    assert findings.config is None
    assert [each.code for each in findings.errors] == ["too_long"]


@pytest.mark.parametrize("id", ["1-" + "9" * 19, "9" * 10 + "-1", "1-" + "9" * 5000, "1", "-1-1", "1-1\n", "a-b"])
async def test_ids_that_are_no_numbers_of_kafka_are_refused(token: str, tmp_path: Path, id: str) -> None:
    chosen = {"ids": [id]}
    async with client(build(tmp_path / "tokens", archive=read_archive()), **bearer(token)) as http:
        answers = [await http.get(path, params={"after": id}) for path in ("/api/v1/audit", "/api/v1/workflows/ingress/dead-letters")]
        answers += [await http.post("/api/v1/workflows/ingress/dead-letters/redrive", json=chosen)]
        answers += [await http.post("/api/v1/workflows/ingress/dead-letters/discard", json=chosen | {"reason": "x"})]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(422, "invalid_input")}


async def test_the_largest_id_there_is_can_be_looked_for(token: str, tmp_path: Path) -> None:
    largest, archive = f"{'9' * 9}-{'9' * 18}", read_archive()
    async with client(build(tmp_path / "tokens", archive=archive), **bearer(token)) as http:
        answer = await http.get("/api/v1/audit", params={"after": largest})

    assert (answer.status_code, answer.json()["entries"]) == (200, [])
    assert ChosenIn(ids=[largest]).ids == [largest] and archive.letter("ingress", largest) is None


class Asked:
    """Stands for Kafka: how often it was asked."""

    def __init__(self) -> None:
        self.times = 0

    def partitions(self) -> dict[str, int]:
        self.times += 1
        return {}


async def test_kafka_is_asked_once_a_second_however_often_readiness_is(tmp_path: Path) -> None:
    clock, asked = FakeClock(), Asked()
    async with client(build(tmp_path / "tokens", clock=clock, topics=asked)) as http:
        answers = [await http.get("/readyz") for _ in range(50)]
        assert asked.times == 1
        clock.advance(1.1)
        answers += [await http.get("/readyz") for _ in range(50)]

    assert asked.times == 2
    assert {answer.status_code for answer in answers} == {200}
