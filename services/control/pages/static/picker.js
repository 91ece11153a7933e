// A searchable choice: a combobox with a listbox (ARIA Authoring Practices, "editable combobox with list autocomplete").
import { h, newId, text } from "./dom.js";

const MOST = 200;

/** What `options` gives while the answer is on its way. */
export const LOADING = Symbol("loading");

/**
 * `label`: accessible name; `options()`: [{name, label, note, why}] where `why` says why one cannot be chosen; null: not known, anything
 * can be typed; LOADING: being asked for. `picked(name)` is told of every new value. `under(name)`: what stands under the field, as its type.
 */
export class Picker {
  constructor({ label, value = "", options, picked, under = () => "", pointer = null, visible = false, disabled = false }) {
    Object.assign(this, { options, picked, under, value, active: -1, shown: [] });
    const id = newId("picker");
    this.note = h("p", { class: "hint", id: `${id}-note` });
    this.input = h("input", {
      id,
      role: "combobox",
      type: "text",
      autocomplete: "off",
      spellcheck: "false",
      value,
      disabled,
      "data-pointer": pointer,
      "aria-expanded": "false",
      "aria-controls": `${id}-list`,
      "aria-autocomplete": "list",
      "aria-describedby": `${id}-note`,
      "aria-label": visible ? null : label,
      on: {
        input: () => this.open(this.input.value),
        click: () => this.open(""),
        keydown: (event) => this.key(event),
        blur: () => this.leave(),
      },
    });
    this.list = h("ul", { class: "picker-list", id: `${id}-list`, role: "listbox", "aria-label": label, hidden: true });
    this.list.addEventListener("mousedown", (event) => event.preventDefault());
    this.element = h(
      "div",
      { class: "field" },
      visible && h("label", { for: id }, label),
      h("div", { class: "picker" }, this.input, this.list),
      this.note,
    );
    this.refresh();
  }

  /** Shows again what stands under the field. */
  refresh() {
    text(this.note, this.under(this.value));
  }

  set(value) {
    this.value = value;
    this.input.value = value;
    this.refresh();
  }

  get isOpen() {
    return !this.list.hidden;
  }

  open(sought) {
    if (this.input.disabled || this.input.readOnly) return;
    const all = this.options();
    if (!all) return;
    if (all === LOADING) return this.wait();
    const words = sought.trim().toLowerCase().split(/\s+/);
    const fits = all.filter((each) => words.every((word) => `${each.name} ${each.label ?? ""}`.toLowerCase().includes(word)));
    this.shown = fits.slice(0, MOST);
    const items = this.shown.map((each, i) => this.item(each, i));
    const rest = fits.length - this.shown.length;
    if (rest > 0) items.push(h("li", { class: "picker-empty", role: "presentation" }, `${rest} more: type to narrow the list`));
    if (!fits.length)
      items.push(h("li", { class: "picker-empty", role: "option", "aria-disabled": "true", "aria-selected": "false" }, "Nothing fits."));
    this.list.replaceChildren(...items);
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    const current = this.shown.findIndex((each) => each.name === this.value);
    this.activate(sought && fits.length ? this.next(-1, 1) : current);
  }

  wait() {
    this.shown = [];
    this.list.replaceChildren(
      h("li", { class: "picker-empty", role: "option", "aria-disabled": "true", "aria-selected": "false" }, "Reading the list…"),
    );
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
  }

  /** The options have come: an open list is filled. */
  arrived() {
    if (this.isOpen) this.open(this.input.value === this.value ? "" : this.input.value);
  }

  item(each, i) {
    const note = [each.label && each.label !== each.name ? each.label : "", each.note, each.why].filter(Boolean).join(" · ");
    return h(
      "li",
      {
        role: "option",
        id: `${this.list.id}-${i}`,
        class: "picker-option",
        "aria-selected": String(each.name === this.value),
        "aria-disabled": each.why ? "true" : null,
        on: { click: () => this.choose(i) },
      },
      h("span", { class: "picker-name" }, each.name),
      note && h("span", { class: "picker-note" }, note),
    );
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.activate(-1);
  }

  activate(i) {
    this.active = i;
    [...this.list.children].forEach((each, at) => each.classList.toggle("active", at === i));
    if (i < 0) this.input.removeAttribute("aria-activedescendant");
    else {
      this.input.setAttribute("aria-activedescendant", `${this.list.id}-${i}`);
      this.list.children[i].scrollIntoView({ block: "nearest" });
    }
  }

  /** The next one that can be chosen, going round; -1 if there is none. */
  next(from, step) {
    const size = this.shown.length;
    for (let i = 1; i <= size; i++) {
      const at = (((from + i * step) % size) + size) % size;
      if (!this.shown[at].why) return at;
    }
    return -1;
  }

  key(event) {
    const moves = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in moves) {
      event.preventDefault();
      if (this.isOpen) this.activate(this.next(this.active < 0 && event.key === "ArrowUp" ? 0 : this.active, moves[event.key]));
      else this.open("");
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (this.isOpen && this.active >= 0) this.choose(this.active);
      else this.leave();
    } else if (event.key === "Escape" && this.isOpen) {
      event.preventDefault();
      event.stopPropagation();
      this.input.value = this.value;
      this.close();
    } else if (event.key === "Tab" && this.isOpen && this.active >= 0 && this.input.value !== this.value) this.choose(this.active);
  }

  choose(i) {
    const chosen = this.shown[i];
    if (!chosen || chosen.why) return;
    this.close();
    this.change(chosen.name);
    this.input.focus();
  }

  /** What was typed counts: exactly a name, else as it is, and the check says that there is no such field. */
  leave() {
    this.close();
    const typed = this.input.value.trim();
    const known = this.options();
    const named = known && known !== LOADING && known.find((each) => each.name.toLowerCase() === typed.toLowerCase() && !each.why);
    this.change(named ? named.name : typed);
  }

  change(value) {
    const before = this.value;
    this.set(value);
    if (value !== before) this.picked(value);
  }
}
