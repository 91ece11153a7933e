// Which Campaign events go to Dynamics.
import { $, $$, text } from "./dom.js";
import { may, whyNot } from "./api.js";
import * as guard from "./guard.js";
import { history } from "./history.js";
import { attempt, clear, done, failed } from "./messages.js";
import { clearFindings, load, save, savedWords, showFindings, summarise } from "./saving.js";
import { strip } from "./state.js";

const form = $("#egress");
const NAMES = ["send", "click", "open", "bounce"];
let base = null;

const events = () => Object.fromEntries(NAMES.map((name) => [name, $(`input[name=${name}]:checked`, form)?.value === "yes"]));

function show(saved) {
  base = saved;
  for (const name of NAMES) $(`input[name=${name}][value=${saved.config.events[name] ? "yes" : "no"}]`, form).checked = true;
  clearFindings(form);
  guard.watch(events);
}

/** What was changed here, on top of what others saved. */
function merge(theirs) {
  const mine = events();
  const changed = NAMES.filter((name) => mine[name] !== base.config.events[name]);
  return { ...theirs, events: { ...theirs.events, ...Object.fromEntries(changed.map((name) => [name, mine[name]])) } };
}

async function keep() {
  clear();
  clearFindings(form);
  const result = await save("egress", base, { ...base.config, events: events() }, $("#comment").value.trim(), merge);
  if (!result) return;
  if (result.errors) {
    showFindings(form, result.errors);
    summarise(form, result.errors);
    return;
  }
  show(result.saved ?? result.theirs);
  $("#comment").value = "";
  await history("egress", show);
  if (result.saved) done(await savedWords("egress", result.saved.revision));
}

async function begin() {
  show(await load("egress"));
  $("#editable").disabled = !may("admin");
  $("#save").disabled = !may("admin");
  text($("#why-not"), whyNot("admin"));
  form.hidden = false;
  await history("egress", show);
}

for (const each of $$("input[type=radio]", form)) each.addEventListener("change", guard.changed);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt($("#save"), keep);
});
strip("egress");
begin().catch(failed);
