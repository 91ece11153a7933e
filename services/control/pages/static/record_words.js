// What the hops of a record and its outcomes are called: every workflow takes another way.

const ASIDE = "set aside as a dead letter";
const QUEUE = { waiting: "Waiting in the queue", dead_lettered: "Set aside as a dead letter" };
const QUEUED = { ...QUEUE, settled: "Dealt with by the writer" };
const OBSERVED = { ...QUEUE, read: "Observed in Dynamics or Campaign", waiting: "Observed, waits to be decided", settled: "Decided" };
const DECIDED = { ...QUEUE, read: "Decided", waiting: "Decided, waits to be written", settled: "Written" };

const INGRESS = {
  hop: (each) => ({ ...QUEUED, read: "Read from Dynamics and queued" })[each.hop],
  outcomes: {
    created: "created in Campaign",
    updated: "updated in Campaign",
    unchanged: "unchanged in Campaign",
    deleted: "deleted in Campaign",
    filtered: "filtered out",
    dead_lettered: ASIDE,
    parked: "waits for its parent",
  },
  waits: "a newer change waits",
  answered: "Campaign answered",
  read: "Read",
  settled: "Settled",
  versions: true,
  check: "Check table and key. A record that was not changed since the table was mapped comes with a replay of the table.",
};

const EGRESS = {
  hop: (each) => ({ ...QUEUED, read: "Read from Campaign's journal and queued" })[each.hop],
  outcomes: {
    created: "on the timeline in Dynamics",
    unchanged: "was on the timeline in Dynamics already",
    dead_lettered: ASIDE,
    parked: "waits for its contact in Dynamics",
  },
  waits: "another event waits",
  answered: "Dynamics answered",
  read: "Read",
  settled: "Written",
  versions: false,
  check: "Check the id of the contact. Only events of the kinds that are switched on come here, of contacts that came from Dynamics.",
};

const OPTIN = {
  hop: (each) => (each.topic.endsWith("observations") ? OBSERVED : DECIDED)[each.hop],
  outcomes: {
    observed: "compared with the other system",
    held: "held by the consent guard",
    updated: "written",
    unchanged: "the same on both sides",
    observed_again: "changed meanwhile: observed and decided again",
    absent: "there is no contact or profile to be told",
    stale: "overtaken by a newer decision",
    dead_lettered: ASIDE,
    parked: "waits for the profile",
  },
  waits: "a newer status waits",
  answered: "The destination answered",
  read: "Observed",
  settled: "Decided or written",
  versions: false,
  check: "Check the id of the contact. Only statuses that have changed since the workflow was started come here.",
};

/** `hop(each)`: its name; `outcomes`: in words; `waits`: what comes after what was dealt with; `check`: when nothing is known of a key. */
export const WORDS = { ingress: INGRESS, egress: EGRESS, optin: OPTIN };
