// The letters of one cause, page by page; their values only on request, for administrators.
import { $, button, fill, h, row, table } from "./dom.js";
import { get, may } from "./api.js";
import { moment } from "./format.js";
import { attempt } from "./messages.js";

const COLUMNS = ["Record", "When", "Attempts", "State", "Reason"];
const STATES = { open: "open", redriven: "sent again", discarded: "discarded" };

export class LetterList {
  constructor(workflow, fingerprint) {
    Object.assign(this, { workflow, fingerprint, next: null, values: false, loaded: "", seen: "" });
    this.body = h("div");
    this.more = button("Older records", { hidden: true, click: () => attempt(this.more, () => this.load(this.next)) });
    this.show = button("Show values", { hidden: !may("admin"), click: () => attempt(this.show, () => this.toggle()) });
    this.note = h(
      "p",
      { class: "hint" },
      may("admin")
        ? "Values are personal data; looking at them is for administrators."
        : "Values of records are shown to administrators only.",
    );
    this.element = h("div", null, this.body, h("div", { class: "buttons" }, this.more, this.show), this.note);
  }

  /** Loads when the list is opened. */
  open() {
    if (this.loaded !== this.seen) this.load(null).catch((error) => fill(this.body, h("p", { class: "error" }, error.message)));
  }

  /** `key`: what the group looked like; another one means that the list is out of date. */
  changed(key) {
    const loadedBefore = this.loaded !== "";
    this.seen = key;
    if (loadedBefore && this.loaded !== key) this.load(null).catch(() => {});
  }

  async toggle() {
    this.values = !this.values;
    await this.load(null);
    this.show.lastElementChild.textContent = this.values ? "Hide values" : "Show values";
  }

  async load(after) {
    this.loaded = this.seen;
    const query = new URLSearchParams({ limit: "50", fingerprint: this.fingerprint });
    if (after) query.set("after", after);
    if (this.values) query.set("values", "true");
    const found = await get(`/workflows/${this.workflow}/dead-letters?${query}`);
    if (!after) {
      this.table = table(COLUMNS, [], { class: "small", "aria-label": "Records" });
      fill(this.body, this.table);
    }
    $("tbody", this.table).append(...found.dead_letters.map((each) => row(COLUMNS, this.cells(each))));
    this.next = found.next;
    this.more.hidden = !found.next;
  }

  cells(each) {
    const table = this.workflow === "ingress" ? `table=${encodeURIComponent(each.table ?? "contact")}&` : "";
    const where = `/workflows/${this.workflow}/records?${table}key=${encodeURIComponent(each.key)}`;
    const known = { ingress: each.table, optin: each.key }[this.workflow];
    const name = known ? h("a", { href: where }, each.key) : each.key;
    const value = this.values && h("pre", null, JSON.stringify(each.value, null, 2));
    return [
      [name, h("span", { class: "hint block" }, `${each.table ? `${each.table}, ` : ""}letter ${each.id}`)],
      moment(each.when),
      String(each.attempts),
      [STATES[each.state], each.redriven > 0 && h("span", { class: "hint block" }, `re-driven ${each.redriven} times before`)],
      [each.reason, value],
    ];
  }
}
