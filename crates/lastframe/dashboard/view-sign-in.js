// Signing in: by name and password, or by a token.

import { api, Problem } from "./api.js";
import { fill, h } from "./dom.js";
import { field } from "./parts.js";

/**
 * @param {HTMLElement} app
 * @param {(me: import("./api.js").Me) => void} signedIn
 */
export function signIn(app, signedIn) {
  const email = field("E-mail address", h("input", { type: "email", name: "email", autocomplete: "username", required: true }));
  const password = field("Password", h("input", { type: "password", name: "password", autocomplete: "current-password", required: true }));
  const token = field("Token", h("input", { type: "password", name: "token", autocomplete: "off", required: true, spellcheck: "false" }),
    "Such as the admin token, which lies in the server's data folder in the file admin-token.");

  app.replaceChildren(h("main", { id: "main", class: "sign-in", tabindex: "-1" },
    h("div", { class: "card" },
      h("img", { src: new URL("icon.svg", import.meta.url).href, alt: "", width: 44, height: 44 }),
      h("h1", null, "Sign in to Lastframe"),
      form([email, password], "Sign in", () => ({ email: email.control.value, password: password.control.value })),
      h("details", null, h("summary", null, "Use a token instead"),
        form([token], "Sign in with the token", () => ({ token: token.control.value }))))));

  /**
   * @param {ReturnType<typeof field>[]} fields
   * @param {string} label
   * @param {() => {email: string, password: string} | {token: string}} credentials
   */
  function form(fields, label, credentials) {
    const wrong = h("p", { class: "wrong-text", role: "alert" });
    const button = h("button", { class: "primary wide" }, label);
    const made = h("form", { novalidate: true }, ...fields.map(({ element }) => element), wrong, button);
    made.addEventListener("submit", async (event) => {
      event.preventDefault();
      const missing = fields.find(({ control }) => !control.value);
      for (const one of fields) one.complain(one === missing ? "This is needed." : undefined);
      if (missing) return missing.control.focus();
      button.setAttribute("aria-busy", "true");
      fill(wrong);
      try {
        signedIn(await api.signIn(credentials()));
      } catch (error) {
        wrong.textContent = explain(error);
        fields[0].control.focus();
      } finally {
        button.removeAttribute("aria-busy");
      }
    });
    return made;
  }
}

/** @param {unknown} error */
function explain(error) {
  if (!(error instanceof Problem)) return String(error);
  if (error.code === "sign_in_failed") return "The address or the password is wrong.";
  if (error.code === "token_invalid") return "This token is not valid here, or has expired.";
  return error.sentence;
}
