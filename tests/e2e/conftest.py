"""The running product for end-to-end tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.kafka.settings import KafkaSettings
from tests.e2e.stack import Stack, running


@pytest.fixture
async def stack(kafka_settings: KafkaSettings, tmp_path: Path) -> AsyncIterator[Stack]:
    """Control is up; the sandboxes are empty; nothing is configured beyond the default, and nothing runs."""
    async with running(kafka_settings, tmp_path) as made:
        yield made
