// The queue as a whole: what waits, who works, and, for an administrator, who gets what.

import { api } from "./api.js";
import { chart } from "./chart.js";
import { fill, h, onChange } from "./dom.js";
import { counted, number, short } from "./format.js";
import { action, confirm } from "./parts.js";

/** Milliseconds between two looks. */
const POLL = 3000;

/** @param {import("./app.js").Page} page */
export async function queue({ main, isAdmin, signal, title }) {
  title("Queue");
  const buttons = h("div", { class: "buttons" });
  const [depth, workers, tenants] = [h("section", { class: "day", "aria-label": "The last day" }), h("section", { class: "card", "aria-labelledby": "workers-title" }), h("section", { class: "card", "aria-labelledby": "tenants-title" })];
  fill(main, h("div", { class: "head" }, h("h1", null, "Queue"), buttons), depth, isAdmin && workers, isAdmin && tenants);

  const draw = onChange((/** @type {import("./api.js").Activity} */ activity) => {
    const { counts, paused } = activity;
    const tile = (/** @type {string} */ label, /** @type {number} */ count, /** @type {string} */ name) =>
      h("div", { class: `tile ${name}` }, h("dt", null, label), h("dd", null, number(count)));
    fill(depth, h("dl", { class: "tiles" }, tile("Waiting", counts.queued, "queued"), tile("Rendering", counts.rendering, "rendering"),
      tile("Succeeded", counts.succeeded, "succeeded"), tile("Failed", counts.failed, "failed")), chart(activity.hours),
      paused && h("p", { class: "notice" }, "Paused: nothing more starts. What is being rendered goes on."));
    if (!isAdmin) return;
    const focused = buttons.contains(document.activeElement);
    fill(buttons, paused ? action("Resume the queue", async () => {
      await api.steerQueue("resume");
      await load();
      return "The queue goes on.";
    }, { class: "primary" }) : action("Pause the queue", async () => {
      const sure = await confirm({ title: "Pause the queue?", text: "Nothing more starts, of any tenant, also after a restart. What is being rendered goes on.", confirm: "Pause the queue" });
      if (!sure) return;
      await api.steerQueue("pause");
      await load();
      return "The queue is paused.";
    }));
    if (focused) buttons.querySelector("button")?.focus();
    drawWorkers(activity);
  });

  function drawWorkers(/** @type {import("./api.js").Activity} */ { workers: busy, concurrency }) {
    fill(workers, h("h2", { id: "workers-title" }, "Workers"),
      h("p", { class: "muted" }, `This server renders up to ${number(concurrency ?? 0)} at once.`),
      busy?.length ? h("ul", { class: "plain" }, ...busy.map(({ worker, renders }) => h("li", { class: "worker" },
        h("p", null, h("strong", null, worker), " ", h("span", { class: "muted" }, counted(renders.length, "render"))),
        h("p", { class: "links" }, ...renders.map((id) => h("a", { href: `#/renders/${id}` }, h("code", null, short(id))))))))
        : h("p", null, "Nobody is rendering at the moment."));
  }

  const drawTenants = onChange((/** @type {any[]} */ found) => {
    const header = ["Tenant", "Weight", "Waiting", "Rendering", "Succeeded", "Failed", ""].map((name) => h("th", { scope: "col" }, name || h("span", { class: "unseen" }, "Actions")));
    fill(tenants, h("h2", { id: "tenants-title" }, "Tenants"),
      h("div", { class: "wide-table", tabindex: "0", role: "region", "aria-labelledby": "tenants-title" }, h("table", null, h("thead", null, h("tr", null, ...header)),
        h("tbody", null, ...found.map((tenant) => h("tr", null,
          h("th", { scope: "row" }, h("a", { href: `#/renders?tenant=${encodeURIComponent(tenant.tenant)}` }, tenant.tenant), tenant.paused && h("span", { class: "badge cancelled" }, "Paused")),
          h("td", null, number(tenant.effective.weight ?? 1)),
          ...["queued", "rendering", "succeeded", "failed"].map((name) => h("td", null, number(tenant.counts[name]))),
          h("td", null, action(tenant.paused ? "Resume" : "Pause", async () => {
            await api.pauseTenant(tenant, !tenant.paused);
            await load();
            return tenant.paused ? `${tenant.tenant} goes on.` : `${tenant.tenant} is paused.`;
          }, { class: "quiet", "aria-label": `${tenant.paused ? "Resume" : "Pause"} ${tenant.tenant}` }))))))));
  });

  async function load() {
    draw(await api.activity(undefined, signal));
    if (isAdmin) drawTenants((await api.tenants(signal)).tenants);
  }
  await load();
  const looking = setInterval(() => {
    // What is about to be pressed is not taken away.
    if (!document.hidden && !tenants.contains(document.activeElement)) load().catch(() => undefined);
  }, POLL);
  signal.addEventListener("abort", () => clearInterval(looking));
}
