// Opt In/Out: the direction, and which yes/no field of contact goes with which flag of Campaign.
import { $, $$, h, text } from "./dom.js";
import { fieldsOf, may, whyNot } from "./api.js";
import * as decisions from "./decisions.js";
import * as guard from "./guard.js";
import { Held } from "./held.js";
import { history } from "./history.js";
import { attempt, clear, done, failed } from "./messages.js";
import { Picker } from "./picker.js";
import { clearFindings, load, save, savedWords, showFindings, summarise } from "./saving.js";
import { strip } from "./state.js";

const form = $("#optin");
const MAPPED = ["campaign-to-dynamics", "bidirectional"];
const HINTS = {
  disabled: "No opt-in or opt-out information moves. Choose this when another process handles it.",
  "dynamics-to-campaign":
    "The flags are mapped in the contact mapping of Microsoft Dynamics 365 to Campaign: add field mappings to the “No longer contact” fields there. Nothing is mapped on this page, and nothing has to be started here.",
  "campaign-to-dynamics":
    "Values set by hand in Dynamics are overwritten when the value in Campaign changes. Runs once per day, by a file on the SFTP server.",
  bidirectional:
    "The later change wins if it was made in Campaign; if Dynamics' change is later or at the same time, opted out wins if either side says so. Runs once per day, by a file on the SFTP server.",
};
let base = null;
let booleans = null;
const pickers = new Map();

const direction = () => $("#direction").value;
const chosen = () => [...pickers].filter(([, picker]) => picker.value).map(([target, picker]) => ({ source: picker.value, target }));

/** The configuration on the page. Mappings are kept while the direction is Disabled, and left out where they are not allowed. */
const config = () => ({ direction: direction(), mappings: direction() === "dynamics-to-campaign" ? [] : chosen() });

function rows() {
  for (const each of $$("[data-flag]", form)) {
    const flag = each.dataset.flag;
    const picker = new Picker({
      label: `Dynamics field for ${flag}`,
      options,
      under: (name) =>
        name
          ? booleans === null || booleans.some((one) => one.name === name)
            ? "Boolean"
            : "not a yes/no field of contact"
          : "not synchronised",
      picked: () => {
        pointers();
        guard.changed();
      },
    });
    pickers.set(flag, picker);
    each.firstElementChild.append(picker.element);
  }
}

function options() {
  if (booleans === null) return null;
  const used = new Set(chosen().map((each) => each.source));
  return booleans.map((each) => ({
    name: each.name,
    label: each.label,
    note: used.has(each.name) ? "Boolean · mapped already" : "Boolean",
  }));
}

/** Errors name the mappings by number. */
function pointers() {
  let number = 0;
  for (const picker of pickers.values()) {
    if (picker.value) picker.input.dataset.pointer = `/mappings/${number++}/source`;
    else delete picker.input.dataset.pointer;
  }
}

function show(saved) {
  base = saved;
  $("#direction").value = saved.config.direction;
  for (const [flag, picker] of pickers)
    picker.set(saved.config.mappings.find((each) => each.target.replace("denyList", "blackList") === flag)?.source ?? "");
  pointers();
  turned();
  clearFindings(form);
  guard.watch(config);
}

function turned() {
  $("#mappings-section").hidden = !MAPPED.includes(direction());
  text($("#direction-hint"), HINTS[direction()]);
  if (direction() === "dynamics-to-campaign")
    $("#direction-hint").append(" ", h("a", { href: "/workflows/ingress/tables/contact" }, "Go to the contact mapping"));
}

/** What was changed here, on top of what others saved. */
function merge(theirs) {
  const mine = config();
  const before = new Map(base.config.mappings.map((each) => [each.target, each.source]));
  const after = new Map(mine.mappings.map((each) => [each.target, each.source]));
  const merged = new Map(theirs.mappings.map((each) => [each.target, each.source]));
  for (const target of new Set([...before.keys(), ...after.keys()])) {
    if (before.get(target) === after.get(target)) continue;
    if (after.has(target)) merged.set(target, after.get(target));
    else merged.delete(target);
  }
  const way = mine.direction === base.config.direction ? theirs.direction : mine.direction;
  return { direction: way, mappings: way === "dynamics-to-campaign" ? [] : [...merged].map(([target, source]) => ({ source, target })) };
}

async function keep() {
  clear();
  clearFindings(form);
  const result = await save("optin", base, config(), $("#comment").value.trim(), merge);
  if (!result) return;
  if (result.errors) {
    showFindings(form, result.errors);
    summarise(form, result.errors);
    return;
  }
  show(result.saved ?? result.theirs);
  $("#comment").value = "";
  await history("optin", show);
  if (result.saved) done(await savedWords("optin", result.saved.revision));
}

async function columns() {
  try {
    booleans = (await fieldsOf("dynamics", "contact")).filter((each) => each.type === "Boolean");
  } catch (error) {
    $("#summary").append(
      h(
        "p",
        { class: "notice notice-warning" },
        `Unable to connect to Microsoft Dynamics 365: ${error.detail || error.message} Fields can be typed.`,
      ),
    );
  }
  for (const picker of pickers.values()) picker.refresh();
}

async function begin() {
  rows();
  show(await load("optin"));
  $("#editable").disabled = !may("admin");
  $("#save").disabled = !may("admin");
  text($("#why-not"), whyNot("admin"));
  form.hidden = false;
  await Promise.all([history("optin", show), columns()]);
}

$("#direction").addEventListener("change", () => {
  turned();
  guard.changed();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt($("#save"), keep);
});
const held = new Held("optin", $("#held-list"), decisions.lookAt);
strip("optin", (workflow) => held.told(workflow.backlog.held));
begin()
  .then(decisions.begin)
  .then(() => location.hash === "#held" && $("#held").scrollIntoView())
  .catch(failed);
