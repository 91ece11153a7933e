// What differs between two configurations, in the words of the pages.
import { h, table } from "./dom.js";
import { shown } from "./format.js";
import { OPERATORS } from "./operators.js";

const EVENTS = { send: "Sends", click: "Clicks", open: "Opens", bounce: "Bounces" };
export const DIRECTIONS = {
  disabled: "Disabled",
  "dynamics-to-campaign": "Unidirectional (Microsoft Dynamics 365 to Campaign)",
  "campaign-to-dynamics": "Unidirectional (Campaign to Microsoft Dynamics 365)",
  bidirectional: "Bidirectional",
};
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** [{what, before, after}]: null where something is not there. */
export function differences(workflow, before, after) {
  if (workflow === "ingress") return tables(before, after);
  if (workflow === "egress") return members(before.events, after.events, EVENTS, (value) => value);
  return optin(before, after);
}

function members(before, after, words, value) {
  return Object.entries(words)
    .filter(([name]) => !same(before[name], after[name]))
    .map(([name, what]) => ({ what, before: value(before[name]), after: value(after[name]) }));
}

/** Pairs what has the same name on both sides; `told(old, new)` gives the differences of one. */
function paired(before, after, name, told) {
  const olds = new Map(before.map((each) => [name(each), each]));
  const news = new Map(after.map((each) => [name(each), each]));
  return [...new Set([...olds.keys(), ...news.keys()])].flatMap((key) => told(olds.get(key) ?? null, news.get(key) ?? null));
}

/** One difference for something that is there as a whole or not. */
const whole = (what, words) => (old, fresh) =>
  same(old, fresh) ? [] : [{ what: what(old ?? fresh), before: old && words(old), after: fresh && words(fresh) }];

function tables(before, after) {
  return paired(
    before.tables,
    after.tables,
    (each) => `${each.source}>${each.target}`,
    (old, fresh) => {
      const name = `${(old ?? fresh).source} → ${(old ?? fresh).target}`;
      if (!old || !fresh)
        return [
          { what: name, before: old && `mapped, ${old.fields.length} fields`, after: fresh && `mapped, ${fresh.fields.length} fields` },
        ];
      return mapping(old, fresh).map((each) => ({ ...each, what: `${name}: ${each.what}` }));
    },
  );
}

function mapping(old, fresh) {
  const found = [];
  if (!same(old.key, fresh.key))
    found.push({ what: "key", before: `${old.key.source} → ${old.key.target}`, after: `${fresh.key.source} → ${fresh.key.target}` });
  found.push(
    ...paired(
      old.fields,
      fresh.fields,
      (each) => each.target,
      whole(
        (each) => `field mapping to ${each.target}`,
        (each) => `${each.source}, Apply updates ${each.apply_updates ? "on" : "off"}`,
      ),
    ),
  );
  found.push(
    ...paired(
      old.replacements,
      fresh.replacements,
      (each) => `${each.source}=${each.from}`,
      whole(
        (each) => `replacement of ${each.source} ${shown(each.from)}`,
        (each) => shown(each.to),
      ),
    ),
  );
  found.push(
    ...paired(
      old.filter.conditions,
      fresh.filter.conditions,
      (each) => JSON.stringify(each),
      whole(() => "filter", condition),
    ),
  );
  const match = (each) => (each === "all" ? "And" : "Or");
  if (old.filter.match !== fresh.filter.match)
    found.push({ what: "filter comparison operator", before: match(old.filter.match), after: match(fresh.filter.match) });
  if (old.filter.delete_filtered_out !== fresh.filter.delete_filtered_out)
    found.push({
      what: "delete records that are filtered out",
      before: old.filter.delete_filtered_out,
      after: fresh.filter.delete_filtered_out,
    });
  if (old.apply_deletes !== fresh.apply_deletes)
    found.push({ what: "Apply deletes", before: old.apply_deletes, after: fresh.apply_deletes });
  if (old.picklists !== fresh.picklists)
    found.push({
      what: "Use technical values in picklists",
      before: old.picklists === "technical",
      after: fresh.picklists === "technical",
    });
  if (!found.length && !same(old, fresh)) found.push({ what: "order of the rows", before: "as it was", after: "changed" });
  return found;
}

/** A filter in words. */
export function condition(each) {
  const { label, kind } = OPERATORS[each.operator];
  return `${each.field} ${label}${kind === "emptiness" ? "" : ` ${shown(each.value)}`}`;
}

function optin(before, after) {
  const direction = members(before, after, { direction: "Opt in/out synchronization direction" }, (value) => DIRECTIONS[value]);
  return [
    ...direction,
    ...paired(
      before.mappings,
      after.mappings,
      (each) => each.target,
      whole(
        (each) => `mapping to ${each.target}`,
        (each) => each.source,
      ),
    ),
  ];
}

/** The differences as a table. */
export function differenceTable(found, before, after, label = "Differences") {
  if (!found.length) return h("p", { class: "hint" }, "Nothing differs.");
  return table(
    ["What", before, after],
    found.map((each) => [each.what, shown(each.before), shown(each.after)]),
    { class: "small", "aria-label": label },
  );
}
