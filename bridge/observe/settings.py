"""What a service is called, where it keeps its files, and what it says of itself."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal

from pydantic import Field

from bridge.model.settings import Settings, Url


class ServiceSettings(Settings):
    instance_id: str = Field(
        default_factory=socket.gethostname,
        alias="INSTANCE_ID",
        pattern=r"^[a-zA-Z0-9._-]+$",
        description="Stable name of this instance (default: host name)",
    )
    state_dir: Path = Field(
        Path("var"),
        alias="STATE_DIR",
        description="Local copies of the state topics, in a folder of each instance; may be lost at any time",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="LOG_LEVEL", description="Least severity that is logged")
    log_format: Literal["json", "console"] | None = Field(
        None, alias="LOG_FORMAT", description="`json` or `console` (default: `json`, on a terminal `console`)"
    )
    metrics_port: int = Field(
        0,
        alias="METRICS_PORT",
        ge=0,
        le=65535,
        description="Port of `/metrics`, `/healthz` and `/readyz` of a service; 0: none. Control has its own at `CONTROL_PORT`",
    )
    metrics_host: str = Field("127.0.0.1", alias="METRICS_HOST", min_length=1, description="Address they are on; `0.0.0.0` in a container")
    otlp_endpoint: Url | None = Field(
        None,
        alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="Where services send traces (OTLP over HTTP, `/v1/traces` is added); unset: no traces",
    )

    def own_dir(self, role: str) -> Path:
        """Where this instance of a role (`ingress-writer`) keeps its files: several of them may share STATE_DIR."""
        return self.state_dir / f"{role}-{self.instance_id}"
