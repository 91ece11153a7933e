// What all pages do: menu, selectors, About, Sign out, the privacy notice, whether the page is up to date.
import { $, $$, h } from "./dom.js";
import { accepted, me } from "./api.js";
import { ask } from "./dialogs.js";
import { clear, failed } from "./messages.js";

function disclosures() {
  for (const control of $$("[data-disclosure]")) {
    const panel = document.getElementById(control.getAttribute("aria-controls"));
    const show = (open) => {
      control.setAttribute("aria-expanded", String(open));
      panel.classList.toggle("open", open);
      if (panel.id === "menu") panel.hidden = !open;
    };
    const isOpen = () => control.getAttribute("aria-expanded") === "true";
    control.addEventListener("click", () => show(!isOpen()));
    control.parentElement.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !isOpen()) return;
      show(false);
      control.focus();
    });
    document.addEventListener("click", (event) => {
      if (isOpen() && !control.parentElement.contains(event.target)) show(false);
    });
    control.parentElement.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !control.parentElement.contains(event.relatedTarget)) show(false);
    });
  }
}

function about() {
  const box = $("#about");
  $("#about-button").addEventListener("click", () => box.showModal());
  $("[data-close]", box).addEventListener("click", () => box.close());
  box.addEventListener("close", () => $("#menu-button").focus());
}

async function signOut() {
  if (me.open) {
    const words =
      "There is no sign-in on this machine: this server answers on the loopback address only, and whoever reaches it may do everything. With CONTROL_TOKENS_FILE people sign in with tokens.";
    await ask("Sign out", h("p", null, words), [], { cancel: "Close" });
    return;
  }
  try {
    const answer = await fetch("/logout", { method: "POST", credentials: "same-origin", headers: { "X-Requested-With": "bridge" } });
    if (!answer.ok) throw new Error(`sign out was refused (${answer.status})`);
    location.assign("/login");
  } catch (error) {
    failed(error);
  }
}

function privacy() {
  const box = $("#privacy");
  if (!box || accepted()) return;
  box.hidden = false;
  $("#privacy-accept").addEventListener("click", () => {
    localStorage.setItem("bridge-privacy", "accepted");
    box.hidden = true;
    clear();
    $("#content").focus();
  });
}

disclosures();
about();
privacy();
$("#sign-out").addEventListener("click", signOut);
