// The head of the page: what is looked at, of which environment and period, and whether it keeps itself up to date.

import { h } from "./dom.js";
import { clockSeconds, environmentName, ZONE } from "./format.js";
import { link } from "./parts.js";
import { ALL, CUSTOM, PERIODS, VIEWS } from "./state.js";

const DAY = 86_400_000;

/** Returns the children of the header. */
export function controls(context) {
  return [
    h(
      "div",
      { class: "bar-row" },
      link(context, { view: "features" }, { class: "brand" }, "Flagledger"),
      h("nav", { "aria-label": "Views", class: "views" }, Object.entries(VIEWS).map(([view, label]) => tab(context, view, label))),
      h("div", { class: "session" }, live(context), h("button", { type: "button", class: "quiet", onclick: context.signOut }, "Sign out")),
    ),
    h("div", { class: "bar-row filters" }, environments(context), periods(context)),
    context.ui.choosing || context.state.period === CUSTOM ? custom(context) : null,
  ];
}

function tab(context, view, label) {
  const { state } = context;
  const current = state.view === view ? (state.feature ? "true" : "page") : null;
  return link(context, { view }, { "aria-current": current }, label);
}

function environments(context) {
  const names = context.environments.map((one) => one.name);
  const current = context.state.environment || names[0] || "";
  // A link may name one that is not there: the page says so, and the list offers the others. Before they are known it is taken at its word.
  const known = names.includes(current);
  const first = known ? null : h("option", { value: "", disabled: true, selected: true }, names.length ? "Choose one" : current);
  return h(
    "label",
    { class: "environment", "data-key": "environment" },
    h("span", null, "Environment"),
    h(
      "select",
      { onchange: (event) => context.go(context.with({ environment: event.currentTarget.value })) },
      first,
      context.environments.map((one) =>
        h("option", { value: one.name, selected: one.name === current }, environmentName(one, context.environments)),
      ),
    ),
  );
}

function periods(context) {
  const { state, ui } = context;
  const choose = () => {
    ui.choosing = !ui.choosing;
    context.redraw();
  };
  return h(
    "nav",
    { "aria-label": "Period", class: "periods", "data-key": "periods" },
    [...Object.entries(PERIODS), [ALL, { label: "All", words: "all records" }]].map(([period, { label, words }]) =>
      link(
        context,
        { period, from: "", to: "" },
        { "aria-current": state.period === period ? "true" : null, "aria-label": words, title: words },
        label,
      ),
    ),
    h(
      "button",
      {
        type: "button", onclick: choose, "aria-expanded": String(Boolean(ui.choosing || state.period === CUSTOM)),
        "aria-current": state.period === CUSTOM ? "true" : null,
      },
      "Custom",
    ),
  );
}

function custom(context) {
  const period = context.period.start ? context.period : { start: new Date(context.now - DAY), end: new Date(context.now) };
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const [from, to] = ["from", "to"].map((name) => new Date(form.get(name)));
    if (Number.isNaN(from.getTime()) || Number.isNaN(to.getTime()) || from >= to) {
      context.announce("The period must begin before it ends.");
      event.currentTarget.elements.to.setCustomValidity("It must be later than the beginning.");
      event.currentTarget.reportValidity();
      return;
    }
    context.ui.choosing = false;
    context.go(context.with({ period: CUSTOM, from: from.toISOString(), to: to.toISOString() }));
  };
  const clear = (event) => event.currentTarget.setCustomValidity("");
  return h(
    "form",
    { class: "custom", onsubmit: submit, "data-key": "custom", "aria-label": "Custom period" },
    h("label", null, "From ", h("input", { type: "datetime-local", name: "from", required: true, value: local(period.start), oninput: clear })),
    h("label", null, "to ", h("input", { type: "datetime-local", name: "to", required: true, value: local(period.end), oninput: clear })),
    h("button", { type: "submit", class: "primary" }, "Show"),
    h("span", { class: "faint" }, ZONE),
  );
}

/** Returns a time as the browser's field for one takes it. */
function local(time) {
  return new Date(time.getTime() - 60_000 * time.getTimezoneOffset()).toISOString().slice(0, 16);
}

function live(context) {
  const { failed, ui, updated } = context;
  const toggle = () => {
    ui.live = !ui.live;
    context.announce(ui.live ? "The page keeps itself up to date." : "The page stands still.");
    context.redraw();
    if (ui.live) context.refresh();
  };
  return h(
    "button",
    {
      type: "button", class: failed ? "live failed" : "live", "aria-pressed": String(ui.live), onclick: toggle,
      title: failed ? "The last answer did not show what was asked for" : "Ask again every ten seconds",
    },
    h("span", { class: "light", "aria-hidden": "true" }),
    "Live",
    h("span", { class: "faint updated" }, updated ? clockSeconds(updated) : ""),
  );
}
