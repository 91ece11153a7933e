// Held items: opt-outs to be taken away, and deletes, that the consent guard holds until an administrator releases or discards them.
import { $, $$, button, fill, h, newId, row, table, text } from "./dom.js";
import { get, may, post, whyNot } from "./api.js";
import { SYSTEMS, flagLines, inputLines, ruleWords } from "./consent_words.js";
import { ask } from "./dialogs.js";
import { count, moment, number } from "./format.js";
import { attempt, done, failed } from "./messages.js";

const COLUMNS = ["Chosen", "Record", "Would change", "Why", "Campaign said", "Dynamics said", "Since"];
const PAGE = 50;
const NONE = {
  optin:
    "Nothing is held. Decisions that take an opt-out away are held when there are more of them in an hour than OPTIN_RELEASE_LIMIT allows; opt-outs are never held.",
  ingress:
    "Nothing is held. What takes an opt-out away is held when there is more of it in an hour than OPTIN_RELEASE_LIMIT allows, a delete when DELETE_LIMIT is reached; opt-outs are never held.",
};
const COMMANDS = {
  release: {
    title: "Release",
    kind: "primary",
    drawing: "play",
    done: "released",
    tells:
      "Sends them to the writer: people are then opted in and may be mailed, and records of deletes are deleted in Campaign. What has been decided again meanwhile is not applied.",
  },
  discard: {
    title: "Discard",
    kind: "danger",
    drawing: "bin",
    done: "discarded",
    tells: "Nothing is written: opt-outs and records stay as they are until there is a new word or change.",
  },
};

export class Held {
  /** `looked(contact)` is told when somebody wants to see the decisions of a contact. */
  constructor(workflow, place, looked) {
    Object.assign(this, { workflow, place, looked, rows: [], total: 0, next: null, seen: null, asked: 0 });
    Object.assign(this, { chosen: new Set(), every: false, pages: 1 });
    this.buttons = Object.entries(COMMANDS).map(([command, { title, kind, drawing }]) =>
      button(title, { kind, click: () => this.settle(command) }, drawing),
    );
    this.note = h("span", { class: "hint", role: "status" });
    this.all = this.check((on) => this.choose(this.ids(), on));
    this.beyond = this.check((on) => this.choose(this.ids(), (this.every = on)));
    this.allWords = h("span");
    this.beyondWords = h("span");
    this.beyondBox = h("label", { class: "check" }, this.beyond, this.beyondWords);
    this.more = button("More held items", { click: () => attempt(this.more, () => this.load((this.pages += 1))) });
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
      const found = await get(`/workflows/${this.workflow}/held?limit=${PAGE}${next ? `&after=${next}` : ""}`);
      rows.push(...found.items);
      next = found.next;
      total = found.total;
    }
    if (mine !== this.asked) return; // asked again meanwhile
    Object.assign(this, { rows, next, total });
    this.show();
  }

  ids() {
    return this.rows.map((each) => each.id);
  }

  show() {
    const focused = document.activeElement?.dataset?.item;
    const there = new Set(this.ids());
    this.chosen = new Set([...this.chosen].filter((each) => there.has(each)));
    this.every = false;
    if (!this.rows.length) {
      fill(this.place, h("p", { class: "hint" }, NONE[this.workflow]));
      return;
    }
    const list = table(COLUMNS, [], { class: "small held", "aria-labelledby": "s-held" });
    $("tbody", list).append(...this.rows.map((each) => row(COLUMNS, this.cells(each))));
    this.more.hidden = this.beyondBox.hidden = !this.next;
    text(this.allWords, this.next ? "All that are shown" : "All");
    text(this.beyondWords, `All ${number(this.total)}, also those that are not shown`);
    const what = this.workflow === "optin" ? "take an opt-out away" : "take an opt-out away or delete a record in Campaign";
    const words = `${count(this.total, "item")} would ${what}. See whether that is meant; opt-outs and everything else go on meanwhile.`;
    fill(
      this.place,
      h("p", null, words),
      h("div", { class: "radios" }, h("label", { class: "check" }, this.all, this.allWords), this.beyondBox),
      list,
      h("div", { class: "buttons" }, this.buttons, this.note, this.more),
    );
    this.marks();
    if (focused) $(`[data-item="${CSS.escape(focused)}"]`, this.place)?.focus();
  }

  cells(each) {
    const deletes = each.kind === "delete";
    const box = this.check((on) => this.choose([each.id], on), each.id, `Choose ${deletes ? "the delete of " : ""}${each.key}`);
    const change = deletes ? "deleted" : flagLines(Object.fromEntries(each.flags.map((flag) => [flag, false])));
    return [
      box,
      this.record(each),
      [`In ${SYSTEMS[each.target] ?? "a system that cannot be read"}: `, change],
      each.rule ? ruleWords(each.rule) : "The record in Kafka cannot be read.",
      deletes ? "–" : inputLines(each.words, "campaign"),
      deletes ? "–" : inputLines(each.words, "dynamics"),
      moment(each.since),
    ];
  }

  /** A contact leads to its decisions, another record to where it is. */
  record(each) {
    if (each.table !== "contact") {
      const query = `key=${encodeURIComponent(each.key)}&table=${encodeURIComponent(each.table)}`;
      return [h("span", { class: "block" }, each.table), h("a", { href: `/workflows/${this.workflow}/records?${query}` }, each.key)];
    }
    const look = (event) => {
      event.preventDefault();
      this.looked(each.key).catch(failed);
    };
    return h("a", { href: `?contact=${encodeURIComponent(each.key)}#decisions`, on: { click: look } }, each.key);
  }

  /** A box; `item`: which one it chooses, in a table that gives it no words but `label`. */
  check(changed, item = null, label = null) {
    const about = { "data-item": item, "aria-label": label };
    return h("input", { type: "checkbox", ...about, disabled: !may("admin"), on: { change: (event) => changed(event.target.checked) } });
  }

  choose(items, on) {
    if (!on) this.every = false;
    for (const each of items) {
      if (on) this.chosen.add(each);
      else this.chosen.delete(each);
    }
    this.marks();
  }

  /** Boxes, buttons and words say what is chosen. */
  marks() {
    for (const each of $$("[data-item]", this.place)) each.checked = this.chosen.has(each.dataset.item);
    const shown = this.rows.length;
    this.all.checked = this.chosen.size === shown;
    this.all.indeterminate = this.chosen.size > 0 && this.chosen.size < shown;
    this.beyond.checked = this.every;
    for (const each of this.buttons) each.disabled = !may("admin") || this.chosen.size === 0;
    const chosen = this.every ? `All ${number(this.total)} are chosen.` : `${count(this.chosen.size, "item is", "items are")} chosen.`;
    text(this.note, whyNot("admin") || (this.chosen.size ? chosen : "Choose items first."));
  }

  /** Asks for the reason, then once more: what is released cannot be called back. */
  async settle(command) {
    const { title, kind, tells, done: past } = COMMANDS[command];
    const which = this.every ? { all: true } : { ids: [...this.chosen] };
    const words = this.chosenWords();
    const reason = await this.reason(title, kind, words, tells);
    if (!reason) return;
    const send = () => post(`/workflows/${this.workflow}/held/${command}`, { ...which, reason });
    const sure = `${title} now`;
    const last = h("div", null, h("p", null, h("strong", null, words)), h("p", null, "This cannot be undone here."));
    const result = await ask(`${title}: are you sure?`, last, [{ words: sure, kind, value: send }]);
    if (!result) return;
    const skipped = result.skipped ? `; ${number(result.skipped)} were not open any more` : "";
    done(`${count(result[past], "item")} ${past}${skipped}.`);
    this.chosen.clear();
    await attempt(null, () => this.load());
    this.place.parentElement.focus({ preventScroll: true }); // the buttons are of no use now
  }

  /** The reason, once it is given; null if it was cancelled. */
  reason(title, kind, words, tells) {
    const id = newId("reason");
    const box = h("input", { id, maxlength: "1000", autocomplete: "off", "data-focus": true });
    const field = h("div", { class: "field" }, h("label", { for: id }, "Reason (kept in the audit)"), box);
    const given = () => {
      if (box.value.trim()) return box.value.trim();
      box.setAttribute("aria-invalid", "true");
      box.focus();
      return undefined;
    };
    return ask(title, h("div", null, h("p", null, words), h("p", null, tells), field), [{ words: title, kind, value: given }]);
  }

  chosenWords() {
    if (this.every) return `All ${count(this.total, "held item")}, and those that are held until you confirm.`;
    const kinds = this.rows.filter((each) => this.chosen.has(each.id));
    const deletes = kinds.filter((each) => each.kind === "delete").length;
    const told = [
      kinds.length > deletes && `${count(kinds.length - deletes, "item takes", "items take")} an opt-out away`,
      deletes > 0 && `${count(deletes, "item deletes", "items delete")} a record in Campaign`,
    ];
    return `${told.filter(Boolean).join(", ")}.`;
  }
}
