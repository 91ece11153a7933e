// Field Mappings: the key row first, then a row for each field.
import { $, $$, button, fill, h, icon, row, table } from "./dom.js";
import { kind } from "./format.js";
import { Picker } from "./picker.js";
import { replacementRows } from "./mapping_replacements.js";

const KEY_TIP = "Make sure that this ID field has been set as Custom Identification Key in Campaign, and that it has no duplicates.";

/** Shows the rows, and what follows from them. */
export function fieldRows(page) {
  const all = h(
    "button",
    {
      type: "button",
      class: "switch-all",
      "data-label": "Apply updates",
      title: "Sets all switches on, or all off",
      on: { click: () => switchAll(page) },
    },
    "Apply updates",
  );
  const columns = ["Microsoft Dynamics 365 field", "Campaign field", all, "Actions"];
  const made = table(columns, [], { class: "mapping-rows", "aria-label": "Field Mappings" });
  const body = $("tbody", made);
  body.append(row(columns, keyCells(page), { class: "key-row" }));
  page.draft.fields.forEach((each, i) => body.append(row(columns, cells(page, each, i), { "data-row": i })));
  fill($("#fields"), made, page.draft.fields.length === 0 && h("p", { class: "hint" }, "No field is mapped besides the key."));
  $("#add-field").onclick = () => {
    page.draft.fields.push({ source: "", target: "", apply_updates: true });
    fieldRows(page);
    page.changed();
    $(`[data-pointer="/fields/${page.draft.fields.length - 1}/source"]`).focus();
  };
  doubles(page);
}

function keyCells(page) {
  const { key } = page.draft;
  const described = (system, name) => h("p", { class: "hint" }, page.under(system, name, kind));
  const source = h(
    "div",
    { class: "field" },
    h("input", { value: key.source, readonly: "readonly", "aria-label": "Primary key in Dynamics", "data-pointer": "/key/source" }),
    described("dynamics", key.source),
  );
  const fixed = !page.adding || page.draft.source === "contact";
  const target = fixed
    ? h(
        "div",
        { class: "field" },
        h("input", { value: key.target, readonly: "readonly", "aria-label": "Key field in Campaign", "data-pointer": "/key/target" }),
        described("campaign", key.target),
      )
    : keyPicker(page);
  const tip = h(
    "p",
    { class: "tip", role: "note" },
    icon("warning"),
    h("span", null, KEY_TIP, " ", h("a", { href: "/documentation#identification-key" }, "Help on identification keys")),
  );
  const line = h("div", { class: "key-line" }, icon("key"), h("span", { class: "visually-hidden" }, "Primary key"), source);
  return [
    line,
    [target, tip],
    h("span", { class: "hint" }, "always"),
    h("span", { class: "hint" }, fixed ? "The key cannot be changed." : "Fixed once saved."),
  ];
}

function keyPicker(page) {
  return new Picker({
    label: "Key field in Campaign",
    value: page.draft.key.target,
    pointer: "/key/target",
    options: () => targets(page, null),
    under: (name) => page.under("campaign", name, kind),
    picked: (value) => {
      page.draft.key.target = value;
      page.changed();
      doubles(page);
    },
  }).element;
}

function cells(page, mapped, i) {
  const deleteLabel = () => `Delete field mapping ${mapped.source || "empty"}, row ${i + 1}`;
  const source = new Picker({
    label: `Dynamics field, row ${i + 1}`,
    value: mapped.source,
    pointer: `/fields/${i}/source`,
    options: () => sources(page),
    under: (name) => page.under("dynamics", name, typeLabel),
    picked: (value) => {
      mapped.source = value;
      bin.setAttribute("aria-label", deleteLabel());
      again(page);
    },
  });
  const target = new Picker({
    label: `Campaign field, row ${i + 1}`,
    value: mapped.target,
    pointer: `/fields/${i}/target`,
    options: () => targets(page, mapped),
    under: (name) => page.under("campaign", name, typeLabel),
    picked: (value) => {
      mapped.target = value;
      again(page);
    },
  });
  const apply = h(
    "label",
    { class: "switch-row" },
    h("input", {
      type: "checkbox",
      role: "switch",
      class: "switch",
      checked: mapped.apply_updates,
      "data-pointer": `/fields/${i}/apply_updates`,
      "aria-label": `Apply updates, row ${i + 1}`,
      on: {
        change: (event) => {
          mapped.apply_updates = event.target.checked;
          page.changed();
        },
      },
    }),
  );
  const bin = button(
    "Delete",
    {
      kind: "danger icon-only",
      label: deleteLabel(),
      title: "Delete field mapping",
      click: () => {
        page.draft.fields.splice(i, 1);
        fieldRows(page);
        again(page);
        ($(`[data-row="${Math.min(i, page.draft.fields.length - 1)}"] .danger`) ?? $("#add-field")).focus();
      },
    },
    "bin",
  );
  return [source.element, target.element, apply, bin];
}

const typeLabel = (field) => (field.label && field.label !== field.name ? `${kind(field)} · ${field.label}` : kind(field));

function again(page) {
  replacementRows(page);
  page.changed();
  doubles(page);
}

function switchAll(page) {
  const on = !page.draft.fields.every((each) => each.apply_updates);
  for (const each of page.draft.fields) each.apply_updates = on;
  for (const each of document.querySelectorAll("#fields [role=switch]")) each.checked = on;
  page.changed();
}

function sources(page) {
  if (!page.known.dynamics) return null;
  const used = new Set(page.draft.fields.map((each) => each.source));
  return page.dynamics
    .filter((each) => !each.key)
    .map((each) => ({ name: each.name, label: each.label, note: kind(each) + (used.has(each.name) ? " · mapped already" : "") }));
}

/** Campaign's fields; those that are taken or cannot be written say so. */
function targets(page, mine) {
  if (!page.known.campaign) return null;
  const taken = new Map(page.draft.fields.filter((each) => each !== mine && each.target).map((each) => [each.target, each.source]));
  if (mine) taken.set(page.draft.key.target, "the key");
  return page.campaign.map((each) => ({
    name: each.name,
    label: each.label,
    note: kind(each),
    why: !each.writable ? "cannot be written" : taken.has(each.name) ? `fed by ${taken.get(each.name) || "another row"} already` : "",
  }));
}

/** Two rows to one Campaign field: told at once, beside the row. */
function doubles(page) {
  const seen = new Map([[page.draft.key.target, "the key"]]);
  page.draft.fields.forEach((each, i) => {
    const input = $(`[data-pointer="/fields/${i}/target"]`);
    const field = input.closest(".field");
    const clash = each.target && seen.get(each.target);
    $(".clash", field)?.remove();
    if (clash) {
      for (const told of $$(".finding", field)) told.remove();
      input.setAttribute("aria-invalid", "true");
    } else if (!$(".finding.error", field)) input.removeAttribute("aria-invalid");
    if (clash)
      field.append(
        h(
          "p",
          { class: "clash finding error" },
          `${each.target} is fed by ${clash} already: two Dynamics fields cannot go to one Campaign field.`,
        ),
      );
    else if (each.target) seen.set(each.target, each.source || "another row");
  });
}
