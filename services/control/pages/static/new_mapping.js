// Add New Mapping: choose a table of each system; those mapped already are not offered.
import { h } from "./dom.js";
import { get } from "./api.js";
import { ask } from "./dialogs.js";
import { LOADING, Picker } from "./picker.js";
import { failed } from "./messages.js";
import { load } from "./saving.js";

/** Opens the dialog and goes to the page of the new mapping. */
export async function addMapping() {
  let mapped;
  try {
    mapped = (await load("ingress")).config.tables;
  } catch (error) {
    failed(error);
    return;
  }
  const chosen = { source: "", target: "" };
  const trouble = h("div");
  const known = { dynamics: LOADING, campaign: LOADING };
  const dynamics = picker(
    "Microsoft Dynamics 365 table",
    () => offered(known.dynamics, mapped, "source"),
    (value) => (chosen.source = value),
  );
  const campaign = picker(
    "Campaign table",
    () => offered(known.campaign, mapped, "target"),
    (value) => (chosen.target = value),
  );
  dynamics.input.dataset.focus = "";
  list("dynamics", known, trouble).then(() => dynamics.arrived());
  list("campaign", known, trouble).then(() => campaign.arrived());
  const content = h("div", { class: "tall" }, dynamics.element, campaign.element, trouble);
  const ok = () => {
    const missing = [dynamics, campaign].find((each) => !each.value);
    missing?.input.focus();
    return missing ? undefined : chosen;
  };
  const done = await ask("Select Resources/Entities", content, [{ words: "OK", value: ok }]);
  if (done) location.assign(`/workflows/ingress/tables/${encodeURIComponent(done.source)}?target=${encodeURIComponent(done.target)}`);
}

async function list(system, known, trouble) {
  try {
    known[system] = (await get(`/systems/${system}/tables`)).tables;
  } catch (error) {
    known[system] = null;
    trouble.append(h("p", { class: "error" }, `Unable to connect: ${error.detail || error.message} The name of the table can be typed.`));
  }
}

const picker = (label, options, picked) => new Picker({ label, visible: true, options, picked });

/** The tables that are not mapped yet; one whose changes are not tracked with the reason why it cannot be chosen. */
function offered(tables, mapped, side) {
  if (tables === null || tables === LOADING) return tables;
  const taken = new Set(mapped.map((each) => each[side]));
  return tables
    .filter((each) => !taken.has(each.name))
    .map((each) => ({
      name: each.name,
      label: each.label,
      why: each.change_tracking === false ? "changes are not tracked: switch on “Track changes” for it in Dynamics" : "",
    }));
}
