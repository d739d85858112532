// Names that were asked for and do not exist: flags that were deleted while code still asks, and names that were mistyped.

import { ask } from "../api.js";
import { h } from "../dom.js";
import { count, sdk, whole } from "../format.js";
import { empty, faint, link, nameText, since, tiles } from "../parts.js";
import { sorted, table } from "../table.js";

const SORT = "-evaluations";

export async function load({ environment, period }, signal) {
  const answer = await ask("unknown-features", { environment, start_time: period.start, end_time: period.end }, signal);
  return {
    others: count(answer.other_evaluation_count),
    rows: (answer.unknown_features ?? []).map((one) => ({
      name: one.feature_name,
      match: one.likely_match ?? "",
      evaluations: count(one.evaluation_count),
      first: new Date(one.first_seen_time),
      last: new Date(one.last_seen_time),
      sdks: (one.sdks ?? []).map((use) => sdk(use.sdk_name, use.sdk_version)),
    })),
  };
}

export function render(context, { rows, others }) {
  const title = h("h1", { tabindex: "-1", "data-key": "title" }, "Unknown names");
  if (!rows.length && !others) {
    return [
      title,
      empty(
        "Every name that was asked for exists",
        h("p", null, `In ${context.period.words} no SDK asked ${context.called} for a feature that it does not have.`),
      ),
    ];
  }
  const columns = columnsFor(context);
  const sort = columns.some((one) => one.key === context.state.sort.replace(/^-/, "")) ? context.state.sort : SORT;
  return [
    title,
    h(
      "p",
      { class: "lead", "data-key": "lead" },
      `SDKs ask for these, and ${context.called} does not have them: their evaluations are not recorded. Mend the name where it is `,
      "asked for, or add it to ", h("code", null, "features"), " in the environments file. It counts within a second. ",
      "Figures are of entries: one that was summed up stands for several evaluations.",
    ),
    tiles(
      ["Names", whole(rows.length)],
      ["Entries not recorded", whole(rows.reduce((sum, row) => sum + row.evaluations, others)), context.period.words],
      others ? ["Of names not listed", whole(others), "beyond the first 1,000, or 100 of a batch"] : null,
    ),
    table({
      key: "unknown", caption: `Unknown names, ${context.period.words}`, columns, rows: sorted(rows, columns, sort),
      rowKey: (row) => row.name, sort, onSort: (next) => context.go(context.with({ sort: next }), { replace: true }),
      announce: context.announce,
    }),
  ];
}

function columnsFor(context) {
  return [
    { key: "name", label: "Name", by: (row) => row.name, cell: (row) => h("span", { class: "feature" }, nameText(row.name)) },
    {
      key: "match", label: "Likely meant", by: (row) => row.match,
      cell: (row) => (row.match ? link(context, { view: "features", feature: row.match }, { class: "feature" }, nameText(row.match)) : faint("–")),
    },
    { key: "evaluations", label: "Entries", number: true, by: (row) => row.evaluations, cell: (row) => whole(row.evaluations) },
    {
      key: "first", label: "First seen", number: true, by: (row) => row.first.getTime(), cell: (row) => since(row.first, context.now),
    },
    { key: "last", label: "Last seen", brief: "Last", number: true, by: (row) => row.last.getTime(), cell: (row) => since(row.last, context.now) },
    {
      key: "sdk", label: "SDKs", by: (row) => row.sdks[0],
      cell: (row) => (row.sdks.length ? h("span", { title: row.sdks.join("\n") }, row.sdks.slice(0, 2).join(", "),
        row.sdks.length > 2 ? faint(` +${row.sdks.length - 2}`) : null) : faint("–")),
    },
  ];
}
