// Where is this record? Its hops, as a timeline.
import { $, fill, h } from "./dom.js";
import { get } from "./api.js";
import { count, moment } from "./format.js";
import { attempt } from "./messages.js";

const form = $("#search");
const workflow = form.dataset.workflow;
const HOPS = {
  read: "Read from Dynamics and queued",
  waiting: "Waiting in the queue",
  settled: "Dealt with by the writer",
  dead_lettered: "Set aside as a dead letter",
};
const OUTCOMES = {
  created: "created in Campaign",
  updated: "updated in Campaign",
  unchanged: "unchanged in Campaign",
  deleted: "deleted in Campaign",
  filtered: "filtered out",
  dead_lettered: "set aside as a dead letter",
  parked: "waits for its parent",
};

const told = (outcome) => (outcome ? (OUTCOMES[outcome] ?? outcome) : null);

async function find() {
  const key = $("#key").value.trim();
  const table = $("#table").value;
  if (!key) {
    $("#key").focus();
    return;
  }
  history.replaceState(null, "", `?table=${encodeURIComponent(table)}&key=${encodeURIComponent(key)}`);
  fill($("#found"), h("p", { class: "hint" }, "Looking through the queues…"));
  try {
    show(await get(`/workflows/${workflow}/records/${encodeURIComponent(key)}?table=${encodeURIComponent(table)}`));
  } catch (error) {
    fill($("#found"));
    if (error.code !== "never_seen") throw error;
    fill(
      $("#found"),
      h(
        "div",
        { class: "notice" },
        h(
          "div",
          null,
          h("p", null, h("strong", null, "Never seen.")),
          h("p", null, error.detail),
          h(
            "p",
            { class: "hint" },
            "Check table and key. A record that was not changed since the table was mapped comes with a replay of the table.",
          ),
        ),
      ),
    );
  }
}

function show(record) {
  const waiting = record.hops.some((each) => each.hop === "waiting");
  const verdict = told(record.outcome) ?? (waiting ? "waits to be written" : "not dealt with yet");
  const facts = [
    ["Now", waiting && record.outcome ? `${verdict}; a newer change waits` : verdict],
    ["Version", record.version === null ? "unknown" : String(record.version)],
    ["Campaign answered", record.target_status ? `HTTP ${record.target_status}` : "nothing recorded"],
    ["Attempts", record.attempts === null ? "none" : String(record.attempts)],
    ["Read", moment(record.read_at)],
    ["Settled", moment(record.settled_at)],
  ];
  fill(
    $("#found"),
    h(
      "div",
      { class: "card" },
      h("h2", null, `${record.table} ${record.key}`),
      h(
        "dl",
        { class: "facts" },
        facts.flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)]),
      ),
      h("h3", null, "Its way"),
      h("ol", { class: "timeline" }, record.hops.map(hop)),
    ),
  );
}

function hop(each) {
  const details = [
    told(each.outcome),
    each.status && `HTTP ${each.status}`,
    each.attempts && count(each.attempts, "attempt"),
    each.version !== null && `version ${each.version}`,
  ]
    .filter(Boolean)
    .join(" · ");
  return h(
    "li",
    { class: each.hop === "dead_lettered" ? "bad" : each.hop },
    h("p", null, h("strong", null, HOPS[each.hop]), ` ${each.at ? moment(each.at) : "time unknown"}`),
    details && h("p", null, details),
    h("p", { class: "hint" }, `${each.topic}, partition ${each.partition}, offset ${each.offset}`),
    each.hop === "dead_lettered" && h("p", null, h("a", { href: `/workflows/${workflow}/dead-letters` }, "Cause and cure")),
  );
}

async function begin() {
  const asked = new URLSearchParams(location.search);
  const names = new Set(["contact"]);
  try {
    for (const each of (await get("/workflows/ingress/tables")).tables) names.add(each.source);
  } catch {
    // the table that was asked for is enough
  }
  if (asked.get("table")) names.add(asked.get("table"));
  fill(
    $("#table"),
    [...names].map((name) => h("option", { value: name, selected: name === asked.get("table") }, name)),
  );
  if (asked.get("key")) {
    $("#key").value = asked.get("key");
    await attempt($("button", form), find);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt($("button", form), find);
});
begin();
