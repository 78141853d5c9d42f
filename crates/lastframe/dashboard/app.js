// The frame around the pages, and which page is shown.

import { allows, api, signedOut } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { announce, broken, complain } from "./parts.js";
import { failed } from "./view-failed.js";
import { groups } from "./view-groups.js";
import { newRender } from "./view-new.js";
import { queue } from "./view-queue.js";
import { render } from "./view-render.js";
import { renders } from "./view-renders.js";
import { signIn } from "./view-sign-in.js";

/**
 * What a page has: a place, who looks, what is in its address, and when it is left.
 * @typedef {{main: HTMLElement, me: import("./api.js").Me, mayWrite: boolean, isAdmin: boolean, query: URLSearchParams,
 *   rest: string, signal: AbortSignal, title: (text: string) => void}} Page
 */

/** @type {{name: string, label: string, icon: Parameters<typeof icon>[0], show: (page: Page) => unknown}[]} */
const PAGES = [
  { name: "renders", label: "Renders", icon: "renders", show: renders },
  { name: "failed", label: "Failed", icon: "failed", show: failed },
  { name: "groups", label: "Groups", icon: "groups", show: groups },
  { name: "queue", label: "Queue", icon: "queue", show: queue },
];

const app = /** @type {HTMLElement} */ (document.getElementById("app"));
let left = new AbortController();
/** @type {import("./api.js").Me | null} */
let me = null;
let first = true;

/** The page in the address: `#/renders/ID?query`. */
function where() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  return { name: name || "renders", rest: decodeURIComponent(rest.join("/")), query: new URLSearchParams(query) };
}

/** @param {string} text */
function title(text) {
  document.title = `${text} · Lastframe`;
}

function frame() {
  const { name } = where();
  const links = PAGES.map((page) =>
    h("li", null, h("a", { href: `#/${page.name}`, "data-page": page.name, "aria-current": page.name === name ? "page" : null },
      icon(page.icon), h("span", null, page.label))));
  const user = /** @type {import("./api.js").Me} */ (me);
  const who = user.subject.replace(/^(user|token):/, "");
  fill(app,
    h("header", { class: "top" },
      h("a", { href: "#/renders", class: "brand" }, logo(), h("span", null, "Lastframe")),
      h("nav", { "aria-label": "Pages" }, h("ul", null, ...links)),
      h("div", { class: "who" },
        h("span", { class: "name", title: user.subject }, who, h("span", { class: "muted" }, user.tenant)),
        themeChoice(),
        h("button", { type: "button", class: "bare", "aria-label": "Sign out", title: "Sign out", onclick: leave }, icon("out")))),
    h("main", { id: "main", tabindex: "-1" }));
}

function logo() {
  return h("img", { src: new URL("icon.svg", import.meta.url).href, alt: "", width: 26, height: 26 });
}

/** Light, dark, or as the machine has it. */
function themeChoice() {
  const root = document.documentElement;
  const choice = h("select", {
    "aria-label": "Colours",
    class: "theme",
    onchange: () => {
      if (choice.value) {
        root.dataset.theme = choice.value;
        localStorage.setItem("lastframe.theme", choice.value);
      } else {
        delete root.dataset.theme;
        localStorage.removeItem("lastframe.theme");
      }
    },
  }, h("option", { value: "" }, "Auto"), h("option", { value: "light" }, "Light"), h("option", { value: "dark" }, "Dark"));
  choice.value = root.dataset.theme ?? "";
  return choice;
}

async function leave() {
  try {
    await api.signOut();
    me = null;
    show();
    announce("Signed out.");
  } catch (error) {
    complain(error);
  }
}

async function show() {
  left.abort();
  left = new AbortController();
  const { signal } = left;
  if (!me) {
    title("Sign in");
    signIn(app, (now) => {
      me = now;
      first = false;
      frame();
      show();
    });
    return;
  }
  const { name, rest, query } = where();
  for (const link of app.querySelectorAll("nav a")) {
    if (/** @type {HTMLElement} */ (link).dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  // A page of its own for each visit: what an earlier one still draws goes nowhere.
  const main = h("main", { id: "main", tabindex: "-1" });
  app.querySelector("main")?.replaceWith(main);
  const page = { main, me, mayWrite: allows(me, "renders:write"), isAdmin: allows(me, "admin"), query, rest, signal, title };
  const shown = name === "renders" && rest ? render : name === "new" ? newRender : PAGES.find((one) => one.name === name)?.show ?? renders;
  try {
    await shown(page);
  } catch (error) {
    if (!signal.aborted) broken(main, error, show);
  }
  if (signal.aborted) return;
  window.scrollTo(0, 0);
  // Whoever follows a link goes on reading at the new page's name.
  const heading = main.querySelector("h1");
  if (!first && heading instanceof HTMLElement) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  }
  first = false;
}

window.addEventListener("hashchange", show);
signedOut.addEventListener("signed-out", () => {
  if (!me) return;
  me = null;
  show();
  announce("Your session has ended.");
});
document.querySelector(".skip")?.addEventListener("click", (event) => {
  // The address says which page is shown, so the link itself leads nowhere.
  event.preventDefault();
  document.getElementById("main")?.focus();
});

try {
  me = await api.me();
  frame();
} catch {
  me = null;
}
show();
