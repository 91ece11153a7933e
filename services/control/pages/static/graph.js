// The backlog over time, as an SVG line with gaps where it was not known.
import { fill, svg } from "./dom.js";
import { number, time } from "./format.js";

const GAP_MS = 20_000;

/** The samples of the last hour of one workflow, kept up with live ones. */
export class Samples {
  constructor(minutes = 60) {
    this.span = minutes * 60_000;
    this.points = [];
  }

  /** `samples` as the API gives them. */
  load(samples) {
    const first = this.points[0]?.at ?? Infinity;
    const older = samples.map((each) => ({ at: Date.parse(each.at), records: each.records })).filter((each) => each.at < first);
    this.points = [...older, ...this.points];
  }

  add(records, at = Date.now()) {
    this.points.push({ at, records });
    const from = at - this.span;
    while (this.points.length && this.points[0].at < from) this.points.shift();
  }
}

/** Points in at most `most` buckets: the largest value of each, null if one was unknown and none known. */
function thinned(points, from, width, most) {
  const buckets = new Map();
  for (const each of points) {
    const place = Math.floor(((each.at - from) / width) * most);
    const there = buckets.get(place);
    if (!there || (each.records ?? -1) > (there.records ?? -1)) buckets.set(place, each);
  }
  return [...buckets.entries()].sort((a, b) => a[0] - b[0]).map(([, each]) => each);
}

/** Draws into `element` (an svg). `large`: with axis texts. */
export function draw(element, samples, { minutes = 60, width = 160, height = 36, large = false } = {}) {
  const now = Date.now();
  const span = minutes * 60_000;
  const from = now - span;
  const left = large ? 56 : 1;
  const bottom = large ? 20 : 1;
  const points = thinned(
    samples.points.filter((each) => each.at >= from),
    from,
    span,
    Math.round(width / 2),
  );
  const most = Math.max(1, ...points.map((each) => each.records ?? 0));
  const x = (at) => (left + ((at - from) / span) * (width - left - 3)).toFixed(1);
  const y = (records) => (height - bottom - 2 - (records / most) * (height - bottom - 8)).toFixed(1);
  const gap = Math.max(GAP_MS, (span / width) * 6);
  const lines = [];
  let last = null;
  for (const each of points) {
    if (each.records === null) last = null;
    else {
      if (!last || each.at - last.at > gap) lines.push([]);
      lines.at(-1).push(each);
      last = each;
    }
  }
  element.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const base = svg("line", { class: "graph-base", x1: left, x2: width, y1: height - bottom - 1, y2: height - bottom - 1 });
  fill(
    element,
    large && axis(width, height, left, most, from, now, y),
    base,
    lines.map((line) => path(line, x, y)),
  );
  element.setAttribute("aria-label", described(points, minutes));
}

function path(line, x, y) {
  if (line.length === 1) return svg("circle", { class: "graph-dot", cx: x(line[0].at), cy: y(line[0].records), r: 1.5 });
  return svg("polyline", { class: "graph-line", points: line.map((each) => `${x(each.at)},${y(each.records)}`).join(" ") });
}

function axis(width, height, left, most, from, now, y) {
  const label = (words, at, where, anchor) => svg("text", { class: "graph-text", x: at, y: where, "text-anchor": anchor }, words);
  return [
    svg("line", { class: "graph-grid", x1: left, x2: width, y1: y(most), y2: y(most) }),
    label(number(most), left - 6, Number(y(most)) + 4, "end"),
    label("0", left - 6, height - 20, "end"),
    label(time(from), left, height - 5, "start"),
    label("now", width - 3, height - 5, "end"),
  ];
}

/** The graph in words. */
function described(points, minutes) {
  const known = points.filter((each) => each.records !== null);
  if (!known.length) return `Backlog of the last ${minutes} minutes: not known`;
  const values = known.map((each) => each.records);
  return `Backlog of the last ${minutes} minutes: at most ${number(Math.max(...values))}, now ${number(points.at(-1).records)} records`;
}
