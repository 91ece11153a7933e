// Numbers, times and durations in words.

const NUMBER = new Intl.NumberFormat("en");
const DAY = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

/** 12,345; "unknown" for null. */
export const number = (value) => (value === null || value === undefined ? "unknown" : NUMBER.format(value));

/** 1 record, 2 records. */
export const count = (value, one, many = `${one}s`) => `${number(value)} ${value === 1 ? one : many}`;

/** A time as people read it: today's without the day. */
export function time(value) {
  if (!value) return "never";
  const at = new Date(value);
  return at.toDateString() === new Date().toDateString() ? CLOCK.format(at) : DAY.format(at);
}

/** Day and time. */
export const moment = (value) => (value ? DAY.format(new Date(value)) : "never");

/** About how long: 40 s, 3 min, 2 h, 4 days. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "unknown";
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** A value of a configuration as people read it. */
export function shown(value) {
  if (value === null || value === undefined) return "nothing";
  if (value === true) return "Yes";
  if (value === false) return "No";
  if (Array.isArray(value)) return value.map(shown).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value) === "" ? "empty" : String(value);
}

/** Type and length of a field, as under the pickers: String (100). */
export const kind = (field) => (field ? `${field.type}${field.length ? ` (${field.length})` : ""}` : "");
