// Making and finding elements. Text goes in as text nodes, never as markup.

const SVG = "http://www.w3.org/2000/svg";
const OWN = new Set(["value", "checked", "disabled", "hidden", "readOnly", "textContent", "selected", "indeterminate", "open", "required"]);
let ids = 0;

/** An id that no other element has. */
export const newId = (stem = "x") => `${stem}-${++ids}`;

/** The first element that fits, or null. */
export const $ = (selector, within = document) => within.querySelector(selector);

/** All elements that fit. */
export const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

/** An HTML element: attributes and properties, `on: {event: handler}`, then children (null and false are left out). */
export function h(name, props = null, ...children) {
  return filled(document.createElement(name), props, children);
}

/** An SVG element. */
export function svg(name, props = null, ...children) {
  return filled(document.createElementNS(SVG, name), props, children);
}

function filled(element, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) set(element, name, value);
  add(element, children);
  return element;
}

function set(element, name, value) {
  if (name === "on") {
    for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
  } else if (OWN.has(name)) element[name] = value;
  else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : String(value));
}

function add(element, children) {
  element.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false && each !== ""));
}

/** Replaces the children. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

/** Sets the text only when it differs, so that screen readers are not told again. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** One of the drawings of icons.html. */
export function icon(name) {
  const use = svg("use", { href: `#i-${name}` });
  return svg("svg", { class: `icon icon-${name}`, "aria-hidden": "true", focusable: "false" }, use);
}

/** A button with a drawing and words. `props.label` is its accessible name where the words do not say enough. */
export function button(words, props = {}, drawing = null) {
  const { label, kind, click, ...rest } = props;
  const attributes = { type: "button", class: kind, "aria-label": label, title: rest.title, ...rest };
  return h("button", { ...attributes, on: click ? { click } : {} }, drawing && icon(drawing), h("span", null, words));
}

/** A table that becomes cards on narrow screens. `columns`: names; `rows`: lists of cell contents. */
export function table(columns, rows, props = {}) {
  const head = h(
    "tr",
    { role: "row" },
    columns.map((name) => h("th", { role: "columnheader", scope: "col" }, name)),
  );
  const body = h(
    "tbody",
    { role: "rowgroup" },
    rows.map((cells) => row(columns, cells)),
  );
  return h("table", { role: "table", ...props, class: `cards ${props.class ?? ""}` }, h("thead", { role: "rowgroup" }, head), body);
}

/** A row for `table`. */
export function row(columns, cells, props = {}) {
  const made = cells.map((cell, i) =>
    h("td", { role: "cell", "data-label": typeof columns[i] === "string" ? columns[i] : columns[i]?.dataset?.label }, h("div", null, cell)),
  );
  return h("tr", { role: "row", ...props }, made);
}

/** Two or more answers to a question; `picked(value)` is told. */
export function radios(question, choices, value, picked, props = {}) {
  const name = newId("radio");
  const one = ([each, words, hint]) =>
    h(
      "label",
      { class: "check" },
      h("input", {
        type: "radio",
        name,
        value: String(each),
        checked: each === value,
        "data-pointer": each === value || choices[0][0] === each ? props.pointer : null,
        on: { change: () => picked(each) },
      }),
      h("span", null, words, hint && h("span", { class: "hint block" }, hint)),
    );
  return h(
    "fieldset",
    { class: "question", id: props.id },
    h("legend", null, question),
    props.hint && h("p", { class: "hint" }, props.hint),
    h("div", { class: props.stacked ? "radios stacked" : "radios" }, choices.map(one)),
  );
}
