"""A connection with Campaign's SFTP server: how we log in, what its failures mean, and a copy that goes on where it was cut."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

import asyncssh

from bridge.campaign.settings import ExportSettings
from bridge.model.errors import HaltError, RetryError
from bridge.observe.metrics import Meter

T = TypeVar("T")
CONNECT_TIMEOUT_S, GOODBYE_S = 20, 5
PIECE, WINDOW = 32 * 1024, 2 * 1024 * 1024  # bytes of one answer, and so many are asked for at once


class SftpSession:
    """A connection, which is given up when nothing has come over it for `timeout_s`."""

    def __init__(self, sftp: asyncssh.SFTPClient, timeout_s: float) -> None:
        self.sftp, self._timeout_s = sftp, timeout_s
        self.progressed()

    def progressed(self) -> None:
        self._until = asyncio.get_running_loop().time() + self._timeout_s

    async def result(self, task: asyncio.Future[T]) -> T:
        """Raises TimeoutError, and what the task raises."""
        while not task.done():
            left_s = self._until - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise TimeoutError
            await asyncio.wait({task}, timeout=left_s)
        return task.result()


class SftpServer:
    """A connection for each call. All raise RetryError (away, cut) or HaltError (refused)."""

    def __init__(self, settings: ExportSettings, meter: Meter) -> None:
        self._settings, self._meter = settings, meter

    async def during(self, call: Callable[[SftpSession], Awaitable[T]]) -> T:
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

    async def _connection(self, call: Callable[[SftpSession], Awaitable[T]]) -> T:
        settings = self._settings
        place = f"SFTP {settings.host}:{settings.port}"
        try:
            return await self._over(call)
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

    async def _over(self, call: Callable[[SftpSession], Awaitable[T]]) -> T:
        """A line that is dead answers no good-bye: whatever goes wrong, the connection is dropped first, so that nothing waits for it."""
        async with asyncio.timeout(self._settings.timeout_s):
            connection = await self._connected()
        task = None
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                sftp = await connection.start_sftp_client(path_errors="surrogateescape")
            session = SftpSession(sftp, self._settings.timeout_s)
            task = asyncio.ensure_future(call(session))
            found = await session.result(task)
            connection.close()
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await connection.wait_closed()
            return found
        finally:
            connection.abort()
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _connected(self) -> asyncssh.SSHClientConnection:
        settings = self._settings
        keys, known_hosts = self._keys()
        return await asyncssh.connect(
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
        )

    def _keys(self) -> tuple[list[asyncssh.SSHKeyPair], asyncssh.SSHKnownHosts]:
        """Read again for each connection: they may have been changed. What is wrong is not quoted, it may be the key."""
        name = "KEY"
        try:
            keys = list(asyncssh.load_keypairs(str(self._settings.key_file)))
            name = "KNOWN_HOSTS"
            return keys, asyncssh.read_known_hosts(str(self._settings.known_hosts_file))
        except (OSError, ValueError) as exc:
            hint = "Give the paths of a private key without passphrase (PEM or OpenSSH) and of a known_hosts file, then start again."
            text = f"CAMPAIGN_SFTP_{name}_FILE cannot be used ({type(exc).__name__})"
            raise HaltError(text, code="sftp_key_unusable", hint=hint, origin="configuration") from None


async def copied(session: SftpSession, remote: asyncssh.SFTPClientFile, to: Path, size: int) -> bool:
    """Whether all bytes are there. What has come is kept, however it ends: the next one goes on from it."""
    with _local(to) as local:
        done = local.tell()
        while done < size:
            asked = range(done, min(size, done + WINDOW), PIECE)
            pieces = [asyncio.ensure_future(remote.read(min(PIECE, size - at), at)) for at in asked]
            try:
                for at, coming in zip(asked, pieces, strict=True):
                    piece = await coming
                    session.progressed()
                    assert isinstance(piece, bytes)  # it was opened so
                    await asyncio.to_thread(_write, local, piece)
                    done += len(piece)
                    if done < min(size, at + PIECE):
                        return False  # it is shorter than it was
            finally:
                for each in pieces:
                    each.cancel()
                await asyncio.gather(*pieces, return_exceptions=True)
        return done == size


def _local(path: Path) -> BinaryIO:
    try:
        return path.open("ab", buffering=0)
    except OSError as exc:
        raise _unwritten(exc) from exc


def _write(local: BinaryIO, piece: bytes) -> None:
    """Raises RetryError: it is not the server that cannot go on."""
    view = memoryview(piece)
    try:
        while view:
            view = view[local.write(view) :]
    except OSError as exc:
        raise _unwritten(exc) from exc


def _unwritten(exc: OSError) -> RetryError:
    what = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
    return RetryError(f"the copy of an export cannot be written into STATE_DIR ({what}): it takes as much room as the file", code="no_room")
