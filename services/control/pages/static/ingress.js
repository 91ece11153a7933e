// The mapped tables: progress, Edit, Delete mapping, Replay Data, Add New Mapping.
import { $, button, fill, h, icon, row, table } from "./dom.js";
import { call, get, may, me } from "./api.js";
import * as decisions from "./decisions.js";
import { ask } from "./dialogs.js";
import { count, duration, moment, number } from "./format.js";
import { Held } from "./held.js";
import { history } from "./history.js";
import { attempt, done, failed } from "./messages.js";
import { addMapping } from "./new_mapping.js";
import { replayDialog } from "./replay.js";
import { load, save, savedWords } from "./saving.js";
import { strip } from "./state.js";

const COLUMNS = ["Microsoft Dynamics 365 table", "Campaign table", "Load and replay", "Actions"];
const TRACKING_DAYS = 2;
const KINDS = { initial: "Initial load", resync: "Reading new columns", replay: "Replay" };
const PHASES = { load: "loading", reconcile: "comparing after the load", live: "follows the changes", drain: "finishing" };
let workflow = null;
let shownRows = "";
let shownTables = "";

async function refresh() {
  try {
    const { tables } = await get("/workflows/ingress/tables");
    const key = JSON.stringify(tables.map((each) => ({ ...each, cursor_age_s: null, change_tracking_days_left: null })));
    const names = JSON.stringify(tables.map((each) => each.source));
    if (key === shownRows) return;
    if (names === shownTables) tables.forEach(refill);
    else show(tables);
    shownRows = key;
    shownTables = names;
  } catch (error) {
    if (!shownTables) failed(error);
  }
}

function show(tables) {
  if (!tables.length) {
    fill($("#tables"), h("p", null, "No table is mapped yet. Add a mapping to begin."));
    return;
  }
  const made = table(COLUMNS, [], { class: "mapped", "aria-label": "Mapped tables" });
  $("tbody", made).append(...tables.map((each) => row(COLUMNS, cells(each), { "data-table": each.source })));
  fill($("#tables"), made);
}

/** Brings a row up to date without taking the focus away. */
function refill(each) {
  const [, , progress, actions] = $(`tr[data-table="${CSS.escape(each.source)}"]`).children;
  fill(progress.firstChild, progressWords(each));
  const old = $("[data-part=replay]", actions);
  if (old.contains(document.activeElement)) {
    old.replaceWith(replayPart(each));
    $("[data-part=replay] button:not(:disabled)", actions)?.focus();
  } else old.replaceWith(replayPart(each));
}

function cells(each) {
  const edit = h(
    "a",
    {
      class: "button",
      href: `/workflows/ingress/tables/${encodeURIComponent(each.source)}`,
      "aria-label": `Edit mapping ${each.source} to ${each.target}`,
    },
    icon("edit"),
    h("span", null, "Edit"),
  );
  const bin = button(
    "Delete mapping",
    { label: `Delete mapping ${each.source} to ${each.target}`, kind: "danger", disabled: !may("admin"), click: () => remove(each, bin) },
    "bin",
  );
  return [h("strong", null, each.source), each.target, progressWords(each), h("div", { class: "actions" }, edit, replayPart(each), bin)];
}

function progressWords(each) {
  const { progress } = each;
  const bar = progress && [
    h(
      "p",
      null,
      `${KINDS[progress.kind]}: ${number(progress.done)} of ${progress.total === null ? "unknown" : count(progress.total, "record")}${progress.eta_s === null ? "" : `, about ${duration(progress.eta_s)} left`}`,
    ),
    progress.total
      ? h("progress", {
          max: progress.total,
          value: Math.min(progress.done, progress.total),
          "aria-label": `${KINDS[progress.kind]} of ${each.source}`,
        })
      : null,
  ];
  const days = each.change_tracking_days_left;
  const late =
    days !== null &&
    days < TRACKING_DAYS &&
    h(
      "p",
      { class: "error" },
      `Dynamics keeps its changes for ${days} more days only: start the workflow before, or everything has to be read again.`,
    );
  const read = each.phase
    ? `${PHASES[each.phase] ?? each.phase}, ${count(each.rows_read, "record")} read in the last load, position ${duration(each.cursor_age_s)} old`
    : "Nothing read yet: the first start transfers all records.";
  return [bar, h("p", { class: "hint" }, read), late];
}

function replayPart(each) {
  const { replay } = each;
  const box = h("span", { class: "actions", "data-part": "replay" });
  const control = button(
    "Replay Data",
    {
      label: `Replay Data of ${each.source}`,
      disabled: replay !== null || !may("operator"),
      click: async () => {
        const after = await replayDialog(each, workflow);
        if (after) {
          done(
            after.replay_armed
              ? `Replay of ${each.source} is armed: its records are sent again when the workflow is stopped and started.`
              : `Replay of ${each.source} is requested: it runs beside the live changes.`,
          );
          refresh();
        }
      },
    },
    "replay",
  );
  box.append(control);
  if (replay) {
    const stop = button(
      "Cancel replay",
      {
        label: `Cancel replay of ${each.source}`,
        disabled: !may("operator"),
        click: () =>
          attempt(stop, async () => {
            await call("DELETE", `/workflows/ingress/tables/${encodeURIComponent(each.source)}/replay`);
            done(`Replay of ${each.source} is cancelled.`);
            await refresh();
          }),
      },
      "cross",
    );
    box.append(stop, h("p", { class: "hint" }, replayWords(replay)));
  }
  return box;
}

function replayWords(replay) {
  const what =
    replay.keys !== null
      ? count(replay.keys, "record")
      : replay.changed_since
        ? `records changed since ${moment(replay.changed_since)}`
        : "whole table";
  const states = { armed: "Armed for the next stop and start", requested: "Requested, begins in a moment", running: "Running" };
  return `${states[replay.state]}: ${what}, asked for by ${replay.requested_by}.`;
}

async function remove(each, control) {
  const words = h(
    "div",
    null,
    h("p", null, `Delete the mapping ${each.source} → ${each.target}? Its records stay in Campaign and are not kept up to date any more.`),
    h("p", { class: "hint" }, "It takes effect when the workflow is stopped and started. It can be undone below, under History."),
  );
  const without = (config) => ({ ...config, tables: config.tables.filter((one) => one.source !== each.source) });
  const result = await ask("Delete mapping", words, [
    {
      words: "Delete mapping",
      kind: "danger",
      value: async () => {
        const base = await load("ingress");
        return { outcome: await save("ingress", base, without(base.config), `mapping of ${each.source} deleted`, without) };
      },
    },
  ]);
  if (!result?.outcome) return;
  if (result.outcome.errors) failed(result.outcome.refusal);
  else if (result.outcome.saved) done(await savedWords("ingress", result.outcome.saved.revision));
  await Promise.all([refresh(), history("ingress", refresh)]);
  if (!control.isConnected) $("#add").focus();
}

const add = $("#add");
add.disabled = !may("admin");
if (!may("admin")) {
  const roles = may("operator")
    ? "Add, Delete and Undo need the role admin"
    : "Replay Data needs the role operator; Add, Delete and Undo need the role admin";
  add.parentElement.after(h("p", { class: "hint" }, `${roles}. You are signed in as ${me.name} (${me.role}).`));
}
add.addEventListener("click", addMapping);
const held = new Held("ingress", $("#held-list"), decisions.lookAt);
strip("ingress", (now) => {
  held.told(now.backlog.held);
  const moved =
    workflow && (workflow.status !== now.status || workflow.desired !== now.desired || workflow.saved_revision !== now.saved_revision);
  workflow = now;
  if (moved) refresh();
});
refresh();
setInterval(refresh, 3000);
history("ingress", refresh)
  .then(decisions.begin)
  .then(() => location.hash === "#held" && $("#held").scrollIntoView())
  .catch(failed);
