"""Every service with a user of its own, over TLS, with the rights that docs/operations.md lists and no others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from bridge.kafka.settings import KafkaSettings
from bridge.kafka.stream import credentials
from tests.e2e.consent import config as optin_config
from tests.e2e.consent import in_dynamics, person, until_both
from tests.e2e.helpers import eventually, service_logs, until_reason
from tests.e2e.stack import Process, Stack, contacts, running
from tests.kafka_secure import ROLES, Acl, SecureKafka, documented, password, secure_kafka

CONFIGS: dict[str, dict[str, Any]] = {
    "ingress": {"tables": [contacts()]},
    "egress": {"events": {"send": True, "open": False, "click": False, "bounce": False}},
    "optin": optin_config(),
}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    with secure_kafka(tmp_path_factory.mktemp("secure")) as made:
        yield made


@asynccontextmanager
async def secured(secure: SecureKafka, plain: KafkaSettings, folder: Path, *workflows: str, **more: str) -> AsyncIterator[Stack]:
    """Control and the services of these workflows, each as its own user with the documented rights."""
    admin = secure.settings(plain)
    secure.allow(admin, documented())
    async with (
        running(admin, folder, True, workflows[0], **secure.environment("control"), **more) as stack,
        stack.campaign.sftp_serving(folder / "sftp", port=0, exports=True) as access,
    ):
        stack.environment |= access.environment() | {"CAMPAIGN_SFTP_POLL_INTERVAL_S": "0.3"}
        stack.campaign.settings.change({"journal_retry_after_s": 0.2})
        for workflow in workflows:
            stack.id = workflow
            for role in ROLES[workflow]:
                stack.service(role, f"{workflow}-{role}", **secure.environment(f"{workflow}-{role}"))
        stack.id = workflows[0]
        yield stack


async def begin(stack: Stack, workflow: str) -> None:
    stack.id = workflow
    await stack.save(CONFIGS[workflow])
    await stack.start()


async def test_every_role_works_with_the_rights_of_the_page(secure: SecureKafka, kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with secured(secure, kafka_settings, tmp_path, *ROLES, PARK_BUDGET_S="3", OPTIN_RELEASE_LIMIT="1") as stack:
        await changes_arrive(stack)
        await timeline_and_letters(stack)
        await opt_outs_both_ways(stack)
        await everything_control_can_do(stack)
        assert "AUTHORIZATION" not in service_logs(stack)


async def changes_arrive(stack: Stack) -> None:
    key = stack.dynamics.upsert("contact", {"lastname": "Lovelace"})
    await begin(stack, "ingress")
    await eventually(stack, lambda: stack.campaign.get("profile", key), "the first load arrives")
    stack.dynamics.upsert("contact", {"contactid": key, "lastname": "King"})
    await eventually(stack, lambda: name_of(stack, key) == "King", "a change arrives")
    await stack.until_caught_up()


def name_of(stack: Stack, key: str) -> str | None:
    row = stack.campaign.get("profile", key)
    return None if row is None else row["lastName"]


def contact_named(stack: Stack, name: str) -> str:
    return next(str(row["contactid"]) for row in stack.dynamics.rows("contact") if row["lastname"] == name)


async def timeline_and_letters(stack: Stack) -> None:
    """A letter of the reader, given to the writer again, is one of the writer."""
    known = contact_named(stack, "King")
    stack.campaign.emit([{"kind": "send", "external_id": each} for each in (known, None)])
    await begin(stack, "egress")
    await eventually(stack, lambda: stack.dynamics.activities()["adobe_emailsend"] == 1, "it is on the timeline")
    for number in (1, 2):
        (letter, *_) = await stack.until(lambda number=number: letters(stack, number), f"{number} letters")  # type: ignore[misc]
        answer = await stack.http.post("/api/v1/workflows/egress/dead-letters/redrive", json={"ids": [letter["id"]]})
        assert answer.json().get("redriven") == 1, answer.text
    await stack.until_caught_up()


async def letters(stack: Stack, number: int) -> list[Any] | None:
    found: list[Any] = (await stack.get(f"/workflows/{stack.id}/dead-letters?values=true"))["dead_letters"]
    return found if len(found) >= number else None


async def opt_outs_both_ways(stack: Stack) -> None:
    people = [person(stack) for _ in range(3)]
    await begin(stack, "optin")
    for each in people[:2]:
        stack.campaign.opt_out(each, "blackListEmail", True)
    stack.campaign.exports.run()
    stack.dynamics.upsert("contact", {"contactid": people[2], "donotemail": True})
    for each in people:
        await until_both(stack, each, True)
    for each in people[:2]:
        stack.campaign.opt_out(each, "blackListEmail", False)
    stack.campaign.exports.run()
    await stack.until(lambda: held(stack), "one is held")
    answer = await stack.http.post("/api/v1/workflows/optin/held/release", json={"all": True, "reason": "a test"})
    assert answer.json()["released"] == 1, answer.text
    for each in people[:2]:
        await until_both(stack, each, False)
    await stack.until_caught_up()


async def held(stack: Stack) -> bool:
    return bool((await stack.workflow())["backlog"]["held"] == 1)


async def everything_control_can_do(stack: Stack) -> None:
    """Looks into every workflow's topics, and takes back a cursor: all rows are read again."""
    for workflow, name in (("ingress", "King"), ("egress", "King"), ("optin", "Lovelace")):
        assert (await stack.get(f"/workflows/{workflow}/records/{contact_named(stack, name)}"))["hops"], workflow
    assert (await stack.get("/audit"))["entries"]
    stack.id = "ingress"
    answer = await stack.http.post("/api/v1/workflows/ingress/tables/contact/replay", json={"when": "now"})
    assert answer.status_code == 202, answer.text
    await stack.until_caught_up()
    await stack.stop()
    answer = await stack.http.delete("/api/v1/workflows/ingress/cursors/contact")
    assert answer.status_code == 202, answer.text
    key = stack.dynamics.upsert("contact", {"lastname": "Babbage"})
    await stack.start()
    await eventually(stack, lambda: stack.campaign.get("profile", key), "all is read again")


TAKEN = {
    "ingress": [
        Acl("ingress-reader", "topic", "ingress.changes.", "prefixed", "Write"),
        Acl("ingress-reader", "transactional id", "ingress-reader-", "prefixed", "Write"),
        Acl("ingress-reader", "group", "ingress-reader", "literal", "Read"),
        Acl("ingress-writer", "topic", "ingress.changes.", "prefixed", "Read"),
        Acl("ingress-writer", "group", "ingress", "literal", "Read"),
        Acl("ingress-writer", "topic", "ingress.state", "literal", "Write"),
    ],
    "optin": [
        Acl("optin-resolver", "group", "optin-resolver", "literal", "Read"),
        Acl("optin-resolver", "topic", "optin.observations", "literal", "Read"),
        Acl("optin-resolver", "topic", "optin.decisions", "literal", "Write"),
    ],
}


@pytest.mark.parametrize("workflow", TAKEN)
async def test_a_right_that_is_taken_away_is_told_and_nothing_is_lost_once_it_is_back(
    secure: SecureKafka, kafka_settings: KafkaSettings, tmp_path: Path, workflow: str
) -> None:
    """Each of them while the workflow runs; then Start is in vain, until the right is given back."""
    async with secured(secure, kafka_settings, tmp_path, workflow) as stack:
        admin, key = secure.settings(kafka_settings), person(stack, donotemail=False)
        await begin(stack, workflow)
        change(stack, workflow, key, -2)
        await stack.until(lambda: arrived(stack, workflow, key, -2), "it works")
        await stack.until_caught_up()
        for number, acl in enumerate(TAKEN[workflow]):
            secure.take_away(admin, [acl])
            change(stack, workflow, key, number)
            for again in (False, True):
                if again:
                    await stack.start(wait=False)
                reason = await until_refused(stack, acl)
                assert "AUTHORIZATION_FAILED" in reason["message"] and "ACL" in reason["hint"], (acl, reason)
            secure.allow(admin, [acl])
            await stack.start()
            await stack.until(lambda number=number: arrived(stack, workflow, key, number), f"what waited arrives: {acl}")  # type: ignore[misc]


async def until_refused(stack: Stack, acl: Acl) -> dict[str, Any]:
    try:
        return await until_reason(stack, "kafka_refused")
    except AssertionError as exc:
        raise AssertionError(f"{acl}: {exc}") from None


def change(stack: Stack, workflow: str, key: str, number: int) -> None:
    if workflow == "ingress":
        stack.dynamics.upsert("contact", {"contactid": key, "lastname": f"King {number}"})
    else:
        stack.campaign.opt_out(key, "blackListEmail", number % 2 == 0)
        stack.campaign.exports.run()


async def arrived(stack: Stack, workflow: str, key: str, number: int) -> bool:
    if workflow == "ingress":
        return name_of(stack, key) == f"King {number}"
    return in_dynamics(stack, key) == (number % 2 == 0)


async def test_a_wrong_password_is_told_with_the_way_out_and_the_right_one_is_taken_without_a_restart(
    secure: SecureKafka, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    secure.allow(secure.settings(kafka_settings), documented())
    async with running(secure.settings(kafka_settings), tmp_path, False, **secure.environment("control", "wrong")) as stack:
        reader = stack.service("reader", **secure.environment("ingress-reader", "wrong"))
        for process in (stack.processes["control-1"], reader):
            await eventually(stack, lambda process=process: waits(process, "_AUTHENTICATION", "Check KAFKA_SASL_"), f"{process.name} tells")  # type: ignore[misc]
        for user in ("control", "ingress-reader"):
            (secure.folder / f"{user}-other.password").write_text(password(user))
        await stack.until_status("STOPPED")
        await stack.until(lambda: heard(stack), "the reader is heard of")
        assert [process.popen.poll() for process in stack.processes.values()] == [None, None], "one has ended"


async def test_a_broker_whose_certificate_is_for_another_host_name_is_refused_by_every_client(
    secure: SecureKafka, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    other = {"KAFKA_BOOTSTRAP_SERVERS": secure.elsewhere}
    async with running(secure.settings(kafka_settings), tmp_path, False, **secure.environment("control") | other) as stack:
        stack.service("reader", **secure.environment("ingress-reader") | other)
        for process in stack.processes.values():
            await eventually(stack, lambda process=process: waits(process, "_SSL", "advertised.listeners"), f"{process.name} tells")  # type: ignore[misc]
            assert process.popen.poll() is None
    settings = secure.settings(kafka_settings)
    assert await faust_signs_in(settings)
    elsewhere = settings.model_copy(update={"bootstrap_servers": secure.elsewhere})
    assert not await faust_signs_in(elsewhere)
    trusting = {**settings.librdkafka, "ssl.endpoint.identification.algorithm": "none"}
    assert await faust_signs_in(elsewhere.model_copy(update={"librdkafka": trusting})), "it was something else than the name"
    assert not await faust_signs_in(secure.settings(kafka_settings, word="wrong"))


def waits(process: Process, cause: str, way_out: str) -> bool:
    """It says why it waits, and what to do."""
    lines = [json.loads(line) for line in process.log.read_text().splitlines() if line.startswith("{")]
    told = [str(line["reason"]) + str(line.get("hint", "")) for line in lines if line["event"] == "waiting_for"]
    return any(cause in text and way_out in text for text in told)


async def heard(stack: Stack) -> bool:
    return any(each["role"] == "reader" for each in (await stack.workflow())["services"])


async def faust_signs_in(settings: KafkaSettings) -> bool:
    """As Faust's own client does, with what it makes of our settings."""
    given = credentials_to_aiokafka_auth(credentials(settings), None)
    client = AIOKafkaClient(bootstrap_servers=settings.bootstrap_servers, **given)
    try:
        await client.bootstrap()
    except KafkaError:
        return False
    finally:
        await client.close()
    return True
