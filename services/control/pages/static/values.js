// Controls for values, by the type of the field: drop-downs for picklists, enumerations and yes/no, text boxes for all else.
import { h, newId } from "./dom.js";
import { OPERATORS } from "./operators.js";

const NUMERIC = new Set(["Integer", "BigInt", "Decimal", "Double", "Money", "long", "byte", "short", "int", "double", "float", "number"]);
const TRUTH = [
  { value: "true", label: "Yes" },
  { value: "false", label: "No" },
];

/** The choices of a field; empty if any value will do. */
export function choices(field) {
  if (!field) return [];
  if (field.options.length) return field.options.filter((each) => each.value !== "__Invalid_value__" && each.label !== "__Invalid_value__");
  return field.type.toLowerCase() === "boolean" ? TRUTH : [];
}

const inWords = (choice) => (choice.label && choice.label !== choice.value ? `${choice.label} (${choice.value})` : choice.value);

/** A labelled control for one value as text. `picked(text)` is told of changes. */
export function textValue({ label, field, value, picked, pointer }) {
  const id = newId("value");
  const found = choices(field);
  const control = found.length ? select(id, found, value, picked, pointer) : input(id, field, value, picked, pointer);
  const hint = field && !found.length ? h("p", { class: "hint" }, typeHint(field)) : null;
  return h("div", { class: "field" }, h("label", { for: id }, label), control, hint);
}

function select(id, found, value, picked, pointer) {
  const known = value === "" || value === null || found.some((each) => each.value === value);
  const options = known ? found : [...found, { value, label: `${value}, which is not among the choices` }];
  return h(
    "select",
    { id, "data-pointer": pointer, on: { change: (event) => picked(event.target.value) } },
    h("option", { value: "" }, "Choose…"),
    options.map((each) => h("option", { value: each.value, selected: each.value === value }, inWords(each))),
  );
}

function input(id, field, value, picked, pointer) {
  const numeric = NUMERIC.has(field?.type);
  return h("input", {
    id,
    type: "text",
    inputmode: numeric ? "decimal" : null,
    maxlength: null,
    autocomplete: "off",
    value: value ?? "",
    "data-pointer": pointer,
    on: { input: (event) => picked(event.target.value) },
  });
}

function typeHint(field) {
  if (field.type === "DateTime") return "Date, or date and time in UTC: 2024-01-31 or 2024-01-31T12:00:00Z";
  if (NUMERIC.has(field.type)) return `A number (${field.type})`;
  return `${field.type}${field.length ? `, at most ${field.length} characters` : ""}`;
}

/** A value of a filter, as text is turned into what the configuration holds: true, 12, Oslo. */
export function typed(field, text) {
  if (field?.type === "Boolean" && (text === "true" || text === "false")) return text === "true";
  const countable = NUMERIC.has(field?.type) || field?.options.length;
  const value = Number(text);
  if (countable && text.trim() !== "" && Number.isSafeInteger(value) && String(value) === text.trim()) return value;
  return text;
}

/** Whether a filter's value is a list: of several values, or of the options of a column that holds several. */
export function takesList(field, operator) {
  const { kind } = OPERATORS[operator];
  return ["choice", "options"].includes(kind) || (kind === "equality" && field?.type === "MultiSelectPicklist");
}

/** What a filter holds as a list; several options may be one text. */
const asList = (field, value) =>
  (Array.isArray(value) ? value : value === null || value === "" ? [] : [value]).flatMap((each) =>
    field?.type === "MultiSelectPicklist" && typeof each === "string" ? each.split(",").map((part) => part.trim()) : [each],
  );

const asText = (value) => (value === null || value === undefined ? "" : String(value));

/** The control for a filter's value: none, one, or several. `picked(value)` is told what the configuration is to hold. */
export function filterValue({ field, operator, value, picked, pointer }) {
  if (OPERATORS[operator].kind === "emptiness") return h("p", { class: "hint" }, "needs no value");
  if (takesList(field, operator)) return several(field, asList(field, value), picked, pointer);
  const plain = OPERATORS[operator].kind === "part";
  return textValue({
    label: "Value",
    field: plain ? { ...(field ?? { type: "String" }), type: "String", options: [], length: null } : field,
    value: asText(Array.isArray(value) ? value[0] : value),
    pointer,
    picked: (text) => picked(plain ? text : typed(field, text)),
  });
}

function several(field, values, picked, pointer) {
  const found = choices(field);
  if (!found.length) {
    const id = newId("values");
    const told = (event) =>
      picked(
        event.target.value
          .split("\n")
          .map((each) => each.trim())
          .filter(Boolean)
          .map((each) => typed(field, each)),
      );
    return h(
      "div",
      { class: "field" },
      h("label", { for: id }, "Values, one a line"),
      h("textarea", { id, "data-pointer": pointer, value: values.map(asText).join("\n"), on: { input: told } }),
    );
  }
  const chosen = new Set(values.map(asText));
  const toggle = (choice) => (event) => {
    if (event.target.checked) chosen.add(choice.value);
    else chosen.delete(choice.value);
    picked(found.filter((each) => chosen.has(each.value)).map((each) => typed(field, each.value)));
  };
  const one = (choice, i) =>
    h(
      "label",
      { class: "check" },
      h("input", {
        type: "checkbox",
        checked: chosen.has(choice.value),
        "data-pointer": i === 0 ? pointer : null,
        on: { change: toggle(choice) },
      }),
      inWords(choice),
    );
  return h("fieldset", { class: "question" }, h("legend", null, "Values"), h("div", { class: "radios" }, found.map(one)));
}
