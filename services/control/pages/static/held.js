// Held decisions: opt-ins that the consent guard holds until an administrator releases or discards them.
import { $, $$, button, fill, h, newId, row, table, text } from "./dom.js";
import { get, may, post, whyNot } from "./api.js";
import { SYSTEMS, flagLines, ruleWords } from "./consent_words.js";
import { ask } from "./dialogs.js";
import { count, moment, number } from "./format.js";
import { attempt, done, failed } from "./messages.js";

const COLUMNS = ["Chosen", "Contact", "Would change", "Why", "Since"];
const PAGE = 50;
const NONE =
  "Nothing is held. Decisions that take an opt-out away are held when there are more of them in an hour than OPTIN_RELEASE_LIMIT allows; opt-outs are never held.";
const COMMANDS = {
  release: {
    title: "Release",
    kind: "primary",
    drawing: "play",
    done: "released",
    tells:
      "Sends them to the writer: these people are then opted in, and may be mailed. One whose flag has been decided anew meanwhile is not applied.",
  },
  discard: {
    title: "Discard",
    kind: "danger",
    drawing: "bin",
    done: "discarded",
    tells: "Nothing is written: the opt-outs stay as they are until the flag changes in either system.",
  },
};

export class Held {
  /** `looked(contact)` is told when somebody wants to see the decisions of a contact. */
  constructor(place, looked) {
    Object.assign(this, { place, looked, rows: [], total: 0, next: null, seen: null, asked: 0, chosen: new Set(), every: false, pages: 1 });
    this.buttons = Object.entries(COMMANDS).map(([command, { title, kind, drawing }]) =>
      button(title, { kind, click: () => this.settle(command) }, drawing),
    );
    this.note = h("span", { class: "hint", role: "status" });
    this.all = this.check((on) => this.choose(this.contacts(), on));
    this.beyond = this.check((on) => this.choose(this.contacts(), (this.every = on)));
    this.allWords = h("span");
    this.beyondWords = h("span");
    this.beyondBox = h("label", { class: "check" }, this.beyond, this.beyondWords);
    this.more = button("More held decisions", { click: () => attempt(this.more, () => this.load((this.pages += 1))) });
  }

  /** The number that is held, as the stream of events tells it. */
  async told(held) {
    if (held === this.seen) return;
    const before = this.seen;
    this.seen = held;
    try {
      await this.load();
    } catch (error) {
      this.seen = before;
      if (before === null) fill(this.place, h("p", { class: "error" }, error.message));
    }
  }

  async load() {
    const mine = (this.asked += 1);
    const rows = [];
    let next = null;
    let total = 0;
    for (let page = 0; page < this.pages && (page === 0 || next); page += 1) {
      const found = await get(`/workflows/optin/held?limit=${PAGE}${next ? `&after=${next}` : ""}`);
      rows.push(...found.held);
      next = found.next;
      total = found.total;
    }
    if (mine !== this.asked) return; // asked again meanwhile
    Object.assign(this, { rows, next, total });
    this.show();
  }

  contacts() {
    return [...new Set(this.rows.map((each) => each.contact))];
  }

  show() {
    const focused = document.activeElement?.dataset?.contact;
    const there = new Set(this.contacts());
    this.chosen = new Set([...this.chosen].filter((each) => there.has(each)));
    this.every = false;
    if (!this.rows.length) {
      fill(this.place, h("p", { class: "hint" }, NONE));
      return;
    }
    const list = table(COLUMNS, [], { class: "small held", "aria-labelledby": "s-held" });
    $("tbody", list).append(...this.rows.map((each) => row(COLUMNS, this.cells(each))));
    this.more.hidden = this.beyondBox.hidden = !this.next;
    text(this.allWords, this.next ? "All that are shown" : "All");
    text(this.beyondWords, `All ${number(this.total)}, also those that are not shown`);
    const words = `${count(this.total, "decision would", "decisions would")} take an opt-out away. See whether they are meant; opt-outs go on meanwhile.`;
    fill(
      this.place,
      h("p", null, words),
      h("div", { class: "radios" }, h("label", { class: "check" }, this.all, this.allWords), this.beyondBox),
      list,
      h("div", { class: "buttons" }, this.buttons, this.note, this.more),
    );
    this.marks();
    if (focused) $(`[data-contact="${CSS.escape(focused)}"]`, this.place)?.focus();
  }

  cells(each) {
    const box = this.check((on) => this.choose([each.contact], on), each.contact);
    const look = (event) => {
      event.preventDefault();
      this.looked(each.contact).catch(failed);
    };
    const link = h("a", { href: `?contact=${encodeURIComponent(each.contact)}#decisions`, on: { click: look } }, each.contact);
    return [box, link, [`In ${SYSTEMS[each.target]}: `, flagLines(each.flags)], ruleWords(each.rule), moment(each.since)];
  }

  /** A box; `contact`: whose it is, in a table that gives it no words. */
  check(changed, contact = null) {
    const about = { "data-contact": contact, "aria-label": contact && `Choose ${contact}` };
    return h("input", { type: "checkbox", ...about, disabled: !may("admin"), on: { change: (event) => changed(event.target.checked) } });
  }

  choose(contacts, on) {
    if (!on) this.every = false;
    for (const each of contacts) {
      if (on) this.chosen.add(each);
      else this.chosen.delete(each);
    }
    this.marks();
  }

  /** Boxes, buttons and words say what is chosen: a contact with all that is held of it. */
  marks() {
    for (const each of $$("[data-contact]", this.place)) each.checked = this.chosen.has(each.dataset.contact);
    const shown = this.contacts().length;
    this.all.checked = this.chosen.size === shown;
    this.all.indeterminate = this.chosen.size > 0 && this.chosen.size < shown;
    this.beyond.checked = this.every;
    for (const each of this.buttons) each.disabled = !may("admin") || this.chosen.size === 0;
    const chosen = this.every
      ? `All ${number(this.total)} are chosen.`
      : `${count(this.chosen.size, "contact is", "contacts are")} chosen.`;
    text(this.note, whyNot("admin") || (this.chosen.size ? chosen : "Choose contacts first."));
  }

  async settle(command) {
    const { title, kind, tells, done: past } = COMMANDS[command];
    const which = this.every ? { all: true } : { contacts: [...this.chosen] };
    const id = newId("reason");
    const reason = h("input", { id, maxlength: "1000", autocomplete: "off", "data-focus": true });
    const about = this.every
      ? `All ${count(this.total, "held decision")}, and those that are held until you confirm.`
      : `What is held of ${count(this.chosen.size, "contact")}.`;
    const field = h("div", { class: "field" }, h("label", { for: id }, "Reason (kept in the audit)"), reason);
    const send = () => {
      if (reason.value.trim()) return post(`/workflows/optin/held/${command}`, { ...which, reason: reason.value.trim() });
      reason.setAttribute("aria-invalid", "true");
      reason.focus();
      return undefined;
    };
    const result = await ask(title, h("div", null, h("p", null, about), h("p", null, tells), field), [{ words: title, kind, value: send }]);
    if (!result) return;
    const skipped = result.skipped ? `; ${number(result.skipped)} had been dealt with before` : "";
    done(`${count(result[past], "decision")} ${past}${skipped}.`);
    this.chosen.clear();
    await attempt(null, () => this.load());
    this.place.parentElement.focus({ preventScroll: true }); // the buttons are of no use now
  }
}
