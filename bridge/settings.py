"""Settings from the environment: how a room of settings is read, and the two rooms that every service has. The others: bridge/rooms.py.

One small frozen class per room, units in the names, all problems told at once.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

EXIT_UNUSABLE_SETTINGS = 78
SERVER = re.compile(r"([A-Za-z_]+://)?(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(:(?P<port>[0-9]{1,5}))?")


class SettingsError(Exception):
    """Settings that are missing or wrong. `problems`: one line each, naming the variable and what is allowed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Secret:
    """A secret from the environment or from a file, which is read again on demand. Never shown."""

    def __init__(self, value: str | None = None, path: Path | None = None) -> None:
        self._path = path
        self._value = value if path is None else path.read_text(encoding="utf-8").strip()

    def value(self) -> str:
        return self._value or ""

    def reload(self) -> bool:
        """Reads the file again; True if the secret has changed."""
        if self._path is None:
            return False
        try:
            fresh = self._path.read_text(encoding="utf-8").strip()
        except OSError:
            return False
        changed, self._value = fresh != self._value, fresh
        return changed

    def __repr__(self) -> str:
        return "Secret(set)" if self._value else "Secret(unset)"


def _url(text: str) -> str:
    if not text.startswith(("https://", "http://")) or len(text.split("://", 1)[1]) == 0 or " " in text:
        raise ValueError("must be a URL beginning with https:// (or http:// on this machine)")
    if not _has_host(text):
        raise ValueError("must be a URL with a host and, if any, a port from 1 to 65535")
    return text.rstrip("/")


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.hostname is not None and parts.port != 0
    except ValueError:  # its text shows the part that is wrong, which may be a secret
        return False


def _servers(text: str) -> str:
    for each in text.split(","):
        found = SERVER.fullmatch(each.strip())
        if found is None or not 0 < int(found["port"] or 9092) < 65536:
            raise ValueError("must be host:port, several by comma")
    return text


def _origin(text: str) -> str:
    """As browsers send it in `Origin`: lower case, no path, no default port."""
    scheme, _, rest = _url(text).lower().partition("://")
    if "/" in rest:
        raise ValueError("must be scheme and host only, as https://bridge.example.com")
    return f"{scheme}://{rest.removesuffix({'https': ':443', 'http': ':80'}[scheme])}"


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("must be the IANA name of a time zone, as Europe/Paris or UTC") from None
    return name


Url = Annotated[str, AfterValidator(_url)]
WebOrigin = Annotated[str, AfterValidator(_origin)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]


class Room(BaseModel):
    """Base of all settings classes: frozen, and every field carries the name of its variable as alias."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, populate_by_name=True)


class KafkaSettings(Room):
    bootstrap_servers: Annotated[str, AfterValidator(_servers)] = Field(
        "localhost:9092", alias="KAFKA_BOOTSTRAP_SERVERS", description="Brokers, `host:port`, by comma"
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


class ServiceSettings(Room):
    instance_id: str = Field(
        default_factory=socket.gethostname,
        alias="INSTANCE_ID",
        pattern=r"^[a-zA-Z0-9._-]+$",
        description="Stable name of this instance (default: host name)",
    )
    state_dir: Path = Field(Path("var"), alias="STATE_DIR", description="Local copies of state topics; may be lost at any time")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="LOG_LEVEL", description="Least severity that is logged")
    log_format: Literal["json", "console"] | None = Field(
        None, alias="LOG_FORMAT", description="`json`, or `console` (default on a terminal)"
    )
    metrics_port: int = Field(
        0, alias="METRICS_PORT", ge=0, le=65535, description="Port of `/metrics`, `/healthz` and `/readyz` of a service; 0: none"
    )
    metrics_host: str = Field("127.0.0.1", alias="METRICS_HOST", min_length=1, description="Address they are on; `0.0.0.0` in a container")
    otlp_endpoint: Url | None = Field(
        None, alias="OTEL_EXPORTER_OTLP_ENDPOINT", description="Where services send traces (OTLP over HTTP, `/v1/traces` is added)"
    )

    def own_dir(self, role: str) -> Path:
        """Where this instance of a role (`ingress-writer`) keeps its files: several of them may share STATE_DIR."""
        return self.state_dir / f"{role}-{self.instance_id}"


R = TypeVar("R", bound=Room)


def load(room: type[R], env: Mapping[str, str]) -> R:
    """One room from the environment. Raises SettingsError with a line per problem, never with a secret's value."""
    data: dict[str, Any] = {}
    problems: list[str] = []
    for name, info in room.model_fields.items():
        try:
            if (value := _read(info, env)) is not None:
                data[info.alias or name] = value
        except (OSError, UnicodeDecodeError, EOFError) as exc:
            problems.append(_unreadable(f"{info.alias}_FILE", exc))
    if room is KafkaSettings:
        data |= {"librdkafka": _librdkafka(env, problems), "librdkafka_files": _librdkafka_files(env)}
    try:
        made = room(**data)
    except ValidationError as exc:
        problems += [_problem(room, error, problems) for error in exc.errors()]
        raise SettingsError([problem for problem in problems if problem]) from None
    if problems:
        raise SettingsError(problems)
    return made


def load_all(*rooms: type[Room], env: Mapping[str, str] | None = None) -> list[Any]:
    """Several rooms, with the problems of all of them in one SettingsError."""
    loaded: list[Room] = []
    problems: list[str] = []
    for room in rooms:
        try:
            loaded.append(load(room, os.environ if env is None else env))
        except SettingsError as exc:
            problems += exc.problems
    if problems:
        raise SettingsError(problems)
    return loaded


def _read(info: FieldInfo, env: Mapping[str, str]) -> str | Secret | None:
    if info.alias is None:
        return None
    value = env.get(info.alias) or None
    if info.annotation is not Secret:
        return value
    if path := env.get(f"{info.alias}_FILE"):
        return _not_empty(Secret(path=Path(path)), f"{info.alias}_FILE")
    return Secret(value) if value else None


def _not_empty(secret: Secret, variable: str) -> Secret:
    if not secret.value():
        raise EOFError(variable)
    return secret


def _librdkafka(env: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    named = {info.alias for info in KafkaSettings.model_fields.values()}
    properties: dict[str, str] = {}
    for name, value in env.items():
        if not name.startswith("KAFKA_") or name in named or not value:
            continue
        try:
            text = Path(value).read_text(encoding="utf-8").strip() if name.endswith("_FILE") else value
        except (OSError, UnicodeDecodeError) as exc:
            problems.append(_unreadable(name, exc))
            continue
        properties[_property(name)] = text
    return properties


def _librdkafka_files(env: Mapping[str, str]) -> dict[str, Path]:
    return {_property(name): Path(path) for name, path in env.items() if name.startswith("KAFKA_") and name.endswith("_FILE") and path}


def _property(variable: str) -> str:
    return variable.removesuffix("_FILE").removeprefix("KAFKA_").lower().replace("_", ".")


def _unreadable(variable: str, exc: Exception) -> str:
    what = "the file is empty" if isinstance(exc, EOFError) else f"cannot be read ({type(exc).__name__})"
    return f"{variable}: {what}; give the path of a readable text file with the secret in it"


def _problem(room: type[Room], error: Any, known: list[str]) -> str:
    variable = str(error["loc"][0]) if error["loc"] else "settings"
    if any(problem.startswith(variable) for problem in known):
        return ""
    if error["type"] == "missing":
        return f"{variable}: missing; {_meaning(room, variable)}"
    return f"{variable}: {error['msg']} (got {_shape(error['input'])}); {_meaning(room, variable)}"


def _meaning(room: type[Room], variable: str) -> str:
    for info in room.model_fields.values():
        if info.alias == variable:
            file = f", or {variable}_FILE with its path" if info.annotation is Secret else ""
            return f"meaning: {info.description}{file}"
    return "see docs/settings.md"


def _shape(value: Any) -> str:
    """What was given, without showing it: a secret may stand in the wrong variable."""
    return f"text of {len(value)} characters" if isinstance(value, str) else type(value).__name__
