"""Every operation of /openapi.json answers as it is described, for good and for bad requests (schemathesis)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as examples
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from sandbox.kafka import LocalKafka
from tests.e2e.helpers import everything_passed, new_key, run
from tests.e2e.stack import Stack, contacts, running
from tests.e2e.test_api_access import new_token, settings
from tests.e2e.test_control_config import CONTRACT

pytestmark = pytest.mark.asyncio(loop_scope="module")
SEED = 20261124
KNOWN = {"id": "ingress", "table": "contact", "name": "contact", "number": "1", "key": new_key(), "system": "dynamics"}
NOT_A_STREAM = "/api/v1/events"
DESCRIBED = (content_type_conformance, response_schema_conformance, status_code_conformance)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stack, str]]:
    """A running ingress behind a control with tokens; the admin's token."""
    folder = tmp_path_factory.mktemp("schemathesis")
    token = new_token(folder / "tokens", "admin", "admin")
    async with running(settings(kafka), folder, wait_for_control=False, CONTROL_TOKENS_FILE=str(folder / "tokens")) as stack:
        stack.http.headers["Authorization"] = f"Bearer {token}"

        async def ready() -> bool:
            return (await stack.http.get("/api/v1/workflows")).status_code == 200

        await stack.until(ready, "control is ready", 30)
        await run(stack, contacts())
        await everything_passed(stack)
        yield stack, token


class Asked:
    """Sends cases with a token, not faster than it may; notes what is not as described."""

    def __init__(self, url: str, token: str) -> None:
        self._url, self._headers = url, {"Authorization": f"Bearer {token}"}
        self._session = requests.Session()
        self._session.trust_env = False
        self.statuses: dict[str, set[int]] = {}

    def send(self, case: Case[Any]) -> Any:
        while True:
            answer = case.call(base_url=self._url, session=self._session, headers=self._headers, timeout=30)
            if answer.status_code != 429:
                self.statuses.setdefault(case.operation.label, set()).add(answer.status_code)
                return answer
            time.sleep(float(answer.headers["retry-after"][0]))  # told to wait so long

    def check(self, case: Case[Any]) -> None:
        answer = self.send(case)
        described = "503" in case.operation.definition.raw["responses"]
        checks: list[Any] = [*DESCRIBED]
        checks += [] if answer.status_code == 503 and described else [not_a_server_error]
        checks += [negative_data_rejection] if case.meta and case.meta.generation.mode is GenerationMode.NEGATIVE else []
        case.validate_response(answer, checks=checks)


def operations(url: str, changing: bool) -> list[APIOperation[Any, Any, Any, Any]]:
    described = httpx.get(f"{url}/openapi.json", timeout=10, trust_env=False).raise_for_status().json()
    described.pop("security", None)  # every request has the token; what happens without is in test_api_access.py
    schema = schemathesis.openapi.from_dict(described)
    every = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    return [each for each in every if each.path != NOT_A_STREAM and (each.method.lower() != "get") == changing]


def tried(operation: APIOperation[Any, Any, Any, Any], asked: Asked) -> list[str]:
    """Fifteen requests of this operation: to what is there, to anything, and bad ones; what was wrong."""
    there = {name: KNOWN[name] for name in (each.name for each in operation.path_parameters)}
    rounds: list[tuple[str, int, dict[str, Any]]] = [("good", 7, {"path_parameters": there}), ("anything", 3, {})]
    modes = [(what, number, operation.as_strategy(GenerationMode.POSITIVE, **more)) for what, number, more in rounds]
    modes.append(("bad", 5, operation.as_strategy(GenerationMode.NEGATIVE)))
    wrong: list[str] = []
    for what, number, strategy in modes:

        @seed(SEED)
        @examples(
            max_examples=number,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )
        @given(case=strategy)
        def one(case: Case[Any]) -> None:
            asked.check(case)

        try:
            with suppress(Unsatisfiable):  # an operation that takes anything, or nothing
                one()
        except (Exception, BaseExceptionGroup) as exc:  # every way to be wrong is told, of all operations together
            texts = [str(each) for each in getattr(exc, "exceptions", [exc])]
            wrong.append(f"--- {operation.label} ({what}, seed {SEED})\n" + "\n".join(texts))
    return wrong


@pytest.mark.parametrize("changing", [False, True], ids=["reading", "changing"])
async def test_every_operation_answers_as_described(guarded: tuple[Stack, str], changing: bool) -> None:
    stack, token = guarded
    url = str(stack.http.base_url).rstrip("/")
    print(f"seed {SEED}")
    asked = Asked(url, token)
    chosen = await asyncio.to_thread(operations, url, changing)
    assert len(chosen) >= 10

    wrong = [text for each in chosen for text in await asyncio.to_thread(tried, each, asked)]

    assert not wrong, "\n".join(wrong)
    assert asked.statuses.keys() == {each.label for each in chosen}
    assert (await stack.http.get("/healthz")).status_code == 200


async def description(stack: Stack) -> dict[str, Any]:
    """Of the API, asked for as often as those who asked before have left nothing of the rate."""
    while (answer := await stack.http.get("/openapi.json")).status_code == 429:
        await asyncio.sleep(float(answer.headers["retry-after"]))  # told to wait so long
    described: dict[str, Any] = answer.raise_for_status().json()
    return described


async def test_what_the_contract_lists_is_in_openapi(guarded: tuple[Stack, str]) -> None:
    stack, _ = guarded
    paths = (await description(stack))["paths"]
    assert [each for each in sorted(CONTRACT) if each[0] not in paths.get(each[1], {})] == []
    for path, operations_there in paths.items():
        for method, described in operations_there.items():
            assert described.get("summary") or described.get("description"), (path, method)
            assert "500" in described["responses"], (path, method)
            if path.startswith("/api/v1/"):
                assert {"401", "403", "429", "503"} <= described["responses"].keys(), (path, method)


async def test_openapi_says_what_needs_no_token(guarded: tuple[Stack, str]) -> None:
    stack, _ = guarded
    described = await description(stack)
    wrong = []
    for path in ("/healthz", "/readyz", "/metrics"):
        answer = await stack.http.get(path, headers={"Authorization": "none"})
        open_here = described["paths"][path]["get"].get("security", described.get("security")) in (None, [])
        if (answer.status_code == 200) != open_here:
            wrong.append(f"{path}: {answer.status_code} without a token, described as {'open' if open_here else 'guarded'}")
    assert not wrong
