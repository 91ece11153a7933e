// The dialog of Replay Data: when, and what.
import { $, h, newId, radios } from "./dom.js";
import { post } from "./api.js";
import { ask } from "./dialogs.js";

/** Asks, and gives the table as it is then; null when cancelled. `workflow`: ingress as it is now, or null. */
export function replayDialog(table, workflow) {
  const asked = { when: "next-start", what: "all", since: "", keys: "" };
  const runs = workflow?.desired === "RUNNING";
  const when = radios(
    "When?",
    [
      ["next-start", "At the next stop and start", "As soon as the workflow has been stopped and started."],
      ["now", "Now", runs ? "Beside the live changes, without a stop." : "Only while the workflow runs."],
    ],
    asked.when,
    (value) => (asked.when = value),
    { stacked: true },
  );
  $("input[value=now]", when).disabled = !runs;
  const since = h("div", { class: "field", hidden: true }, ...dated(asked));
  const keys = h("div", { class: "field", hidden: true }, ...keyed(asked));
  const what = radios(
    "Which records?",
    [
      ["all", "All records of the table"],
      ["since", "Those changed since a time"],
      ["keys", "Those with these keys"],
    ],
    asked.what,
    (value) => {
      asked.what = value;
      since.hidden = value !== "since";
      keys.hidden = value !== "keys";
    },
    { stacked: true },
  );
  const content = h(
    "div",
    null,
    h("p", null, `The chosen records of ${table.source} are read again and sent to Campaign. The progress can be seen in the backlog.`),
    when,
    what,
    since,
    keys,
  );
  const send = () => {
    const body = { when: asked.when };
    if (asked.what === "since") {
      if (!asked.since) return needed("input[type=datetime-local]", content);
      body.changed_since = `${asked.since}Z`;
    }
    if (asked.what === "keys") {
      body.keys = asked.keys.split(/[\s,;]+/).filter(Boolean);
      if (!body.keys.length) return needed("textarea", content);
    }
    return post(`/workflows/ingress/tables/${encodeURIComponent(table.source)}/replay`, body);
  };
  return ask(`Replay Data: ${table.source}`, content, [{ words: "Replay Data", value: send }]);
}

function dated(asked) {
  const id = newId("since");
  return [
    h("label", { for: id }, "Changed since (UTC)"),
    h("input", {
      id,
      type: "datetime-local",
      on: { input: (event) => (asked.since = event.target.value.length === 16 ? `${event.target.value}:00` : event.target.value) },
    }),
  ];
}

function keyed(asked) {
  const id = newId("keys");
  return [
    h("label", { for: id }, "Keys, one a line"),
    h("textarea", { id, spellcheck: "false", on: { input: (event) => (asked.keys = event.target.value) } }),
  ];
}

/** Leads to what is missing; the dialog stays. */
function needed(selector, content) {
  const control = $(selector, content);
  control?.setAttribute("aria-invalid", "true");
  control?.focus();
  return undefined;
}
