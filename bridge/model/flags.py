"""The opt-out attributes of a profile in Campaign (campaign.md §6.2, §6.4). TRUE means: said no."""

from __future__ import annotations

from dataclasses import dataclass

ANY_FLAG_AT, RECORD_AT = "blackListAllLastModified", "lastModified"


@dataclass(frozen=True, slots=True)
class Flag:
    """`changed_at`: the attribute with the time of its last change; None where Campaign keeps none of its own."""

    name: str
    changed_at: str | None


FLAGS = (
    Flag("blackList", "blackListLastModified"),
    Flag("blackListEmail", "blackListEmailLastModified"),
    Flag("blackListFax", "blackListFaxLastModified"),
    Flag("blackListMobile", "blackListMobileLastModified"),
    Flag("blackListPhone", "blackListPhoneLastModified"),
    Flag("blackListPostalMail", "blackListPostalMailLastModified"),
    Flag("blackListPushnotification", None),
    Flag("ccpaOptOut", "ccpaOptOutLastModified"),
)
OPT_OUT_FLAGS = tuple(flag.name for flag in FLAGS)
NO_OWN_TIME = "blackListPushnotification"  # the time of any flag's last change stands in for its own


def canonical_flag(name: str) -> str:
    """`denyListEmail`, as Adobe's pages call it, is `blackListEmail` in the API (campaign.md §6.4)."""
    return "blackList" + name.removeprefix("denyList") if name.startswith("denyList") else name
