"""Opt In/Out when something is wrong or late: stops, missing profiles and exports, poison, a broker that dies, wrong settings."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from bridge.kafka.settings import KafkaSettings
from sandbox.kafka import LocalKafka
from tests.e2e.consent import ROLES, config, consenting, in_campaign, in_dynamics, person, until_both
from tests.e2e.helpers import api_lag, described_lag, group_state
from tests.e2e.stack import Stack
from tests.e2e.test_control_lag import TOOL

GROUPS = ("optin-resolver", "optin")


async def test_a_stop_leaves_both_groups_empty_and_both_systems_alone_and_a_start_goes_on(
    kafka_settings: KafkaSettings, tmp_path: Path, kafka: LocalKafka
) -> None:
    async with consenting(kafka_settings, tmp_path) as stack:
        ada, bob = person(stack), person(stack)
        await stack.save(config())
        await stack.start()
        stack.dynamics.upsert("contact", {"contactid": ada, "donotemail": True})
        await until_both(stack, ada, True)
        await stack.stop()

        async def empty() -> bool:
            states = [await asyncio.to_thread(group_state, stack.kafka, group) for group in GROUPS]
            return states == [("EMPTY", 0), ("EMPTY", 0)]

        await stack.until(empty, "both groups are Empty once the session timeout of 10 s is over", 15)
        calls = stack.dynamics.ledger.summary()["requests"], stack.campaign.ledger.summary()["requests"]
        stack.dynamics.upsert("contact", {"contactid": bob, "donotemail": True})
        stack.campaign.exports.run()
        await asyncio.sleep(2)
        assert (stack.dynamics.ledger.summary()["requests"], stack.campaign.ledger.summary()["requests"]) == calls
        await stack.start()
        await until_both(stack, bob, True)
        await stack.until_caught_up()

        async def as_kafka_tells_it() -> dict[tuple[str, int], tuple[int, int, int]]:
            shown: dict[tuple[str, int], tuple[int, int, int]] = {}
            for group in GROUPS:
                arguments = ("--bootstrap-server", kafka.bootstrap, "--describe", "--group", f"{stack.kafka.topic_prefix}{group}")
                shown |= described_lag(await asyncio.to_thread(kafka.tool, TOOL, *arguments))
            return shown if shown == api_lag(stack, await stack.workflow()) and len(shown) == 2 * stack.kafka.partitions else {}

        shown = await stack.until(as_kafka_tells_it, "Kafka's tool and control tell the same of every partition, empty ones included")
        assert {lag for _, _, lag in shown.values()} == {0}
        assert [await stack.processes[f"{role}-1"].terminate() for role in ROLES] == [0, 0, 0]


async def test_an_opt_out_waits_for_its_profile(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with consenting(kafka_settings, tmp_path) as stack:
        late = stack.dynamics.upsert("contact", {"lastname": "Late", "donotemail": True})
        gone = stack.dynamics.upsert("contact", {"lastname": "Gone", "donotemail": True})
        await stack.save(config())
        await stack.start()

        async def parked() -> bool:
            return bool((await stack.workflow())["counters"]["parked"] == 2)

        await stack.until(parked, "both wait for a profile")
        stack.campaign.put("profile", {"externalId": late, "lastName": "Late"})
        await until_both(stack, late, True)
        stack.dynamics.delete("contact", gone)
        assert (await stack.workflow())["status"] == "RUNNING"


async def test_an_export_that_does_not_come_is_told_while_all_goes_on(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with consenting(kafka_settings, tmp_path, CAMPAIGN_EXPORT_EXPECTED_S="1") as stack:
        ada = person(stack)
        await stack.save(config())
        await stack.start()

        async def overdue() -> dict[str, Any] | None:
            workflow = await stack.workflow()
            return workflow if (workflow["reason"] or {}).get("code") == "export_overdue" else None

        workflow = await stack.until(overdue, "the missing export is told", 20)
        assert (workflow["status"], workflow["reason"]["role"], workflow["reason"]["origin"]) == ("RUNNING", "reader", "source")
        stack.dynamics.upsert("contact", {"contactid": ada, "donotemail": True})
        await until_both(stack, ada, True)


async def test_poison_is_set_aside_and_the_rest_flows(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with consenting(kafka_settings, tmp_path) as stack:
        ada = person(stack)
        await stack.save(config())
        await stack.start()
        producer = Producer(stack.kafka.client())
        for topic in ("optin.observations", "optin.decisions"):
            producer.produce(f"{stack.kafka.topic_prefix}{topic}", b"not avro", ada.encode())
        producer.flush(10)
        stack.dynamics.upsert("contact", {"contactid": ada, "donotemail": True})
        await until_both(stack, ada, True)

        async def both() -> list[Any] | None:
            found: list[Any] = (await stack.get("/workflows/optin/dead-letters?values=true"))["dead_letters"]
            return found if len(found) == 2 else None

        letters = await stack.until(both, "both are dead letters", 20)
        assert {each["code"] for each in letters} == {"not_avro"}
        await stack.until_caught_up()


async def test_kafka_killed_and_restarted_under_way_loses_no_opt_out(own_kafka: LocalKafka, tmp_path: Path) -> None:
    await asyncio.to_thread(own_kafka.up)
    settings = KafkaSettings(bootstrap_servers=own_kafka.bootstrap, registry_url=own_kafka.registry_url, partitions=3)
    async with consenting(settings, tmp_path) as stack:
        people = [person(stack) for _ in range(40)]
        await stack.save(config())
        await stack.start()
        say_no(stack, people[:20])
        await until_both(stack, people[0], True)
        own_kafka.stop("kafka", signal.SIGKILL)
        say_no(stack, people[20:])
        await asyncio.sleep(5)
        own_kafka.start_kafka()
        await asyncio.to_thread(own_kafka.wait_kafka)

        async def all_told() -> bool:
            return all(in_dynamics(stack, each) and in_campaign(stack, each) for each in people)

        await stack.until(all_told, "everybody's no is in both systems", 90)
        await stack.until_caught_up(60)
        assert (await stack.workflow())["status"] == "RUNNING"


def say_no(stack: Stack, people: list[str]) -> None:
    """Every second one in Campaign, the others in Dynamics."""
    for number, each in enumerate(people):
        if number % 2:
            stack.campaign.opt_out(each, "blackListEmail", True)
        else:
            stack.dynamics.upsert("contact", {"contactid": each, "donotemail": True})
    stack.campaign.exports.run()


@pytest.mark.parametrize(
    ("variable", "value", "code"),
    [
        ("CAMPAIGN_SFTP_USER", "nobody", "source_refused"),
        ("CAMPAIGN_SFTP_KEY_FILE", "/does/not/exist", "sftp_key_unusable"),
    ],
)
async def test_an_sftp_server_that_refuses_us_is_told_with_the_way_out(
    kafka_settings: KafkaSettings, tmp_path: Path, variable: str, value: str, code: str
) -> None:
    async with consenting(kafka_settings, tmp_path, start=("resolver", "writer")) as stack:
        stack.service("reader", **{variable: value})
        await stack.save(config())
        await stack.start(wait=False)
        failed = await stack.until_status("FAILED")

        assert (failed["reason"]["code"], failed["reason"]["role"]) == (code, "reader")
        assert failed["reason"]["hint"]


async def test_the_test_of_campaign_signs_in_at_the_sftp_server(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with consenting(kafka_settings, tmp_path, start=()) as stack:
        stack.campaign.exports.run(empty=True)
        told = []
        for user in ("sandbox-sftp", "nobody"):
            await stack.processes["control-1"].terminate()
            stack.service("control", CAMPAIGN_SFTP_USER=user)
            await stack.until_status("STOPPED")
            checks = (await stack.http.post("/api/v1/systems/campaign/test")).json()["checks"]
            told += [(each["status"], each["message"]) for each in checks if each["name"] == "sftp"]

        assert told[0] == ("ok", "signed in; 1 export in the folder")
        assert told[1][0] == "failed"


async def test_two_resolvers_and_writers_share_the_work_and_one_that_is_killed_is_replaced(
    kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    async with consenting(kafka_settings, tmp_path) as stack:
        people = [person(stack) for _ in range(40)]
        for role in ("resolver", "writer"):
            stack.service(role, f"{role}-2")
        await stack.save(config())
        await stack.start()
        say_no(stack, people[:20])
        await until_both(stack, people[0], True)
        stack.processes["resolver-1"].kill()
        stack.processes["writer-2"].kill()
        say_no(stack, people[20:])

        async def all_told() -> bool:
            return all(in_dynamics(stack, each) and in_campaign(stack, each) for each in people)

        await stack.until(all_told, "everybody's no is in both systems", 90)
        await stack.until_caught_up(60)
