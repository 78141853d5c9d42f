// The renders: a list that stays true while one looks at it.

import { api } from "./api.js";
import { chart } from "./chart.js";
import { fill, h, icon, onChange, say } from "./dom.js";
import { counted, number, short, state } from "./format.js";
import { changes, follow, soon } from "./live.js";
import { announce, badge, broken, empty, poster, progressBar, when } from "./parts.js";

/** @typedef {import("./api.js").Render} Render */

const STATES = ["queued", "rendering", "succeeded", "failed", "cancelled"];
/** Milliseconds after the last key before it is asked. */
const TYPING = 250;
/** Milliseconds between two looks at the day. */
const DAY = 20000;

/** @param {import("./app.js").Page} page */
export async function renders({ main, mayWrite, isAdmin, me, query, signal, title }) {
  title("Renders");
  const filter = () => ({
    q: search.value.trim(),
    status: status.value,
    group: group.value.trim(),
    tenant: tenant?.value ?? "",
  });
  const search = h("input", { type: "search", id: "q", placeholder: "Composition, group or id", value: query.get("q") ?? "", autocomplete: "off", spellcheck: "false" });
  const group = h("input", { type: "search", id: "group", placeholder: "Any", value: query.get("group") ?? "", autocomplete: "off", spellcheck: "false" });
  const status = h("select", { id: "status" }, h("option", { value: "" }, "All"),
    ...STATES.map((name) => h("option", { value: name }, name[0].toUpperCase() + name.slice(1))));
  status.value = query.get("status") ?? "";
  const tenant = isAdmin ? h("select", { id: "tenant" }, h("option", { value: "" }, me.tenant)) : null;
  if (tenant) {
    const offered = new Set([me.tenant]);
    const offer = (/** @type {string} */ name) => {
      if (!offered.has(name)) tenant.append(h("option", { value: name }, name));
      offered.add(name);
    };
    // Who is asked for is there before the others are known: nothing else is shown meanwhile.
    const asked = query.get("tenant");
    if (asked && asked !== me.tenant) {
      offer(asked);
      tenant.value = asked;
    }
    api.tenants(signal).then(({ tenants }) => tenants.forEach((one) => offer(one.tenant)), () => undefined);
  }

  const day = h("section", { class: "day", "aria-label": "The last day" });
  const live = h("p", { class: "live", hidden: true }, "Not up to date: the server cannot be reached. Trying again.");
  const list = rows({ main: h("div"), empty: () => nothing(Object.values(filter()).some(Boolean), mayWrite) });
  fill(main,
    h("div", { class: "head" }, h("h1", null, "Renders"), mayWrite && h("a", { href: "#/new", class: "button primary" }, icon("add"), "New render")),
    day,
    h("form", { class: "filters", role: "search", "aria-label": "Filter renders", onsubmit: (/** @type {Event} */ event) => event.preventDefault() },
      h("div", { class: "field grow" }, h("label", { for: "q" }, "Find"), search),
      h("div", { class: "field" }, h("label", { for: "status" }, "State"), status),
      h("div", { class: "field" }, h("label", { for: "group" }, "Group"), group),
      tenant && h("div", { class: "field" }, h("label", { for: "tenant" }, "Tenant"), tenant)),
    live, list.element);

  /** @type {AbortController | undefined} */
  let asking;
  /** Whether what came is shown: another question may have taken this one's place, and is answered instead. */
  const load = async () => {
    asking?.abort();
    const own = (asking = new AbortController());
    try {
      const page = await api.renders({ ...filter(), limit: "50" }, own.signal);
      if (own.signal.aborted) return false;
      list.put(page, (cursor) => api.renders({ ...filter(), limit: "50", cursor }, signal));
      return true;
    } catch (error) {
      if (own.signal.aborted) return false;
      throw error;
    }
  };
  const reload = async () => {
    const given = new URLSearchParams(Object.entries(filter()).filter(([, value]) => value));
    // The same page under another address: going back leads out of it, not through every letter.
    history.replaceState(null, "", `#/renders${given.size ? `?${given}` : ""}`);
    list.reset();
    try {
      if (await load()) announce(counted(list.count(), "render is shown", "renders are shown"));
    } catch (error) {
      broken(list.element, error, reload);
    }
  };
  /** @type {number | undefined} */
  let typing;
  for (const control of [search, group]) {
    control.addEventListener("input", () => {
      clearTimeout(typing);
      typing = window.setTimeout(reload, TYPING);
    });
  }
  status.addEventListener("change", reload);
  tenant?.addEventListener("change", () => {
    reload();
    look();
  });

  const draw = onChange((/** @type {import("./api.js").Activity} */ activity) => {
    const { counts } = activity;
    const tile = (/** @type {string} */ label, /** @type {number} */ count, /** @type {string} */ name) =>
      h("div", { class: `tile ${name}` }, h("dt", null, label), h("dd", null, number(count)));
    fill(day,
      h("dl", { class: "tiles" }, tile("Waiting", counts.queued, "queued"), tile("Rendering", counts.rendering, "rendering"),
        tile("Succeeded", counts.succeeded, "succeeded"), tile("Failed", counts.failed, "failed")),
      chart(activity.hours),
      activity.paused && h("p", { class: "notice" }, activity.tenant ? "Paused: nothing more starts until somebody resumes it." : "The queue is paused: nothing more starts.",
        " ", isAdmin && h("a", { href: "#/queue" }, "Go to the queue")));
  });
  const look = async () => {
    const of = tenant?.value;
    const activity = await api.activity(of || undefined, signal).catch(() => null);
    if (activity && of === tenant?.value) draw(activity);
  };
  const looking = setInterval(() => !document.hidden && look(), DAY);
  signal.addEventListener("abort", () => {
    clearInterval(looking);
    clearTimeout(typing);
    asking?.abort();
  });

  await Promise.all([load(), look()]);
  // What is left is not listened to.
  if (signal.aborted) return;
  const again = soon(load, signal);
  follow({
    url: changes(isAdmin),
    signal,
    again: load,
    onState: (fine) => (live.hidden = fine),
    onRender: (render) => {
      // An administrator hears of all tenants, and is shown one.
      if (render.tenant !== (tenant?.value || me.tenant)) return;
      const known = list.has(render.renderId);
      const moved = list.update(render);
      if (moved && ["succeeded", "failed"].includes(render.status)) announce(`${render.composition} ${render.status}.`);
      // It may belong into the list, or not any more.
      if (moved || !known) again();
    },
  });
}

/** @param {boolean} filtered @param {boolean} mayWrite */
function nothing(filtered, mayWrite) {
  if (filtered) return empty("Nothing matches", "No render fits what is asked for here.");
  return empty("No renders yet", "Renders appear here as soon as they are accepted. ",
    mayWrite ? h("a", { href: "#/new" }, "Make the first one") : "", mayWrite ? "." : "");
}

/**
 * A list of renders, of which the first page is replaced when it is asked for anew.
 * @param {{main: HTMLElement, empty: () => HTMLElement, choose?: (row: HTMLElement, render: Render) => void}} options
 */
export function rows({ main, empty: none, choose }) {
  /** @type {Map<string, ReturnType<typeof row>>} */
  const known = new Map();
  const element = h("ol", { class: "rows", role: "list", "aria-label": "Renders" });
  const more = h("button", { type: "button", class: "quiet wide" }, "Show more");
  /** What comes after the first page, in the order of the list. @type {Render[]} */
  let rest = [];
  /** @type {string | undefined} */
  let cursor;
  /** @type {(cursor: string) => Promise<{renders: Render[], nextCursor?: string}>} */
  let next;
  /** @type {Render[]} */
  let firstPage = [];

  more.addEventListener("click", async () => {
    if (!cursor) return;
    more.setAttribute("aria-busy", "true");
    try {
      const page = await next(cursor);
      rest.push(...page.renders);
      cursor = page.nextCursor;
      const before = element.lastElementChild;
      draw();
      announce(counted(page.renders.length, "more render"));
      /** @type {HTMLElement | null | undefined} */ (before?.nextElementSibling?.querySelector("a"))?.focus();
    } finally {
      more.removeAttribute("aria-busy");
    }
  });

  function draw() {
    const shown = new Set(firstPage.map(({ renderId }) => renderId));
    const all = [...firstPage, ...rest.filter(({ renderId }) => !shown.has(renderId))];
    const keep = new Set(all.map(({ renderId }) => renderId));
    for (const [id, one] of known) {
      if (keep.has(id)) continue;
      one.element.remove();
      known.delete(id);
    }
    all.forEach((render, index) => {
      let one = known.get(render.renderId);
      if (!one) {
        one = row(render);
        one.update(render);
        choose?.(one.element, render);
        known.set(render.renderId, one);
      }
      // Of what is further down, the row knows more than the answer of back then.
      if (index < firstPage.length) one.update(render);
      // Only what has moved is moved: the rest keeps its focus.
      if (element.children[index] !== one.element) element.insertBefore(one.element, element.children[index] ?? null);
    });
    fill(main, all.length ? element : none(), cursor ? more : null);
  }

  return {
    element: main,
    /** @param {{renders: Render[], nextCursor?: string}} page @param {typeof next} ask */
    put(page, ask) {
      next = ask;
      // What was shown further down stays, and what newer ones have pushed off the first page goes there.
      const still = new Set(page.renders.map(({ renderId }) => renderId));
      const last = firstPage.findLastIndex(({ renderId }) => still.has(renderId));
      if (rest.length && last >= 0) rest = [...firstPage.slice(last + 1), ...rest];
      else {
        rest = [];
        cursor = page.nextCursor;
      }
      firstPage = page.renders;
      draw();
    },
    /** Something else is listed from now on. */
    reset() {
      [firstPage, rest] = [[], []];
    },
    /** Whether it is shown and its state is another now. @param {Render} render */
    update(render) {
      const one = known.get(render.renderId);
      if (!one) return false;
      return one.update(render);
    },
    /** @param {string} id */
    has: (id) => known.has(id),
    count: () => known.size,
    renders: () => [...known.values()].map((one) => one.render()),
  };
}

/** @param {Render} render */
function row(render) {
  const link = h("a", { href: `#/renders/${render.renderId}`, class: "name" }, render.composition);
  const detail = h("p", { class: "detail" });
  const bar = progressBar(`Progress of ${render.composition}`);
  const [place, mark, time] = [h("div", { class: "frame" }), h("div", { class: "mark" }), h("div", { class: "time" })];
  const element = h("li", { class: "row" }, place,
    h("div", { class: "what" },
      h("p", { class: "title" }, link),
      h("p", { class: "from" }, h("span", null, render.serveUrl), render.group && h("span", { class: "chip", title: `Group ${render.group}` }, render.group),
        h("code", { title: render.renderId }, short(render.renderId)))),
    h("div", { class: "how" }, mark, detail, bar.element), time);
  let current = render;
  const frame = onChange(() => fill(place, poster(current)));
  const badged = onChange(() => fill(mark, badge(current.status)));
  const timed = onChange(() => fill(time, when(current.finishedAt ?? current.startedAt ?? current.createdAt)));
  return {
    element,
    render: () => current,
    /** @param {Render} next */
    update(next) {
      const moved = next.status !== current.status;
      current = next;
      element.dataset.status = next.status;
      frame([next.status, next.outputFile]);
      badged(next.status);
      timed(next.finishedAt ?? next.startedAt ?? next.createdAt);
      say(detail, state(next));
      bar.element.hidden = next.status !== "rendering";
      bar.update(next.overallProgress, state(next));
      return moved;
    },
  };
}
