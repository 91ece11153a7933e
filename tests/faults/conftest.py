"""Which faults are tried: all of them with BRIDGE_FAULTS=all (`make faults`), else as many as fit into five minutes, chosen by the seed."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bridge.kafka.settings import KafkaSettings
from tests.faults.choosing import chosen
from tests.faults.world import World
from tests.faults.worlds import world_of

SEED = int(os.environ.get("BRIDGE_SEED", "20261128"))
ALL = os.environ.get("BRIDGE_FAULTS") == "all"
Begun = Callable[..., Awaitable[World]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each test says about how long it takes: `@pytest.mark.takes(seconds)`; `always=True`: it is never left out."""
    if ALL or config.getoption("keyword") or any("::" in argument for argument in config.args):
        return
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    markers = {item.nodeid: item.get_closest_marker("takes") for item in ours}
    takes = {name: (float(marker.args[0]), bool(marker.kwargs)) for name, marker in markers.items() if marker is not None}
    dropped = [item for item in ours if item.nodeid not in chosen(takes, SEED)]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if item not in dropped]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """The test's own, the same for the same seed, whatever ran before."""
    print(f"BRIDGE_SEED={SEED}: again with BRIDGE_SEED={SEED} python -m pytest '{request.node.nodeid}'")
    return random.Random(f"{SEED} {request.node.nodeid}")


@pytest.fixture
async def begun(kafka_settings: KafkaSettings, tmp_path: Path, rng: random.Random) -> AsyncIterator[Begun]:
    """`await begun("ingress")`: that workflow at work, everything from the first dose in its place. `kafka`: another than the session's."""
    async with AsyncExitStack() as exits:

        async def begin(workflow: str, kafka: KafkaSettings | None = None, **environment: str) -> World:
            return await exits.enter_async_context(world_of(workflow, kafka or kafka_settings, tmp_path, rng, **environment))

        yield begin
