// Dead letters by cause: what happened, what helps, Re-drive and Discard.
import { $, button, fill, h, newId } from "./dom.js";
import { get, may, post, whyNot } from "./api.js";
import { ask } from "./dialogs.js";
import { count, moment, number } from "./format.js";
import { LetterList } from "./letter_list.js";
import { attempt, done, failed } from "./messages.js";

const place = $("#letters");
const workflow = place.dataset.workflow;
const lists = new Map();
let shown = "";

async function refresh() {
  const { groups } = await get(`/workflows/${workflow}/dead-letters/groups`);
  const key = JSON.stringify(groups);
  if (key === shown) return;
  const busy = place.contains(document.activeElement) && shown !== "" && !document.activeElement.matches("button:disabled");
  if (busy && document.activeElement.matches("input, select")) return;
  const focused = busy ? document.activeElement.getAttribute("aria-label") : null;
  const open = new Set([...place.querySelectorAll("details[open]")].map((each) => each.dataset.fingerprint));
  shown = key;
  fill(
    place,
    summary(groups),
    groups.map((group) => card(group, open.has(group.fingerprint))),
  );
  if (focused) place.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
}

function summary(groups) {
  if (!groups.length)
    return h("p", { class: "card" }, "There are no dead letters: every record that was read could be written, or still waits.");
  const open = groups.reduce((sum, each) => sum + each.open, 0);
  const all = button(
    "Re-drive all",
    {
      disabled: !may("operator") || open === 0,
      click: () => settle(all, "redrive", { all: true }, `Sends all ${count(open, "open record")} through the running mapping once more.`),
    },
    "replay",
  );
  return h(
    "div",
    { class: "buttons" },
    h("strong", null, `${count(open, "record")} open, ${count(groups.length, "cause")}`),
    all,
    whyNot("operator") && h("span", { class: "hint" }, whyNot("operator")),
  );
}

function card(group, isOpen) {
  const id = newId("group");
  const what = `${group.code} (${group.cause})`;
  const redrive = button(
    "Re-drive",
    {
      kind: "primary",
      label: `Re-drive ${what}`,
      disabled: !may("operator") || group.open === 0,
      click: () =>
        settle(
          redrive,
          "redrive",
          { fingerprint: group.fingerprint },
          `Sends ${count(group.open, "record")} through the running mapping once more. A record that has been written at a newer version meanwhile is left alone.`,
        ),
    },
    "replay",
  );
  const discard = button(
    "Discard",
    {
      kind: "danger",
      label: `Discard ${what}`,
      disabled: !may("admin") || group.open === 0,
      click: () =>
        settle(
          discard,
          "discard",
          { fingerprint: group.fingerprint },
          `Marks ${count(group.open, "record")} as done with. They are not sent again.`,
        ),
    },
    "bin",
  );
  const why = !may("operator")
    ? whyNot("operator")
    : !may("admin")
      ? `Discard: ${whyNot("admin")}`
      : group.open === 0
        ? "Nothing is open any more."
        : "";
  const details = h(
    "details",
    {
      "data-fingerprint": group.fingerprint,
      open: isOpen,
      on: { toggle: (event) => event.target.open && lists.get(group.fingerprint).open() },
    },
    h("summary", null, `The ${count(group.count, "record")}`),
    listOf(group),
  );
  const tag = h("span", { class: `tag ${group.open ? "tag-open" : ""}` }, `${number(group.open)} open of ${number(group.count)}`);
  const facts = [
    ["Cause", group.cause],
    ["Cure", group.cure],
    ["Reason told", group.sample.reason],
    ["First", moment(group.first)],
    ["Last", moment(group.last)],
  ];
  return h(
    "section",
    { class: "card", "aria-labelledby": id },
    h("h2", { id }, group.cause, " ", tag),
    h(
      "dl",
      { class: "facts" },
      facts.slice(1).flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)]),
    ),
    h(
      "p",
      { class: "hint" },
      h("code", null, group.code),
      ` at ${group.sample.stage}${group.sample.table ? `, table ${group.sample.table}` : ""}`,
    ),
    h("div", { class: "buttons" }, redrive, discard, why && h("span", { class: "hint" }, why)),
    details,
  );
}

/** The list of a group is kept while the groups are shown again. */
function listOf(group) {
  if (!lists.has(group.fingerprint)) lists.set(group.fingerprint, new LetterList(workflow, group.fingerprint));
  const list = lists.get(group.fingerprint);
  list.changed(`${group.count} ${group.open}`);
  return list.element;
}

async function settle(control, command, which, words) {
  const id = newId("reason");
  const reason = h("input", { id, maxlength: "1000", "data-focus": true });
  const content = h(
    "div",
    null,
    h("p", null, words),
    command === "discard" && h("div", { class: "field" }, h("label", { for: id }, "Reason (kept in the audit)"), reason),
  );
  const send = () => {
    if (command === "discard" && !reason.value.trim()) {
      reason.setAttribute("aria-invalid", "true");
      reason.focus();
      return undefined;
    }
    return post(
      `/workflows/${workflow}/dead-letters/${command}`,
      command === "discard" ? { ...which, reason: reason.value.trim() } : which,
    );
  };
  const title = command === "discard" ? "Discard" : "Re-drive";
  const result = await ask(title, content, [{ words: title, kind: command === "discard" ? "danger" : "primary", value: send }]);
  if (!result) return;
  const skipped = result.skipped ? `; ${number(result.skipped)} had been dealt with before or are gone from Kafka` : "";
  done(
    command === "discard"
      ? `${count(result.discarded, "record")} discarded${skipped}.`
      : `${count(result.redriven, "record")} sent again${skipped}. Those that fail again come back here.`,
  );
  await attempt(null, refresh);
}

refresh().catch(failed);
setInterval(() => refresh().catch(() => {}), 4000);
