// A workflow's status and backlog in words.
import { h, icon } from "./dom.js";
import { count, duration, number, time } from "./format.js";

const VERDICTS = {
  IDLE: () => "idle, nothing waits",
  KEEPING_UP: () => "keeping up",
  DRAINING: () => "draining",
  GROWING: () => "growing: more comes in than goes out",
  STALLED: () => "stalled: nothing has moved for 20 s",
  WAITING: () => "waits for other records",
  SOURCE_AWAY: () => "the source does not answer",
  STOPPED: () => "wait for the workflow to be started",
  UNKNOWN: () => "Kafka cannot be asked",
};

/** Whether it has been asked to stop and has not yet. */
export const stopping = (workflow) => workflow.desired === "STOPPED" && workflow.status !== "STOPPED";

/** Dot and word. */
export function statusWords(workflow) {
  const word = h("span", { class: "status-word" }, workflow.status);
  return h(
    "span",
    { class: `status status-${workflow.status.toLowerCase()}` },
    h("span", { class: "dot", "aria-hidden": "true" }),
    word,
    stopping(workflow) && h("span", { class: "hint" }, "stopping…"),
  );
}

/** 120 records; unknown. */
export const backlogNumber = (backlog) => (backlog.records === null ? "unknown" : number(backlog.records));

/** draining · 40 records/s · about 3 s left. */
export function backlogWords(backlog) {
  const words = [backlog.records === null ? VERDICTS.UNKNOWN() : VERDICTS[backlog.verdict]()];
  if (backlog.records) {
    if (backlog.drain_rate_per_s) words.push(`${count(backlog.drain_rate_per_s, "record")}/s`);
    if (backlog.eta_s !== null) words.push(`about ${duration(backlog.eta_s)} left`);
    if (backlog.oldest_age_s !== null) words.push(`oldest waits ${duration(backlog.oldest_age_s)}`);
  }
  return words.join(" · ");
}

const PARKED = {
  ingress: (parked) => `${count(parked, "record waits", "records wait")} for a parent that has not arrived in Campaign yet (parked).`,
  egress: (parked) => `${count(parked, "event waits", "events wait")} for a contact that is not in Dynamics yet (parked).`,
  optin: (parked) => `${count(parked, "status waits", "statuses wait")} for a profile that is not in Campaign yet (parked).`,
};

/** What waits for something else than its turn; nothing if nothing does. */
export const parkedWords = ({ id, backlog }) => (backlog.parked ? PARKED[id](backlog.parked) : "");

/** The way to what the consent guard holds; nothing if it holds nothing. */
export const heldLink = ({ id, backlog }) =>
  backlog.held > 0 &&
  h("a", { class: "alarm caution", href: `/workflows/${id}#held` }, icon("warning"), h("span", null, `${number(backlog.held)} held`));

/** Why it is FAILED; nothing if it is not. */
export function failureWords({ status, reason }) {
  if (status !== "FAILED" || !reason) return null;
  const place = `${reason.role ? `${reason.role}, ` : ""}${reason.origin}, since ${time(reason.since)} (${reason.code})`;
  return h(
    "div",
    { class: "reason" },
    h("p", null, h("strong", null, sentence(reason.message))),
    h("p", null, reason.hint),
    h("p", { class: "hint" }, place),
  );
}

/** What people have to know although the workflow runs; nothing if that is nothing. */
export function warningWords({ status, reason }) {
  if (status === "FAILED" || !reason) return null;
  const message = h(
    "p",
    null,
    icon("warning"),
    h("span", { class: "visually-hidden" }, "Warning:"),
    " ",
    h("strong", null, sentence(reason.message)),
  );
  return h("div", { class: "reason caution" }, message, h("p", null, reason.hint));
}

/** A message of a service as it stands alone. */
const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1);

/** Why Start is greyed. */
export const UNCONFIGURED = {
  ingress: "Not configured: add a table mapping first.",
  egress: "Not configured: choose at least one event first.",
  optin: "Not configured: choose Campaign to Microsoft Dynamics 365 or Bidirectional, and map a field first.",
};
