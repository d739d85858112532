// Small parts that several views are made of.

import { h, svg } from "./dom.js";
import { ago, moment, quoted, share, value, whole } from "./format.js";
import { address } from "./state.js";

/** Returns a link to a state of the page, which a plain click follows without loading it anew. */
export function link(context, changes, attributes, ...children) {
  const state = context.with(changes);
  const follow = (event) => {
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    context.go(state);
  };
  return h("a", { ...attributes, href: address(state), onclick: follow }, ...children);
}

/** Returns a name that breaks, where it must, behind its separators. */
export function nameText(name) {
  return name.split(/(?<=[_\-./:])/).map((part, index) => [index ? h("wbr") : null, part]);
}

/** Returns a time as how long ago it was; pointing at it shows the moment. */
export function since(time, now) {
  if (!time) return faint("–");
  return h("time", { datetime: time.toISOString(), title: moment(time) }, ago(time, now));
}

export const faint = (text) => h("span", { class: "faint" }, text);

/** Returns a value that was sent, as JSON on one line. */
export function valueText(given, length) {
  const text = value(given, length);
  if (text === null) return faint("–");
  return h("code", { class: "json", title: text.endsWith("…") ? value(given, 2000) : null }, text);
}

/** Returns a share as figure and bar. */
export function shareBar(part, all) {
  const text = share(part, all);
  if (text === null) return faint("–");
  return h("span", { class: "share" }, h("span", null, text), bar(part / all));
}

/** Returns a bar as wide as `part` of 1. The figure stands beside it. */
export function bar(part, colour = "s0") {
  return svg(
    "svg",
    { class: "meter", "aria-hidden": "true" },
    svg("rect", { class: "track", width: "100%", height: "100%" }),
    svg("rect", { class: colour, width: `${(100 * Math.min(1, Math.max(0, part))).toFixed(2)}%`, height: "100%" }),
  );
}

/** Returns figures with what they mean, side by side. */
export function tiles(...pairs) {
  return h(
    "dl",
    { class: "tiles" },
    pairs.filter(Boolean).map(([label, figure, more]) =>
      h("div", null, h("dt", null, label), h("dd", null, figure), more ? h("dd", { class: "faint" }, more) : null),
    ),
  );
}

/** Returns a panel that says what there is to do where there is nothing to see. */
export function empty(title, ...children) {
  return h("section", { class: "empty panel", "data-key": "empty" }, h("h2", null, title), ...children);
}

/** Returns how to send a first evaluation into the environment that is looked at. */
export function firstSteps(environment, feature) {
  const url = new URL("api/v2/analytics/evaluations/", document.baseURI).href;
  const evaluation = {
    feature_name: feature, enabled: true, value: "on",
    evaluation_timestamp: new Date().toISOString().replace(/\.\d+/, ""), identity_identifier: "user_123",
  };
  const line =
    `curl -i ${url} \\\n  -H 'X-Environment-Key: <key>' -H 'Content-Type: application/json' \\\n  -d ` +
    quoted(JSON.stringify({ evaluations: [evaluation] }));
  return [
    h(
      "p",
      null,
      "Send one, with a key of the environment ", h("strong", null, environment), " in place of ", h("code", null, "<key>"),
      ". Keys stand in the environments file: ", h("code", null, "environments.toml"),
      " in the data directory, unless the service was given another. It shows here within a second.",
    ),
    h("pre", { class: "command" }, h("code", null, line)),
  ];
}

/** Says what the environment keeps of identities and evaluations, where that is less than all; null where it is not. */
export function kept({ identity_policy: identity, sample_rate: rate }) {
  const words = [
    identity === "hash" ? "Identities are kept as pseudonyms: the search finds one by the identity itself." : null,
    identity === "drop" ? "Identities are not kept." : null,
    rate < 1
      ? `One of ${whole(Math.round(1 / rate))} evaluations is kept, and stands for all of them: of identities ≥ tells a lower bound.`
      : null,
  ].filter(Boolean);
  return words.length ? h("p", { class: "lead", "data-key": "kept" }, words.join(" ")) : null;
}

/** Returns the error that stands above what was seen last. */
export function problem(failure, retry, seconds) {
  return h(
    "section",
    { class: "problem", role: "alert", "data-key": "problem" },
    h("p", null, failure.message),
    h("button", { type: "button", onclick: retry }, "Try again"),
    seconds === null ? null : h("span", { class: "faint" }, `again by itself after ${whole(seconds)} s`),
  );
}
