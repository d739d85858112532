// Charts over time. D3 has the scales and the lines; the elements are ours, so that they can be patched like all others.
//
// The legend tells the figures: of the whole period, or of the bucket that is pointed at. Without D3 the table is left, which is
// there for everybody who would rather have it.

import { h, svg } from "./dom.js";
import { brief, bucketName, tick, whole } from "./format.js";
import { endOf } from "./state.js";

const d3 = globalThis.d3;
const HEIGHT = 190;
const TOP = 8;
const BOTTOM = 24;
const RIGHT = 6;
const TICK_PIXELS = 84;
const LABEL_PIXELS = 52;
const LETTER_PIXELS = 6.6;
const COLOURS = 7;
// Days between two labels; with more than that they stand at months, as D3 puts them. Fewer days than that are labelled by the hour.
const DAY_STEPS = [1, 2, 3, 4, 5, 7, 14];
const FEW_DAYS = 4;

/**
 * Returns a chart.
 *
 * `points` are buckets with a `start`; each of `series` has a `label`, a `colour`, a `total` as text, and as many `values` as there
 * are points, null where there is none. `kind` is `bars` (stacked) or `line`. `format` writes a value, `axis` one on the axis, and
 * `nothing` stands in place of a chart in which nothing would be seen.
 */
export function chart(context, given) {
  const { id, title, note, points, series, kind, format = whole, axis = brief, most = null, nothing = "There is nothing to show." } =
    given;
  const { period, ui, redraw } = context;
  const pointed = ui.pointed.get(id) ?? null;
  const bucket = pointed !== null && pointed < points.length ? pointed : null;
  const ends = points.map((_, index) => points[index + 1]?.start ?? period.end ?? endOf(period.bucket, points[index].start));
  const name = (index) => bucketName(period.bucket, points[index].start, ends[index]);
  const point = (index) => {
    if (ui.pointed.get(id) === index) return;
    ui.pointed.set(id, index);
    redraw();
  };
  const when = h("span", { class: "when" }, bucket === null ? period.words : name(bucket));
  const caption = h("figcaption", null, h("h2", null, title), when);
  const attributes = { class: "chart panel", "data-key": `chart-${id}` };
  const seen = (value) => (kind === "bars" ? value > 0 : value !== null);
  if (!series.some((one) => one.values.some(seen))) return h("figure", attributes, caption, h("p", { class: "none" }, nothing));
  return h(
    "figure",
    attributes,
    caption,
    legend(series, bucket, format),
    d3 && points.length
      ? plot({ context, id, title, points, ends, series, kind, axis, most, bucket, point, name, format })
      : null,
    note ? h("p", { class: "faint" }, note) : null,
    details(context, { id, title, points, series, name, format }),
  );
}

function legend(series, bucket, format) {
  return h(
    "ul",
    { class: "legend" },
    series.map((one) => {
      const value = bucket === null ? one.total : shown(one.values[bucket], format);
      return h(
        "li",
        null,
        h("span", { class: `swatch ${colourClass(one.colour)}`, "aria-hidden": "true" }),
        h("span", { class: "name" }, one.label),
        h("b", null, value ?? "–"),
      );
    }),
  );
}

const shown = (value, format) => (value === null || value === undefined ? "–" : format(value));
export const colourClass = (colour) => (colour === null ? "rest" : `s${colour % COLOURS}`);

function plot({ context, id, title, points, ends, series, kind, axis, most, bucket, point, name, format }) {
  const width = Math.max(240, context.widthOf(id));
  const bottom = HEIGHT - BOTTOM;
  const heights = points.map((_, index) =>
    kind === "bars"
      ? series.reduce((sum, one) => sum + (one.values[index] ?? 0), 0)
      : Math.max(0, ...series.map((one) => one.values[index] ?? 0)),
  );
  const y = d3.scale.linear().domain([0, most ?? Math.max(1, ...heights)]).range([bottom, TOP]);
  if (most === null) y.nice(4);
  const ticks = y.ticks(4).filter((value) => most !== null || Number.isInteger(value));
  const left = 10 + LETTER_PIXELS * Math.max(...ticks.map((value) => axis(value).length));
  const x = d3.time.scale().domain([points[0].start, ends.at(-1)]).range([left, width - RIGHT]);
  const marks = marksOf(x, Math.max(2, Math.floor((width - left) / TICK_PIXELS)));
  const at = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const time = x.invert(((event.clientX - box.left) * width) / box.width);
    const after = d3.bisector((one) => one.start).right(points, time);
    point(Math.min(points.length - 1, Math.max(0, after - 1)));
  };
  const keys = (event) => {
    const last = points.length - 1;
    const steps = { ArrowLeft: (bucket ?? last + 1) - 1, ArrowRight: (bucket ?? -1) + 1, Home: 0, End: last, Escape: null };
    if (!Object.hasOwn(steps, event.key)) return;
    event.preventDefault();
    const next = steps[event.key];
    point(next === null ? null : Math.min(last, Math.max(0, next)));
  };
  const spoken = (index) =>
    `${name(index)}: ${series.map((one) => `${one.label} ${shown(one.values[index], format)}`).join(", ")}`;
  return svg(
    "svg",
    {
      class: "plot", "data-key": "plot", viewBox: `0 0 ${width} ${HEIGHT}`, tabindex: "0",
      // To a screen reader it is a slider over the buckets, which says the figures of each.
      role: "slider", "aria-label": `${title}, by ${context.period.bucket}. Arrow keys go through the buckets.`,
      "aria-valuemin": 0, "aria-valuemax": points.length - 1, "aria-valuenow": bucket ?? 0,
      "aria-valuetext": bucket === null
        ? `whole period: ${series.map((one) => `${one.label} ${one.total ?? "none"}`).join(", ") || "nothing"}`
        : spoken(bucket),
      onpointermove: at, onpointerdown: at, onpointerleave: () => point(null), onkeydown: keys, onblur: () => point(null),
    },
    ticks.map((value) =>
      svg(
        "g",
        { class: "grid" },
        svg("line", { x1: left, x2: width - RIGHT, y1: y(value), y2: y(value) }),
        svg("text", { x: left - 7, y: y(value) + 4, "text-anchor": "end" }, axis(value)),
      ),
    ),
    marks.map((time) =>
      svg("text", { class: "mark", x: x(time), y: HEIGHT - 6, "text-anchor": anchor(x(time), left, width) }, tick(time)),
    ),
    bucket === null
      ? null
      : svg("rect", {
          class: "pointed", x: x(points[bucket].start), y: TOP, height: bottom - TOP,
          width: Math.max(1, x(ends[bucket]) - x(points[bucket].start)),
        }),
    kind === "bars" ? bars({ points, ends, series, x, y }) : lines({ points, ends, series, x, y, bucket }),
  );
}

/** Returns the times that have labels, about `most`. D3 counts days anew with each month, so that those are counted here. */
function marksOf(x, most) {
  const days = d3.time.days(...x.domain());
  const step = days.length < FEW_DAYS ? null : DAY_STEPS.find((one) => one * most >= days.length);
  return step ? days.filter((_, index) => index % step === 0) : apart(x.ticks(most), x);
}

/** Returns `times` without those whose labels would touch: D3 gives about as many as it is asked for. */
function apart(times, x) {
  const room = times.length > 1 ? (x(times.at(-1)) - x(times[0])) / (times.length - 1) : LABEL_PIXELS;
  const step = Math.ceil(LABEL_PIXELS / room);
  const kept = [];
  for (const time of times.filter((_, index) => index % step === 0)) {
    if (!kept.length || x(time) - x(kept.at(-1)) >= LABEL_PIXELS) kept.push(time);
  }
  return kept;
}

// A label in the middle would be cut off at either end.
function anchor(x, left, width) {
  if (x < left + 20) return "start";
  return x > width - 26 ? "end" : "middle";
}

function bars({ points, ends, series, x, y }) {
  const base = points.map(() => 0);
  return series.map((one) => {
    const pieces = points.map((bucket, index) => {
      const value = one.values[index] ?? 0;
      if (!value) return "";
      const lower = y(base[index]);
      base[index] += value;
      const room = x(ends[index]) - x(bucket.start);
      const gap = room > 4 ? Math.min(3, room * 0.18) : room * 0.1;
      // A bucket that holds something shows something.
      const height = Math.max(1, lower - y(base[index]));
      const from = x(bucket.start) + gap / 2;
      return `M${from.toFixed(1)} ${lower.toFixed(1)}v${(-height).toFixed(1)}h${(room - gap).toFixed(1)}v${height.toFixed(1)}z`;
    });
    return svg("path", { class: `bar ${colourClass(one.colour)}`, d: pieces.join("") || "M0 0" });
  });
}

function lines({ points, ends, series, x, y, bucket }) {
  const middle = (index) => (x(points[index].start) + x(ends[index])) / 2;
  const line = d3.svg.line().defined((value) => value !== null).x((_, index) => middle(index)).y(y);
  // Over buckets that are empty a line goes on, so that what belongs together is seen, but as one that knows nothing of them.
  const bridge = d3.svg.line().x(([, index]) => middle(index)).y(([value]) => y(value));
  const known = (values) => values.map((value, index) => [value, index]).filter(([value]) => value !== null);
  const alone = (values, index) =>
    values[index] !== null && (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null;
  return series.map((one) =>
    svg(
      "g",
      { class: colourClass(one.colour) },
      svg("path", { class: "bridge", d: bridge(known(one.values)) ?? "M0 0" }),
      svg("path", { class: "line", d: line(one.values) ?? "M0 0" }),
      one.values.map((value, index) =>
        alone(one.values, index) || (index === bucket && value !== null)
          ? svg("circle", { class: "dot", cx: middle(index), cy: y(value), r: 3 })
          : null,
      ),
    ),
  );
}

function details(context, { id, title, points, series, name, format }) {
  const open = !d3 || context.ui.open.has(id);
  const toggle = (event) => {
    const now = event.currentTarget.open;
    if (now === context.ui.open.has(id)) return;
    if (now) context.ui.open.add(id);
    else context.ui.open.delete(id);
    context.redraw();
  };
  return h(
    "details",
    { "data-key": "figures", ontoggle: toggle, open },
    h("summary", null, "Figures"),
    open
      ? h(
          "div",
          { class: "scroll figures" },
          h(
            "table",
            { class: "table" },
            h("caption", { class: "unseen" }, `${title}, the latest first`),
            h(
              "thead",
              null,
              h(
                "tr",
                null,
                h("th", { scope: "col" }, "Time"),
                series.map(({ label }) =>
                  h("th", { scope: "col", class: "number", title: label }, h("span", { class: "lines" }, label)),
                ),
              ),
            ),
            h(
              "tbody",
              null,
              points.map((_, index) =>
                h(
                  "tr",
                  null,
                  h("th", { scope: "row" }, name(index)),
                  series.map((one) => h("td", { class: "number" }, shown(one.values[index], format))),
                ),
              ).reverse(),
            ),
          ),
        )
      : null,
  );
}
