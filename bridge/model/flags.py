"""The opt-out attributes of a profile in Campaign (campaign.md §6.2, §6.4). TRUE means: said no."""

from __future__ import annotations

from dataclasses import dataclass

ANY_FLAG_AT, RECORD_AT = "blackListAllLastModified", "lastModified"


@dataclass(frozen=True, slots=True)
class Flag:
    """`label`: what people see; `labels`: other names that exports give its column. `timed`: Campaign keeps the time of its last change.
    Where it keeps none, the time of any flag's last change stands in."""

    name: str
    label: str
    labels: tuple[str, ...] = ()
    timed: bool = True

    @property
    def changed_at(self) -> str | None:
        """The attribute with the time of its last change."""
        return f"{self.name}LastModified" if self.timed else None


FLAGS = (
    Flag("blackList", "No longer contact (by any channel)", ("No longer contact",)),
    Flag("blackListEmail", "No longer contact by email"),
    Flag("blackListFax", "No longer contact by fax"),
    Flag("blackListMobile", "No longer contact by SMS", ("No longer contact by mobile",)),
    Flag("blackListPhone", "No longer contact by phone"),
    Flag("blackListPostalMail", "No longer contact by direct mail"),
    Flag("blackListPushnotification", "No longer contact by push notification", timed=False),
    Flag("ccpaOptOut", "CCPA opt-out: personal data must not be sold", ("CCPA opt-out",)),
)
OPT_OUT_FLAGS = tuple(flag.name for flag in FLAGS)
TIMES = {flag.name: flag.changed_at for flag in FLAGS if flag.changed_at is not None}
UNTIMED = frozenset(OPT_OUT_FLAGS) - TIMES.keys()


def canonical_flag(name: str) -> str:
    """`denyListEmail`, as Adobe's pages call it, is `blackListEmail` in the API (campaign.md §6.4)."""
    return "blackList" + name.removeprefix("denyList") if name.startswith("denyList") else name
