// Decisions on opt-out flags in plain words.
import { h } from "./dom.js";
import { moment } from "./format.js";

export const SYSTEMS = { dynamics: "Dynamics", campaign: "Campaign" };

const RULES = {
  "opted-out-in-campaign": "Campaign says opted out.",
  "opted-out-in-dynamics": "Dynamics says opted out, and Campaign's change is not later.",
  "campaign-is-later": "Campaign's change is the later one.",
  "campaign-changed": "Campaign's value has changed.",
  "opted-in-on-both": "Neither system says opted out.",
};

/** What came of a decision, and what that means. */
export const OUTCOMES = {
  held: ["held", "Waits until an administrator releases or discards it."],
  released: ["released", "An administrator let it go; it comes again as a decision of its own."],
  discarded: ["discarded", "An administrator gave it up; nothing was written."],
  waiting: ["waits to be written", ""],
  written: ["written", ""],
  unchanged: ["was so already", "Nothing had to be written."],
  absent: ["not there", "The system has no such person, or not any more."],
  observed_again: ["changed meanwhile", "Somebody changed the person at that moment; what they made of it was observed and decided anew."],
  stale: ["overtaken", "A newer decision on the flag was there before it was written."],
  dead_lettered: ["dead letter", "It could not be written; see the dead letters."],
  done: ["dealt with", "What came of it is kept for the last decision of a contact only."],
};

/** Why it was decided so; several rules where flags differ. */
export const ruleWords = (rule) =>
  rule
    .split(",")
    .map((each) => RULES[each] ?? each)
    .join(" ");

const value = (flag) => (flag === null ? "never seen" : flag ? "opted out" : "opted in");

/** Flags with what they have to become, a line each. */
export const flagLines = (flags) =>
  Object.entries(flags).map(([name, flag]) => h("span", { class: "block" }, h("code", null, name), ` ${value(flag)}`));

/** What a system said of each flag, and since when; with the flag's name where there are several. */
export function inputLines(inputs, system) {
  const several = Object.keys(inputs).length > 1;
  return Object.entries(inputs).map(([name, each]) => {
    const since = each[`${system}_changed_at`];
    const told = each[system] === null ? "" : since ? `since ${moment(since)}` : "since an unknown time";
    return h(
      "span",
      { class: "block" },
      several && h("code", null, name),
      several && " ",
      value(each[system]),
      told && h("span", { class: "hint block" }, told),
    );
  });
}
