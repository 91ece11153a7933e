"""The running configuration, as reader, resolver and writer need it. Pure."""

from __future__ import annotations

from bridge.config import OptinConfig, canonical_flag
from bridge.desired import Desired
from bridge.errors import HaltError
from services.optin.known import Pair
from services.optin.resolve import Direction


def running_config(desired: Desired) -> tuple[Direction, tuple[Pair, ...]]:
    """Raises HaltError for a configuration that has nothing to run, which control does not start."""
    config = OptinConfig.model_validate(desired.config)
    if config.direction not in ("campaign-to-dynamics", "bidirectional"):
        raise HaltError(
            f"there is nothing to do in direction {config.direction}",
            code="not_configured",
            hint="Choose a direction from Campaign, map at least one flag, save, then start again.",
            origin="configuration",
        )
    return config.direction, tuple(Pair(each.source, canonical_flag(each.target)) for each in config.mappings)
