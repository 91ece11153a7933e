// Workflows as they change: server-sent events, and polling while they cannot be had.
import { $, text } from "./dom.js";
import { get } from "./api.js";

const POLL_MS = 5000;
const QUIET_MS = 40_000;

/** Calls `changed(workflow)` for every workflow now and whenever one changes. */
export function follow(changed) {
  let source = null;
  let heard = 0;
  let asked = 0;
  const say = (words) => text($("#live-state"), words);
  const poll = async () => {
    if (source?.readyState === EventSource.OPEN && Date.now() - heard < QUIET_MS) return;
    try {
      (await get("/workflows")).workflows.forEach(changed);
      asked = Date.now();
      say(source?.readyState === EventSource.OPEN ? "Live" : "Up to date, asked every 5 s");
      if (source?.readyState === EventSource.CLOSED) listen();
    } catch {
      say("Not up to date: this server does not answer");
    }
  };
  const listen = () => {
    source = new EventSource("/api/v1/events");
    source.addEventListener("workflow", (event) => {
      heard = Date.now();
      say("Live");
      changed(JSON.parse(event.data));
    });
    source.addEventListener("open", () => say("Live"));
    source.addEventListener("error", () => Date.now() - asked > 2 * POLL_MS && say("Not live: trying again"));
  };
  poll();
  listen();
  setInterval(poll, POLL_MS);
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && listen());
}

/** Whether what the page shows is the state of now. */
export const isLive = () => $("#live-state").textContent.startsWith("Live") || $("#live-state").textContent.startsWith("Up");
