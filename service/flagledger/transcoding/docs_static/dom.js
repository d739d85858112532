// Elements made from plain calls. Text of the document and of answers is only ever set as text, never parsed as markup.

/** Returns an element. Of `attributes`, functions become handlers, and null, undefined and false are left out. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element[name] = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let made = 0;

/** Returns a label and the control that it names, in that order. */
export function labelled(text, control, ...notes) {
  control.id = `c${(made += 1)}`;
  const described = notes.flat().filter(Boolean);
  if (!described.length) return [h("label", { for: control.id }, text), control];
  const note = h("div", { class: "faint", id: `${control.id}-note` }, described);
  control.setAttribute("aria-describedby", note.id);
  return [h("label", { for: control.id }, text), control, note];
}

/** Returns a `details` whose content is made when it is first opened, so that what recurs forever never has to end. */
export function folded(attributes, summary, content) {
  const element = h("details", attributes, h("summary", {}, summary));
  element.ontoggle = () => {
    if (!element.open || element.children.length > 1) return;
    element.append(...[content()].flat(Infinity).filter(Boolean));
  };
  return element;
}

/** Returns a description as paragraphs, lists and, where a table or code was drawn, text as it is spaced. */
export function prose(text) {
  return (text ?? "").trim().split(/\n\s*\n/).filter(Boolean).map((block) => {
    const lines = block.split("\n");
    if (lines.every((line) => /^(\||\s{4})/.test(line))) return h("pre", { tabindex: 0 }, block);
    if (!/^\s*[-*] /.test(block)) return h("p", {}, inline(block));
    return h("ul", {}, block.split(/\n(?=\s*[-*] )/).map((item) => h("li", {}, inline(item.replace(/^\s*[-*] /, "")))));
  });
}

/** Returns a line of a description, in which backquotes mark code. */
export function inline(text) {
  return text.split(/(`[^`]+`)/).map((part) => (/^`[^`]+`$/.test(part) ? h("code", {}, part.slice(1, -1)) : part));
}
