// One render: what it made or how far it is, why it failed, and what can be done about it.

import { allows, api, outputOf, Problem } from "./api.js";
import { fill, h, icon, onChange, say } from "./dom.js";
import { ago, capital, counted, full, lasting, number, size, state } from "./format.js";
import { follow } from "./live.js";
import { action, announce, badge, broken, confirm, copy, copyButton, jsonField, picture, progressBar, toast, when } from "./parts.js";

/** @typedef {import("./api.js").Render} Render */

/** @param {Render} render */
const isOver = (render) => ["succeeded", "failed", "cancelled"].includes(render.status);

/** Milliseconds between two looks at what is still being delivered. */
const TELLING = 2000;

/** @param {import("./app.js").Page} page */
export async function render({ main, me, mayWrite, rest: id, signal, title }) {
  title("Render");
  let current = await api.render(id, signal);
  const asked = await api.asked(id, signal);
  title(current.composition);

  const head = h("div", { class: "status" });
  const actions = h("div", { class: "buttons", role: "group", "aria-label": "Actions" });
  const stage = h("section", { class: "stage", "aria-label": "Result" });
  const facts = h("section", { class: "card", "aria-labelledby": "facts-title" });
  const attempts = h("section", { class: "card", "aria-labelledby": "attempts-title" });
  const deliveries = h("section", { class: "card", "aria-labelledby": "deliveries-title", hidden: true });
  fill(main,
    h("a", { href: "#/renders", class: "back" }, icon("back"), "Renders"),
    h("div", { class: "head" }, h("div", { class: "names" }, h("h1", null, current.composition), head), actions),
    h("div", { class: "columns" },
      h("div", null, stage, attempts, deliveries, log(id, signal)),
      h("div", null, facts, props(asked))));

  const drawHead = onChange(() => fill(head, badge(current.status), h("span", null, h("code", null, current.renderId), copyButton(current.renderId, "Copy id"))));
  const drawActions = onChange(() => {
    // Whoever has just pressed a button goes on from where its successor is.
    const focused = actions.contains(document.activeElement);
    fill(actions, ...buttons(current, asked, me, mayWrite, refresh));
    if (focused) /** @type {HTMLElement | null} */ (actions.querySelector("a, button"))?.focus();
  });
  const staged = stager(stage);
  const drawFacts = onChange(() => fill(facts, ...factsOf(current)));
  const drawAttempts = onChange(() => fill(attempts, ...timeline(current)));
  const draw = (/** @type {Render} */ next) => {
    const moved = next.status !== current.status;
    // The events know no attempts; what was known of them stays until it is asked for again.
    current = { ...next, attempts: next.attempts ?? current.attempts, retryOf: next.retryOf ?? current.retryOf };
    drawHead(current.status);
    drawActions([current.status, current.cancelRequestedAt, current.outputFile]);
    staged(current);
    drawFacts({ ...current, overallProgress: 0, framesRendered: 0, etaAt: "", attempts: current.attempts?.length });
    drawAttempts(current.attempts);
    if (moved) announce(`${current.composition}: ${current.status}.`);
    return moved;
  };
  const refresh = async () => {
    draw(await api.render(id, signal));
    // What has ended has no events any more, until it is queued again.
    listen();
  };
  /** @type {number | undefined} */
  let telling;
  signal.addEventListener("abort", () => clearTimeout(telling));
  const sent = async () => {
    const found = await api.deliveries(id, signal).catch(() => null);
    deliveries.hidden = !found?.length;
    if (found?.length) drawDeliveries(found);
    clearTimeout(telling);
    if (!signal.aborted && found?.some(({ status }) => status === "pending")) telling = window.setTimeout(sent, TELLING);
  };
  let pressed = "";
  const drawDeliveries = onChange((/** @type {import("./api.js").Delivery[]} */ found) => {
    const focused = deliveries.contains(document.activeElement);
    if (focused) pressed = document.activeElement?.getAttribute("aria-label") ?? pressed;
    fill(deliveries, ...deliveriesOf(found, mayWrite, sent));
    if (!focused) return;
    // While it is on its way there is no button: whoever pressed it waits at the heading until there is one again.
    const button = deliveries.querySelector(`button[aria-label="${CSS.escape(pressed)}"]`);
    /** @type {HTMLElement | null} */ (button ?? deliveries.querySelector("h2"))?.focus();
  });

  /** @type {AbortController | undefined} */
  let listening;
  function listen() {
    if (listening && !listening.signal.aborted) return;
    if (isOver(current)) return;
    listening = new AbortController();
    const { signal: until } = listening;
    follow({
      url: `v1/renders/${encodeURIComponent(id)}/events`,
      signal: until,
      over: () => isOver(current),
      again: async () => draw(await api.render(id, signal)),
      onRender: (next) => {
        if (!draw(next)) return;
        // Attempts come and go with the state.
        api.render(id, signal).then(draw, () => undefined);
        if (isOver(next)) {
          listening?.abort();
          sent();
        }
      },
    });
  }
  signal.addEventListener("abort", () => listening?.abort());

  draw(current);
  listen();
  await sent();
}

/**
 * What can be done with it.
 * @param {Render} render @param {Record<string, any>} asked @param {import("./api.js").Me} me
 * @param {boolean} mayWrite @param {() => Promise<void>} refresh
 */
function buttons(render, asked, me, mayWrite, refresh) {
  const { renderId: id, status } = render;
  const made = [];
  if (status === "succeeded" && render.outputFile) {
    made.push(h("a", { class: "button primary", href: outputOf(id, true), download: "" }, "Download"));
    made.push(action("Copy link", async () => {
      const { url, expiresAt } = await api.link(id);
      await copy(url);
      return `Copied a link that works without a token, until ${full(expiresAt)}.`;
    }));
  }
  if (mayWrite && (status === "failed" || status === "cancelled")) {
    made.push(action("Retry", async () => {
      await api.retry(id);
      await refresh();
      return "Queued again.";
    }, { class: "primary" }));
  }
  if (mayWrite && isOver(render) && render.tenant === me.tenant) {
    made.push(h("button", { type: "button", "aria-haspopup": "dialog", onclick: () => editProps(render, asked, me) }, "Retry with other props"));
  }
  if (mayWrite && !isOver(render) && !render.cancelRequestedAt) {
    made.push(action("Cancel", async () => {
      const sure = await confirm({ title: "Cancel this render?", text: `What ${render.composition} has made so far is lost. It can be retried later.`, confirm: "Cancel the render", danger: true });
      if (!sure) return;
      await api.cancel(id);
      await refresh();
      return "Cancelled.";
    }, { class: "danger" }));
  }
  made.push(action("Copy as curl", async () => {
    await copy(curl(render, asked, me));
    return render.tenant === me.tenant ? "Copied a command that makes another one like it."
      : "Copied a command, without a webhook and a licence key: nobody is shown these.";
  }, { class: "quiet" }));
  return made;
}

/**
 * What asks for another go at a render of one's own: the server takes over from it what nobody is shown, and, for who may
 * say nothing of them, the surroundings of the browser.
 * @param {Render} render @param {Record<string, any>} asked @param {import("./api.js").Me} me
 */
function another(render, asked, me) {
  const { envVariables, chromiumOptions, ...rest } = asked;
  const surroundings = allows(me, "renders:environment") ? { envVariables, chromiumOptions } : {};
  return { ...rest, ...surroundings, queue: { ...asked.queue, retryOf: render.renderId } };
}

/** @param {Render} render @param {Record<string, any>} asked @param {import("./api.js").Me} me */
function curl(render, asked, me) {
  const path = new URL(render.kind === "still" ? "v1/stills" : "v1/renders", document.baseURI).href;
  // Of another tenant's render there is no other go.
  const wanted = render.tenant === me.tenant ? another(render, asked, me) : asked;
  const body = JSON.stringify(wanted, null, 2).replaceAll("'", "'\\''");
  return `curl -H "Authorization: Bearer $TOKEN" ${path} -d '${body}'`;
}

/**
 * A new render that names the old one.
 * @param {Render} render @param {Record<string, any>} asked @param {import("./api.js").Me} me
 */
function editProps(render, asked, me) {
  const kept = (asked.envVariables || asked.chromiumOptions) && !allows(me, "renders:environment")
    ? " It has the same environment and browser options, unless the site has a new version." : "";
  const editor = jsonField("Input props", asked.inputProps, `A new render is made with these; this one stays as it is.${kept}`);
  const wrong = h("p", { class: "wrong-text", role: "alert" });
  const submit = h("button", { class: "primary" }, "Render with these props");
  const dialog = h("dialog", { class: "dialog large", "aria-labelledby": "edit-title" },
    h("form", {
      novalidate: true,
      onsubmit: async (/** @type {Event} */ event) => {
        event.preventDefault();
        const props = editor.read();
        if (props === null) return;
        submit.setAttribute("aria-busy", "true");
        try {
          const { queue: { runAt: _, ...queue }, ...rest } = another(render, asked, me);
          const next = await api.submit(render.kind, { ...rest, queue, inputProps: JSON.parse(props) });
          dialog.close();
          toast("A new render is queued.");
          location.hash = `#/renders/${next.renderId}`;
        } catch (error) {
          wrong.textContent = error instanceof Problem ? error.sentence : String(error);
        } finally {
          submit.removeAttribute("aria-busy");
        }
      },
    },
    h("h2", { id: "edit-title" }, `Retry ${render.composition} with other props`),
    editor.element, wrong,
    h("div", { class: "buttons end" }, h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Go back"), submit)));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  editor.control.focus();
}

/**
 * What stands in the middle: the result, the way there, or why there is none.
 * @param {HTMLElement} stage
 */
function stager(stage) {
  const bar = progressBar("Progress");
  const [doing, eta, percent] = [h("p", { class: "doing" }), h("p", { class: "muted" }), h("p", { class: "percent", "aria-hidden": "true" })];
  const change = onChange((/** @type {Render} */ render) => {
    stage.dataset.status = render.status;
    if (render.status === "succeeded") {
      if (render.output?.deletedAt) fill(stage, quiet(`The file was deleted ${ago(render.output.deletedAt)}, as was asked for.`));
      else fill(stage, h("div", { class: "screen" }, picture(render)));
    } else if (render.status === "failed") fill(stage, ...failure(render.errors[0], "Why it failed"));
    else if (render.status === "cancelled") fill(stage, quiet("It was stopped on request, and has no output."));
    else {
      fill(stage, h("div", { class: "under-way" }, percent, doing, bar.element, eta),
        ...(render.errors.length ? failure(render.errors[0], "Why it is tried again") : []));
    }
  });
  return (/** @type {Render} */ render) => {
    change(/** @type {Render} */ ({ ...render, overallProgress: 0, framesRendered: 0, frameCount: 0, etaAt: undefined, phase: undefined, position: undefined, attempts: undefined }));
    const rendering = render.status === "rendering";
    bar.element.hidden = !rendering;
    percent.hidden = !rendering;
    if (!rendering && render.status !== "queued") return;
    say(doing, state(render));
    say(percent, `${Math.floor(render.overallProgress * 100)} %`);
    bar.update(render.overallProgress, state(render));
    const blocker = render.blockedBy?.renderId;
    if (blocker) fill(eta, "Behind ", h("a", { href: `#/renders/${blocker}` }, "this render"), ".");
    else say(eta, rendering ? [phase(render), render.etaAt ? `done ${ago(render.etaAt)}` : ""].filter(Boolean).join(" · ") : `Accepted ${ago(render.createdAt)}`);
  };
}

/** @param {Render} render */
function phase(render) {
  const attempt = render.attempt > 1 ? `attempt ${render.attempt} of ${render.maxAttempts}` : "";
  return [capital(render.phase), attempt].filter(Boolean).join(" · ");
}

/** @param {string} text */
const quiet = (text) => h("div", { class: "under-way" }, h("p", { class: "muted" }, text));

/** @param {import("./api.js").Failure | undefined} error @param {string} title */
function failure(error, title) {
  if (!error) return [quiet("It failed, and nobody said why.")];
  return [h("div", { class: "failure" },
    h("h2", null, title),
    h("p", { class: "message" }, error.message),
    h("p", { class: "muted" }, h("code", null, error.code), error.retryable ? " · another attempt may mend it" : " · another attempt would fail the same way"),
    error.stack && h("pre", { class: "code stack", tabindex: "0", "aria-label": "Where it happened, in the site's sources" }, error.stack))];
}

/** @param {Render} render */
function factsOf(render) {
  const output = render.output;
  /** @type {[string, import("./dom.js").Child][]} */
  const rows = [
    ["Site", h("span", null, render.serveUrl, " ", h("code", { title: render.siteVersion }, render.siteVersion.slice(0, 8)))],
    ["Tenant", render.tenant],
    ["Group", render.group && h("a", { href: `#/renders?group=${encodeURIComponent(render.group)}` }, render.group)],
    ["Another go at", render.retryOf && h("a", { href: `#/renders/${render.retryOf}` }, render.retryOf.slice(-12))],
    ["Priority", render.priority !== 0 && number(render.priority)],
    ["Accepted", when(render.createdAt)],
    ["Not before", Date.parse(render.runAt) > Date.parse(render.createdAt) && when(render.runAt)],
    ["Started", render.startedAt && when(render.startedAt)],
    ["Ended", render.finishedAt && when(render.finishedAt)],
    ["Took", render.timeToFinish !== undefined && lasting(render.timeToFinish)],
    ["Machine time", render.attempts?.length ? lasting(cost(render)) : null],
    ["Cost", output?.costInUsd !== undefined && `about $${output.costInUsd.toFixed(3)}`],
    ["Picture", output?.width && `${output.width} × ${output.height}`],
    ["Length", output?.durationInSeconds && lasting(output.durationInSeconds * 1000)],
    ["Frames", output?.frameCount && number(output.frameCount)],
    ["Size", render.outputSizeInBytes && size(render.outputSizeInBytes)],
    ["Kind", output?.contentType],
    ["SHA-256", output?.sha256 && h("code", { title: output.sha256 }, `${output.sha256.slice(0, 16)}…`)],
  ];
  return [h("h2", { id: "facts-title" }, "Facts"),
    h("dl", { class: "facts" }, ...rows.filter(([, value]) => value).flatMap(([name, value]) => [h("dt", null, name), h("dd", null, value)]))];
}

/** What it has cost: how long machines were busy with it, in milliseconds. @param {Render} render */
const cost = (render) => (render.attempts ?? []).reduce((sum, { startedAt, endedAt }) => sum + Math.max(0, (endedAt ? Date.parse(endedAt) : Date.now()) - Date.parse(startedAt)), 0);

/** @type {Record<string, string>} */
const OUTCOMES = { succeeded: "Succeeded", failed: "Failed", cancelled: "Cancelled", handed_back: "Handed back", lost: "Lost its worker" };

/** @param {Render} render */
function timeline(render) {
  const items = [h("li", null, h("i", { "aria-hidden": "true" }), h("p", null, "Accepted ", when(render.createdAt)))];
  for (const { number: count, worker, startedAt, endedAt, outcome, error } of render.attempts ?? []) {
    const took = endedAt ? ` after ${lasting(Date.parse(endedAt) - Date.parse(startedAt))}` : "";
    items.push(h("li", { class: outcome ?? "rendering" }, h("i", { "aria-hidden": "true" }),
      h("p", null, h("strong", null, `Attempt ${count}`), " ", outcome ? `${OUTCOMES[outcome] ?? outcome}${took}` : "Under way", " · ", when(startedAt)),
      h("p", { class: "muted" }, `On ${worker}`),
      error && h("p", { class: "wrong-text" }, error.message)));
  }
  return [h("h2", { id: "attempts-title" }, "Attempts"), h("ol", { class: "timeline" }, ...items)];
}

/** @param {Record<string, any>} asked */
function props(asked) {
  const { inputProps, serveUrl: _site, composition: _name, ...options } = asked;
  const block = (/** @type {string} */ title, /** @type {unknown} */ value) => {
    const text = JSON.stringify(value, null, 2);
    return [h("div", { class: "head small" }, h("h2", null, title), copyButton(text, "Copy")),
      h("pre", { class: "code", tabindex: "0", "aria-label": title }, text)];
  };
  return h("section", { class: "card", "aria-label": "What was asked for" }, ...block("Input props", inputProps ?? {}),
    ...(Object.keys(options).length ? block("Options", options) : []));
}

/** @param {string} id @param {AbortSignal} signal */
function log(id, signal) {
  const text = h("pre", { class: "code log", tabindex: "0", "aria-label": "Log" }, "…");
  const details = h("details", { class: "card" }, h("summary", null, h("h2", null, "Log")), text);
  details.addEventListener("toggle", async () => {
    if (!details.open) return;
    try {
      text.textContent = (await api.log(id, signal)) || "Nothing was said yet.";
    } catch (error) {
      broken(text, error, () => details.dispatchEvent(new Event("toggle")));
    }
  });
  return details;
}

/** @param {import("./api.js").Delivery[]} found @param {boolean} mayWrite @param {() => Promise<void>} again */
function deliveriesOf(found, mayWrite, again) {
  const items = found.map((delivery) => {
    const tries = delivery.log ?? [];
    const last = tries.at(-1);
    const said = (/** @type {import("./api.js").Try} */ one) => [one.code, one.error ?? "taken"].filter(Boolean).join(" · ");
    return h("li", { class: `delivery ${delivery.status}` },
      h("div", null,
        h("p", null, h("span", { class: `badge ${delivery.status === "delivered" ? "succeeded" : delivery.status}` }, capital(delivery.status)), " ", h("strong", null, capital(delivery.channel))),
        h("p", { class: "endpoint" }, delivery.endpoint),
        h("p", { class: "muted" }, last ? counted(tries.length, "try", "tries") : "Not tried yet",
          last && h("span", null, ", the last ", when(last.at)), last && ` · ${said(last)}`,
          delivery.status === "pending" && delivery.nextTryAt && ` · next ${ago(delivery.nextTryAt)}`),
        tries.length > 1 && h("details", null, h("summary", null, "Every try"),
          h("ol", { class: "muted" }, ...tries.map((one) => h("li", null, when(one.at), ` · ${said(one)}`))))),
      mayWrite && delivery.status !== "pending" && action("Send again", async () => {
        await api.redeliver(delivery.deliveryId);
        await again();
        return "It will be sent again.";
      }, { "aria-label": `Send again to ${delivery.endpoint}` }));
  });
  return [h("h2", { id: "deliveries-title", tabindex: "-1" }, "Deliveries"), h("ul", { class: "plain" }, ...items)];
}

