// Every feature of the environment, with its totals: what is used, by whom, and what nobody evaluates any more.

import { everyFeature } from "../api.js";
import { h } from "../dom.js";
import { count, date, identities, moment, sdk, span, value, whole } from "../format.js";
import { empty, faint, firstSteps, kept, link, nameText, shareBar, since, tiles, valueText } from "../parts.js";
import { ALL } from "../state.js";
import { sorted, table } from "../table.js";

const PAGE = 300;
const SHOWN = {
  all: ["All", () => true],
  evaluated: ["Evaluated", (row) => row.evaluations > 0],
  stale: ["Not evaluated", (row) => row.evaluations === 0],
  unknown: ["Not in the catalog", (row) => !row.inCatalog],
};

export async function load(context, signal) {
  const { environment, period } = context;
  const answer = await everyFeature({ environment, start_time: period.start, end_time: period.end, page_size: 1000 }, signal);
  return { rows: answer.features.map(rowOf), dataSince: answer.dataSince };
}

/** Returns a feature of an answer with everything in it that zeros and absence leave out. */
export function rowOf(feature) {
  const sdks = (feature.sdks ?? []).map((one) => ({
    name: sdk(one.sdk_name, one.sdk_version),
    sdk: one.sdk_name ?? "",
    version: one.sdk_version ?? "",
    evaluations: count(one.evaluation_count),
    last: new Date(one.last_time),
  }));
  const seen = feature.last_seen_time ?? feature.last_evaluation_time;
  return {
    name: feature.feature_name,
    inCatalog: Boolean(feature.in_catalog),
    evaluations: count(feature.evaluation_count),
    enabled: count(feature.enabled_count),
    enabledKnown: count(feature.enabled_known_count),
    identities: count(feature.identity_count),
    multiple: count(feature.multiple_value_identity_count),
    approximate: Boolean(feature.identities_approximate),
    lowerBound: Boolean(feature.identities_lower_bound),
    first: feature.first_evaluation_time ? new Date(feature.first_evaluation_time) : null,
    last: feature.last_evaluation_time ? new Date(feature.last_evaluation_time) : null,
    lastSeen: seen ? new Date(seen) : null,
    value: feature.last_value,
    sdks,
  };
}

export function render(context, data) {
  const { state, called } = context;
  if (!data.dataSince && !data.rows.some((row) => row.evaluations)) return nothing(called, data);
  const wanted = state.q.toLowerCase();
  const [, shows] = SHOWN[state.show];
  const found = data.rows.filter((row) => shows(row) && row.name.toLowerCase().includes(wanted));
  const columns = columnsFor(context, data);
  const rows = sorted(found, columns, state.sort);
  const shown = rows.slice(0, context.ui.rows ?? PAGE);
  return [
    h("h1", { tabindex: "-1", "data-key": "title" }, `Features of ${called}`),
    kept(context.place),
    summary(context, data),
    tools(context, data, found.length),
    shown.length
      ? table({
          key: "features", caption: `Features, ${context.period.words}`, columns, rows: shown, rowKey: (row) => row.name,
          rowClass: (row) => (row.evaluations ? "" : "still"), sort: state.sort,
          onSort: (sort) => context.go(context.with({ sort }), { replace: true }), announce: context.announce,
        })
      : h("p", { class: "panel none", "data-key": "none" }, "No feature fits. ", reset(context)),
    rows.length > shown.length ? more(context, rows.length, shown.length) : null,
  ];
}

function nothing(called, data) {
  const feature = data.rows[0]?.name ?? "new_dashboard";
  return [
    h("h1", { tabindex: "-1", "data-key": "title" }, `Features of ${called}`),
    empty("Nothing has been recorded yet", ...firstSteps(called, feature)),
  ];
}

function summary(context, { rows, dataSince }) {
  const total = rows.reduce((sum, row) => sum + row.evaluations, 0);
  const evaluated = rows.filter((row) => row.evaluations).length;
  const unknown = rows.filter((row) => !row.inCatalog).length;
  const age = dataSince ? span(context.now - dataSince) : null;
  if (!total && context.period.start) return elsewhere(context);
  return [
    tiles(
      ["Evaluations", whole(total), context.period.words],
      ["Features evaluated", whole(evaluated), `of ${whole(rows.length)}`],
      ["Not evaluated", whole(rows.length - evaluated), young(context, dataSince) ? "see the note below" : context.period.words],
      unknown ? ["Not in the catalog", whole(unknown), "any more"] : null,
      dataSince ? ["Recorded since", date(dataSince), `for ${age}`] : null,
    ),
    young(context, dataSince)
      ? h(
          "p",
          { class: "note", "data-key": "young" },
          `There are records of ${age} only, less than the period asks about. A feature without evaluations may be used more rarely `,
          "than that: do not delete a flag for it yet.",
        )
      : null,
  ];
}

const young = ({ period }, dataSince) => Boolean(dataSince && period.start && dataSince > period.start);

/** Says where the records are, where there are some and none of the period. */
function elsewhere(context) {
  return h(
    "p",
    { class: "note", "data-key": "elsewhere" },
    `Nothing was evaluated in ${context.period.words}, by the clocks of those who evaluate. There are records of another time: `,
    link(context, { period: ALL, from: "", to: "" }, null, "look at all of them"), ".",
  );
}

function tools(context, data, found) {
  const { state, go } = context;
  const type = (event) => {
    go(context.with({ q: event.currentTarget.value }), { replace: true });
    context.announceSoon(() => `${document.querySelectorAll("table.features tbody tr").length} features fit.`);
  };
  const keys = (event) => {
    if (event.key === "Escape" && state.q) {
      event.currentTarget.value = "";
      go(context.with({ q: "" }), { replace: true });
    }
  };
  return h(
    "div",
    { class: "tools", "data-key": "tools" },
    h("input", {
      id: "search", type: "search", value: state.q, placeholder: "Search features", "aria-label": "Search features",
      "aria-keyshortcuts": "/", autocomplete: "off", spellcheck: "false", oninput: type, onkeydown: keys,
    }),
    h("kbd", { "aria-hidden": "true", title: "Press / to search" }, "/"),
    h(
      "label",
      null,
      h("span", { class: "unseen" }, "Show"),
      h(
        "select",
        { id: "show", onchange: (event) => go(context.with({ show: event.currentTarget.value })) },
        Object.entries(SHOWN).map(([key, [label]]) => h("option", { value: key, selected: key === state.show }, label)),
      ),
    ),
    h("span", { class: "faint" }, found === data.rows.length ? `${whole(found)} features` : `${whole(found)} of ${whole(data.rows.length)}`),
  );
}

function reset(context) {
  return link(context, { q: "", show: "all" }, null, "Show all");
}

function more(context, all, shown) {
  const press = () => {
    context.ui.rows = shown + PAGE;
    context.redraw();
  };
  return h(
    "p",
    { class: "more", "data-key": "more" },
    h("button", { type: "button", onclick: press }, "Show more"),
    faint(` ${whole(shown)} of ${whole(all)} are shown`),
  );
}

/** Returns the marks of a feature that deserves a look. */
export function marks(context, row, dataSince) {
  const found = [];
  if (!row.inCatalog) found.push(mark("unknown", "not in the catalog", "The catalog of the environment does not list it now"));
  if (!row.evaluations && row.lastSeen) {
    found.push(mark("stale", "not in this period", `Not evaluated in ${context.period.words}; the last time was ${moment(row.lastSeen)}`));
  } else if (!row.evaluations) {
    found.push(mark("unseen", "not seen", dataSince ? `No evaluation is among the records, which begin ${date(dataSince)}` : null));
  }
  return found;
}

const mark = (kind, text, title) => h("span", { class: `mark-${kind} mark`, title }, text);

function columnsFor(context, { dataSince }) {
  return [
    {
      key: "name", label: "Feature", by: (row) => row.name,
      cell: (row) => [
        link(context, { feature: row.name, view: "features" }, { class: "feature" }, nameText(row.name)), " ",
        ...marks(context, row, dataSince),
      ],
    },
    { key: "evaluations", label: "Evaluations", brief: "Evals", number: true, by: (row) => row.evaluations, cell: (row) => whole(row.evaluations) },
    {
      key: "enabled", label: "Enabled", number: true, by: (row) => (row.enabledKnown ? row.enabled / row.enabledKnown : null),
      cell: (row) => shareBar(row.enabled, row.enabledKnown),
    },
    {
      key: "identities", label: "Identities", number: true, by: (row) => row.identities,
      cell: (row) => identities(row.identities, row),
    },
    {
      key: "multiple", label: "Several values", number: true, by: (row) => row.multiple,
      hint: "Identities that saw several values: normal in a rollout, left out of experiments",
      cell: (row) => identities(row.multiple, row),
    },
    {
      key: "last", label: "Last evaluated", brief: "Last", number: true, by: (row) => row.lastSeen?.getTime(),
      cell: (row) => since(row.lastSeen, context.now),
    },
    { key: "value", label: "Last value", by: (row) => value(row.value), cell: (row) => valueText(row.value, 26) },
    {
      key: "sdk", label: "SDKs", by: (row) => row.sdks[0]?.name,
      cell: (row) =>
        row.sdks.length
          ? h(
              "span",
              { title: row.sdks.map((one) => `${one.name}: ${whole(one.evaluations)}`).join("\n") },
              row.sdks[0].name,
              row.sdks.length > 1 ? faint(` +${row.sdks.length - 1}`) : null,
            )
          : faint("–"),
    },
  ];
}
