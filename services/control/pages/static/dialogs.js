// Modal dialogs: native <dialog>, which keeps the focus inside and gives it back.
import { button, h, newId } from "./dom.js";
import { Problem } from "./api.js";

/**
 * Opens a dialog and gives what its buttons resolve to; null when it is cancelled or closed with Escape.
 * `choices`: [{words, kind, value}] where value may be a function; one that throws a Problem keeps the dialog open and shows it.
 */
export function ask(title, content, choices, { cancel = "Cancel", wide = false } = {}) {
  const id = newId("dialog");
  const trouble = h("p", { class: "error", role: "alert" });
  const back = document.activeElement;
  return new Promise((resolve) => {
    const end = (value) => {
      box.close();
      box.remove();
      if (back?.isConnected) back.focus();
      resolve(value);
    };
    const chosen = async (choice, control) => {
      trouble.textContent = "";
      control.disabled = true;
      try {
        const value = typeof choice.value === "function" ? await choice.value() : choice.value;
        if (value !== undefined) end(value);
      } catch (error) {
        if (!(error instanceof Problem)) console.error(error);
        trouble.textContent = [error.title, error.detail || error.message, ...(error.errors ?? []).map((each) => each.message)]
          .filter(Boolean)
          .join(" – ");
      } finally {
        control.disabled = false;
      }
    };
    const buttons = choices.map((choice) => {
      const made = button(choice.words, {
        kind: choice.kind ?? "primary",
        disabled: choice.disabled ?? false,
        click: () => chosen(choice, made),
      });
      return made;
    });
    const box = h(
      "dialog",
      { "aria-labelledby": id, class: wide ? "wide" : null },
      h("h2", { id }, title),
      content,
      trouble,
      h("div", { class: "buttons" }, button(cancel, { click: () => end(null) }), buttons),
    );
    box.addEventListener("cancel", (event) => {
      event.preventDefault();
      end(null);
    });
    document.body.append(box);
    box.showModal();
    content.querySelector?.("[data-focus]")?.focus();
  });
}
