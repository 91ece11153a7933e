// What a plan says, in words: what saving and starting would do to a live sample of the table.
import { $, fill, h, table } from "./dom.js";
import { count, number } from "./format.js";
import { takenLines } from "./taking.js";

const COUNTS = {
  create: "would be created",
  update: "would be updated",
  unchanged: "would stay as they are",
  delete: "would be deleted",
  filtered: "would be filtered out",
  rejected: "would be rejected",
};
const LANES = {
  initial: "They would come with the initial load, at the next start.",
  resync: "All rows would come again at the next start, because columns were added.",
  replay: "Nothing would make them come now; this is what a replay would do.",
};

/** Shows the plan of the table that is edited. */
export function showPlan(plan, draft) {
  const mine = plan.tables.find((each) => each.source === draft.source);
  const section = $("#planned");
  section.hidden = false;
  fill(
    $("#plan-result"),
    h(
      "p",
      null,
      `A live sample of ${count(mine.sample, "record")} of ${mine.source}${mine.total === null ? "" : `, of ${number(mine.total)} there are`}. Nothing was written. ${LANES[mine.lane]}`,
    ),
    h(
      "dl",
      { class: "counters" },
      Object.entries(COUNTS).map(([name, words]) =>
        h(
          "div",
          { class: `counter ${name === "rejected" && mine.counts[name] ? "bad" : ""}` },
          h("dt", null, words),
          h("dd", null, number(mine.counts[name])),
        ),
      ),
    ),
    h(
      "p",
      null,
      `Estimated calls to Campaign: ${number(mine.calls.sample)} for the sample, ${mine.calls.total === null ? "unknown" : number(mine.calls.total)} for all records.`,
    ),
    taken(mine),
    list(
      "Rejected",
      ["Reason", "Records", "Keys"],
      mine.rejected.map((each) => [each.reason, number(each.count), each.keys.map((key) => [h("code", null, key), " "])]),
    ),
    list(
      "Would be truncated",
      ["Dynamics field", "Campaign field", "Holds", "Records"],
      mine.truncated.map((each) => [each.source, each.target, count(each.length, "character"), number(each.count)]),
    ),
    list(
      "Not convertible",
      ["Dynamics field", "Campaign field", "Records"],
      mine.not_convertible.map((each) => [each.source, each.target, number(each.count)]),
    ),
    list(
      "Picklist values without replacement",
      ["Dynamics field", "Value", "Display value", "Records"],
      mine.unreplaced.map((each) => [each.source, each.value, each.label ?? "", number(each.count)]),
    ),
    clean(mine) && h("p", { class: "hint" }, "Nothing is rejected, cut or not convertible in this sample."),
  );
  section.focus();
  section.scrollIntoView({ block: "start" });
}

/** What would be taken away, with the limits: a warning above one of them. */
function taken(mine) {
  const lines = takenLines(mine).map((each) => h("li", null, each));
  const above = mine.lowers.above || mine.deletes.above;
  return lines.length > 0 && h("div", { class: above ? "notice notice-warning" : "notice" }, h("ul", null, lines));
}

const clean = (mine) => !mine.rejected.length && !mine.truncated.length && !mine.not_convertible.length;

function list(title, columns, rows) {
  return rows.length > 0 && [h("h3", null, title), table(columns, rows, { class: "small", "aria-label": title })];
}
