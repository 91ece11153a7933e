"""What is wrong with access, data and disks: tokens, secrets, delta tokens, links, poison, columns, full disks, lost folders, clocks."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from sandbox.dynamics.tables import Column
from tests.e2e.helpers import until_reason
from tests.faults.conftest import Begun
from tests.faults.world import LAUNCHER, World, until_left
from tests.faults.worlds import WORLDS

GROUPS = {"ingress": ["ingress"], "egress": ["egress"], "optin": ["optin-resolver", "optin"]}
EVENTS = {"ingress": "ingress.changes.contact", "egress": "egress.email-events", "optin": "optin.observations"}
FEEDS = [("ingress", "dynamics"), ("egress", "campaign")]


async def restarted(world: World) -> None:
    await world.stack.stop()
    await world.stack.start()


@pytest.mark.takes(40)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_tokens_revoked_again_and_again(begun: Begun, workflow: str) -> None:
    world = await begun(workflow)
    async with world.pouring():
        for _ in range(5):
            await world.a_while(2)
            world.stack.dynamics.tokens.revoke()
            world.stack.campaign.revoke_tokens()
            await world.at_work()
    await world.settled()


@pytest.mark.takes(40)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_secrets_rotated_while_running(begun: Begun, workflow: str) -> None:
    """The file has the new secret before the system asks for it; nothing is stopped."""
    world = await begun(workflow)
    files = {system: world.stack.folder / f"secret-{system}" for system in ("dynamics", "campaign")}
    for system, file in files.items():
        file.write_text("sandbox-secret")
        name = f"{system.upper()}_CLIENT_SECRET"
        world.stack.environment |= {name: "", f"{name}_FILE": str(file)}
    for role in world.roles:
        await world.end(role)
        world.start(role)
    async with world.pouring():
        await world.at_work()
        for file in files.values():
            file.write_text("another-sandbox-secret")
        world.stack.dynamics.settings.client_secret = world.stack.campaign.settings.client_secret = "another-sandbox-secret"
        world.stack.dynamics.tokens.revoke()
        world.stack.campaign.revoke_tokens()
        await world.at_work()
    await world.settled()


@pytest.mark.takes(40)
@pytest.mark.parametrize("workflow", ["ingress", "optin"])
async def test_delta_tokens_that_expire(begun: Begun, workflow: str) -> None:
    world = await begun(workflow)
    async with world.pouring():
        for _ in range(3):
            await world.a_while(2)
            world.stack.dynamics.expire_tokens()
            await world.at_work()
    await world.settled()


@pytest.mark.takes(40)
@pytest.mark.parametrize(("workflow", "system"), FEEDS)
async def test_links_that_lead_to_another_host(begun: Begun, workflow: str, system: str) -> None:
    """No token goes there: the workflow is FAILED, and goes on when the links are right again."""
    world = await begun(workflow)
    settings = world.stack.dynamics.settings if system == "dynamics" else world.stack.campaign.settings
    name = "foreign_links" if system == "dynamics" else "journal_foreign_next"
    world.dose()
    settings.change({name: True})
    world.dose()
    reason = await until_reason(world.stack, "foreign_link")
    settings.change({name: False})
    await restarted(world)

    assert (reason["role"], reason["origin"]) == ("reader", "source")
    async with world.pouring():
        await world.at_work()
    await world.settled()


def poisoned(world: World, number: int) -> None:
    """So many records that nobody can read, all over the topic."""
    producer = Producer(world.stack.kafka.client())
    for each in range(number):
        producer.produce(f"{world.stack.kafka.topic_prefix}{EVENTS[world.id]}", world.rng.randbytes(40), f"poison-{each}".encode())
    assert producer.flush(10) == 0


@pytest.mark.takes(40)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_poison_among_the_records(begun: Begun, workflow: str) -> None:
    world = await begun(workflow)
    async with world.pouring():
        for _ in range(3):
            await world.a_while(2)
            poisoned(world, 5)
            world.letters += 5
            await world.at_work()
    await world.settled()


@pytest.mark.takes(40)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_nothing_but_poison_halts_instead_of_filling_the_dead_letters(begun: Begun, workflow: str) -> None:
    world = await begun(workflow)
    poisoned(world, 400)
    reason = await until_reason(world.stack, "too_many_dead_letters")
    letters = (await world.stack.get(f"/workflows/{workflow}/dead-letters?limit=200"))["dead_letters"]
    assert reason["hint"]
    assert 0 < len(letters) <= 130


async def again_from_the_beginning(world: World) -> None:
    """All groups of the stopped workflow read everything once more."""
    prefix = world.stack.kafka.topic_prefix
    admin = AdminClient(world.stack.kafka.client())
    for group in GROUPS[world.id]:
        await until_left(world, group)
        name = prefix + group
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name]
        committed = (await asyncio.to_thread(asked.result, 10)).topic_partitions or []
        zero = [TopicPartition(each.topic, each.partition, 0) for each in committed]
        assert zero, f"{group} has committed nothing"
        altered = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(name, zero)])[name]
        await asyncio.to_thread(altered.result, 10)


@pytest.mark.takes(50)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_the_whole_topic_once_more(begun: Begun, workflow: str) -> None:
    """Not one write for it, where the state tells what was written."""
    world = await begun(workflow)
    async with world.pouring():
        await world.at_work()
        await asyncio.sleep(5)
    await world.settled()
    before = world.progress()
    await world.stack.stop()
    await again_from_the_beginning(world)
    await world.stack.start()
    await world.settled()
    assert world.progress() == before


@pytest.mark.takes(45)
@pytest.mark.parametrize("workflow", WORLDS)
async def test_the_folder_of_the_state_deleted(begun: Begun, workflow: str) -> None:
    """Once while the processes are down, once under their feet (they are killed afterwards)."""
    world = await begun(workflow)
    async with world.pouring():
        for killed in (False, True):
            await world.at_work()
            if not killed:
                for role in world.roles:
                    await world.end(role)
            for role in world.roles:
                folder = world.stack.folder / f"state-{role}-1"
                await asyncio.to_thread(os.system, f"rm -rf {folder}")
            for role in world.roles:
                if killed:
                    world.kill(role)
                world.start(role)
        await world.at_work()
    await world.settled()


def on_a_small_disk(folder: Path) -> Sequence[str]:
    """The command that starts a service whose STATE_DIR `folder` is a file system of its own (in namespaces of its own: no root is needed),
    which is filled up as soon as there is a file `<folder>.full`."""
    folder.mkdir(exist_ok=True)
    script = f"""
        mount -t tmpfs -o size=2m tmpfs "{folder}" || exit
        (for _ in $(seq 300); do [ -e "{folder}.full" ] && exec cat /dev/zero > "{folder}/full"; sleep 0.2; done) 2> /dev/null &
        exec "$@"
    """
    return ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", sys.executable, "-m")


@pytest.mark.takes(60)
@pytest.mark.parametrize(("workflow", "role"), [("ingress", "writer"), ("egress", "writer"), ("optin", "resolver")])
async def test_the_disk_of_the_state_full(begun: Begun, workflow: str, role: str) -> None:
    """FAILED with the cause and what to do, at the next start at the latest, and nothing is lost; with space again it goes on."""
    world = await begun(workflow)
    folder = world.stack.folder / f"state-{role}-1"
    await world.end(role)
    world.launchers[role] = on_a_small_disk(folder)
    world.start(role)
    async with world.pouring():
        await world.at_work()
        folder.with_name(f"{folder.name}.full").touch()
        await asyncio.sleep(5)
        await world.stack.stop()
        await world.stack.start(wait=False)
        reason = await until_reason(world.stack, "state_dir_unusable")
    del world.launchers[role]
    world.kill(role)
    world.start(role)
    await restarted(world)

    assert (reason["role"], reason["origin"]) == (role, "service")
    assert "STATE_DIR" in reason["hint"]
    async with world.pouring():
        await world.at_work()
    await world.settled()


@pytest.mark.takes(50)
@pytest.mark.parametrize("hours", [2, -2])
@pytest.mark.parametrize("workflow", WORLDS)
async def test_a_clock_that_is_hours_off_and_jumps(begun: Begun, workflow: str, hours: int) -> None:
    world = await begun(workflow)
    file = world.stack.folder / "clock"
    file.write_text(str(hours * 3600))
    for role in world.roles:
        await world.end(role)
        world.launchers[role] = LAUNCHER
        world.start(role, FAULT_CLOCK=str(file))
    async with world.pouring():
        for _ in range(5):
            await world.at_work()
            file.write_text(str(world.rng.uniform(-2, 2) * 3600))
            await world.a_while(2)
    await world.settled()


@pytest.mark.takes(40)
@pytest.mark.parametrize("workflow", ["ingress", "optin"])
async def test_columns_that_come_and_go(begun: Begun, workflow: str) -> None:
    """None that is mapped; each time the delta tokens die."""
    world = await begun(workflow)
    async with world.pouring():
        world.stack.dynamics.add_column("contact", Column("new_nickname", "String"))
        await world.at_work()
        world.stack.dynamics.rename_column("contact", "new_nickname", "new_shortname")
        await world.at_work()
        world.stack.dynamics.remove_column("contact", "new_shortname")
        await world.at_work()
    await world.settled()
