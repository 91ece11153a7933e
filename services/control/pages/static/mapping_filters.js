// Filters: which records are propagated, and what becomes of those that are not.
import { $, button, fill, h, newId, radios } from "./dom.js";
import { kind } from "./format.js";
import { OPERATORS } from "./operators.js";
import { Picker } from "./picker.js";
import { filterValue, takesList } from "./values.js";

const NEEDS_TEXT = new Set(["String", "Memo"]);

/** Shows the rows and the two questions. */
export function filterRows(page) {
  const { conditions } = page.draft.filter;
  fill(
    $("#filters"),
    h(
      "div",
      { class: "lines" },
      conditions.map((each, i) => line(page, each, i)),
    ),
  );
  $("#add-filter").onclick = () => {
    conditions.push({ field: "", operator: "eq", value: "" });
    filterRows(page);
    page.changed();
    $(`[data-pointer="/filter/conditions/${conditions.length - 1}/field"]`).focus();
  };
  options(page);
}

function line(page, each, i) {
  const pointer = `/filter/conditions/${i}`;
  const field = new Picker({
    label: "Dynamics field",
    visible: true,
    value: each.field,
    pointer: `${pointer}/field`,
    options: () => fields(page),
    under: (name) => page.under("dynamics", name, kind),
    picked: (value) => {
      const operator = offered(page.field("dynamics", value), each.operator) ? each.operator : "eq";
      Object.assign(each, { field: value, operator, value: shaped(page.field("dynamics", value), operator, "") });
      filterRows(page);
      page.changed();
    },
  });
  const bin = button(
    "Delete",
    {
      kind: "danger icon-only",
      label: `Delete filter, row ${i + 1}`,
      title: "Delete filter",
      click: () => {
        page.draft.filter.conditions.splice(i, 1);
        filterRows(page);
        page.changed();
        $("#add-filter").focus();
      },
    },
    "bin",
  );
  const value = filterValue({
    field: page.field("dynamics", each.field),
    operator: each.operator,
    value: each.value,
    pointer: `${pointer}/value`,
    picked: (chosen) => {
      each.value = chosen;
      page.changed();
    },
  });
  return h("div", { class: "line", role: "group", "aria-label": `Filter ${i + 1}` }, field.element, comparison(page, each, i), value, bin);
}

function fields(page) {
  return page.known.dynamics ? page.dynamics.map((each) => ({ name: each.name, label: each.label, note: kind(each) })) : null;
}

/** Whether a comparison says something about a field: the server refuses the others. */
function offered(field, operator) {
  if (!field) return true;
  const takes = OPERATORS[operator].kind;
  if (field.type === "MultiSelectPicklist") return !["part", "order", "choice"].includes(takes);
  if (takes === "options") return false;
  if (takes === "part") return NEEDS_TEXT.has(field.type);
  return field.type !== "Boolean" || takes !== "order";
}

function comparison(page, each, i) {
  const id = newId("comparison");
  const field = page.field("dynamics", each.field);
  const names = Object.entries(OPERATORS).filter(([name]) => offered(field, name) || name === each.operator);
  const select = h(
    "select",
    {
      id,
      "data-pointer": `/filter/conditions/${i}/operator`,
      on: {
        change: (event) => {
          each.operator = event.target.value;
          each.value = shaped(field, each.operator, each.value);
          filterRows(page);
          page.changed();
          $(`[data-pointer="/filter/conditions/${i}/operator"]`).focus();
        },
      },
    },
    names.map(([name, { label }]) => h("option", { value: name, selected: name === each.operator }, label)),
  );
  return h("div", { class: "field" }, h("label", { for: id }, "Comparison"), select);
}

/** The value in the shape the operator takes: none, several, one. */
function shaped(field, operator, value) {
  if (OPERATORS[operator].kind === "emptiness") return null;
  if (takesList(field, operator)) return Array.isArray(value) ? value : value === null || value === "" ? [] : [value];
  return Array.isArray(value) ? (value[0] ?? "") : (value ?? "");
}

function options(page) {
  const { filter } = page.draft;
  const set = (name) => (value) => {
    filter[name] = value;
    page.changed();
  };
  fill(
    $("#filter-options"),
    radios(
      "Choose the filter comparison operator",
      [
        ["all", "And", "all filters are true"],
        ["any", "Or", "any filter is true"],
      ],
      filter.match,
      set("match"),
      { pointer: "/filter/match" },
    ),
    radios(
      "Do you want to delete records in Adobe Campaign Standard that will be filtered out from Microsoft Dynamics 365?",
      [
        [true, "Yes"],
        [false, "No"],
      ],
      filter.delete_filtered_out,
      set("delete_filtered_out"),
      { pointer: "/filter/delete_filtered_out", hint: "Yes: they are deleted in Campaign. No: they are left as they are." },
    ),
  );
}
