"""What only a person can mend: FAILED with the reason, its origin and a hint, and it goes on once mended (D4)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.e2e.helpers import everything_passed, run, run_through, service_logs, until_reason
from tests.e2e.stack import CONTACT_FIELDS, Stack, contacts, mapping

CATEGORY = mapping("new_category", "cusNote", ("new_categoryid", "cusNoteId"), {"new_name": "cusName"})


def notes(stack: Stack) -> None:
    """Gives Campaign the resource that CATEGORY goes to."""
    stack.campaign.add_resource("cusNote", key="cusNoteId", fields=[{"name": "cusNoteId"}, {"name": "cusName"}])
    stack.campaign.publish()


def drop_table(stack: Stack, name: str) -> None:
    store = stack.dynamics.store
    del store.sets[store.tables.pop(name).set_name]


async def start_and_fail(stack: Stack, code: str) -> dict[str, Any]:
    """Starts with what is saved; the reason of the failure."""
    stack.service("reader")
    stack.service("writer")
    await stack.start(wait=False)
    reason = await until_reason(stack, code)
    assert reason["hint"] and reason["message"]
    return reason


async def restart(stack: Stack) -> None:
    await stack.stop()
    await stack.start()
    await everything_passed(stack)


async def test_a_table_that_is_not_there(stack: Stack) -> None:
    notes(stack)
    await stack.configure(contacts(), CATEGORY)
    drop_table(stack, "new_category")

    reason = await start_and_fail(stack, "source_table_missing")

    assert (reason["role"], reason["origin"]) == ("reader", "source")
    assert "new_category" in reason["message"]
    await stack.stop()
    await stack.configure(contacts())
    await restart(stack)


async def test_a_table_without_change_tracking(stack: Stack) -> None:
    notes(stack)
    await stack.configure(contacts(), CATEGORY)
    stack.dynamics.store.tables["new_category"].tracked = False

    reason = await start_and_fail(stack, "change_tracking_off")

    assert (reason["role"], reason["origin"]) == ("reader", "source")
    assert "new_category" in reason["message"]
    stack.dynamics.store.tables["new_category"].tracked = True
    await restart(stack)


async def test_a_column_that_is_not_there(stack: Stack) -> None:
    await stack.configure(contacts(fields=CONTACT_FIELDS | {"jobtitle": "salutation"}))
    stack.dynamics.remove_column("contact", "jobtitle")

    reason = await start_and_fail(stack, "source_column_missing")

    assert (reason["role"], reason["origin"]) == ("reader", "source")
    assert "jobtitle" in reason["message"] and "contact" in reason["message"]


async def test_a_column_removed_while_it_runs(stack: Stack) -> None:
    stack.dynamics.load(contacts=30, seed=3)
    await run_through(stack, contacts(fields=CONTACT_FIELDS | {"jobtitle": "salutation"}))

    stack.dynamics.remove_column("contact", "jobtitle")
    reason = await until_reason(stack, "source_column_missing")

    assert reason["origin"] == "source"
    assert "jobtitle" in reason["message"]
    await stack.configure(contacts())
    await restart(stack)
    assert stack.differences() == []


async def test_a_resource_that_campaign_does_not_have(stack: Stack) -> None:
    notes(stack)
    await stack.configure(contacts(), CATEGORY)
    del stack.campaign.database.tables["cusNote"]

    reason = await start_and_fail(stack, "target_resource_missing")

    assert (reason["role"], reason["origin"]) == ("writer", "target")
    assert "cusNote" in reason["message"]
    notes(stack)
    await restart(stack)


async def test_a_field_that_campaign_does_not_have(stack: Stack) -> None:
    await stack.processes["control-1"].terminate()
    stack.service("control", CAMPAIGN_URL="")  # a control that cannot ask Campaign takes the mapping as it is
    await stack.until_status("STOPPED")
    await stack.configure(contacts(fields=CONTACT_FIELDS | {"jobtitle": "cusNowhere"}))

    reason = await start_and_fail(stack, "target_field_unusable")

    assert reason["origin"] == "target"
    assert "cusNowhere" in reason["message"]


@pytest.mark.parametrize(("system", "role", "origin"), [("dynamics", "reader", "source"), ("campaign", "writer", "target")])
async def test_a_wrong_secret_is_told_without_it_and_a_new_file_mends_it(stack: Stack, system: str, role: str, origin: str) -> None:
    file = stack.folder / "secret"
    file.write_text("wr0ng-secret-value\n")
    name = f"{system.upper()}_CLIENT_SECRET"
    for each in ("reader", "writer"):
        stack.service(each, **({name: "", f"{name}_FILE": str(file)} if each == role else {}))
    await stack.configure(contacts())
    await stack.start(wait=False)

    reason = await until_reason(stack, "credentials_refused")
    assert (reason["role"], reason["origin"]) == (role, origin)
    assert reason["hint"]
    assert "wr0ng-secret-value" not in json.dumps(await stack.workflow())
    assert "wr0ng-secret-value" not in service_logs(stack)

    file.write_text("sandbox-secret\n")
    await restart(stack)


@pytest.mark.parametrize("system", ["dynamics", "campaign"])
async def test_a_secret_rotated_while_it_runs_is_read_again_from_its_file(stack: Stack, system: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("sandbox-secret")
    name = f"{system.upper()}_CLIENT_SECRET"
    own = {name: "", f"{name}_FILE": str(file)}
    await run(stack, contacts(), reader=own, writer=own)
    await everything_passed(stack)

    file.write_text("rotated-secret")
    if system == "dynamics":
        stack.dynamics.settings.client_secret = "rotated-secret"
        stack.dynamics.tokens.revoke()
    else:
        stack.campaign.settings.client_secret = "rotated-secret"
        stack.campaign.revoke_tokens()
    await everything_passed(stack)

    assert (await stack.workflow())["status"] == "RUNNING"


@pytest.mark.parametrize(
    ("partitions", "config"),
    [(2, {}), (5, {}), (3, {"cleanup.policy": "compact"})],
    ids=["fewer partitions", "other than its set", "another cleanup policy"],
)
async def test_a_topic_that_is_not_as_it_has_to_be(stack: Stack, partitions: int, config: dict[str, str]) -> None:
    name = f"{stack.kafka.topic_prefix}ingress.changes.contact"
    admin = AdminClient(stack.kafka.client())  # has to live until the answer is there
    made = admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)])
    await asyncio.to_thread(made[name].result, 10)

    reason = await start_and_fail(stack, "topic_mismatch")

    assert reason["origin"] == "kafka"
    assert "ingress.changes.contact" in reason["message"]
    assert stack.campaign.writes() == []


async def test_an_application_user_without_rights(stack: Stack) -> None:
    stack.dynamics.settings.global_read = False

    reason = await start_and_fail(stack, "source_forbidden")

    assert reason["origin"] == "source"
    stack.dynamics.settings.global_read = True
    await restart(stack)
