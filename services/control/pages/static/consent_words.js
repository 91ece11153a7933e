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
  "opted-in-in-dynamics": "The opt-out was taken back in Dynamics.",
  "no-word-to-opt-in": "Nobody's word takes the opt-out back, so it stays.",
  "deleted-in-dynamics": "The record was deleted in Dynamics.",
  "filtered-out": "A filter leaves the record out.",
  returned: "The record is to stay.",
  released: "An administrator released it.",
};

/** What came of a decision, and what that means. */
export const OUTCOMES = {
  held: ["held", "Waits until an administrator releases or discards it."],
  released: ["released", "An administrator let it go; it comes again as a decision of its own."],
  discarded: ["discarded", "An administrator gave it up; nothing was written."],
  voided: ["void", "It was decided again, or a newer word made it void, while it was held."],
  executed: ["carried out", "After an administrator had released it."],
  kept: ["left as it is", "The opt-out stays: nobody's word takes it back."],
  waiting: ["waits to be written", ""],
  written: ["written", ""],
  unchanged: ["was so already", "Nothing had to be written."],
  absent: ["not there", "The system has no such person, or not any more."],
  observed_again: ["changed meanwhile", "Somebody changed the person at that moment; what they made of it was observed and decided again."],
  stale: ["overtaken", "A newer decision on the flag was there before it was written."],
  dead_lettered: ["dead letter", "It could not be written; see the dead letters."],
  done: ["dealt with", "It is from the time before outcomes were kept."],
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

/** What a system said of each flag, since when, and where that was read; with the flag's name where there are several. */
export function inputLines(inputs, system) {
  const several = Object.keys(inputs).length > 1;
  return Object.entries(inputs).map(([name, each]) => {
    const since = each[`${system}_changed_at`];
    const place = each[`${system}_from`];
    const told = each[system] === null ? "" : since ? `since ${moment(since)}` : "since an unknown time";
    return h(
      "span",
      { class: "block" },
      several && h("code", null, name),
      several && " ",
      value(each[system]),
      told && h("span", { class: "hint block" }, told),
      place && h("span", { class: "hint block" }, `from ${place}`),
    );
  });
}

/** When the target took it and what it answered; nothing if nobody knows. */
export function writtenLines({ written_at, status }) {
  const answer = status === null ? "" : `answered ${status}`;
  const words = [written_at && `written ${moment(written_at)}`, answer].filter(Boolean).join(", ");
  return words && h("span", { class: "hint block" }, words);
}
