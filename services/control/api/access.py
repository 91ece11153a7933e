"""Who may do what: tokens and roles from a file, the session cookie of the pages, rates, and where a request may come from."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from bridge.model.clock import Clock
from bridge.model.settings import SettingsError
from services.control.api.problems import Refused
from services.control.models.system_json import Role

RANKS: Mapping[str, int] = {"viewer": 0, "operator": 1, "admin": 2}
COOKIE = "bridge_session"
SESSION_S = 12 * 3600
PER_SECOND = 20
MOST_NAMES = 10_000
NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
RESERVED = {"local", "unknown", "control"}
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
SAFE = {"GET", "HEAD", "OPTIONS"}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `by_cookie`: a browser that may have been led here by another site."""

    name: str
    role: Role
    by_cookie: bool = False

    def may(self, role: Role) -> bool:
        return RANKS[self.role] >= RANKS[role]


OPEN = Principal("local", "admin")  # without a tokens file control is on loopback only: whoever reaches it may do everything


def hashed(token: str) -> str:
    """Tokens are 256 random bits, so a plain digest is enough: there is nothing to guess."""
    return hashlib.sha256(token.encode()).hexdigest()


class Tokens:
    """The file: JSON `{"tokens": [{"name", "role", "sha256", "created"}]}`. Read again when it changes; a file that has become unreadable
    lets nobody in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._by_hash: dict[str, Principal] = {}
        self._refresh()

    def find(self, token: str) -> Principal | None:
        self._refresh()
        return self._by_hash.get(hashed(token))

    def add(self, name: str, role: Role, created: str) -> str:
        """A new token, which is shown only here. Raises SettingsError if the name is taken."""
        if not NAME.fullmatch(name) or name in RESERVED:
            raise SettingsError(
                [f"the name {name!r} cannot be used; take letters, digits and . _ @ -, and not {', '.join(sorted(RESERVED))}"]
            )
        with self._locked():
            entries = self._read() if self.path.exists() else []
            if any(entry["name"] == name for entry in entries):
                raise SettingsError([f"{self.path}: there is a token named {name} already; revoke it first or choose another name"])
            token = f"cb_{secrets.token_urlsafe(32)}"
            self._write([*entries, {"name": name, "role": role, "sha256": hashed(token), "created": created}])
        return token

    def revoke(self, name: str) -> bool:
        with self._locked():
            entries = self._read()
            kept = [entry for entry in entries if entry["name"] != name]
            self._write(kept)
        return len(kept) < len(entries)

    def entries(self) -> list[dict[str, str]]:
        """Name, role and time of each, without the digests."""
        return [{name: entry[name] for name in ("name", "role", "created")} for entry in self._read()]

    def _refresh(self) -> None:
        try:
            stat = self.path.stat()
            seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if seen != self._seen:
                self._by_hash = {entry["sha256"]: Principal(entry["name"], _role(entry["role"])) for entry in self._read()}
                self._seen = seen
        except (OSError, SettingsError):
            self._by_hash, self._seen = {}, None

    def _read(self) -> list[dict[str, str]]:
        """Raises SettingsError for a file that is not as it should be."""
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))["tokens"]
            for entry in entries:
                _role(entry["role"])
                str(entry["name"]), str(entry["sha256"]), str(entry["created"])
        except (OSError, ValueError, KeyError, TypeError) as exc:
            hint = "make it with `python -m services.control token new`"
            raise SettingsError([f"CONTROL_TOKENS_FILE: not a readable file of tokens ({type(exc).__name__}); {hint}"]) from exc
        found: list[dict[str, str]] = entries
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Of two who change the file at once, one waits for the other."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f".{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, entries: list[dict[str, str]]) -> None:
        """All or nothing, readable by the owner only."""
        number, name = tempfile.mkstemp(dir=self.path.parent)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            json.dump({"tokens": entries}, file, indent=2)
        Path(name).replace(self.path)


class Rates:
    """At most 20 requests a second for each name, with as many at once."""

    def __init__(self, clock: Clock, per_second: float = PER_SECOND) -> None:
        self._clock, self._per_second = clock, per_second
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> float:
        """0 if the request may go on, else the seconds until the next one may."""
        now = self._clock.monotonic()
        left, at = self._left.pop(name, (self._per_second, now))
        left = min(self._per_second, left + (now - at) * self._per_second)
        taken = left >= 1
        self._left[name] = (left - 1 if taken else left, now)  # the last one, so that the first is who was longest away
        if len(self._left) > MOST_NAMES:
            self._left.pop(next(iter(self._left)))
        return 0.0 if taken else (1 - left) / self._per_second


class Access:
    """Decides about every request. `tokens` None: open, on loopback only. `public_url`: how browsers reach control, if a proxy is
    before it."""

    def __init__(self, tokens: Tokens | None, clock: Clock, public_url: str | None = None) -> None:
        self.tokens = tokens
        self._origin = public_url
        self._rates = Rates(clock)

    def check_origin(self, request: HTTPConnection, method: str) -> None:
        """Raises Refused for a request that another web site made the browser send (forged requests, DNS rebinding)."""
        host = request.headers.get("host", "")
        if self.tokens is None and _parts(f"//{host}")[1] not in LOOPBACK:
            raise Refused(403, "foreign_host", "Without tokens control answers on this machine's loopback address only.")
        origin = request.headers.get("origin")
        foreign = origin is not None and _parts(origin)[0] != host and origin != self._origin
        if foreign or (method not in SAFE and request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")):
            raise Refused(403, "foreign_origin", "The request comes from a page of another site.")

    def limit(self, name: str) -> None:
        """Raises Refused 429. Not without tokens: whoever is on this machine has other means."""
        if self.tokens is not None and (wait := self._rates.take(name)) > 0:
            raise Refused(429, "too_many_requests", f"At most {PER_SECOND} requests a second.", headers={"Retry-After": str(int(wait) + 1)})

    def who(self, request: HTTPConnection) -> Principal | None:
        """None: no token, or one that is not known."""
        if self.tokens is None:
            return OPEN
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.tokens.find(token.strip())
        if (cookie := request.cookies.get(COOKIE)) is not None and (found := self.tokens.find(cookie)) is not None:
            return Principal(found.name, found.role, by_cookie=True)
        return None

    def check_header(self, who: Principal, request: HTTPConnection, method: str) -> None:
        """Raises Refused: a form of another site cannot set this header."""
        if who.by_cookie and method not in SAFE and request.headers.get("x-requested-with") != "bridge":
            raise Refused(403, "header_missing", "Send the header X-Requested-With: bridge with every change.")


def _parts(url: str) -> tuple[str, str | None]:
    """Host with port, and host; nothing of what is no URL."""
    try:
        parts = urlsplit(url)
        return parts.netloc, parts.hostname
    except ValueError:
        return "", None


def _role(text: str) -> Role:
    for role in ("viewer", "operator", "admin"):
        if text == role:
            return role
    raise SettingsError([f"CONTROL_TOKENS_FILE: {text!r} is not a role; choose viewer, operator or admin"])
