// Unsaved changes: the page says so, and asks before they are lost.
import { $, h, text } from "./dom.js";
import { ask } from "./dialogs.js";

let saved = null;
let current = null;
let away = false;

/** `state()`: what is on the page now, as plain data. What it is at this moment counts as saved. */
export function watch(state) {
  current = state;
  clean();
}

/** What is on the page has been saved, or is what the server has. */
export function clean() {
  saved = JSON.stringify(current());
  changed();
}

/** What the server has, which may differ from the page (a new mapping is unsaved from the beginning). */
export function unsaved() {
  saved = null;
  changed();
}

/** Whether there is something to lose. */
export const dirty = () => current !== null && !away && JSON.stringify(current()) !== saved;

/** Tells that something on the page may have changed. */
export function changed() {
  const note = $("#dirty");
  if (note) text(note, dirty() ? "There are unsaved changes." : "");
}

/** Goes to another page without asking again. */
export function leave(href) {
  away = true;
  location.assign(href);
}

addEventListener("beforeunload", (event) => {
  if (dirty()) event.preventDefault();
});

document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("a[href]");
  if (
    !link ||
    !dirty() ||
    event.defaultPrevented ||
    event.ctrlKey ||
    event.metaKey ||
    event.shiftKey ||
    (link.hash && link.pathname === location.pathname)
  )
    return;
  event.preventDefault();
  const words = h("p", null, "The changes on this page have not been saved. If you leave now, they are lost.");
  if (await ask("Unsaved changes", words, [{ words: "Leave without saving", kind: "danger", value: true }], { cancel: "Stay" }))
    leave(link.href);
});
