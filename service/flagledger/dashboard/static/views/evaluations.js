// The evaluations of one feature as they were recorded, the newest first.

import { ask, question } from "../api.js";
import { h } from "../dom.js";
import { clockSeconds, date, moment, sdk, value, whole } from "../format.js";
import { faint, link, valueText } from "../parts.js";
import { EVERY } from "../state.js";
import { table } from "../table.js";

const PAGE_SIZE = 25;
// The API filters by values of 4,096 bytes at most, and a character may have four.
const LONGEST = 1000;
// What the API says in place of a longer one; it filters by none of them.
const DIGEST = /^"#[0-9a-f]{32}"$/;
const FORMATS = { CSV: "csv", Parquet: "parquet", NDJSON: "ndjson" };

function filters({ environment, period, state }) {
  return {
    environment, feature_name: state.feature, start_time: period.start, end_time: period.end,
    identity_identifier: state.identity, value: state.value, segment_name: state.segment, sdk_name: state.sdk,
    sdk_version: state.version,
  };
}

/** Returns the first page; where older ones are shown already, what is shown, since a page belongs to those before it. */
export async function loadEvaluations(context, signal) {
  const { older } = context.ui;
  const key = JSON.stringify(Object.keys(EVERY).map((name) => context.state[name]));
  if (older?.key === key) return older;
  context.ui.older = null;
  const asked = filters(context);
  const page = await ask("evaluations", { ...asked, page_size: PAGE_SIZE }, signal);
  return { key, asked, rows: page.evaluations ?? [], token: page.next_page_token ?? "" };
}

export function evaluations(context, { recent, values }) {
  return h(
    "section",
    { class: "panel", "data-key": "evaluations" },
    h("div", { class: "head" }, h("h2", null, "Recent evaluations"), downloads(context)),
    tools(context, values),
    recent.rows.length
      ? table({
          key: "recent", caption: "Recent evaluations, the newest first", columns: columnsFor(context, recent.rows), rows: recent.rows,
          rowKey: (row) => row.position,
        })
      : h("p", { class: "none" }, "No evaluation fits. ", link(context, EVERY, null, "Show all")),
    h("p", { class: "more" }, older(context, recent)),
  );
}

function older(context, recent) {
  const next = async () => {
    context.ui.asking = true;
    context.redraw();
    try {
      const page = await ask("evaluations", { ...recent.asked, page_size: PAGE_SIZE, page_token: recent.token });
      const rows = [...recent.rows, ...(page.evaluations ?? [])];
      context.ui.older = { ...recent, rows, token: page.next_page_token ?? "" };
      context.replace({ recent: context.ui.older });
      context.announce(`${whole(rows.length)} evaluations are shown.`);
    } catch (error) {
      context.fail(error);
    } finally {
      context.ui.asking = false;
      context.redraw();
    }
  };
  const newest = () => {
    context.ui.older = null;
    context.refresh();
  };
  return [
    recent.token ? h("button", { type: "button", onclick: next, disabled: Boolean(context.ui.asking), "data-key": "next" }, "Older") : null,
    context.ui.older ? h("button", { type: "button", onclick: newest, "data-key": "newest" }, "Newest") : null,
    faint(
      context.ui.older
        ? ` ${whole(recent.rows.length)} are shown, as they stood when you went back`
        : recent.rows.length && !recent.token ? " That is all of them." : "",
    ),
  ];
}

/** Returns a link that narrows the recent evaluations, and goes to them. */
export function narrower(context, changes, text) {
  const show = (event) => {
    if (event.defaultPrevented) document.querySelector("[data-key=evaluations]")?.scrollIntoView();
  };
  return h("span", { onclick: show }, link(context, changes, { title: "Only these among the recent evaluations" }, text));
}

/** Returns what the evaluations are narrowed to by a link elsewhere, each with a way out of it. */
function narrowed(context) {
  const { segment, sdk: name, version } = context.state;
  const out = (text, changes) =>
    h("span", { class: "narrowed" }, text, " ", link(context, changes, { "aria-label": `Not only ${text}`, title: "Show all" }, "×"));
  return [
    segment ? out(`segment ${segment}`, { segment: "" }) : null,
    name || version ? out(sdk(name, version), { sdk: "", version: "" }) : null,
  ];
}

function tools(context, values) {
  const { state } = context;
  const submit = (event) => {
    event.preventDefault();
    context.go(context.with({ identity: new FormData(event.currentTarget).get("identity").trim() }));
  };
  const choices = values
    .filter((one) => !one.is_rest)
    .map((one) => JSON.stringify(one.groups?.[0]?.value ?? null))
    .filter((choice) => choice.length < LONGEST && !DIGEST.test(choice));
  if (state.value && !choices.includes(state.value)) choices.push(state.value);
  return h(
    "form",
    { class: "tools", onsubmit: submit, role: "search", "aria-label": "Filter evaluations" },
    h("input", {
      id: "identity", name: "identity", type: "search", value: state.identity, placeholder: "Exact identity",
      "aria-label": "Identity", autocomplete: "off", spellcheck: "false",
      onchange: (event) => event.currentTarget.form.requestSubmit(),
    }),
    h(
      "label",
      null,
      h("span", { class: "unseen" }, "Value"),
      h(
        "select",
        { id: "value", onchange: (event) => context.go(context.with({ value: event.currentTarget.value })) },
        h("option", { value: "", selected: !state.value }, "Any value"),
        choices.map((choice) => h("option", { value: choice, selected: choice === state.value }, shortened(choice))),
      ),
    ),
    narrowed(context),
  );
}

// An address may hold a value that is no JSON: the API takes that for a string.
const shortened = (text) => (text.length > 40 ? `${text.slice(0, 39)}…` : text);

function downloads(context) {
  return h(
    "p",
    { class: "downloads" },
    faint("Download all as "),
    Object.entries(FORMATS).map(([label, format], index) => [
      index ? faint(" · ") : null,
      h("a", { href: question("export", { ...filters(context), format }), download: `${context.state.feature}.${format}` }, label),
    ]),
  );
}

function columnsFor(context, rows) {
  const one = (identity) => link(context, { identity }, { title: "Only this identity" }, identity);
  const weighted = rows.some((row) => row.count > 1);
  const today = date(new Date(context.now));
  const fresh = rows.every((row) => date(new Date(row.evaluation_timestamp)) === today);
  return [
    { key: "time", label: "Time", cell: (row) => time(row, fresh) },
    { key: "value", label: "Value", cell: (row) => valueText(row.value, 40) },
    { key: "enabled", label: "Enabled", brief: "On", cell: (row) => (row.enabled === undefined ? faint("–") : row.enabled ? "yes" : "no") },
    { key: "identity", label: "Identity", cell: (row) => (row.identity_identifier ? one(row.identity_identifier) : faint("–")) },
    { key: "segments", label: "Segments", cell: (row) => text(row.segment_names?.join(", ")) },
    { key: "traits", label: "Traits", cell: (row) => traits(row) },
    { key: "reason", label: "Reason", cell: (row) => row.reason || faint("–") },
    { key: "sdk", label: "SDK", cell: (row) => text(row.sdk_name || row.sdk_version ? sdk(row.sdk_name, row.sdk_version) : "") },
    weighted ? { key: "count", label: "Count", number: true, cell: (row) => whole(row.count ?? 1) } : null,
  ].filter(Boolean);
}

const text = (given) => (given ? h("span", { class: "lines", title: given }, given) : faint("–"));

// Where all are of today the date can go, when there is little room: with some of them it would be needed beside all.
function time(row, fresh) {
  const at = new Date(row.evaluation_timestamp);
  const received = row.receive_time ? `\nreceived ${moment(new Date(row.receive_time))}` : "";
  return h("time", { datetime: row.evaluation_timestamp, title: `${row.evaluation_timestamp}${received}` },
    h("span", { class: fresh ? "date today" : "date" }, `${date(at)} `), clockSeconds(at));
}

function traits(row) {
  const sent = row.identity_traits ?? [];
  if (!sent.length) return faint("–");
  const pairs = sent.map((trait) => `${trait.trait_key}=${value(trait.trait_value, 40) ?? ""}`);
  return h(
    "span",
    { class: "lines", title: pairs.join("\n") },
    pairs.slice(0, 2).join(", "),
    sent.length > 2 ? faint(` +${sent.length - 2}`) : null,
  );
}
