"""What keeps a run from its work at present."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.http.gate import Pause
from bridge.kafka.membership import Membership
from bridge.model.clock import Clock
from bridge.model.errors import BridgeError


def first_trouble(
    met: BridgeError | None, membership: Membership | None, pauses: Sequence[Pause], clock: Clock
) -> tuple[BridgeError | None, float]:
    """The trouble, None if there is none, and how many seconds it is known to have lasted. Without a place in the group nothing else
    counts; a call that hangs tells more than the failure before it."""
    if membership is not None and (outside := membership.trouble()) is not None:
        return outside
    now = clock.monotonic()
    hanging = next((found for pause in pauses if (found := pause.trouble(now)) is not None), None)
    if hanging is not None and (met is None or hanging[1] > 0):
        return hanging
    return met, 0.0
