"""Opt-out flags whose columns say yes where they should say no, as a role meets them at its start (bridge/consent/meaning.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bridge.consent.meaning import Doubt, ShownColumn, refuse
from bridge.dynamics.catalogue import yes_no_labels
from bridge.dynamics.client import DynamicsClient
from bridge.observe.log import log


async def check_flags(client: DynamicsClient, table: str, doubts: Callable[[Mapping[str, ShownColumn]], Iterator[Doubt]]) -> None:
    """Logs flags that may mean yes, by the labels of their columns. Raises HaltError `flag_means_yes` for one that does for certain."""
    refuse(doubts({}))
    shown = {name: ShownColumn(*labels) for name, labels in (await yes_no_labels(client, table)).items()}
    for doubt in refuse(doubts(shown)):
        log("flag_may_mean_yes", "warning", table=table, column=doubt.source, flag=doubt.target)
