"""The data model: fields, links, resources, and what waits for a publication (contract 4.4, 6.1, S25)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BASE, EXT, CUSTOM = "profileAndServices", "profileAndServicesExt", "customResources"
FAMILIES = (BASE, EXT, CUSTOM)
NUMBERS = ("byte", "short", "long", "float", "double")
SCALARS = ("string", "boolean", "date", "datetime", "enum", *NUMBERS)

CHANNELS = ("", "Email", "Fax", "Mobile", "Phone", "PostalMail", "Pushnotification")
OPT_OUTS = (*(f"blackList{channel}" for channel in CHANNELS), "ccpaOptOut")


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `names`: an enumeration's; `members`: an item's; a link joins column `join` to the key of `target`."""

    name: str
    type: str
    length: int = 0
    read_only: bool = False
    default: str = ""
    names: tuple[str, ...] = ()
    members: Mapping[str, Field] = field(default_factory=dict)
    target: str = ""
    join: str = ""
    cardinality: str = "0or1"

    @property
    def empty(self) -> Any:
        """What is read where nothing was written: never null."""
        match self.type:
            case "boolean":
                return False
            case "item":
                return {name: member.empty for name, member in self.members.items()}
            case kind if kind in NUMBERS:
                return 0
            case _:
                return self.default or (self.names[0] if self.names else "")


def fields(text: str) -> dict[str, Field]:
    """`name type [length] [ro] [=default] [a|b|c]`, separated by semicolons."""
    found = {}
    for entry in filter(str.strip, text.split(";")):
        name, kind, *options = entry.split()
        length = next((int(option) for option in options if option.isdigit()), 0)
        default = next((option[1:] for option in options if option.startswith("=")), "")
        names = next((tuple(option.split("|")) for option in options if "|" in option), ())
        target = options[0] if kind in ("link", "collection") else ""
        found[name] = Field(name, kind, length, "ro" in options or kind == "collection", default, names, target=target)
    return found


@dataclass
class Resource:
    """One resource. `fields` are live, `draft` awaits a publication, `key` is the identification key ("" for none)."""

    name: str
    label: str
    plural: str
    schema: str
    families: tuple[str, ...]
    key: str
    fields: dict[str, Field]
    native_key: bool = False  # the key is out of the box: it serves on /profileAndServices as well
    audit: bool = False
    published: bool = True
    draft: dict[str, Field] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.refresh()

    def refresh(self) -> None:
        """To be called after `fields` changed."""
        plain = [each for each in self.fields.values() if each.type in (*SCALARS, "item")]
        self.links = [each for each in self.fields.values() if each.type == "link" and each.join]
        self.template = {each.name: each.empty for each in plain}
        self.base_template = {name: value for name, value in self.template.items() if not name.startswith("cus")}
        self.custom_filter = f"by{self.key[:1].upper()}{self.key[1:]}" if self.key else ""

    def visible(self, name: str, family: str) -> Field | None:
        """The live field, unless custom fields are out of sight there."""
        return None if family == BASE and name.startswith("cus") else self.fields.get(name)

    def publish(self) -> None:
        self.fields |= self.draft
        self.draft, self.published = {}, True
        self.refresh()


PROFILE = """
    age long ro; birthDate date; blackList boolean; blackListEmail boolean; blackListFax boolean;
    blackListPhone boolean; blackListMobile boolean; blackListPostalMail boolean; blackListPushnotification boolean;
    ccpaOptOut boolean; blackListAllLastModified datetime ro; blackListLastModified datetime ro;
    blackListEmailLastModified datetime ro; blackListFaxLastModified datetime ro;
    blackListMobileLastModified datetime ro; blackListPhoneLastModified datetime ro;
    blackListPostalMailLastModified datetime ro; ccpaOptOutLastModified datetime ro; country link countries;
    stateLink link state; created datetime ro; lastModified datetime ro; createdBy link userBase ro;
    modifiedBy link userBase ro; cryptedId string 255 ro; domain string 255 ro; fax string 32; email string 128;
    emailFormat enum unknown|text|html; emailStatus link addressStatus ro; externalId string 100; firstName string 30;
    middleName string 30; lastName string 50; gender enum unknown|male|female; isExternal boolean;
    mobilePhone string 32; phone string 32; preferredLanguage string 64 =none; salutation string 20;
    thumbnail string 255 =/nl/img/thumbnails/defaultProfil.png; title string 255 ro;
    timeZone enum 64 none|_server_|GMT|Europe/London|Europe/Paris|America/New_York|America/Los_Angeles|Asia/Tokyo;
    appSubscription collection appSubscriptionRcp; excludeLogs collection excludeLogRcp; logs collection broadLogRcp;
    places collection visitRcp; subHisto collection subHistoRcp; subscriptions collection subscriptionRcp;
    tracking collection trackingLogRcp"""
LOCATION = """
    address1 string 255; address2 string 255; address3 string 255; address4 string 255; city string 128;
    countryCode string 2; stateCode string 16; zipCode string 16"""
POSTAL_ADDRESS = """
    addrDefined boolean ro; addrErrorCount long ro; addrLastCheck datetime ro; addrQuality string 1 ro =0;
    line1 string 255 ro; line2 string 255 ro; line3 string 255 ro; line4 string 255 ro; line5 string 255 ro;
    line6 string 255 ro; serialized string 1024 ro"""
VEHICLE = """
    cusVehicleId string 36; cusName string 100; cusPlate string 20; cusColor string 30; cusFuel string 30;
    cusPrice float; cusMileage long; cusWeight double; cusRange double; cusRegistered date; cusServiceDue datetime;
    cusActive boolean; cusFeatures string 100; cusContactId string 36"""
SERVICE = """
    name string 64; label string 128; messageType enum email|mobile; mode enum newsletter|viral;
    limitedDuration boolean; created datetime ro; lastModified datetime ro"""


def standard_model() -> dict[str, Resource]:
    """The resources a new stand-in has, by name."""
    profile = fields(PROFILE)
    profile["location"] = Field("location", "item", members=fields(LOCATION))
    profile["postalAddress"] = Field("postalAddress", "item", read_only=True, members=fields(POSTAL_ADDRESS))
    vehicle = fields(VEHICLE)
    vehicle["cusOwner"] = Field("cusOwner", "link", target="profile", join="cusContactId", cardinality="1")
    category = fields("cusCategoryId string 36; cusName string 100; cusCode long")
    service = fields(SERVICE)
    resources = (
        Resource("profile", "Profile", "Profiles", "nms:recipient", (BASE, EXT), "externalId", profile, audit=True),
        Resource("service", "Service", "Services", "nms:service", (BASE, EXT), "name", service, True, audit=True),
        Resource("cusVehicle", "Vehicle", "Vehicles", "cus:vehicle", (EXT,), "cusVehicleId", vehicle),
        Resource("cusCategory", "Category", "Categories", "cus:category", (CUSTOM,), "cusCategoryId", category),
    )
    return {resource.name: resource for resource in resources}


def new_resource(name: str, family: str, key: str, definitions: Sequence[dict[str, Any]]) -> Resource:
    """An unpublished custom resource, in exactly one of Ext and customResources (S26). Raises ValueError."""
    if not name.startswith("cus") or len(name) > 30 or family not in (EXT, CUSTOM):
        raise ValueError("a custom resource starts with cus, has at most 30 characters, is in Ext or customResources")
    label = name[3:] or name
    found = {each["name"]: new_field(**each) for each in definitions}
    if key and (key not in found or found[key].type != "string"):
        raise ValueError("the key must be a string field of the resource")
    return Resource(name, label, f"{label}s", f"cus:{label.lower()}", (family,), key, found, published=False)


def new_field(name: str, type: str = "string", length: int = 0, names: str = "", **link: str) -> Field:
    """A custom field from an admin request; `names`: `a|b` for an enumeration; `link`: target, join, cardinality.

    Raises ValueError, and TypeError for an unknown member."""
    if len(name) > 30 or type not in (*SCALARS, "link"):
        raise ValueError(f"{name}: at most 30 characters, type one of {', '.join(SCALARS)}, link")
    length = length or (255 if type == "string" else 0)
    return Field(name, type, length, names=tuple(filter(None, names.split("|"))), **link)  # type: ignore[arg-type]
