// Groups: who has the turn, how many wait, and what blocks them.

import { api } from "./api.js";
import { fill, h, onChange } from "./dom.js";
import { counted, short } from "./format.js";
import { changes, follow, soon } from "./live.js";
import { action, empty } from "./parts.js";

/** @typedef {import("./api.js").Group} Group */

/** @param {import("./app.js").Page} page */
export async function groups({ main, mayWrite, isAdmin, signal, title }) {
  title("Groups");
  const list = h("div");
  fill(main, h("div", { class: "head" }, h("h1", null, "Groups")),
    h("p", { class: "lead" }, "Renders of one group run one after another, in the order they were accepted. A group is listed while it has something left to do, or is paused or held."),
    list);

  const draw = onChange((/** @type {Group[]} */ found) => {
    const focused = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset.group;
    fill(list, found.length ? h("ul", { class: "plain cards" }, ...found.map((group) => card(group, mayWrite, load)))
      : empty("No group has anything to do", "Give renders a ", h("code", null, "queue.group"), ", such as a customer, and they keep their order."),
      cursor && h("button", { type: "button", class: "quiet wide", onclick: more }, "Show more"));
    if (focused) /** @type {HTMLElement | null} */ (list.querySelector(`button[data-group="${CSS.escape(focused)}"]`))?.focus();
  });

  /** @type {string | undefined} */
  let cursor;
  /** How many pages are shown. */
  let pages = 1;
  async function load() {
    /** @type {Group[]} */
    const found = [];
    let next;
    for (let page = 0; page < pages && (page === 0 || next); page += 1) {
      const answer = await api.groups({ cursor: next }, signal);
      found.push(...answer.groups);
      next = answer.nextCursor;
    }
    cursor = next;
    if (!signal.aborted) draw(found);
  }
  async function more() {
    pages += 1;
    await load();
  }

  await load();
  // A group may change where no render of its own does, so it is asked for again; the events only say when.
  follow({ url: changes(isAdmin), signal, again: load, onRender: soon(load, signal) });
}

/** @param {Group} group @param {boolean} mayWrite @param {() => Promise<void>} load */
function card(group, mayWrite, load) {
  const { group: name, paused, heldBy, head, queued } = group;
  const link = (/** @type {string} */ id, /** @type {string} */ text) => h("a", { href: `#/renders/${id}` }, text);
  const state = heldBy ? ["failed", "Held"] : paused ? ["cancelled", "Paused"] : ["rendering", "Goes on"];
  const why = heldBy ? h("p", null, "Nothing of it starts: ", link(heldBy, "a render failed"), " and holds it. Retry that render, or let the group go on without it.")
    : paused ? h("p", null, "Nothing more of it starts until it is resumed.")
    : head ? h("p", null, "The turn is with ", link(head, `…${short(head)}`), ".") : null;
  const steer = (/** @type {"pause" | "resume"} */ verb, /** @type {string} */ label) => action(label, async () => {
    await api.steer(name, verb);
    await load();
    return verb === "pause" ? `${name} is paused.` : `${name} goes on.`;
  }, { "aria-label": `${label} ${name}`, "data-group": name });
  return h("li", { class: "card group" },
    h("div", { class: "grow" },
      h("h2", null, h("a", { href: `#/renders?group=${encodeURIComponent(name)}` }, name), h("span", { class: `badge ${state[0]}` }, state[1])),
      h("p", { class: "muted" }, queued ? `${counted(queued, "render")} waiting` : "Nothing else waits"),
      why),
    mayWrite && h("div", { class: "buttons" }, paused || heldBy ? steer("resume", heldBy && !paused ? "Go on without it" : "Resume") : steer("pause", "Pause")));
}
