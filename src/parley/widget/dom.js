/** Nodes made by hand: no text ever becomes markup here, and no attribute becomes code. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an element. `onclick` and the like become listeners; false and null leave an attribute out.
 * @param {string} tag
 * @param {Record<string, any>} [props]
 * @param {...(Node | string | null | false | undefined)} children
 * @returns {any}
 */
export function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else set(node, name, value);
  }
  node.append(...children.filter((child) => child != null && child !== false));
  return node;
}

/** Set an attribute, or take it away; writes nothing that is there already. */
export function set(node, name, value) {
  if (value == null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value === true ? "" : value))
    node.setAttribute(name, value === true ? "" : value);
}

/** Show a text, if it is another one. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A drawing of one path on a field of 24. */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  const line = document.createElementNS(SVG, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/** A button with a drawing, named for everybody. */
export function button(name, path, onclick, props = {}) {
  return make("button", { type: "button", "aria-label": name, title: name, onclick, ...props }, icon(path));
}

export const ICONS = {
  chat: "M21 12a8 8 0 0 1-8 8H4l2-3a8 8 0 1 1 15-5Z",
  close: "M6 6l12 12M18 6 6 18",
  down: "M6 9l6 6 6-6",
  send: "M5 12h14M13 6l6 6-6 6",
  stop: "M8 8h8v8H8Z",
  list: "M4 7h16M4 12h16M4 17h10",
  back: "M19 12H5M11 6l-6 6 6 6",
  plus: "M12 5v14M5 12h14",
  before: "M15 6l-6 6 6 6",
  after: "M9 6l6 6-6 6",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8ZM5 20a7 7 0 0 1 14 0",
  again: "M20 11a8 8 0 1 0-2 6M20 5v6h-6",
  edit: "M4 20l1-4L16 5l3 3L8 19Z",
  copy: "M9 9h11v11H9ZM5 15H4V4h11v1",
  good: "M7 11v9H4v-9ZM7 11l4-7c2 0 2 2 1.5 5H19l-1.5 11H7",
  bad: "M7 13V4H4v9ZM7 13l4 7c2 0 2-2 1.5-5H19L17.5 4H7",
  sent: "M5 13l4 4L19 7",
  failed: "M12 7v6M12 17v.1M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z",
  sending: "M12 7v5l3 2M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18Z",
  tool: "M10 4a6 6 0 1 0 0 12 6 6 0 0 0 0-12ZM15 15l5 5",
};
