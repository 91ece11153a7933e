// The REST API. Every call carries the header that the door asks for; a refusal is a Problem.

const BASE = "/api/v1";

/** A refusal, as RFC 9457 tells it. `errors`: [{path, code, message}]. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || "The request failed.");
    this.status = status;
    this.code = body.code || "unknown";
    this.title = body.title || "Error";
    this.detail = body.detail || "";
    this.errors = body.errors || [];
  }
}

/** Who is signed in, as the server wrote it into the page. */
export const me = { name: document.body.dataset.name, role: document.body.dataset.role, open: document.body.dataset.open === "true" };

const RANKS = { viewer: 0, operator: 1, admin: 2 };

/** Whether the one who is signed in has at least this role. */
export const may = (role) => RANKS[me.role] >= RANKS[role];

/** Why a command is not offered; empty if it is. */
export const whyNot = (role) => (may(role) ? "" : `This needs the role ${role}; you are signed in as ${me.name} (${me.role}).`);

/** Whether the privacy notice has been accepted (with tokens: at sign-in). */
export const accepted = () => !me.open || localStorage.getItem("bridge-privacy") === "accepted";

/** Calls the API; `{data, etag}`. Throws Problem. */
export async function call(method, path, body, headers = {}) {
  const answer = await answered(method, path, body, headers);
  const data = answer.status === 204 ? null : await answer.json().catch(() => ({}));
  return { data, etag: answer.headers.get("ETag") };
}

/** What GET gives as a file of this type, as text. Throws Problem. */
export const file = async (path, type) => (await answered("GET", path, undefined, { Accept: type })).text();

async function answered(method, path, body, headers) {
  if (method !== "GET" && !accepted()) {
    document.getElementById("privacy")?.focus();
    throw new Problem(0, { title: "Privacy notice", detail: "Accept the privacy notice at the top of this page first.", code: "privacy" });
  }
  const answer = await asked(method, path, body, headers);
  if (answer.status === 401) {
    location.assign("/login?ended");
    throw new Problem(401, { title: "Not signed in", detail: "Your session has ended; sign in again." });
  }
  if (!answer.ok) throw new Problem(answer.status, (await answer.json().catch(() => ({}))) ?? {});
  return answer;
}

async function asked(method, path, body, headers, again = method === "GET") {
  const options = { method, credentials: "same-origin", cache: "no-store", headers: { "X-Requested-With": "bridge", ...headers } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(BASE + path, options);
  } catch {
    throw new Problem(0, {
      title: "No answer",
      detail: "This server cannot be reached. Check that it runs, then try again.",
      code: "unreachable",
    });
  }
  if (answer.status === 429 && again) {
    await new Promise((done) => setTimeout(done, 1000 * Number(answer.headers.get("Retry-After") || 1)));
    return asked(method, path, body, headers, false);
  }
  return answer;
}

/** What GET gives. */
export const get = async (path) => (await call("GET", path)).data;

/** What POST gives; an empty body is sent as an object where one is expected. */
export const post = async (path, body = {}) => (await call("POST", path, body)).data;

/** The fields of a table of a system, asked for once. */
const fields = new Map();
export function fieldsOf(system, name) {
  const key = `${system}/${name}`;
  if (!fields.has(key)) {
    const asking = get(`/systems/${system}/tables/${encodeURIComponent(name)}/fields`).then((found) => found.fields);
    asking.catch(() => fields.delete(key));
    fields.set(key, asking);
  }
  return fields.get(key);
}
