// What is looked at: it stands in the address, so that it can be shared, kept, and gone back to.

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The periods that end now, with the width of their buckets. */
export const PERIODS = {
  "1h": { label: "1 h", words: "the last hour", length: HOUR, bucket: "minute" },
  "24h": { label: "24 h", words: "the last 24 hours", length: DAY, bucket: "hour" },
  "7d": { label: "7 d", words: "the last 7 days", length: 7 * DAY, bucket: "hour" },
  "30d": { label: "30 d", words: "the last 30 days", length: 30 * DAY, bucket: "day" },
  "90d": { label: "90 d", words: "the last 90 days", length: 90 * DAY, bucket: "day" },
};
export const CUSTOM = "custom";
export const ALL = "all";
export const VIEWS = { features: "Features", unknown: "Unknown names", intake: "Intake" };

/** What recent evaluations are narrowed to: nothing. */
export const EVERY = { identity: "", value: "", segment: "", sdk: "", version: "" };

const DEFAULTS = {
  environment: "", view: "features", feature: "", period: "24h", from: "", to: "", q: "", show: "all", sort: "-evaluations",
  ...EVERY,
};
const COLUMNS = ["name", "evaluations", "enabled", "identities", "multiple", "last", "value", "sdk", "match", "first"];
const PERMITTED = {
  view: Object.keys(VIEWS),
  period: [...Object.keys(PERIODS), ALL, CUSTOM],
  show: ["all", "evaluated", "stale", "unknown"],
  sort: COLUMNS.flatMap((column) => [column, `-${column}`]),
};
const MAX_BUCKETS = 400;

/** Returns the state that a query string holds; what it does not name, or cannot be, is as by default. */
export function parse(search) {
  const given = new URLSearchParams(search);
  const state = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS)) state[name] = given.get(name) ?? DEFAULTS[name];
  for (const [name, permitted] of Object.entries(PERMITTED)) {
    if (!permitted.includes(state[name])) state[name] = DEFAULTS[name];
  }
  if (state.feature) state.view = "features";
  const custom = readable(state.from) && readable(state.to) && state.from < state.to;
  if (state.period === CUSTOM && !custom) state.period = DEFAULTS.period;
  if (state.period !== CUSTOM) state.from = state.to = "";
  return state;
}

/** Returns whether all that a query string says is so in `state`. */
export function agrees(search, state) {
  return [...new URLSearchParams(search)].every(([name, value]) => state[name] === value);
}

/** Returns the address of a state, relative to the page's own. */
export function address(state) {
  const query = new URLSearchParams();
  for (const [name, standard] of Object.entries(DEFAULTS)) {
    if (state[name] && state[name] !== standard) query.set(name, state[name]);
  }
  const text = query.toString();
  return text ? `?${text}` : "./";
}

/** Returns `state` with `changes`; what belongs to a view alone is dropped with it. */
export function changed(state, changes) {
  const next = { ...state, ...changes };
  if ("view" in changes || "feature" in changes || "environment" in changes) Object.assign(next, EVERY, changes);
  if ("view" in changes && !("feature" in changes)) next.feature = "";
  return next;
}

function readable(text) {
  return !Number.isNaN(new Date(text).getTime());
}

/**
 * Returns the period of a state: `start` and `end`, the `bucket` that divides it, and `words` for it. That of all records has
 * no ends, and no bucket before it is known how long they are.
 *
 * Both ends are those of whole buckets, so that the first and the last are as wide as the others; of a period that ends now the
 * last one is still filling, and takes clocks in that run a little fast.
 */
export function periodOf(state, now) {
  if (state.period === ALL) return { start: null, end: null, bucket: null, words: "all records" };
  if (state.period === CUSTOM) {
    const start = new Date(state.from);
    const end = new Date(state.to);
    return { start, end, bucket: bucketFor(end - start), words: "the chosen period" };
  }
  const { length, bucket, words } = PERIODS[state.period];
  const end = ceiling(new Date(now), bucket);
  const start = bucket === "day" ? daysBefore(end, length / DAY) : new Date(end - length);
  return { start, end, bucket, words };
}

/** Returns when a bucket ends, where none follows and the period is open. */
export function endOf(bucket, start) {
  if (bucket === "week") return daysBefore(start, -7);
  if (bucket === "month") return new Date(start.getFullYear(), start.getMonth() + 1, 1);
  return ceiling(new Date(start), bucket);
}

/** Returns the bucket that divides `length` milliseconds into as many parts as a chart can show. */
export function bucketFor(length) {
  if (length / MINUTE <= 180) return "minute";
  if (length / HOUR <= MAX_BUCKETS) return "hour";
  if (length / DAY <= MAX_BUCKETS) return "day";
  return length / DAY / 7 <= MAX_BUCKETS ? "week" : "month";
}

function ceiling(time, bucket) {
  if (bucket === "minute") time.setMinutes(time.getMinutes() + 1, 0, 0);
  else if (bucket === "hour") time.setHours(time.getHours() + 1, 0, 0, 0);
  else time.setHours(24, 0, 0, 0);
  return time;
}

function daysBefore(time, days) {
  const before = new Date(time);
  before.setDate(before.getDate() - days);
  return before;
}
