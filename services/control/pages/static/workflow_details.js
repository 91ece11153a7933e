// The details of a workflow on the first page: the backlog of an hour, services, counters, where to go.
import { $, fill, h, table, text } from "./dom.js";
import { count, number, time } from "./format.js";

const COUNTERS = {
  read: "read",
  written: "written",
  unchanged: "unchanged",
  stale: "older than what is there",
  incomplete: "read before the mapping, come again",
  filtered: "filtered out",
  deleted: "deleted",
  delete_ignored: "deletes not carried out",
  absent: "nobody there to write to",
  observed_again: "looked at again",
  held: "held",
  merged: "in a newer one",
  dead_lettered: "dead letters",
  parked: "parked",
  optout_kept: "opt-outs left as they are",
  target_calls: "calls to the destination",
};
const SERVICES = ["Service", "Instance", "Status", "Version", "Revision", "Heartbeat"];

/** Fills `box` once and brings it up to date afterwards. `graph`: the large svg, kept by the caller. */
export function details(box, workflow, graph, open) {
  if (!box.firstChild) make(box, workflow, graph);
  for (const [name, value] of Object.entries(workflow.counters)) {
    const place = $(`[data-counter=${name}]`, box);
    if (place) text(place, number(value));
  }
  text(
    $("[data-part=times]", box),
    `Last read ${time(workflow.last_read_at)}, last written ${time(workflow.last_written_at)}. Saved revision ${workflow.saved_revision}, running ${workflow.running_revision ?? "none"}.`,
  );
  text($("[data-part=letters]", box), `Dead letters (${number(open)} open)`);
  services($("[data-part=services]", box), workflow);
  lanes($("[data-part=lanes]", box), workflow);
}

function make(box, workflow, graph) {
  const counters = Object.entries(COUNTERS).map(([name, words]) =>
    h("div", { class: "counter" }, h("dt", null, words), h("dd", { "data-counter": name }, "0")),
  );
  const links = h(
    "p",
    { class: "links" },
    h("a", { href: `/workflows/${workflow.id}/dead-letters`, "data-part": "letters" }),
    h("a", { href: `/workflows/${workflow.id}/records` }, "Where is this record?"),
    h("a", { href: "/audit" }, "Audit"),
  );
  fill(
    box,
    h("h2", null, "Backlog, last 60 minutes"),
    graph,
    h("p", { class: "hint" }, "As this instance of control has seen it since its own start; kept in memory."),
    links,
    h("h2", null, "Since the services started"),
    h("dl", { class: "counters" }, counters),
    h("p", { class: "hint", "data-part": "times" }),
    h("h2", null, "Services"),
    h("div", { "data-part": "services" }),
    h("h2", null, "Queues"),
    h("div", { "data-part": "lanes" }),
  );
}

function services(box, workflow) {
  const rows = workflow.services.map((each) => [
    each.role,
    each.instance,
    [each.status, each.reason && h("p", { class: "hint" }, each.reason.message)],
    each.version,
    each.revision === null ? "none" : String(each.revision),
    time(each.heartbeat_at),
  ]);
  replace(box, JSON.stringify(workflow.services.map((each) => ({ ...each }))), () =>
    rows.length
      ? table(SERVICES, rows, { class: "small", "aria-label": `Services of ${workflow.name}` })
      : h("p", { class: "hint" }, "No service of this workflow is heard of."),
  );
}

function lanes(box, workflow) {
  const found = workflow.backlog.groups.flatMap((group) =>
    group.topics.map((topic) => [topic.topic, group.group, count(group.members, "member"), number(topic.lag)]),
  );
  replace(box, JSON.stringify(found), () =>
    found.length
      ? table(["Topic", "Group", "Readers", "Waiting"], found, { class: "small", "aria-label": `Queues of ${workflow.name}` })
      : h("p", { class: "hint" }, "No queue is known yet."),
  );
}

/** Makes the content again only when its data differ. */
function replace(box, key, make) {
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  fill(box, make());
}
