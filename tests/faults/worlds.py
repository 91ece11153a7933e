"""The three workflows at work; see tests/faults/world.py."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from bridge.kafka.settings import KafkaSettings
from tests.e2e.consent import config, in_campaign, in_dynamics, person
from tests.e2e.stack import Stack, contacts, running, vehicles
from tests.faults.proxy import proxying
from tests.faults.world import CALLS, CANARY, World, judged, versions_of

EVENT_TABLES = {
    "directMarketing.emailSent": "adobe_emailsend",
    "directMarketing.emailOpened": "adobe_emailopen",
    "directMarketing.emailClicked": "adobe_emailurlclick",
    "directMarketing.emailBounced": "adobe_emailbounce",
}
OWNERS = 10  # people with a car, who are never deleted
NAMESPACE = "https://ns.adobe.com/experience/campaign/"


class Ingress(World):
    """Contacts and vehicles whose names end with a number that only rises."""

    id = "ingress"
    roles = ("reader", "writer")
    settings: ClassVar[dict[str, str]] = {"DYNAMICS_PAGE_SIZE": "10", "CAMPAIGN_CONCURRENCY": str(CALLS)}

    def __init__(self, stack: Stack, rng: random.Random) -> None:
        super().__init__(stack, rng)
        self._version = 0
        self._people = [self._changed("contact", None) for _ in range(40)]
        self._cars = [self._changed("new_vehicle", None, new_contactid=owner) for owner in self._people[:OWNERS]]

    async def configure(self) -> None:
        await self.stack.configure(contacts(apply_deletes=True), vehicles(apply_deletes=True))

    def dose(self) -> None:
        for key in self.rng.sample(self._people, 12):
            self._changed("contact", key)
        for key in self.rng.sample(self._cars, 3):
            self._changed("new_vehicle", key)
        self._people.append(self._changed("contact", None))
        self.stack.dynamics.delete("contact", self._people.pop(self.rng.randrange(OWNERS, len(self._people))))

    def wrong(self) -> list[str]:
        return self.stack.differences()

    def progress(self) -> int:
        return len(self.stack.campaign.writes())

    def disorder(self) -> list[str]:
        return judged(self._histories())[0]

    def repeats(self) -> int:
        return judged(self._histories())[1]

    def _changed(self, table: str, key: str | None, **more: str) -> str:
        self._version += 1
        name = "lastname" if table == "contact" else "new_name"
        row: dict[str, Any] = {name: f"{CANARY} {self._version}"} | more | ({f"{table}id": key} if key else {})
        if table == "contact":
            row["emailaddress1"] = f"{CANARY}.{self._version}@example.com"
        return self.stack.dynamics.upsert(table, row)

    def _histories(self) -> dict[str, list[int]]:
        """The versions that Campaign took, by key; a delete is no version."""
        found: dict[str, list[str]] = {}
        for write in self.stack.campaign.writes():
            fields = write["fields"] or {}
            if write["status"] < 400 and (name := fields.get("lastName") or fields.get("cusName")):
                found.setdefault(f"{write['resource']} {write['key']}", []).append(name)
        return {key: versions_of(names) for key, names in found.items()}


class Egress(World):
    """E-mail events, some of them delivered twice, in any order."""

    id = "egress"
    roles = ("reader", "writer")
    settings: ClassVar[dict[str, str]] = {"DYNAMICS_BATCH_MAX": "20", "DYNAMICS_CONCURRENCY": "2", "CAMPAIGN_JOURNAL_PAGE_SIZE": "20"}

    def __init__(self, stack: Stack, rng: random.Random) -> None:
        super().__init__(stack, rng)
        stack.dynamics.settings.change({"click_follow_up": False, "bounce_follow_up": False, "operation_cost_ms": 5.0})
        stack.campaign.settings.change({"journal_retry_after_s": 0.1, "journal_duplicates": 0.1, "journal_shuffle": True})
        names = {"lastname": CANARY, "emailaddress1": f"{CANARY}@example.com"}
        self._people = [stack.dynamics.upsert("contact", names) for _ in range(30)]
        self._doses = 0

    async def configure(self) -> None:
        await self.stack.save({"events": dict.fromkeys(("send", "open", "click", "bounce"), True)})

    def dose(self) -> None:
        self._doses += 1
        seed = self.rng.getrandbits(32)
        self.stack.campaign.traffic(seed=seed, mails=8, keys=self._people)
        if self._doses in (10, 40):  # it doubles the journal each time
            self.stack.campaign.redeliver(seed=seed)

    def wrong(self) -> list[str]:
        there, wanted = self._written(), self._wanted()
        missing = [f"{each} is missing, {number} of it" for each, number in (wanted - there).items()]
        return missing + [f"{each} is there too often, by {number}" for each, number in (there - wanted).items()]

    def progress(self) -> int:
        return sum(self.stack.dynamics.activities()[table] for table in EVENT_TABLES.values())

    def _written(self) -> Counter[tuple[str, str]]:
        """Activities by contact and table."""
        rows = self.stack.dynamics.rows
        return Counter((row["regardingobjectid"], table) for table in EVENT_TABLES.values() for row in rows(table))

    def _wanted(self) -> Counter[tuple[str, str]]:
        """The same, by what the journal holds: each occurrence once, however often it was delivered."""
        found = {self._occurrence(entry["event"]) for entry in self.stack.campaign.journal()} - {None}
        return Counter((each[0], each[1]) for each in found if each is not None)

    @staticmethod
    def _occurrence(event: Any) -> tuple[str, str, str] | None:
        if not isinstance(event, dict) or not isinstance(event.get("data"), dict):
            return None
        table = EVENT_TABLES.get(event["type"])
        data: Mapping[str, Any] = event["data"]
        real = not any(value for name, value in data[f"{NAMESPACE}message"].items() if name.endswith("Member"))
        return (data["acs"]["externalId"], table, data["acs"]["trackingLogId"] or data["acs"]["broadLogId"]) if table and real else None


class Optin(World):
    """People who opt out and in, in both systems. A no must hold; a yes that comes in the same minute as a no may lose against it, since
    neither system tells the time of a flag more exactly."""

    id = "optin"
    roles = ("reader", "resolver", "writer")
    settings: ClassVar[dict[str, str]] = {
        "OPTIN_RELEASE_LIMIT": "100000",
        "CAMPAIGN_SFTP_POLL_INTERVAL_S": "0.3",
        "CAMPAIGN_CONCURRENCY": str(CALLS),
    }

    def __init__(self, stack: Stack, rng: random.Random) -> None:
        super().__init__(stack, rng)
        self._people = [person(stack, CANARY) for _ in range(30)]
        self._exported_at = 0.0
        self._words: dict[str, list[tuple[str, bool]]] = {who: [] for who in self._people}

    async def configure(self) -> None:
        await self.stack.save(config())

    def dose(self) -> None:
        for _ in range(5):
            self._word(self.rng.choice(self._people), self.rng.random() < 0.6, self.rng.choice(("campaign", "dynamics")))
        self._export()

    def _word(self, who: str, value: bool, system: str) -> None:
        """Somebody opts out, or in again. What is so already is no word, and neither is what comes before both systems know of the last
        one: of a flag that was flipped and flipped back between two looks nothing tells."""
        if in_campaign(self.stack, who) == value or in_dynamics(self.stack, who) == value:
            return
        if system == "campaign":
            self.stack.campaign.opt_out(who, "blackListEmail", value)
        else:
            self.stack.dynamics.upsert("contact", {"contactid": who, "donotemail": value})
        self._words[who].append((system, value))

    def wrong(self) -> list[str]:
        self._export()
        differing = [who for who in self._people if in_dynamics(self.stack, who) != in_campaign(self.stack, who)]
        refused = [who for who, words in self._words.items() if words and words[-1][1] and not in_campaign(self.stack, who)]
        return differing + [f"{who} said no, last of {self._words[who][-6:]}" for who in refused]

    def _export(self) -> None:
        """The nightly export, once a second."""
        if time.monotonic() - self._exported_at >= 1:
            self._exported_at = time.monotonic()
            self.stack.campaign.exports.run()

    def progress(self) -> int:
        return len(self.stack.dynamics.writes()) + len(self.stack.campaign.writes())


WORLDS: dict[str, type[World]] = {each.id: each for each in (Ingress, Egress, Optin)}


@asynccontextmanager
async def world_of(workflow: str, kafka: KafkaSettings, folder: Path, rng: random.Random, **environment: str) -> AsyncIterator[World]:
    """The workflow's world, begun; proxies called `dynamics` and `campaign` are in the way of its services, `sftp` for opt-in/out."""
    kind = WORLDS[workflow]
    common = {"DYNAMICS_POLL_INTERVAL_S": "0.3", "LOG_LEVEL": "debug"}
    async with AsyncExitStack() as exits:
        stack = await exits.enter_async_context(running(kafka, folder, True, workflow, **common | kind.settings | environment))
        if workflow == "optin":
            access = await exits.enter_async_context(stack.campaign.sftp_serving(folder / "sftp", port=0, exports=True))
            stack.environment |= access.environment()
        world = kind(stack, rng)
        for system, url in (("dynamics", stack.dynamics_url), ("campaign", stack.campaign_url)):
            port = urlsplit(url).port
            assert port is not None
            proxy, own = await exits.enter_async_context(proxying("127.0.0.1", port))
            world.proxies[system] = proxy
            through = f"http://127.0.0.1:{own}"
            stack.environment |= {name: value.replace(url, through) for name, value in stack.environment.items() if value.startswith(url)}
        await world.begin()
        yield world
