// Edit Table Mapping: one table's mapping as a draft, with Plan, Cancel and Save.
import { $, fill, h, radios, text } from "./dom.js";
import { fieldsOf, may, post, whyNot } from "./api.js";
import * as guard from "./guard.js";
import { attempt, clear, done, failed } from "./messages.js";
import { fieldRows } from "./mapping_fields.js";
import { holes } from "./mapping_check.js";
import { filterRows } from "./mapping_filters.js";
import { replacementRows } from "./mapping_replacements.js";
import { mergeTable } from "./merge.js";
import { showPlan } from "./plan.js";
import { clearFindings, load, save, savedWords, showFindings, summarise, validate } from "./saving.js";
import { strip } from "./state.js";
import { deletesByFilter, planned, sure } from "./taking.js";

const form = $("#mapping");
const source = form.dataset.table;
const CHECK_AFTER_MS = 900;
let page = null;

/** The draft with everything the sections need. */
class Page {
  constructor(base, draft, adding) {
    Object.assign(this, { base, draft, adding, dynamics: [], campaign: [], known: { dynamics: false, campaign: false } });
  }

  field(system, name) {
    return this[system].find((each) => each.name === name);
  }

  /** The type under a picker, or that there is no such field. */
  under(system, name, words) {
    if (!name) return "";
    const found = this.field(system, name);
    if (found) return words(found);
    return this.known[system] ? `${system === "dynamics" ? "Dynamics" : "Campaign"} has no such field` : "";
  }

  /** The whole configuration with this table as it is on the page. */
  config(onto = this.base.config) {
    const own = (config) => config.tables.find((each) => each.source === source);
    const at = onto.tables.findIndex((each) => each.source === source);
    const tables = [...onto.tables];
    const mine = onto === this.base.config ? this.draft : mergeTable(own(this.base.config), this.draft, own(onto));
    tables.splice(at < 0 ? tables.length : at, at < 0 ? 0 : 1, mine);
    return { ...onto, tables };
  }

  /** Where this table is in the configuration. */
  get pointer() {
    return `/tables/${this.config().tables.indexOf(this.draft)}`;
  }

  changed() {
    guard.changed();
    checkSoon();
  }
}

const empty = (target, key) => ({
  source,
  target,
  key: { source: key, target: source === "contact" ? "externalId" : "" },
  fields: [],
  replacements: [],
  filter: { match: "all", conditions: [], delete_filtered_out: false },
  apply_deletes: false,
  picklists: "technical",
});

async function begin() {
  const base = await load("ingress");
  const there = base.config.tables.find((each) => each.source === source);
  const target = new URLSearchParams(location.search).get("target");
  if (!there && !target) {
    fill(
      $("#summary"),
      h(
        "p",
        { class: "notice" },
        h("span", null, `${source} is not mapped. `, h("a", { href: "/workflows/ingress" }, "Go to the mapped tables.")),
      ),
    );
    return;
  }
  const draft = there ? structuredClone(there) : empty(target, "");
  page = new Page(base, draft, !there);
  await Promise.all([describe("dynamics", draft.source), describe("campaign", draft.target)]);
  if (!there) draft.key.source = page.dynamics.find((each) => each.key)?.name ?? (source === "contact" ? "contactid" : "");
  show();
  allow();
  guard.watch(() => page.draft);
  if (!there) guard.unsaved();
}

async function describe(system, name) {
  try {
    page[system] = await fieldsOf(system, name);
    page.known[system] = true;
  } catch (error) {
    const which = system === "dynamics" ? "Microsoft Dynamics 365" : "Campaign";
    $("#summary").append(
      h(
        "p",
        { class: "notice notice-warning" },
        `Unable to connect to ${which}: ${error.detail || error.message} Fields can be typed; types are not shown.`,
      ),
    );
  }
}

function show() {
  const { draft } = page;
  const readonly = (label, value, pointer) => {
    const id = `fixed-${pointer.slice(1)}`;
    return h(
      "div",
      { class: "field" },
      h("label", { for: id }, label),
      h("input", { id, value, readonly: "readonly", "data-pointer": pointer }),
    );
  };
  fill(
    $("#tables"),
    readonly("Microsoft Dynamics 365 table", draft.source, "/source"),
    readonly("Campaign table", draft.target, "/target"),
  );
  if (page.adding)
    $("#tables").after(
      h(
        "p",
        { class: "hint" },
        "This mapping is new and not saved yet. Its tables and its key cannot be changed once it has been saved: delete it and add it again.",
      ),
    );
  fieldRows(page);
  replacementRows(page);
  filterRows(page);
  advanced();
}

/** What the role may do. */
function allow() {
  $("#editable").disabled = !may("admin");
  $("#save").disabled = !may("admin");
  $("#plan").disabled = !may("admin");
  text($("#why-not"), may("admin") ? "" : `${whyNot("admin")} The mapping can be read.`);
  form.hidden = false;
}

function advanced() {
  const { draft } = page;
  const set = (name) => (value) => {
    draft[name] = value;
    page.changed();
  };
  fill(
    $("#advanced"),
    radios(
      "Apply deletes in Microsoft Dynamics 365 to Campaign?",
      [
        [true, "Yes"],
        [false, "No"],
      ],
      draft.apply_deletes,
      set("apply_deletes"),
      { pointer: "/apply_deletes", hint: "Yes: what is deleted in Dynamics is deleted in Campaign. No: deletions are ignored." },
    ),
    radios(
      "Use technical values in Microsoft Dynamics 365 picklists?",
      [
        ["technical", "Yes"],
        ["display", "No"],
      ],
      draft.picklists,
      set("picklists"),
      { pointer: "/picklists", hint: "Yes: the technical value is sent, as 1. No: the display value is sent, as Male." },
    ),
  );
}

/** Findings of this table, with pointers into it; the others stay as they are. */
function own(findings) {
  const prefix = page.pointer;
  return findings.map((each) =>
    each.path === prefix || each.path.startsWith(`${prefix}/`) ? { ...each, path: each.path.slice(prefix.length) } : each,
  );
}

let timer = 0;
function checkSoon() {
  clearTimeout(timer);
  if (may("admin")) timer = setTimeout(check, CHECK_AFTER_MS);
}

/** Checks the draft as it is, once all rows are filled in, so that errors and warnings are seen before Save. */
async function check() {
  const { draft } = page;
  if (holes(page).length || document.querySelector("dialog[open]")) return;
  const asked = JSON.stringify(draft);
  const found = await validate("ingress", page.config());
  if (!found || asked !== JSON.stringify(page.draft)) return;
  clearFindings(form);
  tell(found);
}

/** Errors of other tables are told, since nothing can be saved with them; their warnings belong on their own pages. */
function tell({ errors, warnings }) {
  const elsewhere = /^\/tables\/(\d+)/;
  const near = own(warnings).filter((each) => !elsewhere.test(each.path));
  const rest = [...showFindings(form, own(errors)), ...showFindings(form, near, "warning")].map((each) => {
    const at = elsewhere.exec(each.path)?.[1];
    return { ...each, path: at ? `mapping of ${page.config().tables[at].source}` : each.path };
  });
  fill(
    $("#warnings"),
    rest.length > 0 &&
      h(
        "div",
        { class: "notice notice-warning" },
        h(
          "ul",
          null,
          rest.map((each) => h("li", null, each.path && `${each.path}: `, each.message)),
        ),
      ),
  );
}

async function keep() {
  clearTimeout(timer);
  clear();
  clearFindings(form);
  if (unfilled("Not saved. Please correct:")) return;
  if (!(await sure("Save", await foreseen()))) return;
  const merge = (theirs) => page.config(theirs);
  const result = await save("ingress", page.base, page.config(), $("#comment").value.trim(), merge);
  if (!result) return;
  if (result.errors) {
    const found = own(result.errors);
    showFindings(form, found);
    summarise(form, found);
    return;
  }
  if (result.theirs) {
    guard.leave(location.pathname);
    return;
  }
  kept(result.saved);
  const found = await validate("ingress", page.config());
  if (found) tell(found);
  done(await savedWords("ingress", result.saved.revision), h("p", null, h("a", { href: "/workflows/ingress" }, "Go to the mapped tables")));
}

/** The plan of what is on the page, if it was asked for or if it begins to delete by its filter; else nothing is taken away that was not before. */
async function foreseen() {
  const asked = JSON.stringify(page.draft);
  if (page.plan?.of === asked) return { plan: page.plan.result };
  const before = page.base.config.tables.find((each) => each.source === source);
  const same = before && JSON.stringify(before.filter) === JSON.stringify(page.draft.filter);
  return same || !deletesByFilter(page.draft) ? { plan: { above_limits: false } } : planned(page.config());
}

/** What is saved is what is edited from now on: after a merge it holds more than was on the page. */
function kept(saved) {
  if (page.adding) {
    history.replaceState(null, "", location.pathname);
    $("#tables").nextElementSibling?.matches(".hint") && $("#tables").nextElementSibling.remove();
  }
  const draft = structuredClone(saved.config.tables.find((each) => each.source === source));
  Object.assign(page, { base: saved, draft, adding: false });
  $("#comment").value = "";
  show();
  guard.clean();
}

/** Tells of what has not been filled in; whether there is something. */
function unfilled(words) {
  const found = holes(page);
  if (!found.length) return false;
  showFindings(form, found);
  summarise(form, found, words);
  return true;
}

async function plan() {
  clearFindings(form);
  if (unfilled("Not planned. Please correct:")) return;
  const asked = JSON.stringify(page.draft);
  try {
    const result = await post("/workflows/ingress/config/plan", { config: page.config(), sample: 100 });
    page.plan = { of: asked, result };
    showPlan(result, page.draft);
  } catch (error) {
    if (error.status !== 422 || !error.errors?.length) throw error;
    const found = own(error.errors);
    showFindings(form, found);
    summarise(form, found, "Not planned. Please correct:");
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt($("#save"), keep);
});
$("#plan").addEventListener("click", () => attempt($("#plan"), plan));
strip("ingress");
begin().catch(failed);
