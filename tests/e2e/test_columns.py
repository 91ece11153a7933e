"""Columns that must not be trusted (systems-2026.md §4, K17, K18): refused where they are mapped, and at start if they became so later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import httpx

from bridge.kafka.commands import CommandLog
from bridge.kafka.settings import KafkaSettings
from bridge.kafka.topics import Topics, control_topics
from bridge.model.config import IngressConfig, OptinConfig
from bridge.model.desired import Workflow
from sandbox.dynamics.permissions import Permission
from services.control.rules import actions
from services.control.rules.actions import By
from tests.e2e.consent import config, consenting, person
from tests.e2e.helpers import run, until_reason
from tests.e2e.stack import Stack, contacts

EMAIL, UNREADABLE = "john.doe@example.com", Permission(through=None)  # cases/D-masked-email.json
MASKED, UNMASKED = Permission(masked=True), Permission(masked=True, unmasked=3)
CODES = ("column_security_unknown", "flag_means_yes", "flag_not_boolean")
CONSENT = "msdynmkt_contactpointconsent4"


async def save(stack: Stack, draft: Any) -> httpx.Response:
    url = f"/api/v1/workflows/{stack.id}/config"
    etag = (await stack.http.get(url)).headers["etag"]
    return await stack.http.put(url, json={"config": draft}, headers={"If-Match": etag})


async def forget(stack: Stack) -> None:
    """What control remembers of Dynamics for half a minute."""
    assert (await stack.http.post("/api/v1/systems/dynamics/test")).status_code == 200


async def wrong(stack: Stack, draft: Any) -> list[tuple[str, str]]:
    answer = await save(stack, draft)
    assert answer.status_code == 422, answer.text
    assert EMAIL not in answer.text
    return [(each["path"], each["code"]) for each in answer.json()["errors"]]


async def told(stack: Stack, draft: Any) -> list[tuple[str, str]]:
    answer = await stack.http.post(f"/api/v1/workflows/{stack.id}/config/validate", json={"config": draft})
    assert answer.status_code == 200 and answer.json()["valid"], answer.text
    return [(each["path"], each["code"]) for each in answer.json()["warnings"] if each["code"] in CODES]


async def test_k17_a_masked_column_is_refused_at_save_and_at_start_and_read_whole_when_it_may_be(stack: Stack) -> None:
    stack.dynamics.upsert("contact", {"lastname": "Doe", "emailaddress1": EMAIL})
    mapped = {"tables": [contacts(fields={"lastname": "lastName", "emailaddress1": "email"})]}
    by_filter = {"conditions": [{"field": "emailaddress1", "operator": "is_not_empty"}]}
    filtered = {"tables": [contacts(fields={"lastname": "lastName"}, filter=by_filter)]}
    stack.dynamics.secure("contact", "emailaddress1", MASKED)
    assert await wrong(stack, mapped) == [("/tables/0/fields/1/source", "source_column_secured")]
    assert await wrong(stack, filtered) == [("/tables/0/filter/conditions/0/field", "source_column_secured")]

    stack.dynamics.secure("contact", "emailaddress1", None)
    await forget(stack)
    assert (await save(stack, mapped)).status_code == 200
    stack.dynamics.secure("contact", "emailaddress1", MASKED)
    stack.service("reader")
    stack.service("writer")
    await stack.start(wait=False)
    reason = await until_reason(stack, "source_column_secured")

    assert "emailaddress1" in reason["message"] and "column security profile" in reason["hint"]
    assert stack.campaign.rows("profile") == []
    tested = (await stack.http.post("/api/v1/systems/dynamics/test")).json()["checks"]
    assert [each["name"] for each in tested if each["status"] == "failed" and "emailaddress1" in each["message"]] == ["permissions"]

    stack.dynamics.secure("contact", "emailaddress1", UNMASKED)
    await stack.stop()
    await stack.start()
    await stack.until_equal()
    assert [row["email"] for row in stack.campaign.rows("profile")] == [EMAIL]


async def test_k17_what_cannot_be_found_out_of_a_secured_column_is_a_warning_and_runs(stack: Stack) -> None:
    stack.dynamics.upsert("contact", {"lastname": "Doe", "emailaddress1": EMAIL})
    stack.dynamics.settings.change({"attribute_privileges": "forbidden", "security_tables": "forbidden", "system_administrator": True})
    stack.dynamics.secure("contact", "emailaddress1", Permission())
    draft = {"tables": [contacts(fields={"lastname": "lastName", "emailaddress1": "email"})]}

    assert await told(stack, draft) == [("/tables/0/fields/1/source", "column_security_unknown")]
    await run(stack, *draft["tables"])
    await stack.until_equal()

    assert "column_security_unknown" in "".join(each.log.read_text() for each in stack.processes.values())


async def test_k17_opt_in_out_needs_its_flags_readable_and_writable(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with consenting(kafka_settings, tmp_path) as stack:
        person(stack)
        stack.dynamics.secure("contact", "donotemail", Permission(update=0))
        assert await wrong(stack, config()) == [("/mappings/0/source", "source_column_secured")]
        stack.dynamics.secure("contact", "donotemail", None)
        await forget(stack)
        assert (await save(stack, config())).status_code == 200

        for permission, role in ((Permission(update=0), "writer"), (UNREADABLE, None)):
            stack.dynamics.secure("contact", "donotemail", permission)
            await stack.start(wait=False)
            reason = await until_reason(stack, "source_column_secured")
            assert "donotemail" in reason["message"] and role in (reason["role"], None)
            await stack.stop()


def saved_by_an_older_version(stack: Stack, draft: dict[str, Any]) -> None:
    """As control wrote it before it knew what TRUE of a column means."""
    partitions = Topics(stack.kafka).ensure(control_topics())["control.workflows"]
    shape = IngressConfig if stack.id == "ingress" else OptinConfig
    command = actions.save(cast(Workflow, stack.id), shape.model_validate(draft), 1, By("old", None, "2025-01-01T00:00:00Z"), None)
    CommandLog(stack.kafka, partitions).transact(command)


async def test_k18_at_start_a_mapping_of_before_is_refused_by_each_role(kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    async with consenting(kafka_settings, tmp_path, start=()) as stack:
        for stack.id, draft, roles in (
            ("ingress", {"tables": [contacts(fields={"lastname": "lastName", "followemail": "blackListEmail"})]}, ("reader", "writer")),
            ("optin", config(("followemail", "blackListEmail")), ("reader", "resolver", "writer")),
        ):
            await asyncio.to_thread(saved_by_an_older_version, stack, draft)
            for role in roles:
                process = stack.service(role, STATE_DIR=str(tmp_path / "state"))
                await stack.start(wait=False)
                reason = await until_reason(stack, "flag_means_yes")
                assert reason["role"] == role and "followemail" in reason["message"] and reason["hint"]
                await stack.stop(wait=False)
                await process.terminate()
                await stack.until_status("STOPPED")
        assert stack.campaign.rows("profile") == []


async def test_k18_a_column_whose_true_means_yes_is_no_opt_out(stack: Stack) -> None:
    names = {"lastname": "lastName", "followemail": "blackListEmail"}
    turned = [{"source": "followemail", "from": "true", "to": "false"}, {"source": "followemail", "from": "false", "to": "true"}]

    assert await wrong(stack, {"tables": [contacts(fields=names)]}) == [("/tables/0/fields/1/source", "flag_means_yes")]
    assert await told(stack, {"tables": [contacts(fields=names, replacements=turned)]}) == []
    choice = contacts(fields={"lastname": "lastName", "preferredcontactmethodcode": "blackListEmail"})
    assert await told(stack, {"tables": [choice]}) == [("/tables/0/fields/1/source", "flag_not_boolean")]
    stack.id = "optin"
    assert await wrong(stack, config(("followemail", "blackListEmail"))) == [("/mappings/0/source", "flag_means_yes")]
    assert await told(stack, config()) == []


async def test_consent_by_contact_point_is_told_by_the_connection_test(stack: Stack) -> None:
    async def check() -> dict[str, Any]:
        tested = (await stack.http.post("/api/v1/systems/dynamics/test")).json()
        assert tested["ok"], tested
        return next(each for each in tested["checks"] if each["name"] == "contact-point-consent")

    assert ((before := await check())["status"], before["hint"]) == ("ok", None)
    stack.dynamics.add_table(CONSENT)
    assert (await check())["hint"] is None
    stack.dynamics.upsert(CONSENT, {"new_name": EMAIL})
    found = await check()

    assert found["status"] == "ok" and CONSENT in found["message"] and EMAIL not in str(found)
    assert "docs/operations.md#contact-point-consent" in found["hint"]
