// Schemas: references followed, shown as far as a reader opens them, and an example made from each.

import { folded, h, prose } from "./dom.js";

const MAX_LEVELS = 8;
// A pattern longer than this tells a reader less than the type does.
const MAX_LIMIT = 60;

/** Returns what `value` stands for, its references followed; `{}` where they lead nowhere or in a circle. */
export function resolve(document, value) {
  const seen = new Set();
  let found = value ?? {};
  while (typeof found.$ref === "string") {
    if (seen.has(found.$ref) || !found.$ref.startsWith("#/")) return {};
    seen.add(found.$ref);
    const { $ref, ...beside } = found;
    const names = $ref.slice(2).split("/").map((part) => decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~"));
    const target = names.reduce((inner, name) => inner?.[name], document) ?? {};
    // OpenAPI 3.1 lets keywords stand beside a reference.
    found = { ...target, ...beside };
  }
  return found;
}

/** Returns a schema with the parts of its `allOf` in it. */
export function whole(document, schema, level = 0) {
  const found = typeof schema === "boolean" ? {} : resolve(document, schema);
  if (!found.allOf || level > MAX_LEVELS) return found;
  const { allOf, ...own } = found;
  return [own, ...allOf.map((part) => whole(document, part, level + 1))].reduce((all, part) => ({
    ...part,
    ...all,
    properties: { ...part.properties, ...all.properties },
    required: [...(part.required ?? []), ...(all.required ?? [])],
  }), {});
}

function typesOf(schema) {
  const types = [schema.type ?? []].flat().filter((type) => type !== "null");
  if (types.length) return types;
  if (schema.properties || schema.additionalProperties) return ["object"];
  return schema.items ? ["array"] : [];
}

function nameOf(schema) {
  // A request and an answer may each have a schema of their own for one message.
  return schema?.$ref?.split("/").pop().replace(/-input(-lenient)?$/, "") ?? null;
}

/** Returns the type in words: `array of Evaluation`. */
export function typeText(document, schema, level = 0) {
  const named = nameOf(schema);
  const found = whole(document, schema);
  const either = found.oneOf ?? found.anyOf;
  if (level > MAX_LEVELS) return "…";
  if (named && typesOf(found).includes("object")) return named;
  if (either && !typesOf(found).includes("object")) {
    return [...new Set(either.map((one) => typeText(document, one, level + 1)))].join(" or ");
  }
  const words = typesOf(found).map((type) => {
    if (type === "array") return `array of ${typeText(document, found.items ?? {}, level + 1)}`;
    if (type === "object" && typeof found.additionalProperties === "object") {
      return `map to ${typeText(document, found.additionalProperties, level + 1)}`;
    }
    return found.format ? `${type} (${found.format})` : type;
  });
  return words.join(" or ") || "any";
}

/** Returns rows that show what a schema permits; objects inside it open on demand. */
export function showSchema(document, schema) {
  const found = whole(document, schema);
  const parts = [];
  if (found.enum) parts.push(h("p", { class: "faint" }, `One of: ${found.enum.map((one) => JSON.stringify(one)).join(", ")}`));
  const limits = limitsOf(found);
  if (limits) parts.push(h("p", { class: "faint" }, limits));
  for (const [name, property] of Object.entries(found.properties ?? {})) {
    parts.push(showProperty(document, name, property, (found.required ?? []).includes(name)));
  }
  if (found.items) parts.push(showInner(document, "each element", found.items));
  if (typeof found.additionalProperties === "object") parts.push(showInner(document, "each value", found.additionalProperties));
  for (const one of found.oneOf ?? found.anyOf ?? []) parts.push(showInner(document, "either", one));
  return h("div", { class: "schema" }, parts);
}

function limitsOf(schema) {
  const names = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "minItems", "maxItems", "pattern", "default"];
  const tells = (name) => schema[name] !== undefined && JSON.stringify(schema[name]).length <= MAX_LIMIT;
  return names.filter(tells).map((name) => `${name} ${JSON.stringify(schema[name])}`).join(", ");
}

function showProperty(document, name, schema, required) {
  const found = whole(document, schema);
  const head = [h("code", { class: "name" }, name), " ", h("span", { class: "type" }, typeText(document, schema)), required && " required", found.deprecated && " deprecated"];
  const description = prose(found.description);
  if (!opens(document, schema)) return h("div", { class: "row" }, h("div", {}, head.filter(Boolean)), description, showLeaf(found));
  return h("div", { class: "row" }, folded({}, head.filter(Boolean), () => showSchema(document, schema)), description);
}

function showInner(document, word, schema) {
  const head = [`${word}: `, h("span", { class: "type" }, typeText(document, schema))];
  if (!opens(document, schema)) return h("div", { class: "row" }, head, showLeaf(whole(document, schema)));
  return h("div", { class: "row" }, folded({}, head, () => showSchema(document, schema)));
}

function showLeaf(schema) {
  const limits = limitsOf(schema);
  const values = schema.enum && `one of ${schema.enum.map((one) => JSON.stringify(one)).join(", ")}`;
  const text = [values, limits].filter(Boolean).join("; ");
  return text ? h("p", { class: "faint" }, text) : [];
}

function opens(document, schema) {
  const found = whole(document, schema);
  return Boolean(found.properties || found.items || typeof found.additionalProperties === "object" || found.oneOf || found.anyOf);
}

/** Returns a value that fits a schema: its own example, or one made of its parts; what recurs is left out. */
export function example(document, schema, inside = []) {
  const named = schema?.$ref;
  if ((named && inside.includes(named)) || inside.length > MAX_LEVELS) return undefined;
  const found = whole(document, schema);
  const below = [...inside, named ?? ""];
  const given = found.example ?? found.examples?.[0] ?? found.const ?? found.default ?? found.enum?.[0];
  if (given !== undefined) return given;
  const [type] = typesOf(found);
  if (found.not || (!type && found.type === "null")) return undefined;
  if (type === "object" && found.properties) return exampleObject(document, found, below);
  const either = found.oneOf ?? found.anyOf;
  if (either) return either.map((one) => example(document, one, below)).find((one) => one !== undefined && one !== null);
  if (type === "array") return [example(document, found.items ?? {}, below)].filter((one) => one !== undefined);
  if (type === "object") return exampleMap(document, found, below);
  if (type === "string") return exampleString(found);
  if (type === "integer" || type === "number") return Math.max(found.minimum ?? 0, 0);
  return type === "boolean" ? false : "";
}

function exampleObject(document, schema, below) {
  const found = {};
  // Of fields that exclude each other the first.
  const excluded = new Set((schema["x-oneofs"] ?? []).flatMap((names) => names.slice(1)));
  for (const [name, property] of Object.entries(schema.properties)) {
    if (excluded.has(name) || whole(document, property).readOnly) continue;
    const value = example(document, property, below);
    if (value !== undefined) found[name] = value;
  }
  return found;
}

function exampleMap(document, schema, below) {
  if (typeof schema.additionalProperties !== "object") return {};
  const value = example(document, schema.additionalProperties, below);
  const { enum: names, pattern = "" } = schema.propertyNames ?? {};
  const key = names?.[0] ?? (new RegExp(pattern, "u").test("key") ? "key" : "0");
  return value === undefined ? {} : { [key]: value };
}

function exampleString(schema) {
  if (schema.format === "date-time") return new Date().toISOString();
  if (schema.format === "date") return new Date().toISOString().slice(0, 10);
  if (schema.format === "duration") return "1s";
  const number = { int64: "0", uint64: "0", fixed64: "0", sint64: "0", sfixed64: "0" }[schema.format];
  return number ?? (schema.format === "byte" || schema.contentEncoding ? "AA==" : "string");
}
