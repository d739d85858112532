// Tables that can be sorted by their headers.

import { h } from "./dom.js";

/** Returns `rows` in the order that `sort` names: the key of a column, with a minus before it where the largest come first. */
export function sorted(rows, columns, sort) {
  const descending = sort.startsWith("-");
  const column = columns.find((one) => one.key === sort.replace(/^-/, "")) ?? columns[0];
  const sign = descending ? -1 : 1;
  return rows
    .map((row) => [column.by(row), row])
    .sort(([a], [b]) => compare(a, b, sign))
    .map(([, row]) => row);
}

// What has no value stands at the end, whichever way the others are sorted.
function compare(a, b, sign) {
  const none = (value) => value === null || value === undefined || value === "";
  if (none(a) || none(b)) return Number(none(a)) - Number(none(b));
  if (typeof a === "string") return sign * a.localeCompare(b, "en", { numeric: true });
  return sign * (a - b);
}

/**
 * Returns a table.
 *
 * A column has a `key`, a `label` (and a `brief` one for phones), `cell(row)`, and where it can be sorted `by(row)`; `number` aligns
 * it to the right and has the largest come first at the first press; `kind` is a class of its cells, and `hint` says more of what it holds.
 */
export function table({ key, caption, columns, rows, rowKey, rowClass, sort, onSort, announce }) {
  return h(
    "div",
    { class: "scroll", "data-key": key },
    h(
      "table",
      { class: `table ${key}` },
      h("caption", { class: "unseen" }, caption),
      h("thead", null, h("tr", null, columns.map((column) => header(column, sort, onSort, announce)))),
      h(
        "tbody",
        null,
        rows.map((row) =>
          h(
            "tr",
            { "data-key": rowKey(row), class: rowClass?.(row) || null },
            columns.map((column, index) =>
              h(index ? "td" : "th", { class: classOf(column), scope: index ? null : "row" }, column.cell(row)),
            ),
          ),
        ),
      ),
    ),
  );
}

function header(column, sort, onSort, announce) {
  if (!column.by || !onSort) return h("th", { scope: "col", class: classOf(column), title: column.hint }, label(column));
  const active = sort.replace(/^-/, "") === column.key;
  const descending = sort.startsWith("-");
  const next = active ? !descending : Boolean(column.number);
  const press = () => {
    onSort(`${next ? "-" : ""}${column.key}`);
    announce(`Sorted by ${column.label}, ${next ? "descending" : "ascending"}.`);
  };
  return h(
    "th",
    {
      scope: "col", class: classOf(column), title: column.hint,
      "aria-sort": active ? (descending ? "descending" : "ascending") : null,
    },
    h(
      "button",
      { type: "button", class: "sort", onclick: press },
      label(column),
      h("span", { class: active ? "arrow" : "arrow idle", "aria-hidden": "true" }, (active ? descending : next) ? "↓" : "↑"),
    ),
  );
}

function label(column) {
  if (!column.brief) return column.label;
  return [h("span", { class: "long" }, column.label), h("span", { class: "brief" }, column.brief)];
}

function classOf(column) {
  return [column.key, column.number && "number", column.kind].filter(Boolean).join(" ");
}
