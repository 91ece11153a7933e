"""Connection tests: each check by itself, with the way out when it fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from bridge.campaign.errors import REPUBLISH, NotFound
from bridge.campaign.metadata import read_resource
from bridge.dynamics.activities import read_activities
from bridge.dynamics.errors import QueryRefused, TrackingExpired
from bridge.dynamics.metadata import read_table
from bridge.dynamics.secured import refuse_secured
from bridge.model.config import EgressConfig, IngressConfig, OptinConfig
from bridge.model.errors import BridgeError, HaltError, RejectError, RetryError
from services.control.models.system_json import CheckOut, ChecksOut, System
from services.control.systems.connections import NAMES, NotAnswered, Systems
from services.egress.activity import wanted_tables

LARGEST_OFFSET_S = 120.0
Check = Callable[[], Awaitable[str]]
TOKEN_HINTS = {  # part of a refusal → the step that is missing (dataverse.md §1.3, campaign.md §1.2)
    "7000215": "The client secret is wrong: copy its value, not its id, into DYNAMICS_CLIENT_SECRET.",
    "7000222": "The client secret has expired: make a new one at the app registration.",
    "700016": "The tenant does not know this application: check DYNAMICS_CLIENT_ID and DYNAMICS_TENANT_ID.",
    "90002": "There is no such tenant: check DYNAMICS_TENANT_ID.",
    "500011": "The tenant knows no environment at this address: check DYNAMICS_URL.",
    "invalid_scope": "The credential lacks one of CAMPAIGN_SCOPES: add the APIs named in docs/getting-started.md to its project.",
}
HINTS = {  # code → the way out, of what passes by itself in a running service
    "export_folder_missing": "Create this folder on the SFTP server, as the account of CAMPAIGN_SFTP_USER (docs/getting-started.md).",
    "source_unavailable": "Check CAMPAIGN_SFTP_HOST and _PORT, and that Campaign's Control Panel allows this machine's public address.",
}
NAMED = ("token", "identity", "permissions", "change-tracking", "contact-point-consent", "journal", "sftp", "clock")
CONTACT = "contact"
CONSENT_TABLE = "msdynmkt_contactpointconsent4"  # of Customer Insights - Journeys
CONSENT_PAGE = "See docs/operations.md#contact-point-consent: what of it is synchronised, and what is not."


class _Skipped(Exception):
    """Nothing to check here; the text says why."""


class _Told(Exception):
    """In order, but there is something to know; text and where to read on."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class _Failed(Exception):
    """A check of our own has failed; text and way out."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class Checks:
    """All checks of one system for what is mapped now. One that fails does not keep the others from running, unless there is no token."""

    def __init__(self, systems: Systems, ingress: IngressConfig, egress: EgressConfig, optin: OptinConfig) -> None:
        self._systems, self._config, self._egress, self._optin = systems, ingress, egress, optin
        self._flags = [mapping.source for mapping in optin.mappings] if optin.configured() else []
        self._tables = list(dict.fromkeys([*(table.source for table in ingress.tables), *([CONTACT] if self._flags else [])]))

    async def run(self, system: System) -> ChecksOut:
        if not self._systems.configured(system):
            hint = f"Give control the {system.upper()}_… settings, then start it again."
            checks = [CheckOut(name=name, status="skipped", message=f"{NAMES[system]} is not configured here", hint=hint) for name in NAMED]
            return ChecksOut(system=system, ok=False, checks=checks)
        self._systems.forget()
        calls = self._dynamics() if system == "dynamics" else self._campaign()
        checks, has_token = [], True
        for name in NAMED:
            checks.append(await self._one(system, name, calls[name]) if has_token else _result(name, "skipped", "there is no token", None))
            has_token = has_token and not (name == "token" and checks[-1].status == "failed")
        failed = next((check for check in checks if check.status == "failed"), None)
        if failed is None:
            self._systems.connected(system)
        else:
            self._systems.failed(system, f"check_{failed.name}", failed.message)
        return ChecksOut(system=system, ok=failed is None, checks=checks)

    async def _one(self, system: System, name: str, check: Check) -> CheckOut:
        try:
            return _result(name, "ok", await self._systems.asked(system, check(), remember=False), None)
        except _Told as exc:
            return _result(name, "ok", str(exc), exc.hint)
        except _Skipped as exc:
            return _result(name, "skipped", str(exc), None)
        except (_Failed, HaltError) as exc:
            return _result(name, "failed", str(exc), exc.hint)
        except NotAnswered as exc:
            return _result(name, "failed", str(exc), "Try again; see whether the network lets control through.")
        except (QueryRefused, TrackingExpired) as exc:
            return _result(name, "failed", str(exc), "Check the application user's roles in Dynamics.")
        except BridgeError as exc:
            hint = HINTS.get(exc.code, "The system is away or busy: try again, then check URL and network.")
            return _result(name, "failed", str(exc), hint)

    def _dynamics(self) -> dict[str, Check]:
        return {
            "token": lambda: self._token("dynamics"),
            "identity": self._who_am_i,
            "permissions": self._read_tables,
            "change-tracking": self._tracked,
            "contact-point-consent": self._contact_points,
            "journal": lambda: _skip("belongs to Campaign"),
            "sftp": lambda: _skip("belongs to Campaign"),
            "clock": lambda: self._clock("dynamics"),
        }

    def _campaign(self) -> dict[str, Check]:
        return {
            "token": lambda: self._token("campaign"),
            "identity": self._profile,
            "permissions": self._read_resources,
            "change-tracking": lambda: _skip("belongs to Dynamics"),
            "contact-point-consent": lambda: _skip("belongs to Dynamics"),
            "journal": self._journal,
            "sftp": self._sftp,
            "clock": lambda: self._clock("campaign"),
        }

    async def _token(self, system: System) -> str:
        client = self._systems.dynamics if system == "dynamics" else self._systems.campaign
        try:
            await client.authenticate(again=True)
        except HaltError as exc:
            hint = next((hint for part, hint in TOKEN_HINTS.items() if part in str(exc)), exc.hint)
            raise _Failed(str(exc), hint) from exc
        return "a token was given"

    async def _who_am_i(self) -> str:
        answer = await self._systems.dynamics.get("WhoAmI")
        return f"signed in as application user {answer.get('UserId', 'without id')}"

    async def _read_tables(self) -> str:
        names = list(self._tables)
        for name in names:
            table = await read_table(self._systems.dynamics, name, [], tracked=False)
            await self._readable(name)
            await self._systems.dynamics.get(f"{table.set_name}?$select={table.key}&$top=1")
        if self._egress.configured():
            wanted = wanted_tables(self._systems.timeline)
            await read_activities(self._systems.dynamics, list(wanted.values()), False)
            names += [each.name for each in wanted.values()]
        return _listed("can read", names)

    async def _tracked(self) -> str:
        for name in self._tables:
            await read_table(self._systems.dynamics, name, [])
        return _listed("changes are tracked in", self._tables)

    async def _contact_points(self) -> str:
        """Consent by contact point is another place where people say no, and not ours."""
        try:
            table = await read_table(self._systems.dynamics, CONSENT_TABLE, [], tracked=False)
            answer = await self._systems.dynamics.get(f"{table.set_name}?$select={table.key}&$top=1")
        except HaltError as exc:
            if exc.code == "source_table_missing":
                return f"there is no table {CONSENT_TABLE}: consent is kept in the columns of contact"
            raise _Skipped(f"whether consent is kept in {CONSENT_TABLE} cannot be seen: the application user may not read it") from exc
        if answer.get("value"):
            raise _Told(f"consent is kept in {CONSENT_TABLE}, too, which is not synchronised", CONSENT_PAGE)
        return f"{CONSENT_TABLE} has no rows: consent is kept in the columns of contact"

    async def _readable(self, name: str) -> None:
        """Raises HaltError for secured columns that are mapped and that the application user may not use."""
        flags = self._flags if name == CONTACT else []
        mapped = {*flags, *(column for table in self._config.tables if table.source == name for column in table.columns())}
        secured = await self._systems.secured(name)
        refuse_secured(self._systems.dynamics.origin, name, {column: secured[column] for column in mapped & secured.keys()}, flags)

    async def _profile(self) -> str:
        """Its description may be there although the API that is written to is not published."""
        resource = await read_resource(self._systems.campaign, "profile")
        try:
            await self._systems.campaign.first(resource.path)
        except (NotFound, RejectError, RetryError) as exc:
            if isinstance(exc, RetryError) and exc.status != 404:
                raise
            raise _Failed(f"Campaign describes profile, but does not answer at {resource.path}", REPUBLISH) from exc
        return f"profile is published with {len(resource.fields)} fields"

    async def _read_resources(self) -> str:
        names = [table.target for table in self._config.tables]
        for name in names:
            await read_resource(self._systems.campaign, name)
        return _listed("published:", names)

    async def _journal(self) -> str:
        journal = self._systems.journal
        if journal is None and self._egress.configured():
            hint = "Give control and the egress reader the address of the registration's journal (docs/getting-started.md)."
            raise _Failed("e-mail events are switched on, but CAMPAIGN_JOURNAL_URL is not set", hint)
        if journal is None:
            raise _Skipped("no journal is configured: CAMPAIGN_JOURNAL_URL is not set")
        await journal.page(journal.first("latest"))
        return "the journal answers"

    async def _sftp(self) -> str:
        if self._systems.exports is None and self._optin.configured():
            hint = "Give control and the reader of Opt In/Out the CAMPAIGN_SFTP_… settings (docs/getting-started.md)."
            raise _Failed("opt-outs are to come from Campaign, but CAMPAIGN_SFTP_HOST is not set", hint)
        if self._systems.exports is None:
            raise _Skipped("no SFTP server is configured: CAMPAIGN_SFTP_HOST is not set")
        files = await self._systems.exports.files()
        return f"signed in; {len(files)} export{'' if len(files) == 1 else 's'} in the folder"

    async def _clock(self, system: System) -> str:
        client = self._systems.dynamics if system == "dynamics" else self._systems.campaign
        if client.ahead_s is None:
            raise _Skipped("the answers carry no date")
        if abs(client.ahead_s) > LARGEST_OFFSET_S:
            hint = "Set this machine's clock (NTP): waits and times of opt-outs depend on it."
            text = f"our clock and {NAMES[system]}'s differ by {abs(client.ahead_s):.0f} s"
            raise _Failed(text, hint)
        return f"our clock differs by {abs(client.ahead_s):.0f} s"


async def _skip(why: str) -> str:
    raise _Skipped(why)


def _listed(what: str, names: list[str]) -> str:
    return f"{what} {', '.join(names)}" if names else "nothing is mapped yet"


def _result(name: str, status: Literal["ok", "failed", "skipped"], message: str, hint: str | None) -> CheckOut:
    return CheckOut(name=name, status=status, message=message, hint=hint)
