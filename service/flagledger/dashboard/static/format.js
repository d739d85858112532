// Numbers, times and values as people read them. Times are in the zone of the browser.

export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

const WHOLE = new Intl.NumberFormat("en");
const ONE = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const VALUE_LENGTH = 80;
const BYTES = ["bytes", "KiB", "MiB", "GiB", "TiB"];

/** Returns a count as a number: zeros may be left out of an answer, and counts past 2^53 are text in it. */
export const count = (value) => Number(value ?? 0);

export const whole = (value) => WHOLE.format(value);
/** Returns a number for the axis of a chart. */
export const brief = (value) => (value < 10_000 ? whole(value) : COMPACT.format(value));

/** Returns a count of identities, marked where `known` calls it an estimate, or a lower bound. */
export function identities(value, { approximate, lowerBound }) {
  const mark = `${lowerBound ? "≥" : ""}${approximate ? "≈" : ""}`;
  return mark && value ? `${mark} ${whole(value)}` : whole(value);
}

/** Returns what people call an environment, told from others that are called so. */
export function environmentName({ name, display_name: called }, environments) {
  if (!called) return name;
  return environments.some((one) => one.name !== name && (one.display_name || one.name) === called) ? `${called} (${name})` : called;
}

/** Returns part of whole as a percentage that never rounds to all or to nothing; null where there is nothing to share. */
export function share(part, all) {
  if (!all) return null;
  const percent = (100 * part) / all;
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  if (percent < 100 && percent > 99.9) return "> 99.9 %";
  return `${percent.toFixed(1)} %`;
}

export function rate(perSecond) {
  return perSecond >= 100 ? whole(Math.round(perSecond)) : ONE.format(perSecond);
}

export function bytes(size) {
  let power = 0;
  while (size >= 1024 && power < BYTES.length - 1) {
    size /= 1024;
    power += 1;
  }
  return `${ONE.format(size)} ${BYTES[power]}`;
}

/** Returns a duration as the API writes it (`1.5s`) in the largest fitting unit. */
export function duration(text) {
  return span(1000 * Number.parseFloat(text ?? "0"));
}

/** Returns a span of milliseconds in the largest fitting unit. */
export function span(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 1) return seconds > 0 ? `${Math.max(1, Math.round(milliseconds))} ms` : "0 s";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

/** Returns how long ago a time is, in words as short as a table needs them. */
export function ago(time, now) {
  const past = now - time;
  if (past < -5000) return `in ${span(-past)}`;
  return past < 1000 ? "now" : `${span(past)} ago`;
}

const two = (number) => String(number).padStart(2, "0");

export const clock = (time) => `${two(time.getHours())}:${two(time.getMinutes())}`;
export const clockSeconds = (time) => `${clock(time)}:${two(time.getSeconds())}`;
export const day = (time) => `${time.getDate()} ${MONTHS[time.getMonth()]}`;
export const date = (time) => `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
export const moment = (time) => `${date(time)} ${clockSeconds(time)}`;

/** Returns a bucket of time: what begins at `start` and ends before `end`. */
export function bucketName(bucket, start, end) {
  if (bucket === "minute") return `${day(start)} ${clock(start)}`;
  if (bucket === "hour") return `${day(start)} ${clock(start)}–${clock(end)}`;
  if (bucket === "week") return `week of ${day(start)}`;
  if (bucket === "month") return `${MONTHS[start.getMonth()]} ${start.getFullYear()}`;
  return day(start);
}

/** Returns the label of a tick on an axis of time: the day where one begins, else the time. */
export function tick(time) {
  if (time.getHours() || time.getMinutes()) return clock(time);
  return time.getDate() === 1 && time.getMonth() === 0 ? String(time.getFullYear()) : day(time);
}

/** Returns a value as JSON on one line, cut where it is long; null where there is none. */
export function value(given, length = VALUE_LENGTH) {
  if (given === undefined) return null;
  const text = typeof given === "string" ? JSON.stringify(given) : JSON.stringify(given) ?? String(given);
  const characters = [...text];
  return characters.length > length ? `${characters.slice(0, length - 1).join("")}…` : text;
}

/** Returns an SDK by name and version. */
export function sdk(name, version) {
  if (!name && !version) return "did not say";
  return version ? `${name || "?"} ${version}` : name;
}

/** Returns `text` so that a POSIX shell takes it as it is. */
export const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
