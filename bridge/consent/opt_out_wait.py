"""How long an opt-out waits that cannot be written."""

from __future__ import annotations

from bridge.model.errors import ParkError, RetryError

OPT_OUT_BUDGET_S = 90_000.0  # a day and an hour: an opt-out is never given up after a few tries


def patient(exc: RetryError, opt_outs: int) -> RetryError:
    """An opt-out that cannot be written waits a day and more, however few tries the error would allow."""
    if opt_outs and exc.attempts is not None:
        exc = ParkError(str(exc), code=exc.code, status=exc.status, budget_s=OPT_OUT_BUDGET_S)
    exc.opt_outs = max(exc.opt_outs, opt_outs)
    return exc
