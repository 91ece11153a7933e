"""Logging: one line per event, keys instead of prose, one list of names. Never a field's value, a body or a secret (D12)."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal

import structlog

from bridge.observe.settings import ServiceSettings

LogEvent = Literal[
    "service_started", "service_stopped", "waiting_for", "run_started", "run_stopped", "run_failed",
    "partitions_assigned", "partitions_revoked", "partitions_lost", "kafka_unavailable", "state_loaded",
    "feed_waits", "load_started", "load_finished", "tracking_expired", "columns_changed", "page_link_refused",
    "epoch_begins", "epoch_known", "versions_went_back",
    "reconciled", "no_link_in_answer", "record_retried", "record_parked", "record_requeued", "record_dead_lettered",
    "replay_started", "replay_finished", "replay_cancelled", "journal_changed", "column_short", "listening", "command", "refused",
    "request_failed", "traces_not_sent", "kafka_plaintext",
    "faust_warning", "release_held", "delete_held", "guard_entry_unreadable", "merged_opt_out",
    "export_started", "export_done", "export_row_skipped", "export_failed", "export_changed", "export_vanished",
    "observed_again", "record_passed_over",
    "option_unknown", "column_security_unknown", "flag_may_mean_yes",
    "internal_fault",
    "trouble_lasts",
    "trouble_over", "state_unreadable", "state_late", "desired_unreadable",
]  # fmt: skip

_logger = structlog.get_logger()


def configure(settings: ServiceSettings, **always: Any) -> None:
    """Sets up logging of this process; `always` stands on every line."""
    console = settings.log_format == "console" or (settings.log_format is None and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.log_level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    global _logger
    _logger = structlog.get_logger().bind(**always)


def log(event: LogEvent, level: Literal["debug", "info", "warning", "error"] = "info", **keys: Any) -> None:
    """One line. Keys: names, codes, numbers, record keys."""
    getattr(_logger, level)(event, **keys)
