// Field Replacements: another value in place of an existing one, of a mapped field.
import { $, button, fill, h, newId } from "./dom.js";
import { kind } from "./format.js";
import { textValue } from "./values.js";

/** Shows the rows. Keeps the focus where it is when another section asks for it. */
export function replacementRows(page) {
  const { replacements } = page.draft;
  fill(
    $("#replacements"),
    h(
      "div",
      { class: "lines" },
      replacements.map((each, i) => line(page, each, i)),
    ),
  );
  $("#add-replacement").onclick = () => {
    replacements.push({ source: "", from: "", to: "" });
    replacementRows(page);
    page.changed();
    $(`[data-pointer="/replacements/${replacements.length - 1}/source"]`).focus();
  };
  const none = !page.draft.fields.some((each) => each.source);
  $("#add-replacement").disabled = none;
  if (none) $("#replacements").append(h("p", { class: "hint" }, "Map a field first."));
}

function line(page, each, i) {
  const bin = button(
    "Delete",
    {
      kind: "danger icon-only",
      label: `Delete field replacement, row ${i + 1}`,
      title: "Delete field replacement",
      click: () => {
        page.draft.replacements.splice(i, 1);
        replacementRows(page);
        page.changed();
        $("#add-replacement").focus();
      },
    },
    "bin",
  );
  return h(
    "div",
    { class: "line", role: "group", "aria-label": `Replacement ${i + 1}` },
    fieldChoice(page, each, i),
    existing(page, each, i),
    fresh(page, each, i),
    bin,
  );
}

function fieldChoice(page, each, i) {
  const id = newId("replaced");
  const mapped = [...new Set(page.draft.fields.map((one) => one.source).filter(Boolean))];
  const strange = each.source && !mapped.includes(each.source);
  const names = strange ? [...mapped, each.source] : mapped;
  const select = h(
    "select",
    {
      id,
      "data-pointer": `/replacements/${i}/source`,
      "aria-invalid": strange ? "true" : null,
      on: {
        change: (event) => {
          Object.assign(each, { source: event.target.value, from: "", to: "" });
          replacementRows(page);
          page.changed();
          $(`[data-pointer="/replacements/${i}/source"]`).focus();
        },
      },
    },
    h("option", { value: "" }, "Choose…"),
    names.map((name) => h("option", { value: name, selected: name === each.source }, name)),
  );
  const note = strange
    ? h("p", { class: "error" }, `${each.source} is not mapped any more.`)
    : h("p", { class: "hint" }, page.under("dynamics", each.source, kind));
  return h("div", { class: "field" }, h("label", { for: id }, "Dynamics field"), select, note);
}

function existing(page, each, i) {
  return textValue({
    label: "Existing value",
    field: page.field("dynamics", each.source),
    value: each.from,
    pointer: `/replacements/${i}/from`,
    picked: (value) => {
      each.from = value;
      page.changed();
    },
  });
}

function fresh(page, each, i) {
  const target = page.draft.fields.find((one) => one.source === each.source)?.target;
  return textValue({
    label: "New value",
    field: page.field("campaign", target),
    value: each.to,
    pointer: `/replacements/${i}/to`,
    picked: (value) => {
      each.to = value;
      page.changed();
    },
  });
}
