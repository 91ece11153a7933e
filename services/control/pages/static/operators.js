// The comparisons of a filter in words, in the order they are offered. Kinds: bridge/model/operators.py; a test compares the two.
export const OPERATORS = {
  eq: { label: "equals", kind: "equality" },
  ne: { label: "does not equal", kind: "equality" },
  lt: { label: "is less than", kind: "order" },
  le: { label: "is less than or equal to", kind: "order" },
  gt: { label: "is greater than", kind: "order" },
  ge: { label: "is greater than or equal to", kind: "order" },
  contains: { label: "contains", kind: "part" },
  begins_with: { label: "begins with", kind: "part" },
  ends_with: { label: "ends with", kind: "part" },
  in: { label: "is one of", kind: "choice" },
  contains_any: { label: "contains any of", kind: "options" },
  contains_all: { label: "contains all of", kind: "options" },
  is_empty: { label: "is empty", kind: "emptiness" },
  is_not_empty: { label: "is not empty", kind: "emptiness" },
};
