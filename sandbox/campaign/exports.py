"""The daily workflow that writes changed opt-outs as CSV into `d365_loads/exports` (contract 10.1, 10.3, S37)."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sandbox.campaign.model import OPT_OUTS
from sandbox.campaign.sftp import SftpSide
from sandbox.campaign.store import Database

DAY_S = 86400
NO_FLAGS = dict.fromkeys(OPT_OUTS, False)
WATCHED = ("lastModified", "blackListAllLastModified", "ccpaOptOutLastModified")
FLAGS = [column for name in OPT_OUTS for column in (name, f"{name}LastModified") if column != "blackListPushnotificationLastModified"]
COLUMNS = ("externalId", *FLAGS, "blackListAllLastModified", "lastModified")
DATES = {"acs": ("-", " ", 24), "xml": ("-", "T", 24), "slashes": ("/", " ", 19)}  # between, and where the stamp ends
ORDERS = ("yyyymmdd", "mmddyyyy", "ddmmyyyy", "mmyyyydd", "ddyyyymm", "yyyyddmm")  # of the activity, with a separator behind (7.4)
SEPARATORS = ("", "/", "-", ".")
LABELS = {  # the times have none that is published
    "externalId": "External Resource ID",
    "blackList": "No longer contact (by any channel)",
    "blackListEmail": "No longer contact by email",
    "blackListFax": "No longer contact by fax",
    "blackListMobile": "No longer contact by SMS",
    "blackListPhone": "No longer contact by phone",
    "blackListPostalMail": "No longer contact by direct mail",
    "blackListPushnotification": "No longer contact by push notification",
    "ccpaOptOut": "CCPA Opt-Out",
    "lastModified": "Last modified",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """What a file looks like, and what is in it."""

    delimiter: str = ","
    bom: bool = False
    crlf: bool = False
    gzip: bool = False
    labels: bool = False  # in the header, where a column has one
    booleans: str = "true/false"  # or 1/0, Yes/No
    dates: str = "acs"  # `2024-01-02 03:04:05.678Z`; xml: with a T; slashes: `2024/01/02 03:04:05`; `ddmmyyyy.`: `02.01.2024 03:04:05`
    without: Sequence[str] = ()  # columns that are missing
    before: Sequence[Mapping[str, Any]] = ()  # rows by column that come first: an older change of a profile, say
    bad_row: str = ""  # a line that comes before all rows, as it is
    empty: bool = False  # a file with the header only is written, too
    partial: bool = False  # half of the file is there until it is completed
    since: str | None = None  # instead of the last run; "": everything

    def __post_init__(self) -> None:
        dated = self.dates in DATES or _ordered(self.dates)
        if not dated or self.booleans.count("/") != 1 or len(self.delimiter) != 1 or not {*self.without} <= {*COLUMNS}:
            known = ", ".join((*DATES, *ORDERS))
            raise ValueError(f"dates: {known}; booleans: true/false, in other words; one delimiter; without: known columns")

    def cell(self, column: str, value: Any) -> str:
        if isinstance(value, bool):
            return self.booleans.split("/")[not value]
        if not value or not column.lower().endswith("lastmodified"):
            return str(value)
        if self.dates not in DATES:
            return f"{_dated(value[:10], self.dates)} {value[11:19]}"
        dash, space, end = DATES[self.dates]
        return f"{value[:10].replace('-', dash)}{space}{value[11:end]}"

    def file(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """The whole file, of `before` and these rows."""
        columns = [name for name in COLUMNS if name not in self.without]
        text, newline = io.StringIO(), "\r\n" if self.crlf else "\n"
        writer = csv.writer(text, delimiter=self.delimiter, lineterminator=newline)
        writer.writerow([LABELS.get(name, name) if self.labels else name for name in columns])
        text.write(f"{self.bad_row}{newline}" if self.bad_row else "")
        for row in (*self.before, *rows):
            writer.writerow([self.cell(name, row.get(name, "")) for name in columns])
        content = text.getvalue().encode("utf-8-sig" if self.bom else "utf-8")
        return gzip.compress(content) if self.gzip else content


def _ordered(dates: str) -> bool:
    return dates[:8] in ORDERS and dates[8:] in SEPARATORS


def _dated(day: str, dates: str) -> str:
    """`2024-01-02` as `ddmmyyyy/` has it: `02/01/2024`."""
    year, month, date = day.split("-")
    order, parts = dates[:8], {"y": year, "m": month, "d": date}
    return dates[8:].join(parts[each] for each in dict.fromkeys(order))


class Exports:
    """The workflow: runs when asked to, and once a day of the sandbox's clock while it is started."""

    def __init__(self, database: Database, sftp: SftpSide) -> None:
        self.database, self.clock, self.sftp = database, database.clock, sftp
        self._named = 0  # the second of the last name: no two are the same
        self.clear()

    def clear(self) -> None:
        """It never ran, and is not started."""
        self.form, self.last_run, self.error = Form(), "", ""
        self._due: float | None = None
        self._rest: dict[str, bytes] = {}

    def state(self) -> dict[str, Any]:
        """`last_run`: a time as the engine has it, "" for never; `error`: what stopped it; `partial`: names."""
        return {"running": self._due is not None, "last_run": self.last_run, "error": self.error, "partial": list(self._rest)}

    def start(self, **form: Any) -> None:
        """The next run is a day from now; files have this form from now on."""
        self.form, self.error, self._due = Form(**form), "", self.clock.now() + DAY_S

    def stop(self) -> None:
        self._due = None

    async def daily(self) -> None:
        """Looks at the clock every second, for ever."""
        while True:
            await asyncio.sleep(1)
            self.tick()

    def tick(self) -> None:
        """Runs if a day has passed; a failure stops the workflow, as the real one."""
        if self._due is None or self.clock.now() < self._due:
            return
        try:
            self.run()
            self._due = self.clock.now() + DAY_S
        except ValueError as error:
            self.error, self._due = str(error), None

    def run(self, **form: Any) -> dict[str, Any]:
        """One run, with these changes of the form: `{"name", "rows"}`, the name None when no file was written.

        Raises ValueError where there is no folder; what has changed then waits for the next run."""
        chosen = replace(self.form, **form)
        now, since = self.clock.stamp(), self.last_run if chosen.since is None else chosen.since
        profiles = [row.values for row in self.database.tables["profile"].rows.values()]
        rows = [{**NO_FLAGS, **each} for each in profiles if max(each.get(name, "") for name in WATCHED) > since]
        name = None
        if rows or chosen.before or chosen.bad_row or chosen.empty:
            self._named = max(int(self.clock.now()), self._named + 1)
            name = time.strftime("d365_optout_%Y%m%d_%H%M%S.csv", time.gmtime(self._named)) + (".gz" if chosen.gzip else "")
            self.write(name, chosen.file(rows), chosen.partial)
        self.last_run = now
        time.sleep(0.001)  # what changed later in this millisecond would be in no file
        return {"name": name, "rows": len(rows)}

    def write(self, name: str, content: bytes, partial: bool = False) -> None:
        """A file as it is; its time is the sandbox's. `partial`: the second half waits for `complete`. Raises ValueError."""
        path, size = self.sftp.exports / name, len(content) // 2 if partial else len(content)
        if path.parent != self.sftp.exports:
            raise ValueError("a name without a folder, please")
        try:
            path.write_bytes(content[:size])
            os.utime(path, (self.clock.now(),) * 2)
        except OSError as error:
            raise ValueError(f"the file could not be written: {error.strerror}") from error
        self._rest.pop(name, None)
        if partial:
            self._rest[name] = content

    def complete(self, name: str | None = None) -> list[str]:
        """Partial files, or this one, are whole from now on. Gives their names. Raises KeyError."""
        names = list(self._rest) if name is None else [name]
        for each in names:
            self.write(each, self._rest[each])
        return names
