// Revisions of a configuration: who saved when, undo of the last save, restore of any.
import { $, button, fill, h, row, table } from "./dom.js";
import { call, get, may, whyNot } from "./api.js";
import { ask } from "./dialogs.js";
import { differenceTable, differences } from "./diff.js";
import { moment } from "./format.js";
import { attempt, done } from "./messages.js";
import { load, savedWords } from "./saving.js";
import { deletesByFilter, planned, sure } from "./taking.js";

const COLUMNS = ["Revision", "Saved", "By", "Comment", "Actions"];
const SHOWN = 20;

/** Shows the history in #history. `restored(config)` is told when another configuration has become the saved one. */
export async function history(workflow, restored) {
  const place = $("#history");
  const { revisions } = await get(`/workflows/${workflow}/config/revisions`);
  const latest = revisions[0];
  const again = async (saved) => {
    await history(workflow, restored);
    restored(saved);
    done(await savedWords(workflow, saved.revision));
  };
  const previous = revisions[1];
  const undo = button(
    "Undo the last save",
    {
      id: "undo",
      disabled: !may("admin") || !previous,
      click: () =>
        attempt(undo, async () => {
          const saved = await restore(workflow, previous, "Undo the last save");
          if (saved) await again(saved);
        }),
    },
    "undo",
  );
  const reason = whyNot("admin") || (previous ? "" : "Nothing has been saved yet.");
  const last = h(
    "p",
    { class: "hint" },
    `Revision ${latest.revision}, saved by ${latest.saved_by}, ${moment(latest.saved_at)}${latest.comment ? `: ${latest.comment}` : ""}. `,
    reason,
  );
  const rows = revisions.slice(0, SHOWN).map((each, i) => cells(workflow, each, i === 0, again));
  const list = table(COLUMNS, [], { class: "small", "aria-label": "Revisions" });
  $("tbody", list).append(...rows.map((each) => row(COLUMNS, each)));
  const more =
    revisions.length > SHOWN && h("p", { class: "hint" }, `${revisions.length - SHOWN} older revisions can be had over the API.`);
  fill(
    place,
    h("h2", null, "History"),
    last,
    h("div", { class: "buttons" }, undo),
    h("details", null, h("summary", null, `All revisions (${revisions.length})`), list, more),
  );
}

function cells(workflow, revision, latest, again) {
  const control = latest
    ? h("span", { class: "hint" }, "this is the saved one")
    : button(
        "Restore",
        {
          label: `Restore revision ${revision.revision}`,
          disabled: !may("admin"),
          click: () =>
            attempt(control, async () => {
              const saved = await restore(workflow, revision, `Restore revision ${revision.revision}`);
              if (saved) await again(saved);
            }),
        },
        "undo",
      );
  return [String(revision.revision), moment(revision.saved_at), revision.saved_by, revision.comment ?? "", control];
}

/** Shows what restoring would change, then does it; the configuration saved then, null when cancelled. */
async function restore(workflow, revision, title) {
  const [current, wanted] = await Promise.all([load(workflow), get(`/workflows/${workflow}/config/revisions/${revision.revision}`)]);
  const deletes = workflow === "ingress" && wanted.config.tables.some(deletesByFilter);
  if (deletes && !(await sure("Restore", await planned(wanted.config)))) return null;
  const content = h(
    "div",
    null,
    h(
      "p",
      null,
      `Saves revision ${revision.revision} (${revision.saved_by}, ${moment(revision.saved_at)}) as a new revision. This would change:`,
    ),
    differenceTable(differences(workflow, current.config, wanted.config), "Saved now", "After"),
  );
  const give = async () => {
    const { data, etag } = await call(
      "POST",
      `/workflows/${workflow}/config/revisions/${revision.revision}/restore`,
      {},
      { "If-Match": current.etag },
    );
    return { ...data, etag };
  };
  return ask(title, content, [{ words: title, value: give }], { wide: true });
}
