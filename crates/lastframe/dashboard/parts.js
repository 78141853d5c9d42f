// Parts that several pages are made of.

import { outputOf, posterOf, Problem } from "./api.js";
import { fill, h, icon, say } from "./dom.js";
import { ago, capital, full } from "./format.js";

/** @typedef {import("./api.js").Render} Render */

/** @param {string} text */
export function announce(text) {
  const said = /** @type {HTMLElement} */ (document.getElementById("said"));
  // The same sentence twice is read out twice.
  said.textContent = "";
  requestAnimationFrame(() => (said.textContent = text));
}

/**
 * A word that comes and goes.
 * @param {string} text
 * @param {"fine" | "wrong"} [kind]
 */
export function toast(text, kind = "fine") {
  announce(text);
  const close = h("button", { type: "button", class: "bare", "aria-label": "Dismiss", onclick: () => note.remove() }, icon("close"));
  const note = h("div", { class: `toast ${kind}` }, h("p", null, text), close);
  document.getElementById("toasts")?.append(note);
  setTimeout(() => note.remove(), kind === "wrong" ? 12000 : 5000);
}

/** @param {unknown} error */
export function complain(error) {
  if (error instanceof DOMException && error.name === "AbortError") return;
  toast(error instanceof Problem ? error.sentence : String(error), "wrong");
}

/**
 * A button that does something on the server, once at a time, and says how it went.
 * @param {string} label
 * @param {() => Promise<string | void>} act
 * @param {Record<string, any>} [attributes]
 */
export function action(label, act, attributes) {
  const button = h("button", { type: "button", ...attributes }, label);
  button.addEventListener("click", async () => {
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    try {
      const said = await act();
      if (said) toast(said);
    } catch (error) {
      complain(error);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
  return button;
}

/** @param {string} status */
export const badge = (status) => h("span", { class: `badge ${status}` }, capital(status));

/** @param {string} time @param {string} [before] */
export const when = (time, before = "") =>
  h("time", { datetime: time, title: full(time), "data-before": before }, `${before}${ago(time)}`);

// Times go on while nothing else does.
setInterval(() => {
  for (const time of document.querySelectorAll("time[data-before]")) {
    const element = /** @type {HTMLTimeElement} */ (time);
    say(element, `${element.dataset.before}${ago(element.dateTime)}`);
  }
}, 15000);

/** @param {Render} render */
export const isSound = (render) => render.output?.contentType.startsWith("audio/") ?? false;

/**
 * A frame of it, or a calm place where one would be.
 * @param {Render} render
 */
export function poster(render) {
  const kind = render.kind === "still" ? "picture" : isSound(render) ? "sound" : "play";
  const frame = h("span", { class: "poster", "data-status": render.status, "aria-hidden": "true" }, icon(kind));
  if (render.status === "succeeded" && render.outputFile && !isSound(render)) {
    const picture = h("img", { src: posterOf(render.renderId), alt: "", loading: "lazy", decoding: "async", width: 128, height: 72 });
    picture.addEventListener("load", () => frame.classList.add("shown"));
    picture.addEventListener("error", () => picture.remove());
    frame.append(picture);
  }
  return frame;
}

/**
 * How far it is. `update` keeps it so.
 * @param {string} label
 */
export function progressBar(label) {
  const fillers = h("span", { class: "done" });
  const element = h("div", { class: "progress", role: "progressbar", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 100 }, fillers);
  return {
    element,
    /** @param {number} share @param {string} text */
    update(share, text) {
      const percent = Math.round(share * 100);
      element.setAttribute("aria-valuenow", String(percent));
      element.setAttribute("aria-valuetext", `${percent} %, ${text}`);
      fillers.style.setProperty("--share", String(share));
    },
  };
}

/** @param {string} text @param {string} label */
export function copyButton(text, label) {
  return action(label, async () => {
    await copy(text);
    return "Copied.";
  }, { class: "quiet" });
}

/** @param {string} text */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Without https there is no clipboard but this one.
  const field = h("textarea", { class: "unseen", "aria-hidden": "true", value: text });
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

/**
 * Asks in a dialog; the answer is whether it was confirmed.
 * @param {{title: string, text: string, confirm: string, danger?: boolean}} question
 * @returns {Promise<boolean>}
 */
export function confirm({ title, text, confirm: yes, danger }) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": "dialog-title" },
      h("form", { method: "dialog" },
        h("h2", { id: "dialog-title" }, title),
        h("p", null, text),
        h("div", { class: "buttons end" },
          h("button", { value: "no", class: "quiet" }, "Go back"),
          h("button", { value: "yes", class: danger ? "danger" : "primary" }, yes))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/**
 * A field with its label, and room for what is wrong with it.
 * @param {string} label
 * @param {HTMLInputElement | HTMLTextAreaElement | HTMLSelectElement} control
 * @param {string} [hint]
 */
export function field(label, control, hint) {
  const id = control.id || `field-${(field.count += 1)}`;
  control.id = id;
  const wrong = h("p", { class: "wrong-text", id: `${id}-wrong`, hidden: true });
  const notes = hint ? h("p", { class: "hint", id: `${id}-hint` }, hint) : null;
  const described = [hint ? `${id}-hint` : "", `${id}-wrong`].join(" ").trim();
  control.setAttribute("aria-describedby", described);
  return {
    element: h("div", { class: "field" }, h("label", { for: id }, label), notes, control, wrong),
    control,
    /** @param {string} [text] */
    complain(text) {
      wrong.hidden = !text;
      wrong.textContent = text ?? "";
      if (text) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    },
  };
}
field.count = 0;

/**
 * An editor of JSON: a plain text field that keeps Tab for leaving it and says what is wrong.
 * @param {string} label
 * @param {unknown} value
 * @param {string} [hint]
 */
export function jsonField(label, value, hint) {
  const text = JSON.stringify(value ?? {}, null, 2);
  const rows = Math.min(18, Math.max(6, text.split("\n").length + 1));
  const area = h("textarea", { rows, spellcheck: "false", autocapitalize: "off", autocomplete: "off", class: "code", value: text });
  const made = field(label, area, hint);
  return {
    ...made,
    /** @param {unknown} next */
    put(next) {
      area.value = JSON.stringify(next ?? {}, null, 2);
      area.rows = Math.min(18, Math.max(6, area.value.split("\n").length + 1));
      made.complain();
    },
    /** The text when it is a JSON object; otherwise says what it is not. @returns {string | null} */
    read() {
      try {
        const parsed = JSON.parse(area.value || "{}");
        if (parsed === null || typeof parsed !== "object" || Array.isArray(parsed)) throw new Error("Props are a JSON object, such as {}.");
        made.complain();
        return area.value || "{}";
      } catch (error) {
        made.complain(error instanceof Error ? error.message : String(error));
        area.focus();
        return null;
      }
    },
  };
}

/**
 * Nothing here, and what to do about it.
 * @param {string} title
 * @param {...(Node | string)} text
 */
export const empty = (title, ...text) =>
  h("div", { class: "empty" }, h("div", { class: "frames", "aria-hidden": "true" }, h("i"), h("i"), h("i")), h("h2", null, title), h("p", null, ...text));

/** @param {Render} render */
export function picture(render) {
  const kind = render.output?.contentType ?? "";
  const url = outputOf(render.renderId);
  if (kind.startsWith("video/")) {
    return h("video", { controls: true, preload: "metadata", playsinline: true, src: url, "aria-label": `The video of ${render.composition}` });
  }
  if (kind.startsWith("audio/")) return h("audio", { controls: true, preload: "metadata", src: url, "aria-label": `The sound of ${render.composition}` });
  if (kind.startsWith("image/")) return h("img", { src: url, alt: `What ${render.composition} looks like` });
  return h("p", { class: "muted" }, "A browser cannot show this kind of file.");
}

/**
 * Why something cannot be shown, in its place.
 * @param {Element} target @param {unknown} error @param {() => void} again
 */
export function broken(target, error, again) {
  if (error instanceof DOMException) return;
  const gone = error instanceof Problem && error.status === 404;
  const text = error instanceof Problem ? error.sentence : String(error);
  const title = gone ? "There is nothing here" : "This could not be shown";
  const next = gone ? h("a", { href: "#/renders", class: "button primary" }, "Go to the renders")
    : h("button", { type: "button", class: "primary", onclick: again }, "Try again");
  fill(target, h("div", { class: "empty", role: "alert" }, h(target.tagName === "MAIN" ? "h1" : "h2", null, title),
    h("p", null, `${capital(text.replace(/[.]$/, ""))}.`), h("p", null, next)));
}
