"""Settings from the environment: one small frozen class per room, units in the names, all problems told at once.

docs/settings.md lists every variable; tests/unit/test_conventions.py compares it with the classes here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

EXIT_UNUSABLE_SETTINGS = 78


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
    return text.rstrip("/")


def _origin(text: str) -> str:
    """As browsers send it in `Origin`: lower case, no path, no default port."""
    scheme, _, rest = _url(text).lower().partition("://")
    if "/" in rest:
        raise ValueError("must be scheme and host only, as https://bridge.example.com")
    return f"{scheme}://{rest.removesuffix({'https': ':443', 'http': ':80'}[scheme])}"


Url = Annotated[str, AfterValidator(_url)]
WebOrigin = Annotated[str, AfterValidator(_origin)]


class Room(BaseModel):
    """Base of all settings classes: frozen, and every field carries the name of its variable as alias."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, populate_by_name=True)


class KafkaSettings(Room):
    bootstrap_servers: str = Field("localhost:9092", alias="KAFKA_BOOTSTRAP_SERVERS", description="Brokers, `host:port`, by comma")
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

    def client(self, **more: Any) -> dict[str, Any]:
        """Configuration of a librdkafka client, with `more` (underscores for dots) on top."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            **self.librdkafka,
            **{name.replace("_", "."): value for name, value in more.items()},
        }


class ServiceSettings(Room):
    instance_id: str = Field(
        default_factory=socket.gethostname,
        alias="INSTANCE_ID",
        pattern=r"^[a-zA-Z0-9._-]+$",
        description="Stable name of this instance (default: host name)",
    )
    state_dir: Path = Field(Path("var"), alias="STATE_DIR", description="Local copy of the state topic; may be lost at any time")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="LOG_LEVEL", description="Least severity that is logged")
    log_format: Literal["json", "console"] | None = Field(
        None, alias="LOG_FORMAT", description="`json`, or `console` (default on a terminal)"
    )


class DynamicsSettings(Room):
    url: Url = Field(alias="DYNAMICS_URL", description="`https://<server>.api.crm.dynamics.com`")
    tenant_id: str = Field(alias="DYNAMICS_TENANT_ID", pattern=r"^[a-zA-Z0-9.-]+$", description="Entra tenant")
    client_id: str = Field(alias="DYNAMICS_CLIENT_ID", min_length=1, description="Entra application")
    client_secret: Secret = Field(alias="DYNAMICS_CLIENT_SECRET", description="Its secret")
    token_url: Url = Field(
        "", alias="DYNAMICS_TOKEN_URL", description="Token endpoint (default: Entra's, for the tenant)", validate_default=False
    )
    poll_interval_s: float = Field(
        5, alias="DYNAMICS_POLL_INTERVAL_S", gt=0, le=3600, description="Longest pause between two polls of a table, seconds"
    )
    page_size: int = Field(5000, alias="DYNAMICS_PAGE_SIZE", ge=1, le=5000, description="Rows per page")
    concurrency: int = Field(16, alias="DYNAMICS_CONCURRENCY", ge=1, le=52, description="Requests at once, of one process")
    request_timeout_s: float = Field(60, alias="DYNAMICS_REQUEST_TIMEOUT_S", gt=0, le=600, description="One request, seconds")

    @model_validator(mode="after")
    def _default_token_url(self) -> DynamicsSettings:
        if not self.token_url:
            object.__setattr__(self, "token_url", f"https://login.microsoftonline.com/{self.tenant_id}/oauth2/v2.0/token")
        return self


CAMPAIGN_SCOPES = (
    "campaign_sdk,openid,deliverability_service_general,campaign_config_server_general,AdobeID,additional_info.projectedProductContext"
)


class CampaignSettings(Room):
    url: Url = Field(alias="CAMPAIGN_URL", description="`https://mc.adobe.io/<instance>`")
    client_id: str = Field(alias="CAMPAIGN_CLIENT_ID", min_length=1, description="Client id of the Adobe credential")
    client_secret: Secret = Field(alias="CAMPAIGN_CLIENT_SECRET", description="Its secret")
    org_id: str = Field(alias="CAMPAIGN_ORG_ID", min_length=1, description="`<id>@AdobeOrg`")
    token_url: Url = Field("https://ims-na1.adobelogin.com/ims/token/v3", alias="CAMPAIGN_TOKEN_URL", description="IMS token endpoint")
    scopes: str = Field(CAMPAIGN_SCOPES, alias="CAMPAIGN_SCOPES", min_length=1, description="Scopes to ask for, by comma")
    concurrency: int = Field(16, alias="CAMPAIGN_CONCURRENCY", ge=1, le=256, description="Calls at once, of one process")
    calls_per_second: float = Field(0, alias="CAMPAIGN_CALLS_PER_SECOND", ge=0, le=10000, description="Own limit of one process; 0: none")
    request_timeout_s: float = Field(30, alias="CAMPAIGN_REQUEST_TIMEOUT_S", gt=0, le=600, description="One call, seconds")
    digest_key: Secret = Field(
        default_factory=Secret,
        alias="STATE_DIGEST_KEY",
        description="Key of the digests in the state topic (default: from org and client id); a new one rewrites every record once",
    )

    def digest_secret(self) -> str:
        """What the digests of written values are keyed with."""
        return self.digest_key.value() or f"{self.org_id}|{self.client_id}"


class WriterSettings(Room):
    park_budget_s: float = Field(
        86400,
        alias="PARK_BUDGET_S",
        gt=0,
        le=604800,
        description="How long a record may wait for its parent before it is dead-lettered, seconds",
    )
    dead_letters_in_a_row: int = Field(
        100, alias="DEAD_LETTER_MAX_CONSECUTIVE", ge=1, description="So many dead letters in a row halt the workflow"
    )
    dead_letter_ratio: float = Field(
        0.5, alias="DEAD_LETTER_MAX_RATIO", gt=0, le=1, description="So large a part of the last 500 records halts the workflow"
    )


class ControlSettings(Room):
    host: str = Field("127.0.0.1", alias="CONTROL_HOST", min_length=1, description="Address control listens on")
    port: int = Field(8080, alias="CONTROL_PORT", ge=0, le=65535, description="Its port")
    tokens_file: Path | None = Field(
        None, alias="CONTROL_TOKENS_FILE", description="Tokens (hashed) with name and role; without it control is on loopback only"
    )
    tls_cert_file: Path | None = Field(None, alias="CONTROL_TLS_CERT_FILE", description="Certificate (PEM), for https")
    tls_key_file: Path | None = Field(None, alias="CONTROL_TLS_KEY_FILE", description="Its key (PEM)")
    public_url: WebOrigin | None = Field(None, alias="CONTROL_PUBLIC_URL", description="`https://…` of the proxy before control, if any")
    org_name: str = Field("", alias="ORG_NAME", description="Shown in the header of the pages")
    instance_name: str = Field("", alias="INSTANCE_NAME", description="Shown in the header of the pages")
    instances: str = Field("", alias="CONTROL_INSTANCES", description="Other instances' pages for the header, `name=https://…` by comma")
    start_deadline_s: float = Field(
        120, alias="CONTROL_START_DEADLINE_S", gt=0, le=3600, description="STARTING for longer is FAILED, seconds"
    )

    @property
    def https(self) -> bool:
        """Whether browsers reach control by https."""
        return self.tls_cert_file is not None or (self.public_url or "").startswith("https://")


R = TypeVar("R", bound=Room)


def load(room: type[R], env: Mapping[str, str]) -> R:
    """One room from the environment. Raises SettingsError with a line per problem, never with a secret's value."""
    data: dict[str, Any] = {}
    problems: list[str] = []
    for name, info in room.model_fields.items():
        try:
            if (value := _read(info, env)) is not None:
                data[info.alias or name] = value
        except (OSError, UnicodeDecodeError) as exc:
            problems.append(_unreadable(f"{info.alias}_FILE", exc))
    if room is KafkaSettings:
        data["librdkafka"] = _librdkafka(env, problems)
    try:
        made = room(**data)
    except ValidationError as exc:
        problems += [_problem(error, problems) for error in exc.errors()]
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
        return Secret(path=Path(path))
    return Secret(value) if value else None


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
        properties[name.removesuffix("_FILE").removeprefix("KAFKA_").lower().replace("_", ".")] = text
    return properties


def _unreadable(variable: str, exc: Exception) -> str:
    return f"{variable}: cannot be read ({type(exc).__name__}); give the path of a readable text file"


def _problem(error: Any, known: list[str]) -> str:
    variable = str(error["loc"][0]) if error["loc"] else "settings"
    if any(problem.startswith(variable) for problem in known):
        return ""
    if error["type"] == "missing":
        return f"{variable}: missing; {_meaning(variable)}"
    return f"{variable}: {error['msg']} (got {_shape(error['input'])}); {_meaning(variable)}"


def _meaning(variable: str) -> str:
    for room in ROOMS:
        for info in room.model_fields.values():
            if info.alias == variable:
                file = f", or {variable}_FILE with its path" if info.annotation is Secret else ""
                return f"meaning: {info.description}{file}"
    return "see docs/settings.md"


def _shape(value: Any) -> str:
    """What was given, without showing it: a secret may stand in the wrong variable."""
    return f"text of {len(value)} characters" if isinstance(value, str) else type(value).__name__


ROOMS: tuple[type[Room], ...] = (
    KafkaSettings,
    ServiceSettings,
    DynamicsSettings,
    CampaignSettings,
    WriterSettings,
    ControlSettings,
)
