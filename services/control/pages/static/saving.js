// Saving a configuration: If-Match, errors beside their fields, and what to do when somebody else has saved meanwhile.
import { $, $$, fill, h, newId } from "./dom.js";
import { Problem, call, get } from "./api.js";
import { ask } from "./dialogs.js";
import { differenceTable, differences } from "./diff.js";
import { moment } from "./format.js";

/** The saved configuration: `{revision, saved_at, saved_by, config, running, diff, etag}`. */
export async function load(workflow) {
  const { data, etag } = await call("GET", `/workflows/${workflow}/config`);
  return { ...data, etag };
}

/**
 * Saves `config`, which was made from `base` (of `load`). `merge(theirs)` puts the changes onto another configuration.
 * Gives `{saved}`, `{theirs}` when those are taken, `{errors}` for findings, or null when it was cancelled. Throws other problems.
 */
export async function save(workflow, base, config, comment, merge) {
  const body = comment ? { config, comment } : { config };
  try {
    const { data, etag } = await call("PUT", `/workflows/${workflow}/config`, body, { "If-Match": base.etag });
    return { saved: { ...data, etag } };
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.status === 422 && error.errors.length) return { errors: error.errors, refusal: error };
    if (error.status !== 412) throw error;
  }
  const theirs = await load(workflow);
  const content = h(
    "div",
    null,
    h(
      "p",
      null,
      `${theirs.saved_by} saved revision ${theirs.revision} at ${moment(theirs.saved_at)}, while you were editing revision ${base.revision}.`,
    ),
    h("h3", null, "What they changed"),
    differenceTable(differences(workflow, base.config, theirs.config), "Before", "Theirs"),
    h("h3", null, "What saving yours on top would change"),
    differenceTable(differences(workflow, theirs.config, merge(theirs.config)), "Theirs", "Merged"),
  );
  const chosen = await ask(
    "Somebody else has saved meanwhile",
    content,
    [
      { words: "Take theirs", kind: "", value: "theirs" },
      { words: "Merge mine on top", value: "mine" },
    ],
    { wide: true },
  );
  if (chosen === "theirs") return { theirs };
  if (chosen === "mine") return save(workflow, theirs, merge(theirs.config), comment, merge);
  return null;
}

/** What is wrong with a draft: `{valid, errors, warnings}`; null if it cannot be asked for. */
export async function validate(workflow, config) {
  try {
    return (await call("POST", `/workflows/${workflow}/config/validate`, { config })).data;
  } catch {
    return null;
  }
}

/** Takes the errors off the fields. */
export function clearFindings(form) {
  for (const each of $$(".finding", form)) each.remove();
  for (const each of $$("[data-described]", form)) {
    each.removeAttribute("aria-invalid");
    each.setAttribute("aria-describedby", each.dataset.described);
    if (!each.dataset.described) each.removeAttribute("aria-describedby");
    delete each.dataset.described;
  }
  fill($("#summary"));
}

/** The control a JSON pointer leads to: itself, else the nearest around it, else the first inside it. */
function place(form, path) {
  for (let at = path; at; at = at.slice(0, at.lastIndexOf("/"))) {
    const found = $(`[data-pointer="${CSS.escape(at)}"]`, form) ?? (at === path ? $(`[data-pointer^="${CSS.escape(at)}/"]`, form) : null);
    if (found) return found;
  }
  return null;
}

/** Puts findings beside the fields that cause them; gives those that belong to no field. `kind`: error or warning. */
export function showFindings(form, findings, kind = "error") {
  return findings.filter((finding) => {
    const control = place(form, finding.path);
    if (!control) return true;
    const note = h(
      "p",
      { class: `finding ${kind}`, id: newId("finding") },
      h("span", { class: "visually-hidden" }, kind === "error" ? "Error: " : "Note: "),
      finding.message,
    );
    const field = control.closest(".field, td, fieldset.question") ?? control.parentElement;
    (field.matches("td") ? field.firstElementChild : field).append(note);
    if (control.dataset.described === undefined) control.dataset.described = control.getAttribute("aria-describedby") ?? "";
    control.setAttribute("aria-describedby", `${control.getAttribute("aria-describedby") ?? ""} ${note.id}`.trim());
    if (kind === "error" && control.matches("input, select, textarea")) control.setAttribute("aria-invalid", "true");
    return false;
  });
}

/** The list of errors above the form, with links to the fields; gets the focus. */
export function summarise(form, findings, words = "Not saved. Please correct:") {
  const items = findings.map((finding) => {
    const control = place(form, finding.path);
    const go = (event) => {
      event.preventDefault();
      (control.matches("input, select, textarea, button") ? control : ($("input, select, textarea, button", control) ?? control)).focus();
    };
    if (control && !control.id) control.id = newId("field");
    const named = control?.getAttribute("aria-label") ?? control?.labels?.[0]?.textContent ?? finding.path;
    return h(
      "li",
      null,
      control
        ? h("a", { href: `#${control.id}`, on: { click: go } }, `${named}: ${finding.message}`)
        : [finding.path && `${finding.path}: `, finding.message],
    );
  });
  const box = h(
    "div",
    { class: "notice notice-error", role: "alert", tabindex: "-1" },
    h("div", null, h("h2", null, words), h("ul", null, items)),
  );
  fill($("#summary"), box);
  box.focus();
}

/** What to say after saving. */
export async function savedWords(workflow, revision) {
  try {
    const now = await get(`/workflows/${workflow}`);
    if (now.desired === "RUNNING" && now.pending_changes)
      return `Saved as revision ${revision}. It takes effect when the workflow is stopped and started.`;
    if (now.desired === "RUNNING") return `Saved as revision ${revision}. It is what runs already.`;
  } catch {
    return `Saved as revision ${revision}. It takes effect at the next start.`;
  }
  return `Saved as revision ${revision}. It takes effect at the next start.`;
}
