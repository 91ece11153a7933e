"""`make demo`: starts everything, moves 6,000 records while you watch, edits rows and shows them arriving, puts a day of e-mail events on
the contacts' timelines, and lets people opt out on both sides."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live
from rich.table import Table

from sandbox.demo import consent, timelines
from sandbox.demo.compare import differences, mappings, member
from sandbox.demo.processes import HOME, SFTP, Processes
from sandbox.kafka import SandboxError
from sandbox.kafka.local import JARS

CONTACTS, VEHICLES, MAILS = 5000, 1000, 2000
SERVICES = (
    *("services.ingress.reader", "services.ingress.writer", "services.egress.reader", "services.egress.writer"),
    *("services.optin.reader", "services.optin.resolver", "services.optin.writer"),
    "services.control",
)
LINE = r"%p:%o %k %h\n"  # partition, offset, key, headers: Debian's kcat reads no Avro
CHURN = '{"seed": 1, "updates": 500, "inserts": 50, "deletes": 20}'
console = Console(highlight=False)


class Demo:
    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._dynamics = httpx.Client(base_url=processes.url("dynamics"), timeout=30, trust_env=False)
        self._campaign = httpx.Client(base_url=processes.url("campaign"), timeout=30, trust_env=False)
        self._control = httpx.Client(base_url=f"{processes.url('control')}/api/v1", timeout=30, trust_env=False)

    def run(self) -> bool:
        """True if both systems agree in the end."""
        self._start_everything()
        self._start_workflow()
        self._changes()
        wrong_events = self._events() + self._consents()
        compared, wrong = differences(self._dynamics, self._campaign)
        console.print(f"\n[bold]Compared[/] {compared:,} records field by field: " + ("[green]both systems agree[/]" if not wrong else ""))
        wrong += wrong_events
        for each in wrong[:20]:
            console.print(f"  [red]{each}[/]")
        return not wrong

    def _start_everything(self) -> None:
        console.print("[bold]Campaign Bridge[/]  Microsoft Dynamics 365 → Adobe Campaign, over Apache Kafka\n")
        processes, began = self._processes, time.monotonic()
        failed: list[SandboxError] = []
        kafka = threading.Thread(target=_caught, args=(processes.kafka.up, failed))
        kafka.start()
        console.print("starting Kafka and the schema registry (the first time they are downloaded) …")
        number = ("--port", str(processes.ports["dynamics"]))
        processes.start("dynamics", "sandbox.dynamics", *number, "--contacts", str(CONTACTS), "--vehicles", str(VEHICLES))
        sftp = ("--sftp-port", str(processes.ports["sftp"]), "--sftp-home", str(SFTP))
        processes.start("campaign", "sandbox.campaign", "--port", str(processes.ports["campaign"]), *sftp)
        for module in SERVICES:
            processes.start(module.removeprefix("services."), module, **processes.environment())
        for client in (self._dynamics, self._campaign):
            processes.wait(lambda client=client: client.get("/_admin/health").status_code == 200, "a stand-in answers")  # type: ignore[misc]
        kafka.join()
        if failed:
            raise failed[0]
        for workflow in ("ingress", "egress", "optin"):
            roles = sum(module.split(".")[1] == workflow for module in SERVICES)
            there = partial(lambda id, roles: len(self._workflow(id)["services"]) == roles, workflow, roles)
            processes.wait(there, f"the services of {workflow} report to control")
        console.print(f"everything is up after {time.monotonic() - began:.0f} s: both stand-ins, seven services, control\n")

    def _start_workflow(self) -> None:
        self._save("ingress", {"tables": mappings()}, "contact → profile, new_vehicle → cusVehicle")
        self._watch("ingress", CONTACTS + VEHICLES)

    def _save(self, workflow: str, config: dict[str, Any], what: str) -> None:
        """Configures and starts it."""
        path = f"/workflows/{workflow}"
        saved = self._control.get(f"{path}/config")
        answer = self._control.put(
            f"{path}/config", json={"config": config, "comment": "demo"}, headers={"If-Match": saved.headers["etag"]}
        )
        answer.raise_for_status()
        console.print(f"PUT  /api/v1{path}/config   {what}", soft_wrap=True)
        self._control.post(f"{path}/start").raise_for_status()
        console.print(f"POST /api/v1{path}/start\n")

    def _watch(self, id: str, number: int) -> None:
        """Live progress until so many are written and the backlog is 0."""
        began = time.monotonic()
        with Live(console=console, refresh_per_second=8, transient=False) as live:
            while True:
                self._processes.check()
                workflow = self._workflow(id)
                live.update(_progress(workflow, time.monotonic() - began))
                if workflow["status"] == "FAILED":
                    raise SandboxError(f"{id} FAILED: {workflow['reason']}")
                if workflow["counters"]["written"] >= number and workflow["backlog"]["records"] == 0:
                    break
                if time.monotonic() - began > 300:
                    raise SandboxError(f"the backlog did not come to 0 in 5 minutes; the logs are in {HOME / 'logs'}")
                time.sleep(0.1)
        console.print(f"\n{id}: {number:,} records in {time.monotonic() - began:.1f} s\n")

    def _events(self) -> list[str]:
        """A day of e-mail events for the contacts there are; what is missing on the timelines, or too much."""
        console.print("\n[bold]What Campaign knows of e-mails, on the contacts' timelines in Dynamics[/]")
        made = self._campaign.post("/_admin/journal/traffic", json={"seed": 1, "mails": MAILS}).raise_for_status().json()
        console.print(f"Campaign's journal holds {made['events']:,} events of {MAILS:,} e-mails", soft_wrap=True)
        self._save("egress", {"events": dict.fromkeys(made["expected"], True)}, "sends, opens, clicks, hard bounces")
        self._watch("egress", sum(made["expected"].values()))
        timelines.show(console, self._dynamics)
        return timelines.differences(self._dynamics, made["expected"])

    def _consents(self) -> list[str]:
        """People who opt out on either side; whom both systems are told differently."""
        console.print("\n[bold]Who said no in one system, and when the other one knows[/]")
        number = consent.opted_out(self._dynamics)
        self._save("optin", consent.CONFIG, f"{consent.COLUMN} ↔ {consent.FLAG}, both ways")
        self._watch("optin", number)
        people = [row["contactid"] for row in consent.contacts(self._dynamics) if not row[consent.COLUMN]]
        ada, bob = people[:2]
        consent.says(self._campaign, ada, True)
        self._arrives("opted out in Campaign (export)", lambda: consent.in_dynamics(self._dynamics, ada))
        self._edit("contact", bob, {consent.COLUMN: True})
        self._arrives("opted out in Dynamics", lambda: consent.in_campaign(self._campaign, bob))
        self._edit("contact", ada, {consent.COLUMN: False})
        self._arrives("ticked off in Dynamics: set again", lambda: consent.in_dynamics(self._dynamics, ada))
        consent.says(self._campaign, ada, False)
        self._arrives("opted in again in Campaign", lambda: not consent.in_dynamics(self._dynamics, ada))
        consent.show(console, self._control, ada)
        return consent.differences(self._dynamics, self._campaign)

    def _changes(self) -> None:
        console.print("[bold]Changes in Dynamics, and when they are in Campaign[/] (polled every 2 s)")
        contacts = self._rows("contact")
        vehicles = self._rows("new_vehicle")
        mail, fresh = "new.address@example.com", {"firstname": "Ada", "lastname": "Lovelace", "emailaddress1": "ada@example.com"}
        person, gone, car = contacts[0]["contactid"], vehicles[-1]["new_vehicleid"], vehicles[0]["new_vehicleid"]
        self._edit("contact", person, {"emailaddress1": mail})
        self._arrives("contact edited: e-mail", lambda: self._value("profile", "externalId", person, "email") == mail)
        self._edit("new_vehicle", car, {"new_fueltype": 100000002})
        self._arrives("vehicle edited: fuel Electric", lambda: self._value("cusVehicle", "cusVehicleId", car, "cusFuel") == "Electric")
        added = self._dynamics.post("/_admin/tables/contact/rows", json={"rows": [fresh]}).json()["ids"][0]
        self._arrives("contact added", lambda: self._value("profile", "externalId", added, "lastName") == "Lovelace")
        self._edit("contact", person, {"statecode": 1, "donotemail": True})
        self._arrives("contact said no to e-mail", lambda: self._value("profile", "externalId", person, "blackListEmail") is True)
        self._dynamics.delete(f"/_admin/tables/new_vehicle/rows/{gone}").raise_for_status()
        self._arrives("vehicle deleted", lambda: self._value("cusVehicle", "cusVehicleId", gone, "cusName") is None)

    def _edit(self, table: str, key: str, fields: dict[str, Any]) -> None:
        self._dynamics.patch(f"/_admin/tables/{table}/rows/{key}", json=fields).raise_for_status()

    def _arrives(self, what: str, arrived: Callable[[], bool]) -> None:
        began = time.monotonic()
        self._processes.wait(arrived, what, 30)
        console.print(f"  {what:36} [green]{time.monotonic() - began:5.2f} s[/]")

    def _value(self, resource: str, key_field: str, key: str, name: str) -> Any:
        """A field of one record in Campaign, None if the record is not there."""
        answer = self._campaign.get(f"/_admin/resources/{resource}/rows")
        row = next((each for each in answer.json()["rows"] if each[key_field] == key), None)
        return None if row is None else member(row, name)

    def _rows(self, table: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._dynamics.get(f"/_admin/tables/{table}/rows").json()["rows"]
        return rows

    def _workflow(self, id: str) -> dict[str, Any]:
        answer = self._control.get(f"/workflows/{id}")
        found: dict[str, Any] = answer.json() if answer.status_code == 200 else {"services": []}
        return found


def _progress(workflow: dict[str, Any], elapsed_s: float) -> Table:
    backlog, counters = workflow["backlog"], workflow["counters"]
    table = Table(box=None, pad_edge=False)
    for heading in ("STATUS", "READ", "WRITTEN", "BACKLOG", "RATE", "ETA", "VERDICT"):
        table.add_column(heading, justify="left" if heading in ("STATUS", "VERDICT") else "right", min_width=9)
    records = "unknown" if backlog["records"] is None else f"{backlog['records']:,}"
    eta = "" if backlog["eta_s"] is None else f"{backlog['eta_s']:.0f} s"
    rate = f"{counters['written'] / elapsed_s:,.0f}/s" if elapsed_s else ""
    row = (workflow["status"], f"{counters['read']:,}", f"{counters['written']:,}", records, rate, eta, backlog["verdict"])
    table.add_row(*row)
    return table


def _caught(call: Callable[[], None], failed: list[SandboxError]) -> None:
    try:
        call()
    except SandboxError as exc:
        failed.append(exc)


def _try_next(processes: Processes) -> None:
    kafka = processes.kafka
    tool = f"java -cp '{JARS}/kafka/*' org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    console.print("\n[bold]Try next[/]")
    control = processes.url("control")
    console.print(f"  [bold]pages     {control}/[/]   (API: {control}/openapi.json)")
    console.print(f"  bridge    BRIDGE_URL={control} {sys.executable} -m services.control.cli status --watch", soft_wrap=True)
    console.print(f"  lag       {tool} --bootstrap-server {kafka.bootstrap} --describe --group ingress", soft_wrap=True)
    console.print(f"  events    kcat -C -e -q -b {kafka.bootstrap} -t ingress.changes.contact -f '{LINE}'", soft_wrap=True, markup=False)
    console.print(f"  timeline  kcat -C -e -q -b {kafka.bootstrap} -t egress.email-events -f '{LINE}'", soft_wrap=True, markup=False)
    console.print(f"  consent   kcat -C -e -q -b {kafka.bootstrap} -t optin.decisions -f '{LINE}'", soft_wrap=True, markup=False)
    console.print(f"  stop      curl -X POST {control}/api/v1/workflows/ingress/stop", soft_wrap=True)
    console.print(
        f"  churn     curl {processes.url('dynamics')}/_admin/churn -d '"
        + '{"seed": 1, "updates": 500, "inserts": 50, "deletes": 20}'
        + "'",
        soft_wrap=True,
    )
    console.print(f"  logs      {HOME / 'logs'}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.demo", description=__doc__)
    parser.add_argument("--exit", action="store_true", help="end after the comparison: 0 if both systems agree")
    arguments = parser.parse_args()
    try:
        with Processes() as processes:
            agreed = Demo(processes).run()
            if arguments.exit:
                return 0 if agreed else 1
            _try_next(processes)
            console.print("\nCtrl-C ends everything.")
            signal.pause()
    except SandboxError as exc:
        console.print(f"[red]demo: {exc}[/]")
        return 1
    except KeyboardInterrupt:
        console.print("\nended; nothing is left running")
    return 0


if __name__ == "__main__":
    sys.exit(main())
