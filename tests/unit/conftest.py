"""Fixtures of the unit tests: the stand-in for Dynamics, and a client that is connected to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import settings

from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.settings import DynamicsSettings
from bridge.model.settings import Secret
from sandbox.dynamics import DynamicsSandbox
from sandbox.web import serving
from tests.unit.fakes import FakeClock

settings.register_profile("unit", deadline=None)  # a busy machine is no fault of ours
settings.load_profile("unit")


@pytest.fixture
def sandbox() -> DynamicsSandbox:
    return DynamicsSandbox()


@pytest.fixture
async def client(sandbox: DynamicsSandbox) -> AsyncIterator[DynamicsClient]:
    async with serving(sandbox.app()) as url:
        env: dict[str, Any] = {
            "DYNAMICS_URL": url,
            "DYNAMICS_TENANT_ID": "sandbox-tenant",
            "DYNAMICS_CLIENT_ID": "sandbox-client",
            "DYNAMICS_CLIENT_SECRET": Secret("sandbox-secret"),
            "DYNAMICS_TOKEN_URL": f"{url}/sandbox-tenant/oauth2/v2.0/token",
        }
        made = DynamicsClient(DynamicsSettings(**env), FakeClock())
        yield made
        await made.close()
