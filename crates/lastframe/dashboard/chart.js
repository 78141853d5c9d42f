// One small chart: renders by the hour.

import { h, s } from "./dom.js";
import { counted, number } from "./format.js";

const WIDTH = 480;
const HEIGHT = 96;
const HOUR = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

/**
 * Bars of what succeeded and failed, and behind them what was accepted; the same as a table for who cannot see it.
 * @param {import("./api.js").Hour[]} hours
 */
export function chart(hours) {
  const most = Math.max(1, ...hours.map(({ accepted, succeeded, failed }) => Math.max(accepted, succeeded + failed)));
  const step = WIDTH / hours.length;
  const height = (/** @type {number} */ count) => (count / most) * (HEIGHT - 6);
  const sum = (/** @type {"accepted" | "succeeded" | "failed"} */ what) => hours.reduce((all, hour) => all + hour[what], 0);
  const text = `In the last ${hours.length} hours ${counted(sum("accepted"), "render was accepted", "renders were accepted")}, ` +
    `${number(sum("succeeded"))} succeeded and ${number(sum("failed"))} failed.`;

  const bars = hours.flatMap(({ accepted, succeeded, failed }, index) => {
    const x = index * step + step * 0.16;
    const width = step * 0.68;
    const [all, good, bad] = [accepted, succeeded, failed].map(height);
    return [
      all && s("rect", { class: "accepted", x, y: HEIGHT - all, width, height: all, rx: 2 }),
      good && s("rect", { class: "good", x: x + width * 0.25, y: HEIGHT - good, width: width * 0.5, height: good, rx: 1.5 }),
      bad && s("rect", { class: "bad", x: x + width * 0.25, y: HEIGHT - good - bad - (good ? 1 : 0), width: width * 0.5, height: bad, rx: 1.5 }),
    ];
  });
  const drawing = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": text },
    s("line", { class: "ground", x1: 0, y1: HEIGHT - 0.5, x2: WIDTH, y2: HEIGHT - 0.5 }),
    ...bars);

  const label = (/** @type {number} */ index) => HOUR.format(new Date(hours[index].start));
  const key = (/** @type {string} */ name, /** @type {string} */ word, /** @type {number} */ count) =>
    h("li", null, h("i", { class: name, "aria-hidden": "true" }), `${number(count)} ${word}`);
  return h("figure", { class: "chart" },
    h("figcaption", null, h("span", null, "Last 24 hours"),
      h("ul", { class: "key" }, key("accepted", "accepted", sum("accepted")), key("good", "succeeded", sum("succeeded")), key("bad", "failed", sum("failed")))),
    drawing,
    h("div", { class: "scale", "aria-hidden": "true" }, h("span", null, label(0)), h("span", null, label(Math.floor(hours.length / 2))), h("span", null, "now")),
    table(hours));
}

/** @param {import("./api.js").Hour[]} hours */
function table(hours) {
  const rows = hours.filter(({ accepted, succeeded, failed }) => accepted + succeeded + failed > 0).map((hour) =>
    h("tr", null, h("th", { scope: "row" }, HOUR.format(new Date(hour.start))), h("td", null, hour.accepted), h("td", null, hour.succeeded), h("td", null, hour.failed)));
  return h("div", { class: "unseen" }, h("table", null, h("caption", null, "Hours in which something happened"),
    h("thead", null, h("tr", null, ...["Hour", "Accepted", "Succeeded", "Failed"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", null, ...rows)));
}
