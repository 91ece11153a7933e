"""How settings are read from the environment. The classes are where what they set is: `settings.py` of each package.

Small frozen classes, units in the names, all problems told at once. docs/settings.md lists every variable; a test compares the two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
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
    if not _has_host(text):
        raise ValueError("must be a URL with a host and, if any, a port from 1 to 65535")
    return text.rstrip("/")


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.hostname is not None and parts.port != 0
    except ValueError:  # its text shows the part that is wrong, which may be a secret
        return False


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


class Settings(BaseModel):
    """Base of all settings classes: frozen, and every field carries the name of its variable as alias."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, populate_by_name=True)

    @classmethod
    def more(cls, env: Mapping[str, str], problems: list[str]) -> dict[str, Any]:
        """Fields that are not one variable each. Appends to `problems`, a line each."""
        return {}


R = TypeVar("R", bound=Settings)


def load(kind: type[R], env: Mapping[str, str]) -> R:
    """One kind from the environment. Raises SettingsError with a line per problem, never with a secret's value."""
    data: dict[str, Any] = {}
    problems: list[str] = []
    for name, info in kind.model_fields.items():
        try:
            if (value := _read(info, env)) is not None:
                data[info.alias or name] = value
        except (OSError, UnicodeDecodeError, EOFError) as exc:
            problems.append(unreadable(f"{info.alias}_FILE", exc))
    data |= kind.more(env, problems)
    try:
        made = kind(**data)
    except ValidationError as exc:
        problems += [_problem(kind, error, problems) for error in exc.errors()]
        raise SettingsError([problem for problem in problems if problem]) from None
    if problems:
        raise SettingsError(problems)
    return made


def load_all(*kinds: type[Settings], env: Mapping[str, str] | None = None) -> list[Any]:
    """Several kinds, with the problems of all of them in one SettingsError."""
    loaded: list[Settings] = []
    problems: list[str] = []
    for kind in kinds:
        try:
            loaded.append(load(kind, os.environ if env is None else env))
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
        secret = Secret(path=Path(path))
        if not secret.value():
            raise EOFError
        return secret
    return Secret(value) if value else None


def unreadable(variable: str, exc: Exception) -> str:
    what = "the file is empty" if isinstance(exc, EOFError) else f"cannot be read ({type(exc).__name__})"
    return f"{variable}: {what}; give the path of a readable text file with the secret in it"


def _problem(kind: type[Settings], error: Any, known: list[str]) -> str:
    variable = str(error["loc"][0]) if error["loc"] else "settings"
    if any(problem.startswith(variable) for problem in known):
        return ""
    if error["type"] == "missing":
        return f"{variable}: missing; {_meaning(kind, variable)}"
    return f"{variable}: {error['msg']} (got {_shape(error['input'])}); {_meaning(kind, variable)}"


def _meaning(kind: type[Settings], variable: str) -> str:
    for info in kind.model_fields.values():
        if info.alias == variable:
            file = f", or {variable}_FILE with its path" if info.annotation is Secret else ""
            return f"meaning: {info.description}{file}"
    return "see docs/settings.md"


def _shape(value: Any) -> str:
    """What was given, without showing it: a secret may stand in the wrong variable."""
    return f"text of {len(value)} characters" if isinstance(value, str) else type(value).__name__
