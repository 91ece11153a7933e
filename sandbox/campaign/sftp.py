"""The SFTP server of the instance: key login only, one account with a root of its own, and faults (contract 10.1, S36)."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import NamedTuple

import asyncssh

from sandbox.campaign.settings import Settings

HOST = "127.0.0.1"
EXPORTS = "d365_loads/exports"
CLIENT_KEYS = {"client_key": ("ssh-rsa", "pkcs1-pem"), "client_key_ed25519": ("ssh-ed25519", "openssh")}


class Access(NamedTuple):
    """What a client needs. `key_file`: RSA 2048 in PEM; an ed25519 one, just as good, is beside it."""

    host: str
    port: int
    user: str
    key_file: Path
    known_hosts_file: Path

    def environment(self) -> dict[str, str]:
        """As settings of the services: `CAMPAIGN_SFTP_HOST` and so on."""
        return {f"CAMPAIGN_SFTP_{name.upper()}": str(value) for name, value in self._asdict().items()}


@dataclass
class SftpFault:
    """`refuse`: connections are closed as soon as they are made. `cut`: a connection breaks once `after` bytes of files were read over it.
    `stall`: it answers no more reads then. `slow`: each read takes `after` milliseconds, one after the other. `times`: how often it
    strikes, None for always (`slow`: always)."""

    kind: str
    after: int = 0
    times: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("refuse", "cut", "stall", "slow"):
            raise ValueError("kind must be refuse, cut, stall or slow")

    def strikes(self) -> None:
        if self.times is not None:
            self.times -= 1


def _key(path: Path, algorithm: str, form: str) -> asyncssh.SSHKey:
    """The key in this file; a new one is written where there is none."""
    if not path.exists():
        path.touch(mode=0o600)
        asyncssh.generate_private_key(algorithm).write_private_key(path, form)  # RSA: 2048 bits
    return asyncssh.read_private_key(path)


class SftpSide:
    """The server and its account's files. Until it serves, there are none."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.root: Path | None = None
        self.live: set[asyncssh.SSHServerConnection] = set()
        self.clear()

    def clear(self) -> None:
        """No faults, no counts; files stay."""
        self.faults: list[SftpFault] = []
        self.connections = 0

    def fault(self, kind: str) -> SftpFault | None:
        return next((each for each in self.faults if each.kind == kind and each.times != 0), None)

    @property
    def exports(self) -> Path:
        """Where the workflow writes; it may not exist. Raises ValueError where nothing is served."""
        if self.root is None:
            raise ValueError("the SFTP side is not started")
        return self.root / EXPORTS

    def empty(self, exports: bool = True) -> None:
        """The account as it is new: no files, and with `exports` False the folder is still to be made by the customer (S36)."""
        root = self.exports.parents[1]
        shutil.rmtree(root)
        (self.exports if exports else root).mkdir(parents=True)

    @contextlib.asynccontextmanager
    async def serving(self, home: Path, port: int = 0, exports: bool = True, host: str = HOST, name: str = HOST) -> AsyncIterator[Access]:
        """Serves on `host` (a free port for 0), known as `name`, while the block runs. `home` holds the account's `files`, `host_key`, the
        two client keys and `known_hosts`: keys that are there are used, others are generated. `exports`: its folder is made."""
        self.root = home / "files"
        (self.exports if exports else self.root).mkdir(parents=True, exist_ok=True)
        host_key = _key(home / "host_key", "ssh-ed25519", "openssh")
        keys = {_key(home / name, *kind).public_data for name, kind in CLIENT_KEYS.items()}
        acceptor = await asyncssh.listen(
            host,
            port,
            server_factory=lambda: _Login(self, keys),
            server_host_keys=[host_key],
            sftp_factory=lambda channel: _Files(self, channel),
            password_auth=False,
            kbdint_auth=False,
            gss_host=None,
            agent_forwarding=False,
        )
        known_hosts, bound = home / "known_hosts", acceptor.get_port()
        known_hosts.write_text(f"[{name}]:{bound} {host_key.export_public_key().decode()}")
        try:
            yield Access(name, bound, self.settings.sftp_user, home / "client_key", known_hosts)
        finally:
            acceptor.close()
            for connection in list(self.live):
                connection.abort()
            await acceptor.wait_closed()
            self.root = None


class _Login(asyncssh.SSHServer):
    def __init__(self, side: SftpSide, keys: set[bytes]) -> None:
        self.side, self.keys = side, keys

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self.connection = conn
        self.side.live.add(conn)
        self.side.connections += 1
        address, allowed = ip_address(conn.get_extra_info("peername")[0]), self.side.settings.sftp_allow_list
        fault = self.side.fault("refuse")
        if fault is not None:
            fault.strikes()
        if fault is not None or (allowed and not any(address in ip_network(each) for each in allowed)):
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.side.live.discard(self.connection)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return username == self.side.settings.sftp_user and key.public_data in self.keys


class _Files(asyncssh.SFTPServer):
    def __init__(self, side: SftpSide, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        super().__init__(channel, chroot=str(side.root).encode())
        self.side, self.sent, self.cut = side, 0, False
        self.line, self.stalled = asyncio.Lock(), False

    async def read(self, file_obj: object, offset: int, size: int) -> bytes:
        """Up to where the connection is to be cut, and then nothing more."""
        await self._delayed()
        fault = self.side.fault("cut")
        if fault is not None and not self.cut:
            size = min(size, fault.after - self.sent)
            if size <= 0:
                fault.strikes()
                self.cut = True
                self.connection.abort()
        if self.cut:  # what was asked for before it broke is not answered, and strikes no more
            raise asyncssh.SFTPConnectionLost("cut")
        data = super().read(file_obj, offset, size)
        assert isinstance(data, bytes)
        self.sent += len(data)
        return data

    async def _delayed(self) -> None:
        if slow := self.side.fault("slow"):
            async with self.line:
                await asyncio.sleep(slow.after / 1000)
        stall = self.side.fault("stall")
        if stall is not None and not self.stalled and self.sent >= stall.after:
            stall.strikes()
            self.stalled = True
        if self.stalled:
            await asyncio.Event().wait()  # until the connection is closed

    def _moving(self) -> None:
        if not self.side.settings.sftp_may_move:
            raise asyncssh.SFTPPermissionDenied("Permission denied")

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        self._moving()
        super().rename(oldpath, newpath)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        self._moving()
        super().posix_rename(oldpath, newpath)

    def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        self._moving()
        super().mkdir(path, attrs)
