// A browser on the dashboard of a real server, which notices what must not happen on any page.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
/** No step takes so long unless it hangs, in milliseconds. */
export const PATIENCE = 120_000;

export const server = process.env.LASTFRAME_URL;
export const token = process.env.LASTFRAME_TOKEN;

/** The browser that the server renders with. */
function executable() {
  if (process.env.LASTFRAME_BROWSER) return process.env.LASTFRAME_BROWSER;
  const names = ["chromium", "google-chrome", "chromium-headless-shell"];
  const files = process.env.PATH.split(delimiter).flatMap((folder) => names.map((name) => join(folder, name)));
  const found = files.find(existsSync);
  assert.ok(found, "there is no browser: run scripts/setup");
  return found;
}

export const launch = () =>
  chromium.launch({ executablePath: executable(), args: ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"] });

/** Asks the API, as programs do. */
export async function ask(method, path, body, as = token) {
  const headers = { authorization: `Bearer ${as}` };
  const answer = await fetch(`${server}${path}`, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text && JSON.parse(text);
}

/** Submits a render of the test site, and gives its id. */
export async function submit(composition, fields = {}) {
  return (await ask("POST", "/v1/renders", { serveUrl: "test", composition, ...fields })).renderId;
}

/** Waits for a render to come to its end. */
export async function ended(id) {
  const events = await fetch(`${server}/v1/renders/${id}/events`, { headers: { authorization: `Bearer ${token}` } });
  // The stream ends with the render.
  await events.text();
  return ask("GET", `/v1/renders/${id}`);
}

/** A person's browser: windows of its own, and nothing that another person's has. */
export async function person(browser, options = {}) {
  const context = await browser.newContext({ baseURL: server, ...options });
  context.setDefaultTimeout(PATIENCE);
  const wrong = [];
  context.on("request", (request) => {
    const url = new URL(request.url());
    if (url.origin !== server && url.protocol !== "data:") wrong.push(`asked ${url.origin}`);
  });
  context.on("weberror", (error) => wrong.push(`threw ${error.error()}`));
  context.on("console", (message) => {
    if (/Content Security Policy|Trusted ?Type/i.test(message.text())) wrong.push(message.text());
  });
  const page = await context.newPage();
  return {
    context,
    page,
    /** Closes the browser; nothing may have gone wrong in it. */
    async leave() {
      await context.close();
      assert.deepEqual(wrong, []);
    },
  };
}

/** Signs in by a token. */
export async function enter(page, as = token) {
  await page.goto("/");
  await page.getByText("Use a token instead").click();
  await page.getByLabel("Token").fill(as);
  await page.getByRole("button", { name: "Sign in with the token" }).click();
  await page.getByRole("heading", { level: 1, name: "Renders" }).waitFor();
}

/** Goes to a page by its address, and waits for its heading. */
export async function visit(page, hash, heading) {
  await page.goto(`/#/${hash}`);
  await page.getByRole("heading", { level: 1, name: heading }).waitFor();
}

/** What stands on the page can be used by everybody, as far as a program can tell. */
export async function accessible(page, name) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
  const faults = violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(({ id, help, nodes }) => ({ id, help, where: nodes.map(({ target, failureSummary }) => `${target}: ${failureSummary}`) }));
  assert.deepEqual(faults, [], `${name} has faults`);
}

/** Nothing sticks out at the side. */
export async function fits(page, name) {
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= window, `${name} is ${content} wide in a window of ${window}`);
}
