// A new render of a composition that a site has.

import { api, Problem } from "./api.js";
import { fill, h, icon } from "./dom.js";
import { lasting } from "./format.js";
import { broken, empty, field, jsonField, toast } from "./parts.js";

const CODECS = ["h264", "h265", "vp8", "vp9", "av1", "prores", "gif", "mp3", "aac", "wav"];

/** @param {import("./app.js").Page} page */
export async function newRender({ main, mayWrite, query, signal, title }) {
  title("New render");
  const head = [h("a", { href: "#/renders", class: "back" }, icon("back"), "Renders"), h("div", { class: "head" }, h("h1", null, "New render"))];
  if (!mayWrite) return fill(main, ...head, empty("You may look, and not submit", "Ask whoever runs this server for the scope renders:write."));
  const sites = await api.sites(signal);
  if (!sites.length) {
    return fill(main, ...head, empty("There is no site yet", "Add a bundled Remotion project first: ", h("code", null, "lastframe site add ./my-project --name my-project"), "."));
  }

  const site = field("Site", h("select", null, ...sites.map(({ name }) => h("option", null, name))));
  const composition = field("Composition", h("select"));
  const kind = field("Make", h("select", null, h("option", { value: "media" }, "A video or sound"), h("option", { value: "still" }, "A still picture")));
  const codec = field("Codec", h("select", null, ...CODECS.map((name) => h("option", null, name))));
  const props = jsonField("Input props", {}, "Filled with the composition's default props. Any JSON object.");
  const group = field("Group", h("input", { autocomplete: "off" }), "Optional. One after another.");
  const priority = field("Priority", h("input", { type: "number", min: -1000, max: 1000, step: 1, placeholder: "0" }), "Optional. Higher goes first.");
  const outName = field("File name", h("input", { autocomplete: "off", spellcheck: "false" }), "Optional. The file's name when it is downloaded.");
  const about = h("p", { class: "hint", role: "status" });
  const wrong = h("p", { class: "wrong-text", role: "alert" });
  const submit = h("button", { class: "primary" }, "Submit the render");

  const current = () => sites.find(({ name }) => name === site.control.value);
  const chosen = () => current()?.compositions.find((/** @type {any} */ one) => one.id === composition.control.value);
  const showProps = () => {
    const one = chosen();
    props.put(one?.defaultProps);
    about.textContent = one?.error ? `With its default props it cannot be opened: ${one.error}`
      : one ? `${one.width} × ${one.height}, ${one.fps} frames a second, ${one.durationInFrames} frames (${lasting((one.durationInFrames / one.fps) * 1000)})` : "";
  };
  const showCompositions = () => {
    fill(composition.control, ...(current()?.compositions ?? []).map((/** @type {any} */ one) => h("option", null, one.id)));
    showProps();
  };
  site.control.addEventListener("change", showCompositions);
  composition.control.addEventListener("change", showProps);
  kind.control.addEventListener("change", () => (codec.element.hidden = kind.control.value === "still"));
  if (query.get("site")) site.control.value = query.get("site") ?? "";
  showCompositions();
  if (query.get("composition")) {
    composition.control.value = query.get("composition") ?? "";
    showProps();
  }

  /** @type {[string, ReturnType<typeof field>][]} */
  const places = [["/serveUrl", site], ["/composition", composition], ["/codec", codec], ["/inputProps", props], ["/queue/group", group], ["/queue/priority", priority], ["/outName", outName]];
  const form = h("form", { class: "card form", novalidate: true },
    h("div", { class: "pair" }, site.element, composition.element), about,
    h("div", { class: "pair" }, kind.element, codec.element),
    props.element,
    h("div", { class: "pair" }, group.element, priority.element), outName.element, wrong,
    h("div", { class: "buttons" }, submit));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    for (const [, one] of places) one.complain();
    wrong.textContent = "";
    const text = props.read();
    if (text === null || submit.getAttribute("aria-busy")) return;
    submit.setAttribute("aria-busy", "true");
    const queue = { group: group.control.value || undefined, priority: priority.control.value ? Number(priority.control.value) : undefined };
    const still = kind.control.value === "still";
    const body = {
      serveUrl: site.control.value, composition: composition.control.value, inputProps: JSON.parse(text),
      codec: still ? undefined : codec.control.value, outName: outName.control.value || undefined, queue,
    };
    try {
      const accepted = await api.submit(kind.control.value, body);
      toast("The render is accepted.");
      location.hash = `#/renders/${accepted.renderId}`;
    } catch (error) {
      if (!(error instanceof Problem)) return broken(wrong, error, () => form.requestSubmit());
      const elsewhere = error.errors.filter(({ pointer, detail }) => {
        const place = places.find(([prefix]) => pointer === prefix || pointer.startsWith(`${prefix}/`));
        place?.[1].complain(detail);
        return !place;
      });
      wrong.textContent = elsewhere.length || !error.errors.length ? error.sentence : "";
      /** @type {HTMLElement | null} */ (form.querySelector("[aria-invalid]"))?.focus();
    } finally {
      submit.removeAttribute("aria-busy");
    }
  });
  fill(main, ...head, form);
}
