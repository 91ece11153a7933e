"""Connection tests: each check by itself, with the way out when it fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from bridge.campaign.metadata import read_resource
from bridge.config import EgressConfig, IngressConfig
from bridge.dynamics.activities import read_activities
from bridge.dynamics.errors import QueryRefused, TrackingExpired
from bridge.dynamics.metadata import read_table
from bridge.errors import BridgeError, HaltError
from services.control.models_systems import CheckOut, ChecksOut, System
from services.control.problems import Refused
from services.control.systems import NAMES, Systems
from services.egress.activity import wanted_tables

LARGEST_OFFSET_S = 120.0
Check = Callable[[], Awaitable[str]]
NAMED = ("token", "identity", "permissions", "change-tracking", "journal", "sftp", "clock")


class _Skipped(Exception):
    """Nothing to check here; the text says why."""


class _Failed(Exception):
    """A check of our own has failed; text and way out."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class Checks:
    """All checks of one system for what is mapped now. One that fails does not keep the others from running, unless there is no token."""

    def __init__(self, systems: Systems, ingress: IngressConfig, egress: EgressConfig) -> None:
        self._systems, self._config, self._egress = systems, ingress, egress

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
        except _Skipped as exc:
            return _result(name, "skipped", str(exc), None)
        except (_Failed, HaltError) as exc:
            return _result(name, "failed", str(exc), exc.hint)
        except Refused as exc:
            return _result(name, "failed", exc.detail, "Try again; see whether the network lets control through.")
        except (QueryRefused, TrackingExpired) as exc:
            return _result(name, "failed", str(exc), "Check the application user's roles in Dynamics.")
        except BridgeError as exc:
            return _result(name, "failed", str(exc), "The system is away or busy: try again, then check URL and network.")

    def _dynamics(self) -> dict[str, Check]:
        return {
            "token": lambda: self._token("dynamics"),
            "identity": self._who_am_i,
            "permissions": self._read_tables,
            "change-tracking": self._tracked,
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
            "journal": self._journal,
            "sftp": self._sftp,
            "clock": lambda: self._clock("campaign"),
        }

    async def _token(self, system: System) -> str:
        await (self._systems.dynamics if system == "dynamics" else self._systems.campaign).authenticate(anew=True)
        return "a token was given"

    async def _who_am_i(self) -> str:
        answer = await self._systems.dynamics.get("WhoAmI")
        return f"signed in as application user {answer.get('UserId', 'without id')}"

    async def _read_tables(self) -> str:
        names = [table.source for table in self._config.tables]
        for name in names:
            table = await read_table(self._systems.dynamics, name, [], tracked=False)
            await self._systems.dynamics.get(f"{table.set_name}?$select={table.key}&$top=1")
        if self._egress.configured():
            wanted = wanted_tables(self._systems.timeline)
            await read_activities(self._systems.dynamics, list(wanted.values()), False)
            names += [each.name for each in wanted.values()]
        return _listed("can read", names)

    async def _tracked(self) -> str:
        names = [table.source for table in self._config.tables]
        for name in names:
            await read_table(self._systems.dynamics, name, [])
        return _listed("changes are tracked in", names)

    async def _profile(self) -> str:
        resource = await read_resource(self._systems.campaign, "profile")
        return f"profile is published with {len(resource.fields)} fields"

    async def _read_resources(self) -> str:
        names = [table.target for table in self._config.tables]
        for name in names:
            await read_resource(self._systems.campaign, name)
        return _listed("published:", names)

    async def _journal(self) -> str:
        journal = self._systems.journal
        if journal is None:
            raise _Skipped("no journal is configured: CAMPAIGN_JOURNAL_URL is not set")
        await journal.page(journal.first("latest"))
        return "the journal answers"

    async def _sftp(self) -> str:
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
