// Settings without secrets, and the test of each connection.
import { $, $$, button, fill, h, icon, text } from "./dom.js";
import { get, may, post, whyNot } from "./api.js";
import { moment } from "./format.js";
import { attempt, done } from "./messages.js";

const STATES = {
  connected: "Connected",
  failed: "Unable to connect",
  unknown: "Not asked yet",
  not_configured: "Not configured: its settings are not given to this server",
};
const DRAWINGS = { ok: "check", failed: "cross", skipped: "dash" };
const NAMES = { dynamics: "Microsoft Dynamics 365", campaign: "Campaign" };

async function show(system) {
  let found;
  try {
    found = await get(`/systems/${system}`);
  } catch (error) {
    for (const box of $$(`[data-section=${system}] [data-part=connection]`))
      fill(box, h("p", { class: "error" }, error.detail || error.message));
    return null;
  }
  for (const section of $$(`[data-system=${system}]`)) {
    for (const cell of $$("[data-setting]", section)) value(cell, found.settings);
    if (section.dataset.section === system) connection($("[data-part=connection]", section), found);
  }
  return found;
}

function value(cell, settings) {
  const given = settings[cell.dataset.setting];
  const note = cell.dataset.note;
  if (given && typeof given === "object" && "set" in given)
    fill(cell, given.set ? "set" : "not set", h("span", { class: "hint block" }, "A secret is never shown."));
  else if (given === undefined || given === null || given === "")
    fill(cell, h("span", { class: "hint" }, note ? `not set; ${note}` : "not set"));
  else fill(cell, h("span", null, String(given)));
}

function connection(box, found) {
  const { state, checked_at: at } = found.connection;
  const dot = { connected: "running", failed: "failed" }[state] ?? "unknown";
  const error =
    state === "failed" && found.last_error && h("p", { class: "error" }, `${found.last_error.message} (${moment(found.last_error.at)})`);
  fill(
    box,
    h(
      "p",
      null,
      h(
        "span",
        { class: `status status-${dot}` },
        h("span", { class: "dot", "aria-hidden": "true" }),
        h("span", { class: "status-word" }, STATES[state]),
      ),
      at && h("span", { class: "hint" }, ` ${moment(at)}`),
    ),
    error,
  );
}

async function test(system, control) {
  const box = $(`[data-section=${system}] [data-part=checks]`);
  fill(box, h("p", { class: "hint" }, "Testing…"));
  const result = await attempt(control, () => post(`/systems/${system}/test`));
  if (!result) {
    fill(box);
    return;
  }
  const one = (check) =>
    h(
      "li",
      { class: `check-${check.status}` },
      icon(DRAWINGS[check.status]),
      h("span", { class: "check-name" }, check.name),
      h("div", null, h("span", null, `${check.status}: ${check.message}`), check.hint && h("span", { class: "hint block" }, check.hint)),
    );
  fill(
    box,
    h(
      "p",
      null,
      h("strong", null, result.ok ? `The connection to ${NAMES[system]} works.` : `The connection to ${NAMES[system]} does not work yet.`),
    ),
    h("ul", { class: "checks" }, result.checks.map(one)),
  );
  await show(system);
}

/** What a firewall has to let the services call, with copy buttons. */
function addresses(found) {
  const urls = found.flatMap((each) => (each ? [each.settings.url, each.settings.token_url] : [])).filter(Boolean);
  const hosts = [...new Set(urls.map((each) => new URL(each).host))];
  const one = (host) => h("li", null, h("code", null, host), button("Copy", { label: `Copy ${host}`, click: () => copy(host) }, "copy"));
  fill($("#addresses"), hosts.length ? hosts.map(one) : h("li", { class: "hint" }, "Nothing is configured yet."));
}

async function copy(words) {
  try {
    await navigator.clipboard.writeText(words);
    done(`${words} is in the clipboard.`);
  } catch {
    done(`The browser does not let this page copy; select it instead: ${words}`);
  }
}

for (const control of $$("[data-test]")) {
  control.disabled = !may("operator");
  control.setAttribute("aria-label", `Test connection to ${NAMES[control.dataset.test]}`);
  text($("[data-part=why-not]", control.parentElement), whyNot("operator"));
  control.addEventListener("click", () => test(control.dataset.test, control));
}
addresses(await Promise.all(["dynamics", "campaign"].map(show)));
