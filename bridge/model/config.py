"""The configuration of each workflow, as saved through the control API and carried in `control.workflows`.

Unknown members are errors. What needs more than the shape (two fields to one target, …) is in services/control/rules/validation.py.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from bridge.model.flags import OPT_OUT_FLAGS, canonical_flag
from bridge.model.operators import OPERATORS, Operator

Scalar = bool | int | float | str | None
Operand = Scalar | list[Scalar]

Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]  # it stands in addresses and queries
Dotted = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*$")]


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class KeyMapping(Shape):
    source: Name
    target: Dotted


class FieldMapping(Shape):
    source: Name
    target: Dotted
    apply_updates: StrictBool = True


class Replacement(Shape):
    source: Name
    from_value: str = Field(alias="from")
    to: str


class Condition(Shape):
    field: Name
    operator: Operator
    value: Scalar | Annotated[list[Scalar], Field(max_length=1000)] = None

    @model_validator(mode="after")
    def _value_fits_operator(self) -> Condition:
        kind = OPERATORS[self.operator]
        if kind == "choice" and not isinstance(self.value, list):
            raise ValueError(f"operator '{self.operator}' takes a list of values")
        if kind in ("order", "part", "emptiness") and isinstance(self.value, list):
            raise ValueError(f"operator '{self.operator}' takes a single value, not a list")
        if kind in ("order", "part", "options") and self.value is None:
            raise ValueError(f"operator '{self.operator}' needs a value; use is_empty or is_not_empty for empty fields")
        return self


class Filter(Shape):
    match: Literal["all", "any"] = "all"
    conditions: tuple[Condition, ...] = Field((), max_length=200)
    delete_filtered_out: StrictBool = False


class TableMapping(Shape):
    """One Dynamics table and the Campaign resource it goes to."""

    source: Name
    target: Name
    key: KeyMapping
    fields: tuple[FieldMapping, ...] = Field((), max_length=1000)
    replacements: tuple[Replacement, ...] = Field((), max_length=5000)
    filter: Filter = Filter()
    apply_deletes: StrictBool = False
    picklists: Literal["technical", "display"] = "technical"

    def flags(self) -> frozenset[str]:
        """The opt-out flags that travel with this mapping, by the API's names."""
        return frozenset(canonical_flag(field.target) for field in self.fields) & frozenset(OPT_OUT_FLAGS)

    def columns(self) -> list[str]:
        """Every Dynamics column this mapping reads, sorted; without the key, which is always there."""
        names = {field.source for field in self.fields} | {condition.field for condition in self.filter.conditions}
        return sorted(names - {self.key.source})


class IngressConfig(Shape):
    tables: tuple[TableMapping, ...] = Field((), max_length=200)

    def configured(self) -> bool:
        return bool(self.tables)


class EgressEvents(Shape):
    send: StrictBool = False
    open: StrictBool = False
    click: StrictBool = False
    bounce: StrictBool = False


class EgressConfig(Shape):
    events: EgressEvents = EgressEvents()

    def configured(self) -> bool:
        return any(self.events.model_dump().values())


class OptMapping(Shape):
    source: Name
    target: Name


class OptinConfig(Shape):
    direction: Literal["disabled", "dynamics-to-campaign", "campaign-to-dynamics", "bidirectional"] = "disabled"
    mappings: tuple[OptMapping, ...] = Field((), max_length=100)

    def configured(self) -> bool:
        return self.direction in ("campaign-to-dynamics", "bidirectional") and bool(self.mappings)


Config = IngressConfig | EgressConfig | OptinConfig

CONTACT_FIELDS = {
    "firstname": "firstName",
    "middlename": "middleName",
    "lastname": "lastName",
    "emailaddress1": "email",
    "telephone1": "phone",
    "mobilephone": "mobilePhone",
    "fax": "fax",
    "address1_line1": "location.address1",
    "address1_line2": "location.address2",
    "address1_postalcode": "location.zipCode",
    "address1_city": "location.city",
}


def default_ingress() -> IngressConfig:
    """Revision 1 out of the box: contact → profile (F90)."""
    fields = tuple(FieldMapping(source=source, target=target) for source, target in CONTACT_FIELDS.items())
    key = KeyMapping(source="contactid", target="externalId")
    return IngressConfig(tables=(TableMapping(source="contact", target="profile", key=key, fields=fields),))
