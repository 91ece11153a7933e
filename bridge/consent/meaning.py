"""What TRUE of a column means: *said no*, as an opt-out flag takes it, or *may be contacted*. Pure.

`followemail` is documented: TRUE is *Allow*. Mapped to an opt-out flag as it is, it would opt out exactly the people who agreed, and take
back the "no" of all others. Of other columns their names and labels tell; that is a guess, so it only warns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from bridge.mapping.values import FALSE, TRUE
from bridge.model.config import TableMapping
from bridge.model.errors import HaltError
from bridge.model.flags import OPT_OUT_FLAGS, canonical_flag

Certainty = Literal["documented", "looks"]
PROFILE = "profile"
DOCUMENTED = ("followemail",)
CODE = "flag_means_yes"
WORDS = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+")
NO_WORDS = {"not", "no", "never", "without", "out", "stop", "block", "deny", "kein", "keine", "nicht", "nie", "pas", "non"}
NO_PARTS = (
    *("donot", "dont", "optout", "optedout", "unsub", "disallow", "disagree", "withdr", "revok", "suppress", "decline", "reject", "refus"),
    *("blocked", "denied", "blacklist", "denylist", "abmeld", "widerruf", "desabon"),
)
YES_WORDS = {"send", "may", "ok"}
YES_PARTS = (
    *("optin", "optedin", "subscri", "consent", "allow", "permission", "permit", "agree", "accept", "newsletter", "receive", "wants"),
    *("maymail", "mayemail", "maycontact", "maycall", "canmail", "canemail", "cancontact", "cancall", "einwillig", "zustimm", "erlaub"),
)


class ShownColumn(NamedTuple):
    """How Dynamics shows a yes/no column: its display name, and that of its TRUE."""

    label: str = ""
    true: str = ""


UNSHOWN = ShownColumn()


class Doubt(NamedTuple):
    """A flag whose column's TRUE means yes; `place`: the number of its row in the mapping."""

    place: int
    source: str
    target: str
    certainty: Certainty

    @property
    def text(self) -> str:
        means = "means" if self.certainty == "documented" else "seems to mean"
        return (
            f"TRUE of {self.source} {means} that the person may be contacted, TRUE of {self.target} that the person must not:"
            " mapped so, exactly the people who agreed are opted out"
        )


def means_yes(column: str, shown: ShownColumn = UNSHOWN) -> Certainty | None:
    """None for a column whose TRUE means no, or says nothing of contacting people. The label of TRUE itself says most."""
    if column.lower() in DOCUMENTED:
        return "documented"
    tones = [_tone(shown.true)] if _tone(shown.true) else [_tone(shown.label), _tone(column)]
    return "looks" if "yes" in tones else None


def doubts_of_table(table: TableMapping, columns: Mapping[str, ShownColumn]) -> Iterator[Doubt]:
    """The opt-out flags of a profile that are mapped from columns whose TRUE means yes, and that no replacements turn round."""
    for place, field in enumerate(table.fields):
        target = canonical_flag(field.target)
        if table.target != PROFILE or target not in OPT_OUT_FLAGS or _turned_round(table, field.source):
            continue
        if certainty := means_yes(field.source, columns.get(field.source, UNSHOWN)):
            yield Doubt(place, field.source, target, certainty)


def doubts_of_optin(pairs: Sequence[tuple[str, str]], columns: Mapping[str, ShownColumn]) -> Iterator[Doubt]:
    """Those of Opt In/Out, which knows no replacements; `pairs`: column and flag."""
    for place, (source, target) in enumerate(pairs):
        if certainty := means_yes(source, columns.get(source, UNSHOWN)):
            yield Doubt(place, source, canonical_flag(target), certainty)


def refuse(doubts: Iterator[Doubt]) -> list[Doubt]:
    """The doubts that are guesses, for the log. Raises HaltError for the first one that is none."""
    found = list(doubts)
    for doubt in found:
        if doubt.certainty == "documented":
            hint = (
                "Remove this mapping, or map a column whose TRUE means no, such as donotemail; in the contact mapping of ingress the"
                " replacements true → false and false → true are right as well. Save, then start again."
            )
            raise HaltError(doubt.text, code=CODE, hint=hint, origin="configuration")
    return found


def _turned_round(table: TableMapping, source: str) -> bool:
    to = {each.from_value: each.to.strip().lower() for each in table.replacements if each.source == source}
    return to.get("true") in FALSE and to.get("false") in TRUE


def _tone(text: str) -> Literal["yes", "no"] | None:
    """Whether a name or label speaks of contact that is welcome, or of contact that is not."""
    words = [word.lower() for word in WORDS.findall(text)]
    joined = "".join(words)
    if NO_WORDS & {*words} or any(part in joined for part in NO_PARTS):
        return "no"
    return "yes" if YES_WORDS & {*words} or any(part in joined for part in YES_PARTS) else None
