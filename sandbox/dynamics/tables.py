"""The tables of the sandbox's environment, as compact data [contract 3.3, 3.7, 6].

To add a table, write one more `Table` in `standard_tables` (activities have a module of their own); columns are made by
the small functions below, which take `name` or `name=Label`, several separated by commas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

LOOKUPS = ("Lookup", "Customer", "Owner")
CHOICE_TYPES = ("Picklist", "State", "Status")
TYPES = (
    *("String", "Memo", "Boolean", "Integer", "Decimal", "Double", "Money", "DateTime", "Uniqueidentifier", "Lookup"),
    *("Picklist", "MultiSelectPicklist"),
)  # what can be added while it runs
APP_USER = "11111111-0000-4000-8000-000000000001"
OTHER_USER = "11111111-0000-4000-8000-000000000002"
ORGANIZATION = "11111111-0000-4000-8000-000000000003"
CURRENCY = "11111111-0000-4000-8000-000000000004"


@dataclass(frozen=True)
class Column:
    """`type` is the AttributeType of the metadata, or `MultiSelectPicklist` (called Virtual there)."""

    name: str
    type: str
    label: str = ""
    length: int | None = None
    low: float | None = None
    high: float | None = None
    precision: int | None = None
    options: Mapping[int, str | None] = field(default_factory=dict)  # of a Boolean: labels of 1 and 0
    states: Mapping[int, int] = field(default_factory=dict)  # of a Status: the statecode of each option
    behavior: str = "UserLocal"
    format: str = ""  # of a text or a time, where it is not the usual one
    targets: tuple[str, ...] = ()
    readonly: bool = False
    default: Any = None
    schema: str = ""
    shared: bool = False  # the options are a global option set
    nav: str = ""  # its navigation properties, where they have names of their own; may hold {target}
    custom: bool = False  # not built in; names with new_ are custom anyway

    @property
    def wire(self) -> str:
        """Its name in URLs and rows."""
        return f"_{self.name}_value" if self.type in LOOKUPS else self.name

    @property
    def is_custom(self) -> bool:
        return self.custom or self.name.startswith("new_")

    @property
    def schema_name(self) -> str:
        prefix, _, rest = self.name.rpartition("_") if self.is_custom else ("", "", self.name)
        return self.schema or f"{prefix}_{rest.capitalize()}".removeprefix("_")

    @property
    def navigation(self) -> dict[str, tuple[str, ...]]:
        """Navigation property -> the tables it may lead to [3.5, 3.6]. Case matters."""
        if self.nav:
            names = [(self.nav.replace("{target}", target), target) for target in self.targets]
            return {name: tuple(target for other, target in names if other == name) for name, _ in names}
        if self.type == "Customer":
            return {f"{self.name}_{target}": (target,) for target in self.targets}
        return {self.schema_name if self.is_custom else self.name: self.targets} if self.targets else {}


@dataclass
class Table:
    """One table; `columns` by logical name, in the order in which rows list them."""

    name: str
    set_name: str
    key: str
    primary_name: str
    label: str
    code: int
    columns: dict[str, Column]
    tracked: bool = True
    activity: bool = False
    role: str = ""  # `click` and `bounce`: what the follow-up processes listen to

    @property
    def custom(self) -> bool:
        return "_" in self.name

    def by_wire(self) -> dict[str, Column]:
        return {column.wire: column for column in self.columns.values()}

    def navigation(self) -> dict[str, tuple[Column, tuple[str, ...]]]:
        return {nav: (column, to) for column in self.columns.values() for nav, to in column.navigation.items()}


def _each(kind: str, names: str, **more: Any) -> list[Column]:
    pairs = (name.strip().partition("=") for name in names.split(","))
    return [Column(name, kind, label or _label(name), **more) for name, _, label in pairs]


def _label(name: str) -> str:
    return name.removeprefix("new_").replace("_", " ").title()


def text(length: int, names: str, **more: Any) -> list[Column]:
    return _each("String", names, length=length, **more)


def yes_no(names: str, yes: str = "Yes", no: str = "No", default: bool = False) -> list[Column]:
    return _each("Boolean", names, options={1: yes, 0: no}, default=default)


def choice(names: str, *labels: str, first: int = 1, kind: str = "Picklist", **more: Any) -> list[Column]:
    return _each(kind, names, options=dict(enumerate(labels, first)), **more)


def date(names: str, behavior: str = "DateOnly", **more: Any) -> list[Column]:
    return _each("DateTime", names, behavior=behavior, **more)


def number(kind: str, names: str, low: float, high: float, precision: int | None = None) -> list[Column]:
    return _each(kind, names, low=low, high=high, precision=precision)


def lookup(names: str, *targets: str, kind: str = "Lookup", **more: Any) -> list[Column]:
    return _each(kind, names, targets=targets, **more)


def common() -> list[Column]:
    """What every user-owned table has."""
    return [
        *choice("statecode=Status", "Active", "Inactive", first=0, kind="State", default=0),
        *choice("statuscode=Status Reason", "Active", "Inactive", kind="Status", states={1: 0, 2: 1}, default=1),
        *lookup("ownerid=Owner", "systemuser", "team", kind="Owner", default=APP_USER),
        *lookup("modifiedby=Modified By", "systemuser", readonly=True),
        *date("createdon=Created On, modifiedon=Modified On", "UserLocal", readonly=True),
        *date("overriddencreatedon=Record Created On", "UserLocal"),
        *_each("BigInt", "versionnumber=Version Number", readonly=True),
    ]


def money(names: str) -> list[Column]:
    """Money columns and the currency that belongs to them."""
    return [
        *_each("Money", names, low=0, high=922337203685477, precision=2),
        *lookup("transactioncurrencyid=Currency", "transactioncurrency", default=CURRENCY),
    ]


def table(name: str, set_name: str, label: str, code: int, primary: str, columns: Iterable[Column], key: str = "", **more: Any) -> Table:
    """`columns` may replace common ones of the same name."""
    own = list(columns)
    every = [Column(key or f"{name}id", "Uniqueidentifier", label), *own, *common(), *own]
    return Table(name, set_name, every[0].name, primary, label, code, {column.name: column for column in every}, **more)


def _contact() -> list[Column]:
    return [
        *text(160, "fullname=Full Name", readonly=True),
        *text(50, "firstname=First Name, middlename=Middle Name, lastname=Last Name"),
        *text(100, "salutation, jobtitle=Job Title, emailaddress1=Email, emailaddress2, emailaddress3"),
        *text(50, "telephone1=Business Phone, telephone2=Home Phone, telephone3, mobilephone=Mobile Phone, fax"),
        *date("birthdate=Birthday, anniversary"),
        *choice("gendercode=Gender", "Male", "Female"),
        *choice("familystatuscode=Marital Status", "Single", "Married", "Divorced", "Widowed"),
        *choice("preferredcontactmethodcode", "Any", "Email", "Phone", "Fax", "Mail", default=1),
        *yes_no("donotemail=Do not allow Emails, donotphone, donotpostalmail, donotfax", "Do Not Allow", "Allow"),
        *yes_no("donotbulkemail=Do not allow Bulk Emails, donotbulkpostalmail", "Do Not Allow", "Allow"),
        *yes_no("donotsendmm=Send Marketing Materials", "Do Not Send", "Send"),
        *yes_no("followemail", "Allow", "Do Not Allow", default=True),
        *yes_no("merged"),
        *text(50, "externaluseridentifier, employeeid=Employee"),
        *money("creditlimit=Credit Limit"),
        *number("Integer", "numberofchildren=No. of Children", 0, 1_000_000_000),
        *_each("Memo", "description", length=2000),
        *text(200, "address1_name"),
        *text(250, "address1_line1, address1_line2, address1_line3"),
        *text(80, "address1_city, address1_country"),
        *text(50, "address1_stateorprovince, address1_county"),
        *text(20, "address1_postalcode, address1_postofficebox"),
        *number("Double", "address1_latitude", -90, 90, 5),
        *number("Double", "address1_longitude", -180, 180, 5),
        *lookup("parentcustomerid=Company Name", "account", "contact", kind="Customer"),
        *lookup("masterid=Master ID", "contact"),
    ]


def _vehicle() -> list[Column]:
    fuels = ("Petrol", "Diesel", "Electric")
    return [
        *text(100, "new_name"),
        *text(20, "new_plate"),
        *text(30, "new_color"),
        *choice("new_fueltype=Fuel Type", *fuels, first=100_000_000, shared=True),
        *money("new_price"),
        *number("Decimal", "new_weight", 0, 100_000, 2),
        *number("Double", "new_range", 0, 10_000, 3),
        *number("Integer", "new_mileage", 0, 10_000_000),
        *date("new_registered"),
        *date("new_servicedue=Service Due", "UserLocal"),
        *yes_no("new_active"),
        *choice("new_features", "Navigation", "Towbar", "Sunroof", kind="MultiSelectPicklist"),
        *lookup("new_contactid=Contact", "contact", schema="new_ContactId"),
    ]


def standard_tables() -> dict[str, Table]:
    """Fresh definitions, by logical name."""
    account = [*text(160, "name=Account Name"), *text(20, "accountnumber"), *text(100, "emailaddress1=Email")]
    retention = number("Integer", "expirechangetrackingindays", 0, 365)
    every = [
        table("contact", "contacts", "Contact", 2, "fullname", _contact()),
        table("account", "accounts", "Account", 1, "name", account),
        table("new_vehicle", "new_vehicles", "Vehicle", 10001, "new_name", _vehicle()),
        table("new_category", "new_categories", "Category", 10002, "new_name", text(100, "new_name")),
        table("new_untracked", "new_untrackeds", "Untracked", 10003, "new_name", text(100, "new_name"), tracked=False),
        table("systemuser", "systemusers", "User", 8, "fullname", text(200, "fullname"), tracked=False),
        table(
            "organization",
            "organizations",
            "Organization",
            1019,
            "name",
            [*text(160, "name"), *retention],
            tracked=False,
        ),
        table(
            "transactioncurrency",
            "transactioncurrencies",
            "Currency",
            9105,
            "currencyname",
            text(100, "currencyname"),
            tracked=False,
        ),
    ]
    return {one.name: one for one in every}
