"""The running configuration, as reader, resolver and writer need it. Pure."""

from __future__ import annotations

from bridge.consent.meaning import doubts_of_optin, refuse
from bridge.consent.words import Pair
from bridge.model.config import OptinConfig
from bridge.model.desired import Desired
from bridge.model.errors import HaltError
from bridge.model.flags import canonical_flag
from services.optin.resolve import Direction


def running_config(desired: Desired) -> tuple[Direction, tuple[Pair, ...]]:
    """Raises HaltError for a configuration that has nothing to run, which control does not start, or whose TRUE means yes."""
    config = OptinConfig.model_validate(desired.config)
    if config.direction not in ("campaign-to-dynamics", "bidirectional"):
        raise HaltError(
            f"there is nothing to do in direction {config.direction}",
            code="not_configured",
            hint="Choose a direction from Campaign, map at least one flag, save, then start again.",
            origin="configuration",
        )
    refuse(doubts_of_optin([(each.source, each.target) for each in config.mappings], {}))
    return config.direction, tuple(Pair(each.source, canonical_flag(each.target)) for each in config.mappings)
