// How intake goes: what comes in, what of it is not recorded and why, and how far the store is behind.

import { ask } from "../api.js";
import { chart } from "../chart.js";
import { h } from "../dom.js";
import { bytes, count, duration, rate, share, whole, ZONE } from "../format.js";
import { bar, empty, firstSteps, link, tiles } from "../parts.js";
import { bucketFor } from "../state.js";
import { table } from "../table.js";

// From here on senders will soon be told to wait.
const FULL = 0.8;

export async function load({ environment, period, now }, signal) {
  const bucket = period.bucket ?? (await bucketSince(environment, now, signal));
  const asked = { environment, start_time: period.start, end_time: period.end, bucket, time_zone: ZONE };
  const answer = await ask("intake", asked, signal);
  return {
    bucket,
    recorded: count(answer.recorded_count),
    filtered: count(answer.filtered_count),
    rejected: count(answer.rejected_count),
    sampledOut: count(answer.sampled_out_count),
    foreign: count(answer.foreign_event_count),
    rejections: (answer.rejections ?? []).map((one) => ({ field: one.field, evaluations: count(one.evaluation_count) })),
    keptDays: count(answer.retention_days),
    perSecond: answer.evaluations_per_second ?? 0,
    points: (answer.points ?? []).map((point) => ({
      start: new Date(point.start_time),
      recorded: count(point.recorded_count),
      filtered: count(point.filtered_count),
      rejected: count(point.rejected_count),
    })),
    journal: {
      bytes: count(answer.journal?.bytes),
      most: count(answer.journal?.max_bytes),
      waiting: count(answer.journal?.waiting_batch_count),
      lag: answer.journal?.lag ?? "0s",
    },
  };
}

async function bucketSince(environment, now, signal) {
  // An empty period, since it is not the features that are asked for.
  const moment = new Date(now).toISOString();
  const { data_since: since } = await ask("features", { environment, start_time: moment, end_time: moment }, signal);
  return bucketFor(since ? now - new Date(since) : 0);
}

export function render(given, data) {
  const context = { ...given, period: { ...given.period, bucket: data.bucket } };
  const { recorded, filtered, rejected, sampledOut, foreign, journal } = data;
  const received = recorded + filtered + rejected + sampledOut;
  const of = (part) => (received ? `${share(part, received)} of what came in` : null);
  const full = journal.most ? journal.bytes / journal.most : 0;
  return [
    h("h1", { tabindex: "-1", "data-key": "title" }, "Intake"),
    h(
      "p",
      { class: "lead", "data-key": "lead" },
      "Figures are of entries, by the time of their receipt: one that was summed up stands for several evaluations.",
    ),
    beside(data, of),
    tiles(
      ["Rate", `${rate(data.perSecond)} / s`, "entries, over the last minute"],
      ["Lag", duration(journal.lag), journal.waiting ? `${whole(journal.waiting)} batches wait` : "the store holds everything"],
      ["Journal", bytes(journal.bytes), [bar(full, full > FULL ? "s1" : "s0"), `of ${bytes(journal.most)}`]],
      ["Recorded", whole(recorded), of(recorded)],
      ["Filtered", whole(filtered), of(filtered)],
      ["Rejected", whole(rejected), of(rejected)],
      data.keptDays ? ["Kept for", `${whole(data.keptDays)} days`, "after receipt"] : ["Kept", "for ever", "nothing is dropped"],
    ),
    received
      ? overTime(context, data)
      : empty(`Nothing came in during ${context.period.words}`, ...firstSteps(context.called, "new_dashboard")),
    received ? h("div", { class: "pair", "data-key": "reasons" }, unknown(context, filtered), invalid(context, data)) : null,
  ];
}

/** Says what came in and is none of the figures, where there is any. */
function beside({ sampledOut, foreign }, of) {
  const words = [
    sampledOut ? `${whole(sampledOut)} entries, ${of(sampledOut)}, were left out of the sample: the recorded ones stand for them.` : null,
    foreign ? `${whole(foreign)} events of other kinds came beside them, and are not kept.` : null,
  ].filter(Boolean);
  return words.length ? h("p", { class: "lead", "data-key": "beside" }, words.join(" ")) : null;
}

function overTime(context, { points, recorded, filtered, rejected }) {
  const series = [
    ["recorded", 0, recorded],
    ["filtered", 1, filtered],
    ["rejected", 3, rejected],
  ].map(([name, colour, total]) => ({ label: name, colour, total: whole(total), values: points.map((point) => point[name]) }));
  return chart(context, { id: "intake", title: "Received entries", points, series, kind: "bars" });
}

function unknown(context, filtered) {
  return h(
    "section",
    { class: "panel" },
    h("h2", null, "Filtered"),
    filtered
      ? h(
          "p",
          null,
          `${whole(filtered)} entries were of features that the environment does not have. `,
          link(context, { view: "unknown" }, null, "See which names"),
        )
      : h("p", { class: "faint" }, "None: every feature that was asked for exists."),
  );
}

function invalid(context, { rejections, rejected }) {
  const columns = [
    { key: "field", label: "Field that was wrong", cell: (row) => h("code", null, row.field) },
    { key: "part", label: h("span", { class: "unseen" }, "Part"), kind: "bar-cell", cell: (row) => bar(row.evaluations / rejected, "s3") },
    { key: "evaluations", label: "Entries", number: true, cell: (row) => whole(row.evaluations) },
  ];
  return h(
    "section",
    { class: "panel" },
    h("h2", null, "Rejected"),
    rejections.length
      ? table({ key: "rejections", caption: "Rejected entries by field", columns, rows: rejections, rowKey: (row) => row.field })
      : h("p", { class: "faint" }, "None: every entry was valid."),
    rejections.length
      ? h("p", { class: "faint" }, "Senders are told which, and what is wrong with them. Batches that were refused as a whole are not among these.")
      : null,
  );
}
