// What saving or starting would take away, told before it does so: records deleted in Campaign, opt-outs taken back.
import { h } from "./dom.js";
import { may, post } from "./api.js";
import { ask } from "./dialogs.js";
import { count, number } from "./format.js";

const SAMPLE = 100;
const KINDS = [
  ["deletes", "record would be deleted in Campaign", "records would be deleted in Campaign"],
  ["lowers", "opt-out would be taken away in Campaign", "opt-outs would be taken away in Campaign"],
];

/** Whether a table deletes what its filter leaves out. */
export const deletesByFilter = (table) => table.filter.delete_filtered_out && table.filter.conditions.length > 0;

/** What a plan of a table says of deletes and opt-outs, a line each. */
export function takenLines(plan, above = false) {
  return KINDS.filter(([name]) => (above ? plan[name].above : plan[name].sample > 0 || plan[name].above)).map(([name, one, many]) => {
    const { sample, total, limit } = plan[name];
    const all = total === null ? `${number(sample)} of the sample of ${number(plan.sample)}` : `about ${count(total, one, many)}`;
    return `${plan.source}: ${total === null ? `${all} ${many}` : all}; up to ${number(limit)} within an hour go through, the rest is held.`;
  });
}

/** The plan of a configuration; `{plan}`, or `{trouble}`: why there is none. */
export async function planned(config) {
  if (!may("admin")) return { trouble: "How many would be deleted only an administrator can plan." };
  try {
    return { plan: await post("/workflows/ingress/config/plan", { config, sample: SAMPLE }) };
  } catch (error) {
    return { trouble: `How many would be deleted cannot be told: ${error.detail || error.message}` };
  }
}

/**
 * Asks twice, with the numbers, if the plan is above a limit; once if there is no plan. Gives whether to go on.
 * `doing`: Save or Start. `found`: of `planned`.
 */
export async function sure(doing, found) {
  const { plan, trouble } = found;
  if (plan && !plan.above_limits) return true;
  const lines = plan ? plan.tables.flatMap((each) => takenLines(each, true)) : [trouble, "A filter deletes what it leaves out in Campaign."];
  const listed = h(
    "ul",
    null,
    lines.map((each) => h("li", null, each)),
  );
  const title = plan ? `${doing}: more than the limit would be taken away` : `${doing} without a plan?`;
  const words = plan ? `Estimated from a live sample of up to ${number(SAMPLE)} records of each table.` : "See first what is meant.";
  const first = await ask(title, h("div", null, h("p", null, words), listed), [
    { words: plan ? "Go on" : `${doing} all the same`, kind: "danger", value: true },
  ]);
  if (!first || !plan) return Boolean(first);
  const again = h(
    "div",
    null,
    h(
      "p",
      null,
      lines.map((each) => h("strong", { class: "block" }, each)),
    ),
  );
  return Boolean(await ask(`${doing}: are you sure?`, again, [{ words: `${doing} all the same`, kind: "danger", value: true }]));
}
