// What I changed in a table mapping, put onto what somebody else has saved meanwhile.

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** Three lists of rows, told apart by `name(row)`: theirs, without those that I removed, with those that I changed or added. */
function rows(base, mine, theirs, name) {
  const find = (list, row) => list.find((each) => name(each) === name(row));
  const kept = theirs.filter((row) => find(mine, row) || !find(base, row));
  const merged = kept.map((row) => {
    const my = find(mine, row);
    return my && !same(my, find(base, row)) ? my : row;
  });
  const added = mine.filter((row) => !find(theirs, row) && !same(row, find(base, row)));
  return [...merged, ...added];
}

/** The mapping that both wanted; where both changed the same thing, mine. `base`: what I began with, or undefined if I added it. */
export function mergeTable(base, mine, theirs) {
  if (!base || !theirs) return mine;
  const one = (name) => (same(mine[name], base[name]) ? theirs[name] : mine[name]);
  const filter = {
    ...theirs.filter,
    match: same(mine.filter.match, base.filter.match) ? theirs.filter.match : mine.filter.match,
    delete_filtered_out: same(mine.filter.delete_filtered_out, base.filter.delete_filtered_out)
      ? theirs.filter.delete_filtered_out
      : mine.filter.delete_filtered_out,
    conditions: rows(base.filter.conditions, mine.filter.conditions, theirs.filter.conditions, JSON.stringify),
  };
  return {
    ...mine,
    fields: rows(base.fields, mine.fields, theirs.fields, (row) => `${row.source}>${row.target}`),
    replacements: rows(base.replacements, mine.replacements, theirs.replacements, (row) => `${row.source}>${row.from}`),
    filter,
    apply_deletes: one("apply_deletes"),
    picklists: one("picklists"),
  };
}
