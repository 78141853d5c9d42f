// Fills a server with the renders that a small studio may have, and takes pictures of its dashboard.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ask, ended, launch, person, server, token } from "./browser.mjs";

const out = process.argv[2];
const email = "ana@studio.example";
const password = "correct horse";

const film = async (composition, inputProps, fields = {}) => {
  const body = { serveUrl: "films", composition, inputProps, ...fields };
  return (await ask("POST", "/v1/renders", body)).renderId;
};
const text = (words, group, frames = [60, 119]) => film("main", { text: words }, { frameRange: frames, scale: 0.5, queue: group ? { group } : {} });
const points = (...values) => values.map((value, day) => ({ label: ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][day], value }));
const chart = (title, values, group, fields = {}) =>
  film("chart", { title, kind: "bar", secondsPerPoint: 0.3, points: points(...values) }, { queue: { group }, ...fields });

await ask("POST", "/v1/users", { email, password, scopes: ["admin"] });
const done = [
  await chart("Coffee sold per day", [212, 238, 296, 271, 420, 505, 364], "cafe-aurora"),
  await text("Good morning, Lisbon", "newsletter"),
  await chart("Trains on time", [91, 94, 88, 97, 93, 99, 98], "city-rail"),
  await text("Autumn collection", "atelier-nord"),
];
const failed = await film("chart", { title: "Visitors", kind: "bar", secondsPerPoint: 0.3, points: [{ label: "Mon", value: "many" }] }, { queue: { group: "city-museum" } });
done.push(await chart("Books lent per day", [412, 538, 496, 671, 820, 305, 264], "city-library"));
await Promise.all([...done, failed].map(ended));
const best = await film("chart", { title: "Videos rendered per day", kind: "bar", secondsPerPoint: 0.4, points: points(412, 538, 496, 671, 820, 305, 264) }, { queue: { group: "studio" } });
await ended(best);
const live = await text("Season two starts tonight", "channel-4", [0, 899]);
await text("Thank you, everybody", "newsletter", [0, 599]);
await text("The making of a garden", "channel-4", [0, 299]);

const browser = await launch();
const shrink = await (await browser.newContext()).newPage();

/** Writes a picture as WebP, which is a fifth of PNG here. */
async function write(name, png) {
  const webp = await shrink.evaluate(async (data) => {
    const picture = await createImageBitmap(await (await fetch(data)).blob());
    const canvas = new OffscreenCanvas(picture.width, picture.height);
    canvas.getContext("2d").drawImage(picture, 0, 0);
    const blob = await canvas.convertToBlob({ type: "image/webp", quality: 0.86 });
    return [...new Uint8Array(await blob.arrayBuffer())];
  }, `data:image/png;base64,${png.toString("base64")}`);
  writeFileSync(join(out, `${name}.webp`), Buffer.from(webp));
}

/** Waits until what is under way has come some way. */
async function underWay() {
  const events = await fetch(`${server}/v1/renders/${live}/events`, { headers: { authorization: `Bearer ${token}` } });
  for await (const chunk of events.body.pipeThrough(new TextDecoderStream())) {
    if (Number(/"framesRendered":(\d+)/.exec(chunk)?.[1]) > 300) return;
  }
}

const WIDE = { viewport: { width: 1200, height: 780 }, deviceScaleFactor: 1.5, locale: "en-GB" };
const PHONE = { viewport: { width: 390, height: 800 }, deviceScaleFactor: 2, locale: "en-GB" };
for (const [name, options, hash] of [
  ["render-light", WIDE, `renders/${best}`],
  ["render-dark", { ...WIDE, colorScheme: "dark" }, `renders/${best}`],
  ["renders-light", WIDE, "renders"],
  ["renders-dark", { ...WIDE, colorScheme: "dark" }, "renders"],
  ["phone", PHONE, "renders"],
  ...(process.env.ALL ? [
    ["under-way", WIDE, `renders/${live}`],
    ["failed-one", WIDE, `renders/${failed}`],
    ["failed", WIDE, "failed"],
    ["groups", WIDE, "groups"],
    ["queue", WIDE, "queue"],
    ["new", WIDE, "new"],
    ["new-dark", { ...WIDE, colorScheme: "dark" }, "new"],
    ["phone-render", PHONE, `renders/${best}`],
    ["phone-failed", { ...PHONE, colorScheme: "dark" }, "failed"],
    ["phone-live", PHONE, `renders/${live}`],
    ["sign-in", WIDE, null],
  ] : []),
]) {
  if (hash === "renders") await underWay();
  const { page, leave } = await person(browser, options);
  if (hash === null) {
    await page.goto("/");
    await page.getByRole("heading", { level: 1 }).waitFor();
  } else {
    await page.goto("/");
    await page.getByLabel("E-mail address").fill(email);
    await page.getByLabel("Password").fill(password);
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await page.getByRole("heading", { level: 1, name: "Renders" }).waitFor();
    await page.goto(`/#/${hash}`);
    // Frames of the list come one by one, and of a video with its beginning.
    await page.waitForFunction(() => document.querySelector("main :is(.row, .card, .empty)") && [...document.images].every(({ complete }) => complete));
    await page.evaluate(async () => {
      const video = document.querySelector("video");
      if (!video) return;
      // It plays for a moment, so that what is shown is a frame and no sign of waiting.
      video.muted = true;
      video.currentTime = 3.6;
      await video.play();
      await new Promise((resolve) => video.addEventListener("timeupdate", () => video.currentTime > 3.9 && resolve()));
      video.pause();
    });
    await page.evaluate(() => document.activeElement?.blur());
    await page.mouse.move(0, 0);
  }
  await write(name, await page.screenshot());
  await leave();
}
await browser.close();
