"""The folder on Campaign's SFTP server where its workflow puts the opt-out exports (campaign.md §10.1, §10.3).

A file is claimed before it is read: moved into `processing` beside it, where the account may. It is put away only as what was read.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import asyncssh

from bridge.campaign.export_folder import PROCESSING, Copy, ExportFile, Outcome, PutAway, numbered
from bridge.campaign.settings import ExportSettings
from bridge.campaign.sftp_session import SftpServer, SftpSession, copied
from bridge.observe.metrics import UNMETERED, Meter

UNFINISHED = (".tmp", ".part", ".filepart")
KEPT_S = 15 * 86_400
NOT_ALLOWED = (asyncssh.SFTPPermissionDenied, asyncssh.SFTPFailure, asyncssh.SFTPOpUnsupported)


class SftpFolder:
    """An ExportFolder, with a connection for each call. All raise RetryError (away, cut) or HaltError (refused)."""

    def __init__(self, settings: ExportSettings, meter: Meter = UNMETERED) -> None:
        self._settings, self._with = settings, SftpServer(settings, meter).during
        self._patterns = [each.strip() for each in settings.pattern.split(",") if each.strip()]

    async def files(self) -> list[ExportFile]:
        """The exports that are there, oldest first; what is still being written under another name is not among them."""
        return await self._with(lambda session: self._listed(session, ""))

    async def waiting(self) -> list[ExportFile]:
        async def both(session: SftpSession) -> list[ExportFile]:
            found = await self._listed(session, "")
            with suppress(asyncssh.SFTPNoSuchFile, *NOT_ALLOWED):
                found += await self._listed(session, f"{PROCESSING}/")
            return sorted(found, key=lambda each: (each.mtime, each.name, each.at))

        return await self._with(both)

    async def claim(self, file: ExportFile) -> ExportFile | None:
        async def claimed(session: SftpSession) -> ExportFile | None:
            at = file.at
            if not file.claimed:
                try:
                    at = await self._moved(session, file, PROCESSING) or at
                except asyncssh.SFTPNoSuchFile:
                    return await self._found(session, file, PROCESSING)
            return await self._seen(session, at)

        return await self._with(claimed)

    async def finished(self, file: ExportFile) -> PutAway | None:
        async def found(session: SftpSession) -> PutAway | None:
            places: tuple[PutAway, ...] = ("processed", "failed")
            for where in places:
                if await self._found(session, file, where):
                    return where
            return None

        return await self._with(found)

    async def fetch(self, file: ExportFile, to: Path) -> Copy:
        async def fetched(session: SftpSession) -> Copy:
            try:
                async with session.sftp.open(self._path(file.at), "rb") as remote:
                    if not file.same(_file(file.at, await remote.stat())):
                        return "changed"
                    whole = await copied(session, remote, to, file.size)
                    return "whole" if whole and file.same(_file(file.at, await remote.stat())) else "changed"
            except asyncssh.SFTPNoSuchFile:
                return "changed"
            except asyncssh.SFTPPermissionDenied:
                return "refused"

        return await self._with(fetched)

    async def put_away(self, file: ExportFile, where: PutAway) -> Outcome:
        """What was processed fifteen days ago is deleted."""

        async def done(session: SftpSession) -> Outcome:
            now = await self._seen(session, file.at)
            if now is None or not now.same(file):
                return "gone" if now is None else "changed"
            try:
                at = await self._moved(session, file, where)
            except asyncssh.SFTPNoSuchFile:
                return "gone"
            if at is None:
                return "kept"
            now = await self._seen(session, at)
            if now is not None and not now.same(file):  # written to in this very moment: what is new in it has to be read
                await self._moved(session, replace(now, at=at), PROCESSING)
                return "changed"
            await self._clean(session, where)
            return "moved"

        return await self._with(done)

    async def _listed(self, session: SftpSession, place: str) -> list[ExportFile]:
        found = []
        async for entry in session.sftp.scandir(self._path(place.rstrip("/"))):
            session.progressed()
            file = _file(f"{place}{entry.filename!s}", entry.attrs)
            if _plain(entry) and self._wanted(file.name):
                found.append(file)
        return sorted(found, key=lambda each: (each.mtime, each.name))

    async def _moved(self, session: SftpSession, file: ExportFile, where: str) -> str | None:
        """Where the file is now; None if it may not be moved. A file of this name that is there stays. Raises SFTPNoSuchFile."""
        sftp, number = session.sftp, 1
        try:
            if not await sftp.isdir(self._path(where)):
                await sftp.mkdir(self._path(where))
            while True:
                at = f"{where}/{numbered(file.name, number)}"
                if not await sftp.exists(self._path(at)):
                    try:
                        await sftp.rename(self._path(file.at), self._path(at))
                        return at
                    except asyncssh.SFTPFailure:
                        if not await sftp.exists(self._path(at)):
                            return None
                number += 1
                session.progressed()
        except NOT_ALLOWED:
            return None

    async def _seen(self, session: SftpSession, at: str) -> ExportFile | None:
        try:
            return _file(at, await session.sftp.stat(self._path(at)))
        except asyncssh.SFTPNoSuchFile:
            return None

    async def _found(self, session: SftpSession, file: ExportFile, where: str) -> ExportFile | None:
        """The same file in this folder, if it is there, under its name or a numbered one."""
        number = 1
        while (found := await self._seen(session, f"{where}/{numbered(file.name, number)}")) is not None:
            if found.same(file):
                return found
            number += 1
            session.progressed()
        return None

    async def _clean(self, session: SftpSession, where: str) -> None:
        with suppress(*NOT_ALLOWED, asyncssh.SFTPNoSuchFile):
            entries = [each async for each in session.sftp.scandir(self._path(where)) if _plain(each)]
            newest = max((int(each.attrs.mtime or 0) for each in entries), default=0)
            for each in entries:
                session.progressed()
                if newest - int(each.attrs.mtime or 0) > KEPT_S:  # by the server's own clock
                    await session.sftp.remove(self._path(f"{where}/{each.filename!s}"))

    def _path(self, at: str) -> str:
        return f"{self._settings.folder}/{at}" if at else self._settings.folder

    def _wanted(self, name: str) -> bool:
        return not name.lower().endswith(UNFINISHED) and any(fnmatch(name, pattern) for pattern in self._patterns)


def _file(at: str, attrs: asyncssh.SFTPAttrs) -> ExportFile:
    return ExportFile(at, attrs.size or 0, int(attrs.mtime or 0))


def _plain(entry: asyncssh.SFTPName) -> bool:
    return entry.attrs.type in (asyncssh.FILEXFER_TYPE_REGULAR, asyncssh.FILEXFER_TYPE_UNKNOWN) and "/" not in str(entry.filename)
