"""Where Kafka and the schema registry are, and what librdkafka is told."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from bridge.model.settings import Secret, Settings, Url, unreadable

SERVER = re.compile(r"([A-Za-z_]+://)?(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")


def _servers(text: str) -> str:
    for each in text.split(","):
        found = SERVER.fullmatch(each.strip())
        if found is None or not 0 < int(found["port"] or 9092) < 65536:
            raise ValueError("must be host:port, comma-separated")
    return text


class KafkaSettings(Settings):
    bootstrap_servers: Annotated[str, AfterValidator(_servers)] = Field(
        "localhost:9092", alias="KAFKA_BOOTSTRAP_SERVERS", description="Brokers, `host:port`, comma-separated"
    )
    topic_prefix: str = Field(
        "", alias="TOPIC_PREFIX", pattern=r"^[a-zA-Z0-9._-]*$", description="Precedes all topics, groups and transactional ids"
    )
    partitions: int = Field(6, alias="PARTITIONS", ge=1, le=1000, description="Partitions of topics that are created")
    replication_factor: int = Field(1, alias="REPLICATION_FACTOR", ge=1, le=9, description="Replicas of topics that are created")
    registry_url: Url = Field("http://localhost:8081", alias="SCHEMA_REGISTRY_URL", description="Any registry with Confluent's API")
    registry_username: str | None = Field(None, alias="SCHEMA_REGISTRY_USERNAME", description="Registry user, if it asks for one")
    registry_password: Secret = Field(default_factory=Secret, alias="SCHEMA_REGISTRY_PASSWORD", description="Its password")
    librdkafka: Mapping[str, str] = Field(
        default_factory=dict, repr=False, description="Every other `KAFKA_…` variable, as librdkafka property"
    )
    librdkafka_files: Mapping[str, Path] = Field(default_factory=dict, description="Those of them that came as `KAFKA_…_FILE`")

    @classmethod
    def more(cls, env: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
        return {"librdkafka": _librdkafka(env, problems), "librdkafka_files": _librdkafka_files(env)}

    def client(self, **more: Any) -> dict[str, Any]:
        """Configuration of a librdkafka client, with `more` (underscores for dots) on top."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            **self.librdkafka,
            **self._in_files(),
            **{name.replace("_", "."): value for name, value in more.items()},
        }

    def _in_files(self) -> dict[str, str]:
        """Read again for each client: a password may have been changed. One that cannot be read now stays as it was."""
        found = {}
        for name, path in self.librdkafka_files.items():
            with suppress(OSError, UnicodeDecodeError):
                found[name] = path.read_text(encoding="utf-8").strip()
        return found


def _librdkafka(env: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    named = {info.alias for info in KafkaSettings.model_fields.values()}
    properties: dict[str, str] = {}
    for name, value in env.items():
        if not name.startswith("KAFKA_") or name in named or not value:
            continue
        try:
            text = Path(value).read_text(encoding="utf-8").strip() if name.endswith("_FILE") else value
        except (OSError, UnicodeDecodeError) as exc:
            problems.append(unreadable(name, exc))
            continue
        properties[_property(name)] = text
    return properties


def _librdkafka_files(env: Mapping[str, str]) -> dict[str, Path]:
    return {_property(name): Path(path) for name, path in env.items() if name.startswith("KAFKA_") and name.endswith("_FILE") and path}


def _property(variable: str) -> str:
    return variable.removesuffix("_FILE").removeprefix("KAFKA_").lower().replace("_", ".")
