"""Campaign's exports as files: what its export workflow writes of profiles, with the defects such files have (consent.md, *Exports*)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

from tests.faults.consent.campaign import FLAGS, UNTIMED, Profile, copy_of
from tests.faults.consent.kafka import START

ZONE = "Europe/Paris"
YES_NO = (("true", "false"), ("1", "0"), ("Yes", "No"), ("OUI", "NON"), ("ja", "nein"))


@dataclass(frozen=True, slots=True)
class Style:
    """How a file is written. `times`: with offset, as local times without one, or no time columns of flags at all."""

    times: str = "Z"  # Z | xml | local | none
    record_time: bool = True
    delimiter: str = ","
    words: tuple[str, str] = YES_NO[0]
    shuffled: int | None = None
    bad_cell: str = ""  # "time" | "flag": spoiled in the first row
    bad_row: str = ""  # "short" | "wide" | "key" | "quote": the first row
    twice: bool = False  # a flag has two columns, the second of which says no of nobody

    @staticmethod
    def drawn(rng: random.Random) -> Style:
        """Almost half of the files are as they should be."""
        chance = rng.random()
        if chance < 0.55:
            return Style(twice=chance > 0.45)
        return Style(
            rng.choice(("Z", "xml", "local", "local", "none")),
            rng.random() < 0.7,
            rng.choice(",;\t"),
            rng.choice(YES_NO),
            rng.randrange(1 << 16) if rng.random() < 0.4 else None,
            rng.choice(("", "", "time", "flag")),
            rng.choice(("", "", "", "short", "wide", "key", "quote")),
        )


@dataclass(frozen=True, slots=True)
class File:
    """`profiles`: as they were when it was written, at `made` by Campaign's clock, the spoiled one first."""

    name: str
    made: int
    style: Style
    profiles: Mapping[str, Profile]

    def content(self) -> bytes:
        columns = self._columns()
        lines = [self.style.delimiter.join([*columns, "denyListEmail"] if self.style.twice else columns)]
        for number, profile in enumerate(self.profiles.values()):
            cells = self._cells(profile)
            lines.append(self._line([cells[each] for each in columns], cells, columns, spoiled=number == 0))
        return ("\n".join(lines) + "\n").encode()

    def heard(self, flags: Sequence[str]) -> list[tuple[str, str]]:
        """Keys and flags whose words stand in rows and cells that can be read. With an open quote nobody knows where a row begins."""
        if self.style.twice or self.style.bad_row == "quote":
            return []
        found = []
        for number, (key, profile) in enumerate(self.profiles.items()):
            spoiled = number == 0
            if spoiled and self.style.bad_row:
                continue
            for flag in flags:
                if spoiled and flag == FLAGS[0] and self.style.bad_cell == "flag":
                    continue
                timed = self.style.times != "none" and flag != UNTIMED and not (spoiled and flag == FLAGS[0] and self.style.bad_cell)
                if profile.flags[flag].value or timed:
                    found.append((key, flag))
        return found

    def _columns(self) -> list[str]:
        times = [f"{flag}LastModified" for flag in FLAGS if flag != UNTIMED] if self.style.times != "none" else []
        more = ["blackListAllLastModified", "lastModified"] if self.style.record_time else []
        columns = ["externalId", *FLAGS, *times, *more]
        if self.style.shuffled is not None:
            random.Random(self.style.shuffled).shuffle(columns)
        return columns

    def _cells(self, profile: Profile) -> dict[str, str]:
        yes, no = self.style.words
        cells = {"externalId": profile.key, "lastModified": self._time(profile.modified)}
        for flag, fact in profile.flags.items():
            cells[flag] = yes if fact.value else no
            cells[f"{flag}LastModified"] = self._time(fact.stamp)
        stamps = [fact.stamp for fact in profile.flags.values() if fact.stamp is not None]
        cells["blackListAllLastModified"] = self._time(max(stamps, default=None))
        return cells

    def _time(self, stamp: int | None) -> str:
        if stamp is None:
            return ""
        moment = START + timedelta(milliseconds=stamp)
        if self.style.times == "local":
            return moment.astimezone(ZoneInfo(ZONE)).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        form = "%Y-%m-%dT%H:%M:%S.%f" if self.style.times == "xml" else "%Y-%m-%d %H:%M:%S.%f"
        return moment.strftime(form)[:-3] + "Z"

    def _line(self, row: list[str], cells: Mapping[str, str], columns: list[str], *, spoiled: bool) -> str:
        if spoiled and self.style.bad_cell and (name := FLAGS[0] + ("LastModified" if self.style.bad_cell == "time" else "")) in columns:
            row[columns.index(name)] = "n/a?"
        if spoiled:
            match self.style.bad_row:
                case "short":
                    row = row[:-2]
                case "wide":
                    row = [*row, "x"]
                case "key":
                    row[columns.index("externalId")] = "no-guid"
                case "quote":
                    row[columns.index("externalId")] = '"' + cells["externalId"]
        return self.style.delimiter.join([*row, self.style.words[1]] if self.style.twice else row)


def made(number: int, now: int, style: Style, profiles: Mapping[str, Profile], order: Sequence[str]) -> File:
    """A file of these profiles as they are now; `order`: the keys, the first is the one that is spoiled."""
    copied = copy_of({key: profiles[key] for key in order})
    stamp = (START + timedelta(milliseconds=now)).strftime("%Y%m%d_%H%M%S")
    return File(f"d365_optout_{stamp}_{number}.csv", now, style, copied)
