// What happened, in words, where everybody notices: a live region at the top of the page.
import { $, button, fill, h } from "./dom.js";
import { Problem } from "./api.js";

const region = $("#messages");

/** Says what went well. */
export const done = (words, ...more) => say("notice-ok", h("p", null, words), ...more);

/** Says what needs attention. */
export const warn = (words, ...more) => say("notice-warning", h("p", null, words), ...more);

/** Tells of an error: title, detail and findings of a problem. */
export function failed(error) {
  if (!(error instanceof Problem)) console.error(error);
  const findings = (error.errors ?? []).map((each) => h("li", null, each.path ? `${each.path}: ` : "", each.message));
  const words = error instanceof Problem ? error.detail : `The page met a fault of its own: ${error.message}`;
  say("notice-error", h("p", null, h("strong", null, error.title ?? "Error"), " ", words), findings.length > 0 && h("ul", null, findings));
}

/** Takes all messages away. */
export const clear = () => fill(region);

function say(kind, ...parts) {
  const close = button("Dismiss", { kind: "quiet", click: () => box.remove() }, "cross");
  const box = h("div", { class: `notice ${kind}` }, h("div", { class: "grow" }, ...parts), close);
  fill(region, box);
  box.scrollIntoView({ block: "nearest" });
}

/** Runs something a button asked for: the button waits, an error is told. Gives what it gives, undefined after an error. */
export async function attempt(control, what) {
  const focused = document.activeElement === control;
  control?.setAttribute("aria-busy", "true");
  if (control) control.disabled = true;
  try {
    return await what();
  } catch (error) {
    failed(error);
    return undefined;
  } finally {
    control?.removeAttribute("aria-busy");
    if (control) control.disabled = false;
    const free = document.activeElement === document.body || document.activeElement === control;
    if (focused && control.isConnected && free) control.focus(); // what was done may have moved it to where it tells of itself
  }
}
