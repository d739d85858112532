// The page: it asks, draws, and asks again. What is looked at comes from the address, what is known from the API.

import { ask, Refusal } from "./api.js";
import { controls } from "./controls.js";
import { h, patch } from "./dom.js";
import { environmentName } from "./format.js";
import { link, problem } from "./parts.js";
import { signIn, signOut } from "./session.js";
import { address, agrees, changed, EVERY, parse, periodOf } from "./state.js";
import * as feature from "./views/feature.js";
import * as features from "./views/features.js";
import * as intake from "./views/intake.js";
import * as unknown from "./views/unknown.js";

const REFRESH_MILLISECONDS = 10_000;
const SAID_MILLISECONDS = 600;
const MARGIN = 34;
const WIDE = 800;
const GAP = 16;
const PAIRED = new Set(["enabled", "identities"]);
const VIEWS = { features, unknown, intake };

const header = document.getElementById("header");
const main = document.getElementById("main");
const status = document.getElementById("status");

let state = read();
let environments = [];
let shown = null;
let failure = null;
let asking = null;
let updated = null;
let timer = 0;
let drawing = 0;
let saying = 0;
// What the reader has done to the page beyond its address. All but `live` belongs to what is looked at.
let ui = freshUi(true);

function freshUi(live) {
  return { live, pointed: new Map(), open: new Set(), colours: new Map(), older: null, rows: null, choosing: false, asking: false };
}

const viewOf = (one) => (one.feature ? feature : VIEWS[one.view]);
const subject = (one) => [one.environment, one.view, one.feature].join("\n");
const asked = (one) => [subject(one), one.period, one.from, one.to, ...Object.keys(EVERY).map((name) => one[name])].join("\n");

/** Returns the state that the address holds. What cannot be shown does not stay in it. */
function read() {
  const found = parse(location.search);
  if (!agrees(location.search, found)) history.replaceState(history.state, "", address(found));
  return found;
}

function context() {
  const now = Date.now();
  const environment = state.environment || environments[0]?.name || "";
  const place = environments.find((one) => one.name === environment) ?? { name: environment };
  return {
    state, environments, ui, now, updated, environment, place,
    called: environmentName(place, environments),
    failed: Boolean(failure) || shown?.data === null,
    period: periodOf(state, now),
    with: (changes) => changed(state, changes),
    go, refresh, redraw, announce, announceSoon,
    fail: (error) => fail(error),
    replace: (changes) => { shown = { ...shown, data: { ...shown.data, ...changes } }; },
    signOut: () => signOut().then(() => needToken()),
    widthOf: (id) => {
      const room = main.clientWidth - MARGIN;
      return PAIRED.has(id) && main.clientWidth >= WIDE ? (room - GAP - MARGIN) / 2 : room;
    },
  };
}

/** Looks at another state; `replace` where going back should skip it. */
function go(next, { replace = address(next) === address(state) } = {}) {
  const before = state;
  history.replaceState({ ...history.state, top: scrollY }, "");
  state = next;
  history[replace ? "replaceState" : "pushState"]({ top: replace ? scrollY : 0 }, "", address(state));
  arrive(before, { top: replace ? null : 0 });
}

/** Draws what is known of the state that was just gone to, and asks for the rest. */
function arrive(before, { top }) {
  const moved = subject(before) !== subject(state);
  if (moved) ui = freshUi(ui.live);
  if (asked(before) === asked(state)) return draw();
  ui.pointed.clear();
  ui.older = null;
  failure = null;
  draw();
  return refresh().then(() => {
    if (!moved) return;
    // Who reads by ear or keyboard goes on at the top of what is new.
    main.querySelector("h1")?.focus({ preventScroll: true });
    if (top !== null) scrollTo(0, top);
  });
}

async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  main.setAttribute("aria-busy", "true");
  try {
    environments = (await ask("environments", {}, mine.signal)).environments ?? [];
    const looked = asked(state);
    const view = viewOf(state);
    const { environment } = context();
    const data = environments.some((one) => one.name === environment) ? await view.load(context(), mine.signal) : null;
    shown = { asked: looked, subject: subject(state), view, data };
    failure = null;
    updated = new Date();
  } catch (error) {
    if (error.name === "AbortError") return;
    fail(error);
  }
  if (asking !== mine) return;
  main.removeAttribute("aria-busy");
  draw();
  schedule();
}

function fail(error) {
  if (error instanceof Refusal && error.status === 401) return needToken();
  if (!(error instanceof Refusal)) console.error(error);
  failure = error instanceof Refusal ? error : new Refusal("The page failed to show the answer. Loading it anew may help.");
}

function schedule() {
  const after = failure?.retrySeconds ?? null;
  if (document.hidden || document.body.classList.contains("signed-out")) return;
  if (after !== null) timer = setTimeout(refresh, 1000 * Math.max(1, after));
  else if (ui.live && !failure) timer = setTimeout(refresh, REFRESH_MILLISECONDS);
}

function redraw() {
  drawing ||= requestAnimationFrame(draw);
}

function draw() {
  cancelAnimationFrame(drawing);
  drawing = 0;
  const current = context();
  document.title = [state.feature || (state.view === "features" ? "" : VIEW_TITLES[state.view]), current.called, "Flagledger"]
    .filter(Boolean)
    .join(" · ");
  if (document.body.classList.contains("signed-out")) return;
  patch(header, ...controls(current));
  const fits = shown && shown.subject === subject(state) && shown.view === viewOf(state);
  main.classList.toggle("waiting", Boolean(fits && shown.asked !== asked(state)));
  patch(
    main,
    failure ? problem(failure, refresh, failure.retrySeconds) : null,
    fits ? content(current) : failure ? null : h("p", { class: "loading", "data-key": "loading" }, "Asking …"),
  );
}

const VIEW_TITLES = { unknown: "Unknown names", intake: "Intake" };

function content(current) {
  if (shown.data !== null) return shown.view.render(current, shown.data);
  const [title, ...words] = environments.length
    ? [
        "There is no such environment",
        h("p", null, "None that this token may read is named ", h("strong", null, current.environment), ". It reads:"),
        h("ul", null, environments.map((one) => h("li", null, link(current, { environment: one.name }, null, environmentName(one, environments))))),
      ]
    : [
        "There is no environment to look at",
        h("p", null, "The environments file lists none that this token may read. Add one to it, or sign in with another token."),
      ];
  return h("section", { class: "empty panel", "data-key": "nowhere" }, h("h1", { tabindex: "-1" }, title), words);
}

function announce(text) {
  clearTimeout(saying);
  status.textContent = text;
}

/** Announces what `text` returns once the reader has stopped typing. */
function announceSoon(text) {
  clearTimeout(saying);
  saying = setTimeout(() => announce(text()), SAID_MILLISECONDS);
}

function needToken() {
  clearTimeout(timer);
  asking?.abort();
  shown = null;
  document.body.classList.add("signed-out");
  patch(header);
  patch(main);
  signIn(state);
}

addEventListener("popstate", (event) => {
  const before = state;
  state = read();
  arrive(before, { top: event.state?.top ?? 0 });
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (ui.live && updated && Date.now() - updated >= REFRESH_MILLISECONDS) refresh();
  else schedule();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, select, textarea")) return;
  const search = document.querySelector("#search, #identity");
  if (!search) return;
  event.preventDefault();
  search.focus();
  search.select();
});

new ResizeObserver(redraw).observe(main);
history.scrollRestoration = "manual";

if (document.getElementById("notice").textContent.trim()) needToken();
else {
  draw();
  refresh();
}
