"""Metrics: one list, told in docs/operations.md as it is, and a collector that never goes back."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from bridge.campaign.client import CampaignClient
from bridge.campaign.settings import CampaignSettings
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.settings import DynamicsSettings
from bridge.flow.reader import Cursor, Feed, Step
from bridge.http.gate import Pause
from bridge.http.transport import build_client, send
from bridge.memory import MemoryPublisher
from bridge.model.desired import Workflow
from bridge.model.errors import BridgeError, RetryError
from bridge.model.events import Outgoing
from bridge.model.report import Poll, Report
from bridge.model.settings import load
from bridge.observe.metrics import METRICS, Metrics
from sandbox.campaign import CampaignSandbox
from sandbox.dynamics import DynamicsSandbox
from sandbox.web import Fault, serving
from services.control.api.exposition import METRICS as OF_CONTROL
from services.control.api.exposition import exposition
from services.control.models.workflow_json import WorkflowOut
from tests.clock import START, FakeClock

PAGE = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)\{([\w,]+)\}` \| (\w+) \| (.+) \|$", re.MULTILINE)


def told(heading: str) -> list[tuple[str, str, str, str]]:
    """Name, labels, kind and the rest of each row below a heading of the page."""
    section = PAGE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return ROW.findall(section)


def samples(text: bytes) -> dict[str, float]:
    """`name{label=value,…}` → value, labels in alphabetical order."""
    return {
        f"{sample.name}{{{','.join(f'{name}={value}' for name, value in sorted(sample.labels.items()))}}}": sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def some_metrics() -> Metrics:
    """With a sample of everything."""
    metrics = Metrics("ingress", "reader", FakeClock())
    meter = metrics.meter("dynamics")
    meter.called("ok", 0.2)
    meter.left("requests", 5_000)
    Pause(meter)
    metrics.runs.began(lambda: Report(counters={"read": 1}, polls={"contact": Poll(3.0, 6.5)}))
    return metrics


def test_the_page_tells_the_list_as_it_is() -> None:
    listed = [(each.name, ",".join(each.labels), each.kind, f"{each.unit} | {each.meaning}") for each in METRICS]

    assert told("Metrics of the services") == listed


def test_a_service_tells_what_is_on_the_list_and_nothing_else() -> None:
    families = {family.name: family for family in text_string_to_metric_families(some_metrics().exposition().decode())}

    assert {name: family.type for name, family in families.items()} == {each.family: each.kind for each in METRICS}
    for each in METRICS:
        labels = {name for sample in families[each.family].samples for name in sample.labels}
        assert labels - {"le"} == set(each.labels), each.name


def test_the_page_tells_what_control_tells() -> None:
    listed = [(each.name, ",".join(each.labels), each.kind) for each in OF_CONTROL]

    assert [(name, labels, kind) for name, labels, kind, _ in told("Metrics of control")] == listed


def test_control_tells_what_is_on_its_list_and_nothing_else() -> None:
    def unknown(workflow: Workflow) -> WorkflowOut:
        raise RetryError("nothing is known yet")

    families = list(text_string_to_metric_families(exposition(unknown)().decode()))

    assert {family.name: family.type for family in families} == {each.family: each.kind for each in OF_CONTROL}


def test_counters_of_a_run_that_has_ended_are_kept() -> None:
    metrics = Metrics("egress", "writer", FakeClock())
    counter = "bridge_service_records_total{outcome=%s,role=writer,workflow=egress}"
    rebalances = "bridge_rebalances_total{role=writer,workflow=egress}"

    metrics.runs.began(lambda: Report(counters={"written": 3}, consumed={"read": 5}, parked=2, rebalances=1))
    first = samples(metrics.exposition())
    metrics.runs.ended()
    between = samples(metrics.exposition())
    metrics.runs.began(lambda: Report(counters={"written": 4}, consumed={"read": 4}, rebalances=1))
    second = samples(metrics.exposition())

    assert [each[counter % "written"] for each in (first, between, second)] == [3, 3, 7]
    assert [each[counter % "read"] for each in (first, between, second)] == [5, 5, 9]
    assert [each[rebalances] for each in (first, between, second)] == [1, 1, 2]
    assert between["bridge_service_parked_keys{role=writer,workflow=egress}"] == 0
    assert counter % "dead_lettered" in first, "a counter that is not there yet has no rate"


def test_two_processes_share_nothing() -> None:
    one, other = some_metrics(), Metrics("ingress", "reader", FakeClock())

    assert samples(one.exposition())["bridge_calls_total{result=ok,system=dynamics}"] == 1
    assert not [name for name in samples(other.exposition()) if name.startswith("bridge_calls")]


@pytest.mark.parametrize(("status", "result"), [(200, "ok"), (204, "ok"), (404, "refused"), (429, "busy"), (503, "busy"), (500, "failed")])
async def test_calls_count_by_their_answer(status: int, result: str) -> None:
    metrics = Metrics("ingress", "reader", FakeClock())

    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/", answer)
    async with serving(app) as url, build_client(5, 1) as http:
        await send(http, http.build_request("GET", url), metrics.meter("dynamics"))

    found = samples(metrics.exposition())
    assert {name: value for name, value in found.items() if name.startswith("bridge_calls_total") and value} == {
        f"bridge_calls_total{{result={result},system=dynamics}}": 1
    }
    assert found["bridge_call_seconds_count{system=dynamics}"] == 1


async def test_a_call_without_an_answer_has_failed() -> None:
    metrics = Metrics("ingress", "reader", FakeClock())

    async with build_client(5, 1) as http:
        with pytest.raises(RetryError):
            await send(http, http.build_request("GET", "http://127.0.0.1:1/"), metrics.meter("campaign"))

    assert samples(metrics.exposition())["bridge_calls_total{result=failed,system=campaign}"] == 1


async def test_dynamics_tells_what_is_left_of_its_limits_and_how_long_to_wait() -> None:
    clock, sandbox = FakeClock(), DynamicsSandbox()
    metrics = Metrics("ingress", "reader", clock)
    async with serving(sandbox.app()) as url:
        settings = load(
            DynamicsSettings,
            {
                "DYNAMICS_URL": url,
                "DYNAMICS_TENANT_ID": "sandbox-tenant",
                "DYNAMICS_CLIENT_ID": "sandbox-client",
                "DYNAMICS_CLIENT_SECRET": "sandbox-secret",
                "DYNAMICS_TOKEN_URL": f"{url}/sandbox-tenant/oauth2/v2.0/token",
            },
        )
        client = DynamicsClient(settings, clock, pause=Pause(metrics.meter("dynamics")))
        await client.get("WhoAmI")
        before = samples(metrics.exposition())
        sandbox.ledger.faults.append(Fault("status", path="WhoAmI", status=429, headers={"Retry-After": "30"}))
        with pytest.raises(RetryError):
            await client.get("WhoAmI")
        refused = samples(metrics.exposition())
        clock.advance(29)
        later = samples(metrics.exposition())
        await client.close()

    assert before["bridge_api_budget_left{limit=requests,system=dynamics}"] > 0
    assert before["bridge_api_budget_left{limit=seconds,system=dynamics}"] > 0
    wait = "bridge_retry_after_seconds{system=dynamics}"
    assert [before[wait], refused[wait], later[wait]] == [0, 30, 1]
    assert refused["bridge_calls_total{result=busy,system=dynamics}"] == 1


async def test_campaigns_500_with_a_reason_is_a_refusal() -> None:
    metrics, sandbox = Metrics("ingress", "writer", FakeClock()), CampaignSandbox()
    async with serving(sandbox.app()) as url:
        settings = load(
            CampaignSettings,
            {
                "CAMPAIGN_URL": f"{url}/sandbox",
                "CAMPAIGN_CLIENT_ID": "sandbox-campaign",
                "CAMPAIGN_CLIENT_SECRET": "sandbox-secret",
                "CAMPAIGN_ORG_ID": "o@AdobeOrg",
                "CAMPAIGN_TOKEN_URL": f"{url}/ims/token/v3",
            },
        )
        client = CampaignClient(settings, FakeClock(), pause=Pause(metrics.meter("campaign")))
        with pytest.raises(BridgeError):
            await client.create("profileAndServicesExt/profile", {"noSuchField": "x"})
        await client.close()

    found = samples(metrics.exposition())
    assert sandbox.ledger.statuses[500] == 1
    assert found["bridge_calls_total{result=refused,system=campaign}"] == 1


class Polls:
    """A source that got its token at the beginning."""

    async def step(self, cursor: Cursor | None) -> Step:
        return Step([Outgoing("topic", "k", None)], {"phase": "live", "token_at": START.isoformat()}, 10.0)


async def test_a_feed_tells_how_old_its_last_step_is_and_how_long_its_token_will_do() -> None:
    clock = FakeClock()
    feed = Feed("dynamics:contact", Polls(), MemoryPublisher(), None, clock, random.Random(1))
    assert feed.poll() == Poll(0.0, None)

    task = asyncio.create_task(feed.run())
    while not feed.read:
        await asyncio.sleep(0)
    task.cancel()
    before = feed.poll()
    clock.advance(86_400)

    assert before.days_left == pytest.approx(7, abs=0.01)
    after = feed.poll()
    assert after.age_s - before.age_s == 86_400
    assert after.days_left == pytest.approx(6, abs=0.01)
    clock.advance(30 * 86_400)
    assert feed.poll().days_left == 0
