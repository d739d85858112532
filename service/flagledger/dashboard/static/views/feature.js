// One feature: who gets which value, since when, and from where.

import { ask, everyFeature } from "../api.js";
import { chart } from "../chart.js";
import { h } from "../dom.js";
import { count, date, identities, moment, share, value, whole, ZONE } from "../format.js";
import { bar, empty, faint, firstSteps, kept, link, shareBar, since, tiles, valueText } from "../parts.js";
import { ALL, bucketFor } from "../state.js";
import { table } from "../table.js";
import { evaluations, loadEvaluations, narrower } from "./evaluations.js";
import { marks, rowOf } from "./features.js";

const VALUES = 7;
const SEGMENTS = 20;

export async function load(context, signal) {
  const { environment, period, state } = context;
  const bounds = { environment, start_time: period.start, end_time: period.end };
  const knowing = everyFeature({ ...bounds, feature_name: state.feature }, signal);
  const counts = { ...bounds, feature_name: state.feature };
  const bucket = period.bucket ?? bucketOf(found(await knowing, state.feature));
  const buckets = { ...counts, bucket, time_zone: ZONE };
  const [known, totals, values, segments, recent] = await Promise.all([
    knowing,
    ask("counts", buckets, signal),
    ask("counts", { ...buckets, group_by: "value", series_limit: VALUES }, signal),
    ask("counts", { ...counts, group_by: "segment", series_limit: SEGMENTS }, signal),
    loadEvaluations(context, signal),
  ]);
  return {
    row: found(known, state.feature),
    bucket,
    dataSince: known.dataSince,
    points: (totals.series?.[0]?.points ?? []).map(pointOf),
    approximate: Boolean(totals.identities_approximate),
    lowerBound: Boolean(totals.identities_lower_bound),
    values: values.series ?? [],
    segments: segments.series ?? [],
    recent,
  };
}

function found(known, name) {
  const feature = known.features.find((one) => one.feature_name === name);
  return feature ? rowOf(feature) : null;
}

const bucketOf = (row) => bucketFor(row?.last ? row.last - row.first : 0);

function pointOf(point) {
  return {
    start: new Date(point.start_time),
    enabled: count(point.enabled_count),
    known: count(point.enabled_known_count),
    identities: count(point.identity_count),
  };
}

export function render(given, data) {
  const { row } = data;
  const context = { ...given, period: { ...given.period, bucket: data.bucket } };
  if (!row) return missing(context);
  const heading = [
    h("p", { class: "back", "data-key": "back" }, link(context, { feature: "", view: "features" }, null, "← All features")),
    h(
      "h1",
      { class: "feature-title", tabindex: "-1", "data-key": "title" },
      row.name, " ",
      ...marks(context, row, data.dataSince),
    ),
  ];
  if (!row.evaluations) return [...heading, unseen(context, row, data)];
  return [
    ...heading,
    kept(context.place),
    tiles(
      ["Evaluations", whole(row.evaluations), context.period.words],
      ["Enabled", share(row.enabled, row.enabledKnown) ?? "–", enabledNote(row)],
      ["Identities", identities(row.identities, row), identitiesNote(row)],
      ["Saw several values", identities(row.multiple, row), "identities; normal in a rollout, left out of experiments"],
      ["Last evaluated", since(row.last, context.now), ["first ", since(row.first, context.now)]],
      ["Last value", valueText(row.value, 24)],
    ),
    byValue(context, data),
    h("div", { class: "pair", "data-key": "lines" }, enabledShare(context, data), overIdentities(context, data)),
    h("div", { class: "pair", "data-key": "groups" }, segments(context, data), sdks(context, data)),
    evaluations(context, data),
  ];
}

function enabledNote({ evaluations: all, enabledKnown }) {
  if (!enabledKnown) return "no SDK says so";
  return enabledKnown === all ? "of all evaluations" : `of the ${whole(enabledKnown)} that say so`;
}

function identitiesNote({ approximate, lowerBound }) {
  return [approximate ? "an estimate" : null, lowerBound ? "out of a sample" : null].filter(Boolean).join(", ") || null;
}

function missing(context) {
  const { feature } = context.state;
  return [
    h("h1", { class: "feature-title", tabindex: "-1", "data-key": "title" }, feature),
    empty(
      "There is no such feature here",
      h("p", null, `The catalog of ${context.called} does not list it, and it was not evaluated in ${context.period.words}.`),
      h(
        "p",
        null,
        link(context, { period: ALL, from: "", to: "" }, null, "Look at all records"), " · ",
        link(context, { view: "unknown" }, null, "Was it asked for under that name?"), " · ",
        link(context, { feature: "", view: "features" }, null, "All features"),
      ),
    ),
  ];
}

function unseen(context, row, { dataSince }) {
  const longest = context.state.period === ALL;
  if (!dataSince) return empty("Nothing has been recorded yet", ...firstSteps(context.called, row.name));
  return empty(
    longest ? "Not evaluated since recording began" : `Not evaluated in ${context.period.words}`,
    row.lastSeen
      ? h("p", null, "It was last evaluated ", since(row.lastSeen, context.now), `, on ${moment(row.lastSeen)}.`)
      : h(
          "p",
          null,
          `The environment has records since ${date(dataSince)}: what was evaluated before, or more rarely than that, is not among them.`,
        ),
    longest ? null : h("p", null, link(context, { period: ALL, from: "", to: "" }, null, "Look at all records")),
  );
}

// A value keeps its colour while others grow past it, and over the values of one feature no two are alike for long.
function colourOf(context, name) {
  const { colours } = context.ui;
  if (!colours.has(name)) colours.set(name, colours.size);
  return colours.get(name);
}

function seriesName(series) {
  if (series.is_rest) return "other values";
  return value(series.groups?.[0]?.value ?? undefined, 40) ?? "no value";
}

function byValue(context, { values }) {
  const series = values.map((one) => ({
    label: seriesName(one),
    colour: one.is_rest ? null : colourOf(context, seriesName(one)),
    total: whole(count(one.evaluation_count)),
    values: (one.points ?? []).map((point) => count(point.evaluation_count)),
  }));
  const points = (values[0]?.points ?? []).map((point) => ({ start: new Date(point.start_time) }));
  return chart(context, { id: "values", title: "Evaluations by value", points, series, kind: "bars" });
}

function enabledShare(context, { points, row }) {
  const series = [
    {
      label: "enabled", colour: 2, total: share(row.enabled, row.enabledKnown),
      values: points.map((point) => (point.known ? (100 * point.enabled) / point.known : null)),
    },
  ];
  const known = points.map((point) => point.known > 0);
  const gaps = known.slice(known.indexOf(true), known.lastIndexOf(true)).includes(false);
  const percent = (figure) => `${figure.toFixed(1)} %`;
  return chart(context, {
    id: "enabled", title: "Enabled share", points, series, kind: "line", format: percent, axis: (figure) => `${figure} %`, most: 100,
    nothing: "No SDK said whether it was enabled.", note: gaps ? "Dashed where there are no evaluations." : null,
  });
}

function overIdentities(context, { points, row, ...known }) {
  const series = [
    {
      label: "identities", colour: 4, total: identities(row.identities, row),
      values: points.map((point) => point.identities),
    },
  ];
  return chart(context, {
    id: "identities", title: "Identities", points, series, kind: "bars", format: (figure) => identities(figure, known),
    nothing: context.place.identity_policy === "drop" ? "Identities are not kept." : "No identities were sent.",
    note: "Each counts once in every bucket that it was seen in: buckets do not add up.",
  });
}

function segments(context, { segments: series, row }) {
  const rows = series.map((one) => ({
    name: one.is_rest ? "other segments" : one.groups?.[0]?.value ?? null,
    isRest: Boolean(one.is_rest),
    evaluations: count(one.evaluation_count),
    enabled: count(one.enabled_count),
    known: count(one.enabled_known_count),
    identities: count(one.identity_count),
  }));
  const columns = [
    { key: "name", label: "Segment", cell: (one) => segmentName(context, one) },
    { key: "part", label: h("span", { class: "unseen" }, "Part"), kind: "bar-cell", cell: (one) => bar(one.evaluations / row.evaluations) },
    { key: "evaluations", label: "Evaluations", brief: "Evals", number: true, cell: (one) => whole(one.evaluations) },
    { key: "enabled", label: "Enabled", number: true, cell: (one) => shareBar(one.enabled, one.known) },
  ];
  return h(
    "section",
    { class: "panel" },
    h("h2", null, "Segments"),
    table({ key: "segments", caption: "Evaluations by segment", columns, rows, rowKey: (one) => `${one.isRest} ${one.name ?? ""}` }),
    rows.length > 1 ? h("p", { class: "faint" }, "An evaluation counts in each of its segments.") : null,
  );
}

function segmentName(context, { isRest, name }) {
  if (name === null) return faint("no segment");
  return isRest ? name : narrower(context, { segment: name }, name);
}

// The API has no filter for what was not said.
function sdkName(context, { name, sdk, version }) {
  return sdk && version ? narrower(context, { sdk, version }, name) : name;
}

function sdks(context, { row }) {
  const columns = [
    { key: "name", label: "SDK", cell: (one) => sdkName(context, one) },
    { key: "part", label: h("span", { class: "unseen" }, "Part"), kind: "bar-cell", cell: (one) => bar(one.evaluations / row.evaluations) },
    { key: "evaluations", label: "Evaluations", brief: "Evals", number: true, cell: (one) => whole(one.evaluations) },
    { key: "last", label: "Last", number: true, cell: (one) => since(one.last, context.now) },
  ];
  return h(
    "section",
    { class: "panel" },
    h("h2", null, "SDK versions"),
    table({ key: "sdks", caption: "Evaluations by SDK version", columns, rows: row.sdks, rowKey: (one) => one.name }),
  );
}
