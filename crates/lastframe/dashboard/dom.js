// Making and changing elements. Whatever comes from outside becomes text, never markup.

/** @typedef {Node | string | number | null | undefined | false} Child */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. Attributes that are `false`, `null` or `undefined` are left out; `on…` are listeners.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, any> | null} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[T]}
 */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  apply(element, attributes);
  fill(element, ...children);
  return element;
}

/**
 * An element of SVG.
 * @param {string} tag
 * @param {Record<string, any> | null} [attributes]
 * @param {...Child} children
 */
export function s(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  apply(element, attributes);
  fill(element, ...children);
  return element;
}

/**
 * @param {Element} element
 * @param {Record<string, any> | null} [attributes]
 */
function apply(element, attributes) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") /** @type {any} */ (element).value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * Puts these in the place of everything in the element.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function fill(element, ...children) {
  const given = children.flat().filter((child) => child !== null && child !== undefined && child !== false);
  const nodes = /** @type {(Node | string)[]} */ (given.map((node) => (node instanceof Node ? node : String(node))));
  // What is taken out and put back where it was loses the focus.
  const { childNodes } = element;
  if (nodes.length === childNodes.length && nodes.every((node, index) => node === childNodes[index])) return;
  element.replaceChildren(...nodes);
}

/**
 * Sets text only where it differs, so that nothing is read out again and no selection is lost.
 * @param {Element} element
 * @param {string} text
 */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Calls `draw` only when what is drawn has changed.
 * @template T
 * @param {(value: T) => void} draw
 * @returns {(value: T) => void}
 */
export function onChange(draw) {
  /** @type {string | undefined} */
  let last;
  return (value) => {
    const next = JSON.stringify(value) ?? "";
    if (next === last) return;
    last = next;
    draw(value);
  };
}

const ICONS = {
  renders: "M4 5h16v14H4zM4 9h16M4 15h16M8 5v14M16 5v14",
  failed: "M12 4 3 19.5h18zM12 10v4.5M12 17v.5",
  groups: "M5 6h14M5 12h14M5 18h9M2 6h.01M2 12h.01M2 18h.01",
  queue: "M4 19V11M9 19V5M14 19v-6M19 19V8",
  add: "M12 5v14M5 12h14",
  back: "M15 5l-7 7 7 7",
  play: "M8 5.5v13l10.5-6.5z",
  sound: "M5 9.5v5h3.5l4.5 4v-13l-4.5 4zM16.5 9a4 4 0 0 1 0 6",
  picture: "M4 5h16v14H4zM4 16l5-5 5 5 2.5-2.5L20 17M15.5 9h.01",
  theme: "M12 3a9 9 0 1 0 9 9 7 7 0 0 1-9-9z",
  out: "M14 4h5v16h-5M3.5 12H15M11 8l4 4-4 4",
  close: "M6 6l12 12M18 6 6 18",
};

/**
 * A drawing that says nothing by itself: what it stands for is in words beside it.
 * @param {keyof typeof ICONS} name
 */
export function icon(name) {
  const attributes = { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" };
  return s("svg", attributes, s("path", { d: ICONS[name] }));
}
