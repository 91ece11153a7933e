"""The folder on Campaign's SFTP server where its workflow puts the opt-out exports (campaign.md §10.1, §10.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

import asyncssh

from bridge.errors import HaltError, RetryError
from bridge.metrics import UNMETERED, Meter
from bridge.rooms import ExportSettings

T = TypeVar("T")
CONNECT_TIMEOUT_S = 20
UNFINISHED = (".tmp", ".part", ".filepart")
PROCESSED, FAILED = "processed", "failed"
KEPT_S = 15 * 86_400


@dataclass(frozen=True, slots=True)
class ExportFile:
    """`size` in bytes, `mtime` in whole seconds since 1970, as the server says."""

    name: str
    size: int
    mtime: int


class ExportFolder:
    """A connection for each call. All raise RetryError (away, cut) or HaltError (refused)."""

    def __init__(self, settings: ExportSettings, meter: Meter = UNMETERED) -> None:
        self._settings, self._meter = settings, meter
        self._patterns = [each.strip() for each in settings.pattern.split(",") if each.strip()]

    async def files(self) -> list[ExportFile]:
        """The exports that are there, oldest first; what is still being written under another name is not among them."""

        async def listed(sftp: asyncssh.SFTPClient) -> list[ExportFile]:
            entries = await sftp.readdir(self._settings.folder)
            found = [ExportFile(str(each.filename), each.attrs.size or 0, int(each.attrs.mtime or 0)) for each in entries if _plain(each)]
            return sorted((each for each in found if self._wanted(each.name)), key=lambda each: (each.mtime, each.name))

        return await self._with(listed)

    async def fetch(self, name: str, to: Path) -> bool:
        """Copies a file; False if it is not there."""

        async def fetched(sftp: asyncssh.SFTPClient) -> bool:
            try:
                await sftp.get(f"{self._settings.folder}/{name}", to)
            except asyncssh.SFTPNoSuchFile:
                return False
            return True

        return await self._with(fetched)

    async def put_away(self, name: str, where: str) -> bool:
        """Moves a file into the folder `processed` or `failed` beside it; False if this account may not. A file that is not there any
        more has been moved. What was processed fifteen days ago is deleted."""

        async def moved(sftp: asyncssh.SFTPClient) -> bool:
            folder = f"{self._settings.folder}/{where}"
            try:
                await sftp.makedirs(folder, exist_ok=True)
                with suppress(asyncssh.SFTPNoSuchFile):
                    await sftp.rename(f"{self._settings.folder}/{name}", f"{folder}/{name}")
                await self._clean(sftp, folder)
            except (asyncssh.SFTPPermissionDenied, asyncssh.SFTPFailure, asyncssh.SFTPOpUnsupported):
                return False
            return True

        return await self._with(moved)

    async def _clean(self, sftp: asyncssh.SFTPClient, folder: str) -> None:
        entries = [each for each in await sftp.readdir(folder) if _plain(each)]
        newest = max((int(each.attrs.mtime or 0) for each in entries), default=0)
        for each in entries:
            if newest - int(each.attrs.mtime or 0) > KEPT_S:  # by the server's own clock
                await sftp.remove(f"{folder}/{each.filename!s}")

    def _wanted(self, name: str) -> bool:
        return not name.lower().endswith(UNFINISHED) and any(fnmatch(name, pattern) for pattern in self._patterns)

    async def _with(self, call: Callable[[asyncssh.SFTPClient], Awaitable[T]]) -> T:
        """Counted as one call, however much it copies."""
        began = self._meter.now()
        try:
            found = await self._connection(call)
        except HaltError as exc:
            if exc.origin == "source":  # else it is our own key that cannot be read, and nobody was called
                self._meter.called("refused", self._meter.now() - began)
            raise
        except RetryError:
            self._meter.called("failed", self._meter.now() - began)
            raise
        self._meter.called("ok", self._meter.now() - began)
        return found

    async def _connection(self, call: Callable[[asyncssh.SFTPClient], Awaitable[T]]) -> T:
        settings = self._settings
        place = f"SFTP {settings.host}:{settings.port}"
        try:
            async with asyncio.timeout(settings.timeout_s), self._connected() as sftp:
                return await call(sftp)
        except asyncssh.HostKeyNotVerifiable as exc:
            hint = "If Adobe has changed the server's key, put the new one into CAMPAIGN_SFTP_KNOWN_HOSTS_FILE, then start again."
            raise HaltError(f"{place}: its host key is not the one we know", code="host_key_unknown", hint=hint, origin="source") from exc
        except asyncssh.PermissionDenied as exc:
            hint = "Check CAMPAIGN_SFTP_USER and _KEY_FILE, and in Campaign's Control Panel that the public key is there and valid."
            raise HaltError(f"{place}: log-in refused", code="source_refused", hint=hint, origin="source") from exc
        except OSError as exc:
            raise RetryError(f"{place}: {type(exc).__name__}", code="source_unavailable") from exc
        except asyncssh.SFTPNoSuchFile as exc:
            text = f"{place}: folder {settings.folder} is not there"
            raise RetryError(text, code="export_folder_missing", retry_after_s=settings.poll_interval_s) from exc
        except asyncssh.Error as exc:
            raise RetryError(f"{place}: {type(exc).__name__}", code="source_unavailable") from exc

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncssh.SFTPClient]:
        settings = self._settings
        keys, known_hosts = self._keys()
        async with (
            asyncssh.connect(
                settings.host,
                settings.port,
                username=settings.user,
                client_keys=keys,
                known_hosts=known_hosts,
                config=None,
                agent_path=None,
                password=None,
                preferred_auth="publickey",
                connect_timeout=CONNECT_TIMEOUT_S,
                keepalive_interval=15,
            ) as connection,
            connection.start_sftp_client() as sftp,
        ):
            yield sftp

    def _keys(self) -> tuple[list[asyncssh.SSHKeyPair], asyncssh.SSHKnownHosts]:
        """Read anew for each connection: they may have been changed. What is wrong is not quoted, it may be the key."""
        name = "KEY"
        try:
            keys = list(asyncssh.load_keypairs(str(self._settings.key_file)))
            name = "KNOWN_HOSTS"
            return keys, asyncssh.read_known_hosts(str(self._settings.known_hosts_file))
        except (OSError, ValueError) as exc:
            hint = "Give the paths of a private key without passphrase (PEM or OpenSSH) and of a known_hosts file, then start again."
            text = f"CAMPAIGN_SFTP_{name}_FILE cannot be used ({type(exc).__name__})"
            raise HaltError(text, code="sftp_key_unusable", hint=hint, origin="configuration") from None


def _plain(entry: asyncssh.SFTPName) -> bool:
    return entry.attrs.type in (asyncssh.FILEXFER_TYPE_REGULAR, asyncssh.FILEXFER_TYPE_UNKNOWN) and str(entry.filename) not in (".", "..")
