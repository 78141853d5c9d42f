// What failed for good, and another go at it: one, some, or all.

import { api } from "./api.js";
import { fill, h } from "./dom.js";
import { counted } from "./format.js";
import { changes, follow, soon } from "./live.js";
import { action, confirm, empty } from "./parts.js";
import { rows } from "./view-renders.js";

/** @param {import("./app.js").Page} page */
export async function failed({ main, me, mayWrite, isAdmin, signal, title }) {
  title("Failed");
  /** @type {Set<string>} */
  const chosen = new Set();
  const list = rows({
    main: h("div", { class: mayWrite ? "failures choosing" : "failures" }),
    empty: () => empty("Nothing has failed", "Renders that failed for good wait here for somebody to look at them."),
    choose: mayWrite ? choose : undefined,
  });
  const some = action("Retry", retrySome, { class: "primary" });
  const all = action("Retry all", retryAll);
  const bar = h("div", { class: "buttons", role: "group", "aria-label": "Retry", hidden: true }, mayWrite && some, mayWrite && all);
  fill(main, h("div", { class: "head" }, h("h1", null, "Failed"), bar),
    h("p", { class: "lead" }, "These ended without an output and have no attempts left. A retry keeps the render's id and its place in its group."),
    list.element);

  /** @param {HTMLElement} row @param {import("./api.js").Render} render */
  function choose(row, render) {
    const box = h("input", {
      type: "checkbox",
      "aria-label": `Choose ${render.composition}, ${render.renderId.slice(-12)}`,
      onchange: () => {
        if (box.checked) chosen.add(render.renderId);
        else chosen.delete(render.renderId);
        draw();
      },
    });
    row.prepend(h("div", { class: "box" }, box));
  }

  function draw() {
    const shown = new Set(list.renders().map(({ renderId }) => renderId));
    for (const id of chosen) if (!shown.has(id)) chosen.delete(id);
    some.textContent = chosen.size ? `Retry ${counted(chosen.size, "render")}` : "Retry chosen";
    some.toggleAttribute("disabled", chosen.size === 0);
    bar.hidden = shown.size === 0;
  }

  async function retrySome() {
    const { renders } = await api.redrive({ ids: [...chosen] });
    chosen.clear();
    list.reset();
    await load();
    /** @type {HTMLElement | null} */ (main.querySelector("h1"))?.focus();
    return `${counted(renders.length, "render is", "renders are")} queued again.`;
  }

  async function retryAll() {
    const sure = await confirm({ title: "Retry everything that failed?", text: "All failed renders of your tenant are queued again, each in the place it had.", confirm: "Retry all" });
    if (!sure) return;
    let count = 0;
    let answer = await api.redrive({ all: true });
    count += answer.renders.length;
    // What fails again meanwhile is left alone.
    while (answer.more) {
      answer = await api.redrive({ until: answer.until });
      count += answer.renders.length;
    }
    list.reset();
    await load();
    return `${counted(count, "render is", "renders are")} queued again.`;
  }

  async function load() {
    const filter = { status: "failed", limit: "50" };
    list.put(await api.renders(filter, signal), (cursor) => api.renders({ ...filter, cursor }, signal));
    draw();
  }

  await load();
  const again = soon(load, signal);
  follow({
    url: changes(isAdmin),
    signal,
    again: load,
    onRender: (render) => {
      // An administrator hears of all tenants, and is shown the one.
      if (render.tenant === me.tenant && (render.status === "failed") !== list.has(render.renderId)) again();
    },
  });
}
