// The page: it reads the document beside it, and shows its operations by tag.

import { folded, h, inline, labelled, prose } from "./dom.js";
import { showOperation } from "./operation.js";
import { base } from "./request.js";
import { resolve } from "./schema.js";

const METHODS = ["get", "put", "post", "delete", "patch", "head", "options", "trace"];
const status = document.getElementById("status");

function say(text) {
  status.textContent = text;
}

async function start() {
  const url = new URL("openapi.json", location.href);
  let answer;
  try {
    answer = await fetch(url, { cache: "no-cache", credentials: "same-origin" });
    if (!answer.ok) throw new Error(`it answers ${answer.status}`);
    show(await answer.json(), url);
  } catch (error) {
    document.getElementById("header").append(h("p", { class: "bad", role: "alert" }, `openapi.json cannot be read: ${error.message}. Load the page anew.`));
  }
}

function show(described, url) {
  const api = {
    document: described,
    root: base(described, url),
    schemes: Object.fromEntries(Object.entries(described.components?.securitySchemes ?? {}).map(([name, one]) => [name, resolve(described, one)])),
    entered: {},
    onCredentials: [],
    say,
  };
  const { title = "API", version = "", description } = described.info ?? {};
  document.title = title;
  document.getElementById("header").append(
    h("h1", {}, title, " ", h("small", {}, version)), ...prose(description), h("p", {}, h("a", { href: "openapi.json" }, "openapi.json")));
  showCredentials(api);
  const operations = operationsOf(described);
  const list = document.getElementById("operations");
  for (const [tag, description] of tagsOf(described, operations)) {
    const within = operations.filter((one) => one.tag === tag);
    if (within.length) list.append(h("section", { class: "tag" }, h("h2", {}, tag), prose(description), within.map((one) => fold(api, one))));
  }
  filter(list);
  openAddressed();
  addEventListener("hashchange", openAddressed);
}

function operationsOf(described) {
  return Object.entries(described.paths ?? {}).flatMap(([path, given]) => {
    const item = resolve(described, given);
    // Methods that OpenAPI 3.1 has no place for are an extension of it.
    const others = Object.entries(item["x-oai-additionalOperations"] ?? {});
    return [...METHODS.filter((method) => item[method]).map((method) => [method, item[method]]), ...others].map(([method, own]) => {
      const parameters = new Map();
      for (const one of [...(item.parameters ?? []), ...(own.parameters ?? [])]) {
        const found = resolve(described, one);
        parameters.set(`${found.in} ${found.name}`, found);
      }
      return { ...own, path, method: method.toUpperCase(), parameters: [...parameters.values()], tag: own.tags?.[0] ?? "Operations" };
    });
  });
}

function tagsOf(described, operations) {
  const tags = new Map((described.tags ?? []).map((tag) => [tag.name, tag.description]));
  for (const { tag } of operations) if (!tags.has(tag)) tags.set(tag, "");
  return tags;
}

function fold(api, operation) {
  const id = operation.operationId ?? `${operation.method} ${operation.path}`;
  const method = h("span", { class: `method ${operation.method.toLowerCase()}` }, operation.method);
  const summary = operation.summary ?? (operation.description ?? "").split("\n")[0];
  const head = [method, " ", h("code", { class: "path" }, operation.path), " ", h("span", { class: "summary" }, inline(summary)), operation.deprecated ? " (deprecated)" : ""];
  return folded({ class: "operation", id }, head, () => h("div", { class: "inside" }, showOperation(api, operation)));
}

function showCredentials(api) {
  const section = document.getElementById("credentials");
  for (const [name, scheme] of Object.entries(api.schemes)) {
    const where = scheme.type === "apiKey" ? `${scheme.in} ${scheme.name}` : `header Authorization, ${scheme.scheme ?? scheme.type}`;
    const basic = scheme.scheme?.toLowerCase() === "basic";
    const input = h("input", {
      type: "password", autocomplete: "off", spellcheck: "false", placeholder: basic ? "user:password" : null,
      oninput() {
        api.entered[name] = input.value;
        for (const update of api.onCredentials) update();
      },
    });
    section.append(h("div", { class: "field" }, labelled(name, input, where, prose(scheme.description))));
    section.hidden = false;
  }
}

function filter(list) {
  const input = document.getElementById("filter");
  input.oninput = () => {
    const words = input.value.toLowerCase().split(/\s+/);
    let left = 0;
    for (const section of list.children) {
      const operations = [...section.querySelectorAll(".operation")];
      for (const one of operations) {
        const text = one.firstElementChild.textContent.toLowerCase();
        one.hidden = !words.every((word) => text.includes(word));
        left += one.hidden ? 0 : 1;
      }
      section.hidden = operations.every((one) => one.hidden);
    }
    say(`${left} operations fit.`);
  };
}

function openAddressed() {
  const found = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!found?.classList.contains("operation")) return;
  found.open = true;
  found.scrollIntoView();
}

start();
