"""The two systems as control sees them: settings without secrets, connection tests, and what a mapping can choose from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar
from zoneinfo import ZoneInfo

from bridge.campaign.catalogue import list_resources
from bridge.campaign.client import CampaignClient
from bridge.campaign.journal import JournalClient
from bridge.campaign.metadata import Resource, read_resource
from bridge.campaign.settings import CampaignSettings, ExportSettings, JournalSettings
from bridge.campaign.sftp import SftpFolder
from bridge.dynamics.catalogue import list_columns, list_tables
from bridge.dynamics.client import DynamicsClient
from bridge.dynamics.secured import ColumnAccess, secured_columns
from bridge.dynamics.settings import DynamicsSettings
from bridge.model.clock import Clock
from bridge.model.errors import BridgeError
from bridge.model.settings import Secret, Settings
from services.control.models.system_json import ConnectionOut, FieldOut, LastErrorOut, OptionOut, System, SystemOut, TableNameOut
from services.egress.settings import TimelineSettings

T = TypeVar("T")
KEPT_S = 30.0
ASK_WITHIN_S = 20.0


class NotAnswered(Exception):
    """There is no answer of a system: it took too long, or control has not its settings. `code` as the API tells it."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class Cached(Generic[T]):
    """Answers of one kind, by name, for half a minute: a page asks for the same tables again and again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[float, T]] = {}

    async def get(self, name: str, ask: Callable[[], Awaitable[T]]) -> T:
        now = self._clock.monotonic()
        kept = self._kept.get(name)
        if kept is None or now - kept[0] > KEPT_S:
            kept = self._kept[name] = (now, await ask())
        return kept[1]

    def clear(self) -> None:
        self._kept.clear()


class Systems:
    """`dynamics`, `campaign`: None when their settings are not given to control; what needs them raises NotAnswered then."""

    def __init__(
        self,
        dynamics: DynamicsSettings | None,
        campaign: CampaignSettings | None,
        clock: Clock,
        journal: JournalSettings | None = None,
        timeline: TimelineSettings | None = None,
        exports: ExportSettings | None = None,
    ) -> None:
        self._settings: dict[System, Settings | None] = {"dynamics": dynamics, "campaign": campaign}
        self._clock = clock
        self._dynamics = DynamicsClient(dynamics, clock) if dynamics else None
        self._campaign = CampaignClient(campaign, clock) if campaign else None
        self._journal_settings = journal
        self.journal = JournalClient(journal, campaign, clock) if journal and campaign else None
        self.timeline = timeline or TimelineSettings()
        self._export_settings = exports
        self.exports = SftpFolder(exports) if exports else None
        self._tables: Cached[list[TableNameOut]] = Cached(clock)
        self._fields: Cached[list[FieldOut]] = Cached(clock)
        self._secured: Cached[dict[str, ColumnAccess]] = Cached(clock)
        self._resources: Cached[Resource] = Cached(clock)
        self._connection: dict[System, ConnectionOut] = {}
        self._errors: dict[System, LastErrorOut] = {}

    async def close(self) -> None:
        for client in (self._dynamics, self._campaign, self.journal):
            if client is not None:
                await client.close()

    @property
    def dynamics(self) -> DynamicsClient:
        if self._dynamics is None:
            raise _not_configured("dynamics")
        return self._dynamics

    @property
    def campaign(self) -> CampaignClient:
        if self._campaign is None:
            raise _not_configured("campaign")
        return self._campaign

    @property
    def digest_secret(self) -> str:
        """As the ingress writer makes it."""
        settings = self._settings["campaign"]
        if not isinstance(settings, CampaignSettings):
            raise _not_configured("campaign")
        return settings.digest_secret()

    def page_size(self) -> int:
        settings = self._settings["dynamics"]
        return settings.page_size if isinstance(settings, DynamicsSettings) else 5000

    def zone(self) -> ZoneInfo | None:
        """As the ingress reader has it, if both were given the same."""
        settings = self._settings["dynamics"]
        return settings.zone if isinstance(settings, DynamicsSettings) else None

    def configured(self, system: System) -> bool:
        return self._settings[system] is not None

    def view(self, system: System) -> SystemOut:
        settings = self._settings[system]
        unknown = ConnectionOut(state="unknown" if settings else "not_configured", checked_at=None)
        return SystemOut(
            system=system,
            settings=(shown(settings) | self._beside(system)) if settings else {},
            connection=self._connection.get(system, unknown),
            last_error=self._errors.get(system),
        )

    def _beside(self, system: System) -> dict[str, Any]:
        """What belongs to a system, but is only one workflow's: the journal, the tables of the timeline."""
        if system == "dynamics":
            return {f"timeline_{name}": value for name, value in shown(self.timeline).items()}
        beside = {"journal": self._journal_settings, "sftp": self._export_settings}
        return {f"{what}_{name}": value for what, room in beside.items() if room for name, value in shown(room).items()}

    async def tables(self, system: System) -> list[TableNameOut]:
        return await self._tables.get(system, lambda: self.asked(system, self._list_tables(system)))

    async def fields(self, system: System, table: str) -> list[FieldOut]:
        return await self._fields.get(f"{system}/{table}", lambda: self.asked(system, self._list_fields(system, table)))

    async def secured(self, table: str) -> dict[str, ColumnAccess]:
        """What our application user may do with the secured columns of a table of Dynamics."""
        return await self._secured.get(table, lambda: self.asked("dynamics", secured_columns(self.dynamics, table)))

    async def resource(self, name: str) -> Resource:
        """A Campaign resource with the fields it can be written with."""
        return await self._resources.get(name, lambda: self.asked("campaign", read_resource(self.campaign, name)))

    def forget(self) -> None:
        """What was cached; the next question goes to the systems."""
        for cache in (self._tables, self._fields, self._secured, self._resources):
            cache.clear()

    async def asked(self, system: System, call: Awaitable[T], remember: bool = True) -> T:
        """The answer, remembering how it went (not what went well, unless `remember`). Raises what it raises, and
        NotAnswered after 20 s."""
        try:
            async with asyncio.timeout(ASK_WITHIN_S):
                answer = await call
        except TimeoutError:
            problem = NotAnswered(f"{system}_slow", f"{NAMES[system]} did not answer within {ASK_WITHIN_S:.0f} s; try again.")
            self.failed(system, problem.code, str(problem))
            raise problem from None
        except BridgeError as exc:
            self.failed(system, exc.code, str(exc))
            raise
        if remember:
            self.connected(system)
        return answer

    def connected(self, system: System) -> None:
        self._connection[system] = ConnectionOut(state="connected", checked_at=self._clock.now())

    def failed(self, system: System, code: str, message: str) -> None:
        now = self._clock.now()
        self._connection[system] = ConnectionOut(state="failed", checked_at=now)
        self._errors[system] = LastErrorOut(code=code, message=message, at=now)

    async def _list_tables(self, system: System) -> list[TableNameOut]:
        if system == "campaign":
            return [TableNameOut(name=each.name, label=each.label) for each in await list_resources(self.campaign)]
        found = await list_tables(self.dynamics)
        return [TableNameOut(name=each.name, label=each.label, change_tracking=each.change_tracking) for each in found]

    async def _list_fields(self, system: System, table: str) -> list[FieldOut]:
        if system == "campaign":
            return [*_campaign_fields(await read_resource(self.campaign, table))]
        return [
            FieldOut(
                name=each.name,
                label=each.label,
                type=each.type,
                length=each.length,
                writable=each.writable,
                key=each.key,
                options=[OptionOut(value=value, label=label) for value, label in each.options],
                format=each.format or None,
                behavior=each.behavior or None,
            )
            for each in await list_columns(self.dynamics, table)
        ]


NAMES: dict[System, str] = {"dynamics": "Dynamics", "campaign": "Campaign"}


def _not_configured(system: System) -> NotAnswered:
    prefix = system.upper()
    detail = f"Control does not know {NAMES[system]}: give it the {prefix}_… settings as well, then start it again."
    return NotAnswered("system_not_configured", detail)


def shown(settings: Settings) -> dict[str, Any]:
    """Settings by their names, a secret only as set or not."""
    found: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        found[name] = {"set": bool(value.value())} if isinstance(value, Secret) else value
    return found


def _campaign_fields(resource: Resource) -> list[FieldOut]:
    """Writable ones first, by name; links and collections are left out, they cannot be mapped."""
    fields = [
        FieldOut(
            name=each.name,
            label=each.label or each.name,
            type=each.raw_type if each.kind != "enumeration" else "enumeration",
            length=each.length,
            writable=not each.read_only and each.kind not in ("link", "collection", "item"),
            key=each.name == "PKey",
            options=[OptionOut(value=value, label=label) for value, label in each.options],
        )
        for each in resource.fields.values()
    ]
    return sorted(fields, key=lambda each: (not each.writable, each.name))
