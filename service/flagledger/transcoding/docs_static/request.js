// Requests: made of what was filled in, written as a curl command, and sent with the answer taken as it comes.

/** Returns the address that the paths of a document lie under: that of its first server, or of the document itself. */
export function base(document, documentUrl) {
  const server = document.servers?.[0];
  const url = (server?.url ?? ".").replace(/\{([^}]+)\}/g, (_, name) => server.variables?.[name]?.default ?? "");
  return new URL(url, documentUrl).href.replace(/\/$/, "");
}

/**
 * Returns the request: `method`, `url`, `headers` as pairs, and `body`.
 *
 * `parameters` are those of the document, each with its `values`; `credentials` are those of `credentialsFor`.
 */
export function build({ root, method, path, parameters, credentials, accept, contentType, body }) {
  const filled = path.replace(/\{([^}]+)\}/g, (whole, name) => {
    const found = parameters.find((one) => one.in === "path" && one.name === name);
    return found ? encodePath(found) : whole;
  });
  const query = [];
  const headers = [];
  const cookies = [];
  for (const { in: place, name, values } of [...parameters, ...credentials]) {
    if (place === "query") query.push(...values.map((value) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`));
    if (place === "header" && values.length) headers.push([name, values.join(", ")]);
    if (place === "cookie" && values.length) cookies.push(`${name}=${values[0]}`);
  }
  if (accept) headers.push(["Accept", accept]);
  if (body !== null) headers.push(["Content-Type", contentType]);
  return { method, url: root + filled + (query.length ? `?${query.join("&")}` : ""), headers, cookies, body };
}

// Slashes separate in what takes several segments; elsewhere they belong to the value.
function encodePath({ name, values: [value], "x-multi-segment": several }) {
  if (several) return (value ?? "").split("/").map(encodeURIComponent).join("/");
  return value === undefined ? `{${name}}` : encodeURIComponent(value);
}

/** Returns what the first alternative of `security` that is filled in wholly adds to a request. */
export function credentialsFor(security, schemes, entered) {
  const alternative = (security ?? []).find((one) => Object.keys(one).every((name) => entered[name]));
  return Object.keys(alternative ?? {}).map((name) => {
    const scheme = schemes[name];
    if (scheme.type === "apiKey") return { in: scheme.in, name: scheme.name, values: [entered[name]] };
    const basic = scheme.scheme?.toLowerCase() === "basic";
    const value = basic ? `Basic ${toBase64(entered[name])}` : `Bearer ${entered[name]}`;
    return { in: "header", name: "Authorization", values: [value] };
  });
}

function toBase64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

/** Returns the command that sends `request` from a shell. */
export function curl({ method, url, headers, cookies, body }, streams) {
  const words = ["curl", streams ? "-iN" : "-i"];
  if (method !== "GET") words.push("-X", method);
  words.push(quote(url));
  const lines = [words.join(" "), ...headers.map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`)];
  if (cookies.length) lines.push(`-b ${quote(cookies.join("; "))}`);
  if (body instanceof Blob) lines.push(`--data-binary ${quote(`@${body.name ?? "file"}`)}`);
  else if (body !== null) lines.push(`--data-raw ${quote(body)}`);
  return lines.join(" \\\n  ");
}

function quote(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * Sends `request`, and returns the answer's body as a Blob.
 *
 * `onStart` gets the answer once its headers are there, `onPiece` every piece of the body as it comes.
 */
export async function send({ method, url, headers, cookies, body }, { onStart, onPiece, signal }) {
  const answer = await fetch(url, {
    method,
    headers,
    body,
    signal,
    cache: "no-store",
    // A cookie is the browser's own, and goes along only where the document has one for a credential.
    credentials: cookies.length ? "same-origin" : "omit",
  });
  onStart(answer);
  const pieces = [];
  const reader = answer.body?.getReader();
  for (let read = await reader?.read(); read && !read.done; read = await reader.read()) {
    pieces.push(read.value);
    onPiece(read.value);
  }
  return new Blob(pieces, { type: answer.headers.get("content-type") ?? "" });
}
