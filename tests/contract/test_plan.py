"""A plan of many tables: side by side, within its time, and true about how many rows it has tried."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from bridge.campaign.settings import CampaignSettings
from bridge.consent.settings import ConsentSettings
from bridge.dynamics.settings import DynamicsSettings
from bridge.kafka.partitioner import partition_for
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import workflow_topics
from bridge.model.clock import SystemClock
from bridge.model.config import IngressConfig
from bridge.model.errors import HaltError
from bridge.model.settings import load
from bridge.model.state import Known
from sandbox.campaign import CampaignSandbox
from sandbox.dynamics import DynamicsSandbox
from sandbox.web import Fault, serving
from services.control.models.data_json import PlanOut
from services.control.systems.connections import Systems
from services.control.systems.dry_campaign import Notes
from services.control.systems.planner import WITHIN_S, Planner
from services.control.topics.reader_cursors import Cursors
from tests.contract.broker import make, producing
from tests.e2e.stack import mapping

TABLES, ROWS = 21, 20
FIELDS = [{"name": "cusId", "length": 40}, {"name": "cusName", "length": 100}]
A_ROW = r"/cusT\d+/"


@dataclass
class Bench:
    kafka: KafkaSettings
    dynamics: DynamicsSandbox
    campaign: CampaignSandbox
    systems: Systems

    async def plan(self, within_s: float = WITHIN_S, sample: int = ROWS) -> PlanOut:
        tables = [mapping(f"new_t{n}", f"cusT{n}", (f"new_t{n}id", "cusId"), {"new_name": "cusName"}) for n in range(TABLES)]
        cursors = Cursors()
        cursors.complete = lambda: True
        planner = Planner(self.kafka, self.systems, cursors, SystemClock(), within_s=within_s)
        return await planner.plan(IngressConfig.model_validate({"tables": tables}), sample, 3)


@asynccontextmanager
async def both(dynamics: DynamicsSandbox, campaign: CampaignSandbox) -> AsyncIterator[Systems]:
    async with serving(dynamics.app()) as there, serving(campaign.app()) as here:
        environment = {
            "DYNAMICS_URL": there,
            "DYNAMICS_TENANT_ID": "sandbox-tenant",
            "DYNAMICS_CLIENT_ID": "sandbox-client",
            "DYNAMICS_CLIENT_SECRET": "sandbox-secret",
            "DYNAMICS_TOKEN_URL": f"{there}/sandbox-tenant/oauth2/v2.0/token",
            "CAMPAIGN_URL": f"{here}/sandbox",
            "CAMPAIGN_CLIENT_ID": "sandbox-campaign",
            "CAMPAIGN_CLIENT_SECRET": "sandbox-secret",
            "CAMPAIGN_ORG_ID": "sandbox@AdobeOrg",
            "CAMPAIGN_TOKEN_URL": f"{here}/ims/token/v3",
        }
        systems = Systems(load(DynamicsSettings, environment), load(CampaignSettings, environment), SystemClock())
        try:
            yield systems
        finally:
            await systems.close()


@pytest.fixture
async def bench(kafka_settings: KafkaSettings) -> AsyncIterator[Bench]:
    """Tables with rows of which Campaign has none yet."""
    await asyncio.to_thread(make, kafka_settings, *workflow_topics("ingress"))
    dynamics, campaign = DynamicsSandbox(), CampaignSandbox()
    for number in range(TABLES):
        dynamics.add_table(f"new_t{number}")
        campaign.add_resource(f"cusT{number}", key="cusId", fields=FIELDS)
        for each in range(ROWS):
            dynamics.upsert(f"new_t{number}", {"new_name": f"Row {each}"})
    campaign.publish()
    async with both(dynamics, campaign) as systems:
        yield Bench(kafka_settings, dynamics, campaign, systems)


async def test_tables_are_planned_side_by_side(bench: Bench) -> None:
    for ledger, path in ((bench.campaign.ledger, A_ROW), (bench.dynamics.ledger, "EntityDefinitions")):
        ledger.faults.append(Fault("latency", path=path, seconds=0.1))

    planned = await bench.plan()

    assert [each.source for each in planned.tables] == [f"new_t{number}" for number in range(TABLES)]
    assert {(each.sample, each.total, each.counts.create, each.calls.total) for each in planned.tables} == {(ROWS, ROWS, ROWS, ROWS)}
    assert (planned.sample, planned.counts.create, planned.calls.total) == (TABLES * ROWS,) * 3
    assert 8 < bench.campaign.ledger.most_in_flight <= 16, "as many calls as CAMPAIGN_CONCURRENCY allows"
    assert bench.dynamics.ledger.most_in_flight > 8
    assert bench.campaign.writes() == []


async def test_when_time_runs_out_the_plan_says_how_many_rows_it_has_tried(bench: Bench) -> None:
    bench.campaign.ledger.faults.append(Fault("latency", path=A_ROW, seconds=0.5))
    began = time.monotonic()

    planned = await bench.plan(within_s=10)

    assert time.monotonic() - began < 10 + 2
    tried = [each.sample for each in planned.tables]
    assert 0 < planned.sample == sum(tried) == planned.counts.create < TABLES * ROWS
    assert max(tried) - min(tried) <= 2, "every table has its share"
    assert {each.total for each in planned.tables} == {ROWS}
    for each in planned.tables:
        assert each.counts.create == each.calls.sample == each.sample
        assert each.calls.total == (ROWS if each.sample else None), "by proportion, or not known"


async def test_tables_that_cannot_be_read_in_time_have_no_sample(bench: Bench) -> None:
    bench.dynamics.ledger.faults.append(Fault("latency", path=r"new_t3s\?", seconds=8))

    planned = await bench.plan(within_s=10, sample=1)

    assert {each.source: each.sample for each in planned.tables if each.sample != 1} == {"new_t3": 0}
    assert (planned.tables[3].total, planned.tables[3].calls.total, planned.calls.total) == (None, None, None)


async def test_a_table_that_is_not_there_ends_the_plan(bench: Bench) -> None:
    bench.dynamics.remove_table("new_t9")

    with pytest.raises(HaltError, match="new_t9"):
        await bench.plan()


async def known(kafka: KafkaSettings, table: str, keys: Sequence[str]) -> None:
    """As the writer notes records that it has brought to Campaign."""
    async with producing(kafka) as producer:
        name, there = f"{kafka.topic_prefix}ingress.state", Known(version=1, exists=True, visible=True).to_json()
        for each in keys:
            number = partition_for(each.encode(), 3)
            await producer.send(name, f"{table}/{each}".encode(), there, (), number)


@pytest.mark.parametrize(("limit", "above"), [(7, True), (8, False), (None, False)])
async def test_a_plan_tells_how_many_records_it_would_delete_and_whether_that_is_above_the_limit(
    bench: Bench, limit: int | None, above: bool
) -> None:
    keys = [row["new_t0id"] for row in bench.dynamics.rows("new_t0")]
    for each in keys[:8]:
        bench.campaign.put("cusT0", {"cusId": each, "cusName": "Row"})
    await known(bench.kafka, "new_t0", keys)
    table = mapping("new_t0", "cusT0", ("new_t0id", "cusId"), {"new_name": "cusName"})
    nobody = {"conditions": [{"field": "new_name", "operator": "eq", "value": "nobody"}], "delete_filtered_out": True}
    cursors = Cursors()
    cursors.complete = lambda: True
    planner = Planner(bench.kafka, bench.systems, cursors, SystemClock(), ConsentSettings(DELETE_LIMIT=limit))

    planned = await planner.plan(IngressConfig.model_validate({"tables": [table | {"filter": nobody}]}), ROWS, 3)

    deletes = planned.tables[0].deletes
    assert (deletes.sample, deletes.total, deletes.limit, deletes.above) == (8, 8, 500 if limit is None else limit, above)
    assert (planned.deletes.sample, planned.deletes.total, planned.above_limits) == (8, 8, above)
    assert (planned.lowers.sample, planned.lowers.total) == (0, 0)
    assert len(bench.campaign.rows("cusT0")) == 8, "nothing was written"


async def test_notes_tell_an_opt_out_that_would_be_taken_away_from_one_that_is_not_there(bench: Bench) -> None:
    for key, out in (("ada", True), ("bob", False)):
        bench.campaign.put("profile", {"externalId": key, "lastName": key, "blackListEmail": out})
    path, found = (await bench.systems.resource("profile")).path, {}

    for key in ("ada", "bob"):
        notes = Notes(bench.systems.campaign)
        await notes.update(path, key, {"blackListEmail": False})
        found[key] = notes.lowers

    assert found == {"ada": True, "bob": False}
