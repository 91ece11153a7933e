"""What so many records need, from what one record costs: the arithmetic of benchmarks/model.py. Pure.

What nobody could measure here is named as assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.dynamics.pace import next_poll_s
from bridge.kafka.topics import control_topics, egress_topics, ingress_topics, optin_topics, workflow_topics

Figures = Mapping[str, Mapping[str, Mapping[str, float]]]  # workload → records → name → value

DAY_S = 86_400
EVENT_DAYS, DECISION_DAYS = 14, 372  # retention, and up to seven days until a file of the log is closed
OLD = 1.25  # of a compacted topic a fifth may be superseded
PAGE = 5000
RATES = (10, 25, 50, 100, 200)
DYNAMICS_EXECUTION = 1200 / 300  # seconds of execution that Dynamics allows one user in a second
CONNECTIONS = "connections to Kafka, four services and control"


@dataclass(frozen=True, slots=True)
class Case:
    """The size asked for. `rows_each`: of the custom entities; `export_rows`: profiles that Campaign's nightly file holds."""

    contacts: int = 15_000_000
    tables: int = 20
    rows_each: int = 1_000_000
    changes_a_day: int = 2_000_000
    events_a_day: int = 10_000_000
    export_rows: int = 150_000
    partitions: int = 12
    replicas: int = 3
    page_s: float = 3.0

    @property
    def rows(self) -> int:
        """Of all custom entities."""
        return self.tables * self.rows_each

    @property
    def records(self) -> int:
        return self.contacts + self.rows


@dataclass(frozen=True, slots=True)
class Line:
    """One figure. `how`: M (a measured cost times a number), C (contract or configuration), A (an assumption is in it)."""

    what: str
    value: str
    how: str


class Costs:
    """Figures, each of the largest size at which it was measured."""

    def __init__(self, measured: Figures) -> None:
        self._measured = measured

    def of(self, workload: str, name: str) -> float:
        sizes = self._measured[workload]
        largest = max((size for size, figures in sizes.items() if name in figures), key=int)
        return sizes[largest][name]

    def grown(self, workload: str, name: str, size: int) -> float:
        """By how much it is more at the largest size than at `size`."""
        return self.of(workload, name) - self._measured[workload][str(size)][name]

    def both(self, case: Case, name: str, asset_name: str = "") -> float:
        """A cost of a record, of all contacts and of all rows of custom entities."""
        return case.contacts * self.of("contact", name) + case.rows * self.of("asset", asset_name or name)


def topics(case: Case) -> Sequence[Line]:
    names = ingress_topics(["contact", *(f"new_{n}" for n in range(case.tables))])
    workflows = [topic for workflow in ("ingress", "egress", "optin") for topic in workflow_topics(workflow)]
    every = len(names) + len(workflows) + len(egress_topics() + optin_topics() + control_topics())
    subjects = len(names) + len(egress_topics() + optin_topics())
    partitions = every * case.partitions
    return [
        Line("`PARTITIONS`", f"{case.partitions}", "A"),
        Line("topics", f"{every}", "C"),
        Line("partitions, one replica", f"{partitions}", "C"),
        Line(f"replicas of partitions, {case.replicas} in all", f"{partitions * case.replicas}", "C"),
        Line("subjects in the registry", f"{subjects}", "C"),
        Line("schemas in the registry (ids)", "4", "C"),
        Line("requests to the registry, start of every service once", f"{2 * subjects + 6}", "C"),
    ]


def kafka_disk(case: Case, costs: Costs) -> Sequence[tuple[str, float, str]]:
    """(what, bytes of one replica, how)."""
    change = "Kafka bytes per change"
    mean = (costs.of("contact", change) + costs.of("asset", change)) / 2
    seen, told = "Kafka bytes per contact, optin.observations, of both", "Kafka bytes per contact, optin.decisions, of both"
    return [
        (
            "`ingress.replay.contact`, first load",
            case.contacts * costs.of("contact", "Kafka bytes per record, ingress.replay.contact"),
            "M",
        ),
        (
            "`ingress.replay.*` of the entities, first load",
            case.rows * costs.of("asset", "Kafka bytes per record, ingress.replay.new_asset"),
            "M",
        ),
        ("`ingress.changes.*`, 14 days", EVENT_DAYS * case.changes_a_day * mean, "M"),
        ("`ingress.state`", OLD * costs.both(case, "Kafka bytes per record, ingress.state"), "M"),
        (
            "`egress.email-events`, 14 days",
            EVENT_DAYS * case.events_a_day * costs.of("egress", "Kafka bytes per event, egress.email-events"),
            "M",
        ),
        (
            "`egress.state`, one record for each contact",
            OLD * case.contacts * costs.of("egress", "Kafka bytes per event, egress.state"),
            "M",
        ),
        ("`optin.observations`, first load and a full export", case.contacts * costs.of("optin", seen), "M"),
        ("`optin.state`, both sides of each contact", OLD * case.contacts * last_state(costs), "M"),
        (f"`optin.decisions`, {DECISION_DAYS} days, of a first start", case.contacts * costs.of("optin", told), "A"),
    ]


def last_state(costs: Costs) -> float:
    """Bytes of what the resolver knows of a contact when both sides were heard: the second of two records that were written."""
    name = "Kafka bytes per contact, optin.state, of "
    return costs.of("optin", name + "both") - costs.of("optin", name + "Dynamics")


def state_dir(case: Case, costs: Costs) -> Sequence[tuple[str, float, str]]:
    compared = "STATE_DIR bytes per record, reader's comparison"
    return [
        ("ingress writers together", costs.both(case, "STATE_DIR bytes per record, writers"), "M"),
        ("egress writers together", case.contacts * costs.of("egress", "STATE_DIR bytes per contact"), "M"),
        ("resolvers together", case.contacts * costs.of("optin", "STATE_DIR bytes per contact, resolver"), "M"),
        ("ingress reader, while it compares contacts", case.contacts * costs.of("contact", compared), "M"),
    ]


def work(case: Case, costs: Costs) -> Sequence[Line]:
    """Processor time of this machine's kind, and what waits for the systems."""
    rate = case.events_a_day / DAY_S
    egress = sum(costs.of("egress", f"{role}, CPU s per 1,000 events (start included)") for role in ("reader", "writer"))
    changed = sum(costs.of("contact", f"{role}, a change, CPU s per 1,000") for role in ("reader", "writers"))
    first = sum(costs.of("optin", f"{role}, CPU s per 1,000 contacts of Dynamics") for role in ("reader", "resolver"))
    rows = sum(costs.of("optin", f"{role}, CPU s per 1,000 rows of an export") for role in ("reader", "resolver"))
    hours = 1 / 1000 / 3600
    per_call = costs.of("contact", "writers, CPU s per 1,000 records") / 1000
    return [
        Line("first load: reader, CPU hours", f"{costs.both(case, 'reader, load, CPU s per 1,000 records') * hours:.1f}", "M"),
        Line("first load: reader's comparison, CPU hours", f"{_compared_s(case, costs) / 3600:.1f}", "M"),
        Line("first load: writers, CPU hours", f"{costs.both(case, 'writers, CPU s per 1,000 records') * hours:.1f}", "M"),
        Line("first load: Kafka, CPU hours", f"{costs.both(case, 'Kafka, CPU s per 1,000 records') * hours:.1f}", "M"),
        Line("calls a second that one writer process can make", f"{1 / per_call:,.0f}", "M"),
        Line("a writer at 100 calls a second, % of a core", f"{100 * per_call * 100:.0f}", "M"),
        Line("changes, all day, % of a core", f"{case.changes_a_day / DAY_S * changed / 1000 * 100:.1f}", "M"),
        Line("e-mail events, all day, % of a core", f"{rate * egress / 1000 * 100:.1f}", "M"),
        Line("Opt In/Out: first observation of all contacts, CPU hours", f"{case.contacts * first * hours:.1f}", "M"),
        Line("Opt In/Out: a nightly export, CPU minutes", f"{case.export_rows * rows / 1000 / 60:.1f}", "M"),
        Line("one writer takes over everything without a local copy, CPU minutes", f"{_rebuild_s(case, costs) / 60:.0f}", "M"),
        Line(f"pages of Dynamics, first load and comparison, hours at {case.page_s:g} s a page", f"{_pages_h(case):.1f}", "A"),
    ]


def _rebuild_s(case: Case, costs: Costs) -> float:
    """With what a record costs more in a partition of a million than in those of the pipeline that was measured."""
    deeper_s = costs.grown("partition", "a new record, CPU µs", 100_000) / 1e6 * case.records
    return costs.both(case, "restart without local copy, more CPU s than with it per 1,000 records") / 1000 + deeper_s


def _compared_s(case: Case, costs: Costs) -> float:
    """With what a key and an event cost more among fifteen million than among one, for the contacts."""
    names = ("a key that is listed, CPU µs", "an event that is noted, CPU µs")
    deeper_s = sum(costs.grown("comparison", name, 1_000_000) for name in names) / 1e6 * case.contacts
    return costs.both(case, "reader, comparison, CPU s per 1,000 records") / 1000 + deeper_s


def _pages_h(case: Case) -> float:
    """Tables are read side by side; the pages of one table come one after the other, and so do those of its comparison."""
    return 2 * case.contacts / PAGE * case.page_s / 3600


def loading(case: Case) -> Sequence[Sequence[str]]:
    """Hours of a first load by licensed calls a second: one call for a record that is new."""
    head = ["records", *(f"{rate}/s" for rate in RATES)]
    named = [(f"{case.contacts:,d} contacts", case.contacts), (f"with {case.rows:,d} rows of entities", case.records)]
    return [head, *([what, *(f"{number / rate / 3600:,.0f} h" for rate in RATES)] for what, number in named)]


def systems(case: Case, costs: Costs) -> Sequence[Line]:
    """What the two systems and Kafka are asked for, all day."""
    rate, wait_s = case.events_a_day / DAY_S, next_poll_s(5, 5, False, case.tables + 1)
    batches = costs.of("egress", "calls of Dynamics per event")
    idle = costs.of("contact", "idle, requests to Kafka /s")
    return [
        Line("calls of Campaign a day, changes", f"{case.changes_a_day:,d}", "M"),
        Line("requests to Dynamics in 5 minutes, polls of all tables (of 6,000)", f"{(case.tables + 1) / wait_s * 300:,.0f}", "C"),
        Line("requests to Dynamics in 5 minutes, e-mail events (of 6,000)", f"{rate * batches * 300:,.0f}", "M"),
        Line("activities a second, mean", f"{rate:,.0f}", "C"),
        Line("an activity may take in Dynamics at most, ms (one application user)", f"{DYNAMICS_EXECUTION / rate * 1000:.0f}", "C"),
        Line("requests to Kafka a second, ingress idle (reader, two writers, control)", f"{idle:.0f}", "M"),
        Line("requests to Kafka for each record of a load", f"{costs.of('contact', 'requests to Kafka per record'):.2f}", "M"),
        Line("connections to Kafka, ingress (reader, two writers) and control, one broker", f"{costs.of('contact', CONNECTIONS):.0f}", "M"),
    ]


def memory(costs: Costs) -> Sequence[Line]:
    """Peak resident sizes; none of them grows with the number of records, see the measured sizes."""
    peak = "peak memory of the load, "
    named = [
        ("ingress reader, one table of eleven columns", "contact", peak + "reader-1, MiB"),
        ("ingress reader, one table of fifty columns", "asset", peak + "reader-1, MiB"),
        ("ingress reader, twenty tables of fifty columns loaded at once", "tables", peak + "reader, MiB"),
        ("ingress writer, 64 calls at once", "contact", peak + "writer-1, MiB"),
        ("ingress writer that reads its state back", "contact", "restart without local copy, peak memory of the writer, MiB"),
        ("egress writer", "egress", peak + "writer-1, MiB"),
        ("resolver", "optin", peak + "resolver-1, MiB"),
        ("control", "optin", peak + "control-1, MiB"),
        ("Kafka, heap after a collection", "contact", "heap after collection, kafka, MiB"),
        ("registry, heap after a collection", "contact", "heap after collection, registry, MiB"),
    ]
    return [Line(f"{what}, MiB", f"{costs.of(workload, name):.0f}", "M") for what, workload, name in named]
