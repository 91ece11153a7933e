"""What Campaign says when it refuses: the gateway's JSON (contract 1.5) and the engine's text bodies (3.8, 4.6)."""

from __future__ import annotations

from typing import Any

from sandbox.campaign.model import Resource

GENERIC = "RST-360011 An error has occurred - please contact your administrator."
OOPS = "Oops. Something went wrong. Check your URI and try again."


class GatewayError(Exception):
    """Answered before the engine is reached: `status`, a JSON `body` and extra `headers`."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(body)
        self.status, self.body, self.headers = status, body, headers or {}


class AcsError(Exception):
    """Answered by the engine: `status` and a `text` body."""

    def __init__(self, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def gateway_error(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> GatewayError:
    return GatewayError(status, {"error_code": str(code), "message": message}, headers)


def not_published() -> AcsError:
    return AcsError(f"{GENERIC} Error rc=-2003", 404)


def unknown_document(resource: Resource, key: str) -> AcsError:
    where = f"path '{resource.label}' from key '{key}:0' (document with schema '{resource.name}' and name '{key}')"
    return AcsError(f"{GENERIC} Unable to find document with {where}", 404)


def bad_pkey(resource: Resource, pkey: str) -> AcsError:
    """`resource` is what the key should have been of."""
    key = pkey.removeprefix("@")
    schema = f"'{resource.plural} ({resource.schema})' schema"
    reason = f"XTK-170036 Unable to parse expression '@id = @{key}'."
    return AcsError(f"'{key}' attribute unknown (see definition of {schema}). {reason}")


def not_a_key(text: str) -> AcsError:
    """A text where only a number can be a key: custom keys and custom filters exist on Ext only."""
    reason = f"BAS-010040 Cannot convert '{text}' (text type) to 32-bit integer type (bAS-010011 Invalid data)."
    return AcsError(f"RST-360011 An error has occurred. Please contact the administrator. {reason}")


def duplicate_key(resource: Resource, key: str) -> AcsError:
    constraint, column = f"{resource.schema.replace(':', '')}_{resource.key}".lower(), f"s{resource.key}".lower()
    detail = f"DETAIL:  Key ({column})=({key}) already exists."
    violated = postgres(f'duplicate key value violates unique constraint "{constraint}" {detail}')
    return AcsError(f"A '{resource.label}' with the same key '{key}' already exists. {violated.text}")


def key_change(resource: Resource, old: str, new: str) -> AcsError:
    reason = f"RST-360012 Inconsistent operation on resource '{resource.name}' – Cannot update key '{old}' to '{new}'."
    return AcsError(f"{GENERIC} {reason}")


def unknown_property(resource: Resource, name: str) -> AcsError:
    return AcsError(f"'{name}' property is not valid for the '{resource.name}' resource.")


def read_only(name: str) -> AcsError:
    return AcsError(f"Cannot update the '{name}' property that is read-only")


def not_in_enumeration(resource: Resource, name: str, value: object) -> AcsError:
    enumeration = f"'{resource.schema}:{name}' enumeration of the '@{name}' field"
    return AcsError(f"{GENERIC} The value '{value}' is not valid for the {enumeration}")


def refused_value(name: str, value: object, rule: str) -> AcsError:
    """No source has the texts of a failed data policy; PROPOSED in the style of the enumeration's."""
    return AcsError(f"{GENERIC} The value '{value}' is not valid for the {rule} of the '@{name}' field")


def unparsable(value: object) -> AcsError:
    return AcsError(f"{GENERIC} XTK-170036 Unable to parse expression '{str(value)[:80]}'.")


def postgres(message: str) -> AcsError:
    return AcsError(f"PGS-220000 PostgreSQL error: ERROR:  {message}")
