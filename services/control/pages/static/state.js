// The strip on the pages of one workflow: its status, and what awaits a restart, what needs attention.
import { $, fill, h } from "./dom.js";
import { follow } from "./live.js";
import { failureWords, heldLink, statusWords, warningWords } from "./status.js";

/** Keeps #state up to date. `changed(workflow)` is told too. */
export function strip(id, changed = () => {}) {
  let last = "";
  follow((workflow) => {
    if (workflow.id !== id) return;
    changed(workflow);
    const key = JSON.stringify([
      workflow.status,
      workflow.desired,
      workflow.pending_changes,
      workflow.configured,
      workflow.reason,
      workflow.backlog.held,
    ]);
    if (key === last) return;
    last = key;
    const pending = workflow.pending_changes && "Saved changes await a stop and start.";
    const unset = !workflow.configured && "Not configured yet.";
    const failed = workflow.status === "FAILED" && "Mend the cause, then start it again.";
    fill(
      $("#state"),
      statusWords(workflow),
      h("span", { class: "hint" }, pending || unset || failed || "Edits take effect when the workflow is stopped and started."),
      h("a", { href: `/workflows/${id}/dead-letters` }, "Dead letters"),
      h("a", { href: `/workflows/${id}/records` }, "Where is this record?"),
      heldLink(workflow),
      failureWords(workflow),
      warningWords(workflow),
    );
  });
}
