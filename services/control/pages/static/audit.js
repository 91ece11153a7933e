// Who did what.
import { $, fill, h, row, table } from "./dom.js";
import { get } from "./api.js";
import { moment } from "./format.js";
import { attempt, failed } from "./messages.js";

const COLUMNS = ["When", "Who", "What", "From where", "Before", "After", "Result"];
const WORKFLOWS = { ingress: "Microsoft Dynamics 365 to Campaign", egress: "Campaign to Microsoft Dynamics 365", optin: "Opt In/Out" };
const older = $("#older");
const SHOWN = 6;
let next = null;
let list = null;

/** A list with its first members, anything else as JSON. */
function listed(value) {
  if (!Array.isArray(value)) return JSON.stringify(value);
  const rest = value.length - SHOWN;
  return value.slice(0, SHOWN).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}

function facts(value) {
  if (!value) return "";
  const filled = Object.entries(value).filter(([, each]) => each !== null);
  return filled.map(([name, each]) => h("div", null, `${name}: ${typeof each === "object" ? listed(each) : each}`));
}

const cells = (each) => [
  moment(each.at),
  each.by,
  [each.what, each.workflow && h("span", { class: "hint block" }, WORKFLOWS[each.workflow])],
  each.address ?? "",
  facts(each.before),
  facts(each.after),
  each.result === "done" ? "done" : h("span", { class: "error" }, `refused: ${each.result}`),
];

async function load(after) {
  const found = await get(`/audit?limit=50${after ? `&after=${after}` : ""}`);
  if (!list) {
    list = table(COLUMNS, [], { class: "small audit", "aria-label": "Audit" });
    fill($("#audit"), found.entries.length ? list : h("p", null, "Nothing has been done yet."));
  }
  $("tbody", list).append(...found.entries.map((each) => row(COLUMNS, cells(each))));
  next = found.next;
  older.hidden = !next;
}

older.addEventListener("click", () => attempt(older, () => load(next)));
load(null).catch(failed);
