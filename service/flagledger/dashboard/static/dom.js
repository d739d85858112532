// Elements: made from plain calls, and patched into the page so that focus, selection and scrolling stay where they are.
//
// What was sent is only ever set as text or as an attribute, never parsed as markup.

const SVG = "http://www.w3.org/2000/svg";
const HANDLERS = [
  "onclick", "oninput", "onchange", "onsubmit", "onkeydown", "onpointermove", "onpointerdown", "onpointerleave", "onblur",
  "ontoggle",
];

/** Returns an element. Of `attributes`, functions become handlers, and null, undefined and false are left out. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Returns an SVG element, as `h` does. */
export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Makes the children of `parent` what `wanted` are, keeping those that are there already. */
export function patch(parent, ...wanted) {
  patchChildren(parent, wanted.flat(Infinity).filter(Boolean));
}

function patchChildren(parent, wanted) {
  const keyed = new Map();
  for (const child of parent.childNodes) {
    const key = keyOf(child);
    if (key !== null) keyed.set(key, child);
  }
  let at = parent.firstChild;
  for (const next of wanted) {
    const key = keyOf(next);
    const found = key === null ? (keyOf(at) === null ? at : null) : keyed.get(key);
    if (found && found.nodeName === next.nodeName) {
      if (found === at) at = at.nextSibling;
      else parent.insertBefore(found, at);
      patchNode(found, next);
    } else {
      parent.insertBefore(next, at);
    }
  }
  while (at) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

function keyOf(node) {
  return node?.getAttribute?.("data-key") ?? null;
}

function patchNode(node, next) {
  if (node.nodeType === Node.TEXT_NODE) {
    if (node.data !== next.data) node.data = next.data;
    return;
  }
  for (const { name, value } of next.attributes) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  for (const { name } of [...node.attributes]) {
    // Whether details are open is the reader's business.
    if (!next.hasAttribute(name) && name !== "open") node.removeAttribute(name);
  }
  for (const name of HANDLERS) {
    if (node[name] !== next[name]) node[name] = next[name];
  }
  patchChildren(node, [...next.childNodes]);
  if (node.nodeName === "SELECT" || (node.nodeName === "INPUT" && node !== document.activeElement)) {
    if (node.value !== next.value) node.value = next.value;
  }
}
