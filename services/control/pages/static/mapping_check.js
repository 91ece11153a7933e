// What has not been filled in yet, in words that help; everything else is the server's to say.
import { OPERATORS } from "./operators.js";
import { choices, takesList } from "./values.js";

/** Findings like the server's, with pointers into the table mapping. */
export function holes(page) {
  const { draft } = page;
  const found = [];
  const need = (path, message) => found.push({ path, code: "missing", message });
  if (!draft.key.target) need("/key/target", "Choose the Campaign field that takes the key.");
  draft.fields.forEach((each, i) => {
    if (!each.source) need(`/fields/${i}/source`, "Choose a Dynamics field, or delete the row.");
    if (!each.target) need(`/fields/${i}/target`, "Choose a Campaign field, or delete the row.");
  });
  draft.replacements.forEach((each, i) => {
    const target = draft.fields.find((one) => one.source === each.source)?.target;
    if (!each.source) need(`/replacements/${i}/source`, "Choose a field, or delete the row.");
    else if (!each.from && choices(page.field("dynamics", each.source)).length)
      need(`/replacements/${i}/from`, "Choose the value that is to be replaced.");
    if (each.source && !each.to && choices(page.field("campaign", target)).length) need(`/replacements/${i}/to`, "Choose the new value.");
  });
  draft.filter.conditions.forEach((each, i) => {
    const path = `/filter/conditions/${i}`;
    if (!each.field) need(`${path}/field`, "Choose a field, or delete the row.");
    else if (takesList(page.field("dynamics", each.field), each.operator) && each.value?.toString() === "")
      need(`${path}/value`, "Give at least one value.");
    else if (each.value === "" && (["order", "part"].includes(OPERATORS[each.operator].kind) || choices(page.field("dynamics", each.field)).length))
      need(`${path}/value`, "Give a value.");
  });
  return found;
}
