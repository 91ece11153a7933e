// Where is this record? Its hops, as a timeline.
import { $, fill, h } from "./dom.js";
import { get } from "./api.js";
import { count, moment } from "./format.js";
import { attempt } from "./messages.js";
import { WORDS } from "./record_words.js";

const form = $("#search");
const workflow = form.dataset.workflow;
const WORD = WORDS[workflow];
const chosen = $("#table"); // of ingress only: the other workflows know contacts

const told = (outcome) => (outcome ? (WORD.outcomes[outcome] ?? outcome) : null);

async function find() {
  const key = $("#key").value.trim();
  if (!key) {
    $("#key").focus();
    return;
  }
  const table = chosen ? `table=${encodeURIComponent(chosen.value)}` : "";
  history.replaceState(null, "", `?${table}${table && "&"}key=${encodeURIComponent(key)}`);
  fill($("#found"), h("p", { class: "hint" }, "Looking through the queues…"));
  try {
    show(await get(`/workflows/${workflow}/records/${encodeURIComponent(key)}${table && "?"}${table}`));
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
          h("p", { class: "hint" }, WORD.check),
        ),
      ),
    );
  }
}

function show(record) {
  const waiting = record.hops.some((each) => each.hop === "waiting");
  const verdict = told(record.outcome) ?? (waiting ? "waits to be written" : "not dealt with yet");
  const facts = [
    ["Now", waiting && record.outcome ? `${verdict}; ${WORD.waits}` : verdict],
    WORD.versions && ["Version", record.version === null ? "unknown" : String(record.version)],
    [WORD.answered, record.target_status ? `HTTP ${record.target_status}` : "nothing recorded"],
    ["Attempts", record.attempts === null ? "none" : String(record.attempts)],
    [WORD.read, moment(record.read_at)],
    [WORD.settled, moment(record.settled_at)],
  ].filter(Boolean);
  fill(
    $("#found"),
    h(
      "div",
      { class: "card" },
      h("h2", null, `${record.table ?? "contact"} ${record.key}`),
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
    WORD.versions && each.version !== null && `version ${each.version}`,
  ]
    .filter(Boolean)
    .join(" · ");
  return h(
    "li",
    { class: each.hop === "dead_lettered" ? "bad" : each.hop },
    h("p", null, h("strong", null, WORD.hop(each)), ` ${each.at ? moment(each.at) : "time unknown"}`),
    details && h("p", null, details),
    h("p", { class: "hint" }, `${each.topic}, partition ${each.partition}, offset ${each.offset}`),
    each.hop === "dead_lettered" && h("p", null, h("a", { href: `/workflows/${workflow}/dead-letters` }, "Cause and cure")),
  );
}

/** The tables there are to choose from, `asked` among them. */
async function tables(asked) {
  const names = new Set(["contact"]);
  try {
    for (const each of (await get("/workflows/ingress/tables")).tables) names.add(each.source);
  } catch {
    // the table that was asked for is enough
  }
  if (asked) names.add(asked);
  fill(
    chosen,
    [...names].map((name) => h("option", { value: name, selected: name === asked }, name)),
  );
}

async function begin() {
  const asked = new URLSearchParams(location.search);
  if (chosen) await tables(asked.get("table"));
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
