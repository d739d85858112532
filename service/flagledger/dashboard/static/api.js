// The query API, asked as any other program would; the browser adds the cookie.

const PATH = "api/v2/analytics/";

/** A refusal, in the server's own words. */
export class Refusal extends Error {
  constructor(message, { status = 0, retrySeconds = null } = {}) {
    super(message);
    this.status = status;
    this.retrySeconds = retrySeconds;
  }
}

/** Returns the address of a question. Parameters that are empty are left out, arrays are repeated. */
export function question(name, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one === "" || one === null || one === undefined) continue;
      query.append(key, one instanceof Date ? one.toISOString() : String(one));
    }
  }
  const text = query.toString();
  return text ? `${PATH}${name}?${text}` : `${PATH}${name}`;
}

/** Returns the answer to a question, or throws a Refusal. */
export async function ask(name, parameters, signal) {
  let response;
  try {
    response = await fetch(question(name, parameters), {
      signal,
      cache: "no-store",
      headers: { Accept: "application/json" },
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The server does not answer. It may be starting, or stopped.", { retrySeconds: 5 });
  }
  const body = await response.json().catch(() => null);
  if (response.ok && body) return body;
  const retry = Number.parseInt(response.headers.get("Retry-After"), 10);
  throw new Refusal(body?.message || `The server answered ${response.status}.`, {
    status: response.status,
    retrySeconds: Number.isNaN(retry) ? null : retry,
  });
}

/** Returns every feature of an answer in pages, with what the first page says of them all. */
export async function everyFeature(parameters, signal) {
  const first = await ask("features", parameters, signal);
  const features = first.features ?? [];
  let token = first.next_page_token;
  while (token) {
    const page = await ask("features", { ...parameters, page_token: token }, signal);
    features.push(...(page.features ?? []));
    token = page.next_page_token;
  }
  return { features, dataSince: first.data_since ? new Date(first.data_since) : null };
}
