// The first page: three workflows with backlog, status and commands, live.
import { $, $$, button, fill, h, icon, svg, text } from "./dom.js";
import { get, may, post, whyNot } from "./api.js";
import { differenceTable, differences } from "./diff.js";
import { count, moment, time } from "./format.js";
import { Samples, draw } from "./graph.js";
import { follow, isLive } from "./live.js";
import { attempt } from "./messages.js";
import { details } from "./workflow_details.js";
import { load } from "./saving.js";
import { deletesByFilter, planned, sure } from "./taking.js";
import { UNCONFIGURED, backlogNumber, backlogWords, failureWords, heldLink, parkedWords, statusWords, stopping, warningWords } from "./status.js";

class Row {
  constructor(body) {
    this.id = body.dataset.workflow;
    this.name = body.dataset.about;
    this.samples = new Samples();
    this.seen = {};
    const part = (name) => $(`[data-part=${name}]`, body);
    this.statusBox = part("status");
    this.detailsBox = part("details");
    this.disclosure = $("details", body);
    this.disclosure.addEventListener("toggle", () => this.drawn());
    this.backlogParts(part("backlog"));
    this.actionParts(part("actions"));
    this.history();
  }

  backlogParts(box) {
    this.number = h("span", { class: "big" }, "…");
    this.words = h("p", { class: "hint" });
    this.parked = h("p", { class: "hint" });
    this.held = h("p");
    this.letters = h("p");
    this.spark = svg("svg", { class: "spark", role: "img", "aria-label": "Backlog", preserveAspectRatio: "none" });
    this.large = svg("svg", { class: "graph", role: "img", "aria-label": "Backlog" });
    fill(
      box,
      h(
        "div",
        { class: "backlog-head" },
        h("p", { class: "backlog-number" }, this.number, " ", (this.unit = h("span", { class: "hint" }))),
        this.spark,
      ),
      this.words,
      this.parked,
      this.held,
      this.letters,
    );
  }

  actionParts(box) {
    const reason = `${this.id}-why`;
    this.start = button(
      "Start",
      {
        label: `Start ${this.name}`,
        kind: "primary",
        "aria-describedby": reason,
        hidden: true,
        click: () => this.command("start", this.start),
      },
      "play",
    );
    this.stop = button(
      "Stop",
      { label: `Stop ${this.name}`, "aria-describedby": reason, hidden: true, click: () => this.command("stop", this.stop) },
      "stop",
    );
    this.pendingList = h("div", { class: "pending-list", role: "group", tabindex: "0", "aria-label": `Pending changes of ${this.name}` });
    const summary = h(
      "summary",
      null,
      icon("warning"),
      h("span", null, "Pending changes"),
      h("span", { class: "visually-hidden" }, ` of ${this.name}: saved changes await a restart`),
    );
    this.pending = h("details", { class: "pending", hidden: true }, summary, this.pendingList);
    this.why = h("p", { class: "hint", id: reason });
    box.append(this.start, this.stop, this.pending, this.why);
  }

  async history() {
    try {
      const { samples } = await get(`/workflows/${this.id}/backlog/history?minutes=60`);
      this.samples.load(samples);
      this.drawn();
    } catch {
      this.drawn();
    }
  }

  async command(name, control) {
    const after = await attempt(control, async () => {
      if (name === "start" && !(await this.sureToStart())) return null;
      this.commanded = true;
      return post(`/workflows/${this.id}/${name}`);
    });
    if (after) this.update(after);
  }

  /** Where a filter deletes what it leaves out, a plan tells how many before it does so. */
  async sureToStart() {
    if (this.id !== "ingress") return true;
    const { config } = await load("ingress");
    return !config.tables.some(deletesByFilter) || sure("Start", await planned(config));
  }

  update(workflow) {
    this.workflow = workflow;
    this.samples.add(workflow.backlog.records);
    text(this.number, backlogNumber(workflow.backlog));
    text(this.unit, workflow.backlog.records === null ? "" : workflow.backlog.records === 1 ? "record" : "records");
    text(this.words, backlogWords(workflow.backlog));
    text(this.parked, parkedWords(workflow));
    if (this.fresh("held", workflow.backlog.held)) fill(this.held, heldLink(workflow));
    this.status(workflow);
    this.actions(workflow);
    this.pendingChanges(workflow);
    this.deadLetters(workflow);
    this.drawn();
  }

  status(workflow) {
    if (!this.fresh("status", [workflow.status, workflow.desired, workflow.reason, workflow.status_since])) return;
    const why = failureWords(workflow);
    const starting = workflow.status === "STARTING" && h("p", { class: "hint" }, "Requested; it becomes RUNNING within a few minutes.");
    fill(
      this.statusBox,
      h("div", { role: "status" }, statusWords(workflow)),
      starting,
      why,
      warningWords(workflow),
      !why && h("p", { class: "hint" }, `since ${time(workflow.status_since)}`),
    );
  }

  actions(workflow) {
    const stopped = workflow.desired === "STOPPED";
    const failed = workflow.status === "FAILED" && !stopped;
    const halting = stopping(workflow);
    this.start.hidden = !(failed || (stopped && !halting));
    this.stop.hidden = stopped && !halting;
    const reason =
      whyNot("operator") ||
      (!workflow.configured && !this.start.hidden
        ? UNCONFIGURED[this.id]
        : halting
          ? "Stopping: what is in flight is finished first."
          : "");
    if (!this.start.hasAttribute("aria-busy")) this.start.disabled = !may("operator") || !workflow.configured;
    if (!this.stop.hasAttribute("aria-busy")) this.stop.disabled = !may("operator") || halting;
    text(this.start.lastElementChild, failed ? "Start again" : "Start");
    this.start.setAttribute("aria-label", `${failed ? "Start again:" : "Start"} ${this.name}`);
    text(this.why, reason);
    this.keepFocus();
  }

  /** The button that was pressed goes; the one that comes in its place gets the focus, if nothing else has it. */
  keepFocus() {
    const lost = document.activeElement === document.body || document.activeElement?.hidden || document.activeElement?.disabled;
    const next = [this.stop, this.start].find((each) => !each.hidden && !each.disabled);
    if (!this.commanded || !next) return;
    this.commanded = false;
    if (lost) next.focus();
  }

  async pendingChanges(workflow) {
    const show = workflow.pending_changes && workflow.desired === "RUNNING";
    this.pending.hidden = !show;
    this.stop.classList.toggle("marked", show);
    if (!show || !this.fresh("pending", [workflow.saved_revision, workflow.running_revision])) return;
    try {
      const config = await load(this.id);
      const found = config.running ? differences(this.id, config.running.config, config.config) : [];
      fill(
        this.pendingList,
        h(
          "p",
          null,
          `Revision ${config.revision} (${config.saved_by}, ${moment(config.saved_at)}) awaits a stop and start; revision ${config.running?.revision ?? "?"} runs.`,
        ),
        differenceTable(found, "Running", "Saved", `Pending changes of ${this.name}`),
      );
    } catch (error) {
      this.seen.pending = null;
      fill(this.pendingList, h("p", { class: "error" }, error.message));
    }
  }

  async deadLetters(workflow) {
    if (!this.fresh("letters", [workflow.counters.dead_lettered, Math.floor(Date.now() / 15_000)])) return;
    try {
      const { groups } = await get(`/workflows/${this.id}/dead-letters/groups`);
      const open = groups.reduce((sum, each) => sum + each.open, 0);
      if (!this.fresh("open", open)) return;
      fill(
        this.letters,
        open > 0 &&
          h(
            "a",
            { class: "alarm", href: `/workflows/${this.id}/dead-letters` },
            icon("warning"),
            h("span", null, count(open, "dead letter")),
          ),
      );
      this.open = open;
    } catch {
      this.seen.letters = null;
    }
  }

  /** Whether this differs from what was given last under the name. */
  fresh(name, value) {
    const now = JSON.stringify(value);
    if (this.seen[name] === now) return false;
    this.seen[name] = now;
    return true;
  }

  drawn() {
    draw(this.spark, this.samples, { minutes: 15, width: 160, height: 36 });
    if (!this.disclosure.open || !this.workflow) return;
    draw(this.large, this.samples, { minutes: 60, width: Math.max(300, this.disclosure.clientWidth - 24), height: 170, large: true });
    details(this.detailsBox, this.workflow, this.large, this.open ?? 0);
  }

  /** Time goes on: the line does too while the page is up to date. */
  tick() {
    if (!this.workflow) return;
    this.samples.add(isLive() ? this.workflow.backlog.records : null);
    this.deadLetters(this.workflow);
    this.drawn();
  }
}

const rows = new Map($$("[data-workflow]").map((body) => [body.dataset.workflow, new Row(body)]));
follow((workflow) => rows.get(workflow.id)?.update(workflow));
setInterval(() => rows.forEach((row) => row.tick()), 5000);
addEventListener("resize", () => rows.forEach((row) => row.drawn()));
