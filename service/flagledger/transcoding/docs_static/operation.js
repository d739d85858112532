// One operation: what it takes and answers, a form to send it, and what came back.

import { folded, h, inline, labelled, prose } from "./dom.js";
import { build, credentialsFor, curl, send } from "./request.js";
import { example, resolve, showSchema, typeText, whole } from "./schema.js";

const STREAMED = ["application/x-ndjson", "text/event-stream"];
const EVENTS = "text/event-stream";
const MAX_SHOWN = 500_000;

/** Returns what an operation shows once it is opened. */
export function showOperation(api, operation) {
  return [prose(operation.description), form(api, operation), answers(api.document, operation)];
}

function answers(document, operation) {
  const rows = Object.entries(operation.responses ?? {}).map(([status, given]) => {
    const response = resolve(document, given);
    const contents = Object.entries(response.content ?? {});
    const headers = Object.entries(response.headers ?? {}).map(([name, one]) =>
      h("div", { class: "row" }, h("code", { class: "name" }, name), prose(resolve(document, one).description)));
    return folded({ class: "answer" }, [h("b", {}, status), " ", inline((response.description ?? "").split("\n")[0])], () => [
      prose((response.description ?? "").split("\n").slice(1).join("\n")),
      headers,
      contents.map(([type, media]) => {
        const [schema, words] = schemaOf(media);
        return [h("p", {}, h("code", {}, type), words, typeText(document, schema)), showSchema(document, schema)];
      }),
    ]);
  });
  return h("section", {}, h("h4", {}, "Answers"), rows);
}

// OpenAPI 3.2 has `itemSchema` for each piece of a stream; in 3.1 it is an extension.
function schemaOf(media) {
  const item = media.itemSchema ?? media["x-oai-itemSchema"];
  return item ? [item, " one after the other: "] : [media.schema ?? {}, " "];
}

function form(api, operation) {
  const { document } = api;
  const fields = operation.parameters.map((parameter) => field(document, parameter));
  const body = bodyOf(document, operation);
  const accept = acceptOf(document, operation);
  const command = h("pre", { class: "curl", tabindex: 0, "aria-label": "The same as a curl command" });
  const sending = h("button", { type: "submit", class: "primary" }, "Send");
  const stopping = h("button", { type: "button", disabled: true }, "Stop");
  const result = h("section", { class: "result", "aria-label": "Answer" });

  function request() {
    const parameters = fields.map(({ parameter, values }) => ({ ...parameter, values: values() }));
    const credentials = credentialsFor(operation.security ?? document.security, api.schemes, api.entered);
    return build({
      root: api.root, method: operation.method, path: operation.path, parameters, credentials,
      accept: accept?.value, contentType: body?.type(), body: body ? body.value() : null,
    });
  }

  const update = () => { command.textContent = curl(request(), STREAMED.includes(accept?.value)); };
  const shown = h("form", { class: "try", novalidate: true, oninput: update, onchange: update, onsubmit: submit },
    fields.length ? h("h4", {}, "Parameters") : null, fields.map((one) => one.shown),
    body ? [h("h4", {}, "Body"), body.shown] : null,
    accept ? labelled("Answer as", accept) : null,
    h("div", { class: "buttons" }, sending, stopping), command, result);
  api.onCredentials.push(update);
  update();

  async function submit(event) {
    event.preventDefault();
    const missing = fields.find(({ parameter, values }) => parameter.required && !parameter["x-multi-segment"] && !values().length);
    if (missing) {
      const words = `Not sent: ${missing.parameter.name} is required.`;
      result.replaceChildren(h("p", {}, h("b", { class: "status-code bad" }, words)));
      api.say(words);
      missing.control.focus();
      return;
    }
    const aborting = new AbortController();
    stopping.onclick = () => aborting.abort();
    [sending.disabled, stopping.disabled] = [true, false];
    api.say("Sent.");
    await run(api, request(), result, aborting.signal);
    [sending.disabled, stopping.disabled] = [false, true];
  }
  return shown;
}

async function run(api, request, result, signal) {
  const text = h("pre", { class: "body", tabindex: 0, "aria-label": "Body of the answer" });
  const decoder = new TextDecoder();
  const started = performance.now();
  let status = "";
  let shown = 0;
  result.replaceChildren();
  try {
    const whole = await send(request, {
      signal,
      onStart(answer) {
        status = `${answer.status} ${answer.statusText}`.trim();
        const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
        result.append(
          h("p", {}, h("b", { class: answer.ok ? "status-code good" : "status-code bad" }, status), ` after ${Math.round(performance.now() - started)} ms`),
          h("details", {}, h("summary", {}, "Headers"), h("pre", { class: "headers", tabindex: 0 }, headers)), text);
        api.say(`The answer is ${status}.`);
      },
      onPiece(piece) {
        if (shown < MAX_SHOWN) text.append(decoder.decode(piece.subarray(0, MAX_SHOWN - shown), { stream: true }));
        shown += piece.length;
      },
    });
    await finish(whole, text, result);
    api.say(`The answer is ${status}, and complete.`);
  } catch (error) {
    const stopped = error.name === "AbortError";
    const sentence = stopped ? "Stopped." : status ? "The answer broke off: it is not whole." : `No answer: ${error.message}.`;
    result.append(h("p", { class: stopped ? "faint" : "bad" }, sentence));
    api.say(sentence);
  }
}

async function finish(whole, text, result) {
  const type = whole.type.split(";")[0].trim();
  const textual = type.startsWith("text/") || /[/+](json|xml|x-ndjson)$/.test(type);
  if (whole.size > MAX_SHOWN || (whole.size && !textual)) {
    if (!textual) text.remove();
    const link = h("a", { href: URL.createObjectURL(whole), download: "answer" }, "Save it");
    result.append(h("p", {}, `${whole.size} bytes of ${type || "no type"}. `, link));
    return;
  }
  if (!whole.size) text.replaceWith(h("p", { class: "faint" }, "No body."));
  if (!/[/+]json$/.test(type)) return;
  try {
    text.textContent = JSON.stringify(JSON.parse(await whole.text()), null, 2);
  } catch {
    // It stays as it came.
  }
}

function field(document, given) {
  const parameter = resolve(document, given);
  const schema = whole(document, parameter.schema);
  const list = [schema.type].flat().includes("array");
  const options = schema.enum ?? ([schema.type].flat().includes("boolean") ? [true, false] : null);
  let control;
  if (options && !list) control = h("select", {}, h("option", { value: "" }, ""), options.map((one) => h("option", {}, String(one))));
  else if (list) control = h("textarea", { rows: 2, spellcheck: "false" });
  else control = h("input", { autocomplete: "off", spellcheck: "false", placeholder: schema.default === undefined ? null : String(schema.default) });
  const note = [`${parameter.in}, ${typeText(document, parameter.schema ?? {})}${parameter.required ? ", required" : ""}${list ? ", one a line" : ""}`, prose(parameter.description)];
  if (parameter.required) control.setAttribute("aria-required", "true");
  const values = () => control.value.split(list ? "\n" : /(?!)/).filter((value) => value !== "");
  return { parameter: { ...parameter, schema }, control, values, shown: h("div", { class: "field" }, labelled(parameter.name, control, note)) };
}

function acceptOf(document, operation) {
  const found = Object.entries(operation.responses ?? {}).find(([status]) => status.startsWith("2"));
  const types = Object.keys(resolve(document, found?.[1]).content ?? {});
  return types.includes(EVENTS) && types.length > 1 ? h("select", {}, types.map((type) => h("option", {}, type))) : null;
}

function bodyOf(document, operation) {
  const given = operation.requestBody && resolve(document, operation.requestBody);
  const contents = Object.entries(given?.content ?? {});
  if (!contents.length) return null;
  const types = h("select", {}, contents.map(([type]) => h("option", {}, type)));
  const text = h("textarea", { rows: 10, spellcheck: "false", class: "code" });
  const file = h("input", { type: "file" });
  const written = (type) => /json|text|xml|form/.test(type);
  const ofText = h("div", {}, labelled("Body", text));
  const ofFile = h("div", {}, labelled("Body from a file", file));
  const schemaHere = h("div", {});
  const change = () => {
    const { example: own, examples } = given.content[types.value];
    const [schema] = schemaOf(given.content[types.value]);
    const named = Object.values(examples ?? {}).map((one) => resolve(document, one).value)[0];
    const value = own ?? named ?? example(document, schema);
    [ofText.hidden, ofFile.hidden] = [!written(types.value), written(types.value)];
    const lines = types.value === "application/x-ndjson" ? `${JSON.stringify(value)}\n` : JSON.stringify(value, null, 2);
    text.value = typeof value === "string" && !types.value.includes("json") ? value : lines ?? "";
    schemaHere.replaceChildren(folded({}, ["Schema: ", typeText(document, schema)], () => showSchema(document, schema)));
  };
  types.onchange = change;
  change();
  const choice = contents.length > 1 ? labelled("Send as", types) : h("p", { class: "faint" }, contents[0][0]);
  const type = () => (types.value.includes("*") ? file.files[0]?.type || "application/octet-stream" : types.value);
  const value = () => (written(types.value) ? text.value : file.files[0] ?? "");
  return { shown: h("div", { class: "field" }, prose(given.description), choice, ofText, ofFile, schemaHere), type, value };
}
