// Decisions of a contact: what was decided, by which rule, from which facts, and what came of it; as a table and as a file.
import { $, button, fill, h, row, table } from "./dom.js";
import { file, get } from "./api.js";
import { OUTCOMES, SYSTEMS, flagLines, inputLines, ruleWords, writtenLines } from "./consent_words.js";
import { moment } from "./format.js";
import { attempt } from "./messages.js";

const COLUMNS = ["When", "For", "Flags", "Why", "Campaign said", "Dynamics said", "Outcome"];
const PAGE = 50;
const IN_A_FILE = 1000;
const CONTACT = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const NONE = {
  optin: "No decision is kept of this contact. One is made when a system has to be told what the other says.",
  ingress: "No decision is kept of this contact. One is made when an opt-out of the contact mapping is set, taken back or left as it is.",
};

const form = $("#decisions-form");
const box = $("#decisions-contact");
const place = $("#decisions-found");
const workflow = $("#decisions").dataset.workflow;
const address = (contact, limit, after) => `/workflows/${workflow}/decisions?contact=${contact}&limit=${limit}${after ? `&after=${after}` : ""}`;

/** Shows the decisions of a contact, and goes there. */
export async function lookAt(contact) {
  box.value = contact;
  await find();
  $("#decisions").scrollIntoView();
  box.focus({ preventScroll: true });
}

async function find() {
  const contact = box.value.trim().toLowerCase();
  const wrong = !CONTACT.test(contact);
  box.setAttribute("aria-invalid", String(wrong));
  $("#decisions-wrong").hidden = !wrong;
  if (wrong) {
    box.focus();
    return;
  }
  history.replaceState(null, "", `?contact=${contact}#decisions`);
  fill(place, h("p", { class: "hint" }, "Looking through the decisions…"));
  try {
    show(contact, await get(address(contact, PAGE)));
  } catch (error) {
    fill(place);
    throw error;
  }
}

function show(contact, found) {
  if (!found.decisions.length) {
    fill(place, h("p", { class: "notice" }, NONE[workflow]));
    return;
  }
  const list = table(COLUMNS, [], { class: "small decided", "aria-label": `Decisions of ${contact}` });
  let next = null;
  const add = (page) => {
    $("tbody", list).append(...page.decisions.map((each) => row(COLUMNS, cells(each))));
    next = page.next;
    more.hidden = !next;
  };
  const more = button("Older decisions", { click: () => attempt(more, async () => add(await get(address(contact, PAGE, next)))) });
  const csv = button("Download as CSV", { click: () => attempt(csv, () => download(contact)) });
  add(found);
  fill(place, list, h("div", { class: "buttons" }, more, csv));
}

function cells(each) {
  const [word, meaning] = OUTCOMES[each.outcome] ?? [each.outcome, ""];
  return [
    moment(each.decided_at),
    SYSTEMS[each.target] ?? "cannot be read",
    each.kind === "delete" ? "deletes the record" : flagLines(each.flags),
    ruleWords(each.rule),
    inputLines(each.inputs, "campaign"),
    inputLines(each.inputs, "dynamics"),
    [word, meaning && h("span", { class: "hint block" }, meaning), writtenLines(each)],
  ];
}

/** The API gives files of so many decisions, a line for each flag with the decision's id first; they are put together until one is empty. */
async function download(contact) {
  const parts = [];
  let after = null;
  do {
    const [head, ...lines] = (await file(address(contact, IN_A_FILE, after), "text/csv")).trimEnd().split("\r\n");
    if (!parts.length) parts.push(head);
    parts.push(...lines);
    after = lines.length ? idOf(lines.at(-1)) : null;
  } while (after);
  const href = URL.createObjectURL(new Blob([`${parts.join("\r\n")}\r\n`], { type: "text/csv" }));
  h("a", { href, download: `decisions-${workflow}-${contact}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

const idOf = (line) => line.slice(0, line.indexOf(","));

form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt($("button", form), find);
});

/** Those of the contact that the page's address names, if it names one. */
export async function begin() {
  const contact = new URLSearchParams(location.search).get("contact");
  if (contact) await lookAt(contact);
}
