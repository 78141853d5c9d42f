// What people do on the dashboard. `tests/it/dashboard.rs` starts the server that this looks at.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { accessible, ask, ended, enter, fits, launch, person, server, submit, visit } from "./browser.mjs";

let browser;
before(async () => (browser = await launch()));
after(() => browser.close());

const SLOW = { inputProps: { msPerFrame: 100, frames: 300 } };

/** The state that a render's page shows. */
const shows = (page, status) => page.locator(".status .badge", { hasText: status }).waitFor();

/** Presses a key until what has the focus is called so. */
async function tabTo(page, name, key = "Tab") {
  const passed = new Set();
  for (let presses = 0; presses < 60; presses += 1) {
    const focused = await page.evaluate(() => {
      const element = document.activeElement;
      return element?.getAttribute("aria-label") ?? element?.labels?.[0]?.textContent ?? element?.textContent ?? "";
    });
    if (focused.trim() === name) return;
    passed.add(focused.trim().slice(0, 30));
    await page.keyboard.press(key);
  }
  assert.fail(`${name} is not reached by ${key}, but ${[...passed].join(", ")}`);
}

/** Somebody who takes webhooks, and answers as they are told to. */
async function receive(answer) {
  const receiver = { answer, taken: [], url: "", close: () => server.close() };
  const server = createServer((request, response) => {
    request.resume();
    receiver.taken.push(request.url);
    response.writeHead(receiver.answer).end();
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  // A test that fails does not keep the others' end waiting.
  server.unref();
  receiver.url = `http://127.0.0.1:${server.address().port}/done`;
  return receiver;
}

/** Signs in by a token, with the keyboard alone. */
async function enterByKeys(page) {
  await page.goto("/");
  await page.getByRole("heading", { name: "Sign in to Lastframe" }).waitFor();
  await tabTo(page, "Use a token instead");
  await page.keyboard.press("Enter");
  await tabTo(page, "Token");
  await page.keyboard.insertText(process.env.LASTFRAME_TOKEN);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Renders" }).waitFor();
}

/** Follows a link or presses a button, and waits for the page that it leads to: its heading is read first. */
async function pressTo(page, name, heading) {
  await tabTo(page, name);
  await page.keyboard.press("Enter");
  await arrived(page, heading);
}

const arrived = (page, heading) =>
  page.waitForFunction((text) => document.activeElement?.tagName === "H1" && document.activeElement.textContent === text, heading);

/** Writes something else into the field that has the focus. */
async function rewrite(page, text) {
  await page.keyboard.press("ControlOrMeta+A");
  await page.keyboard.insertText(text);
}

test("somebody signs in with a password, is told when it is wrong, and signs out", async () => {
  await ask("POST", "/v1/users", { email: "ana@example.com", password: "correct horse" });
  const { page, context, leave } = await person(browser);
  await page.goto("/");
  await accessible(page, "sign in");
  await page.getByLabel("E-mail address").fill("ana@example.com");
  await page.getByLabel("Password").fill("wrong horse");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("alert").filter({ hasText: "The address or the password is wrong." }).waitFor();
  await page.getByLabel("Password").fill("correct horse");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "Renders" }).waitFor();
  const cookies = await context.cookies();
  assert.equal(cookies.length, 2);
  for (const cookie of cookies) assert.ok(cookie.httpOnly && cookie.sameSite === "Strict", JSON.stringify(cookie));
  assert.equal(await page.evaluate(() => document.cookie), "");
  await page.reload();
  await page.getByRole("heading", { level: 1, name: "Renders" }).waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in to Lastframe" }).waitFor();
  assert.deepEqual(await context.cookies(), []);
  await leave();
});

test("a session that is about to end is renewed without a word", async () => {
  await ask("POST", "/v1/users", { email: "cleo@example.com", password: "correct horse" });
  const { page, leave } = await person(browser);
  await page.goto("/");
  await page.getByLabel("E-mail address").fill("cleo@example.com");
  await page.getByLabel("Password").fill("correct horse");
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "Renders" }).waitFor();
  await page.evaluate(() => localStorage.setItem("lastframe.session.until", "1"));
  const renewed = page.waitForResponse((answer) => answer.url().endsWith("/v1/session/renew"));
  await page.getByRole("link", { name: "Groups" }).click();
  assert.equal((await renewed).status(), 200);
  await page.getByRole("heading", { level: 1, name: "Groups" }).waitFor();
  assert.ok(Number(await page.evaluate(() => localStorage.getItem("lastframe.session.until"))) > 1);
  await leave();
});

test("a render is submitted, watched while it is made, and played", async () => {
  const { page, leave } = await person(browser);
  await enter(page);
  await page.getByRole("link", { name: "New render" }).click();
  await page.getByLabel("Composition").selectOption("slow");
  const props = page.getByLabel("Input props");
  assert.deepEqual(JSON.parse(await props.inputValue()), { msPerFrame: 100, frames: 30 });
  await props.fill("{");
  await page.getByRole("button", { name: "Submit the render" }).click();
  assert.equal(await props.getAttribute("aria-invalid"), "true");
  await props.fill(JSON.stringify({ msPerFrame: 60, frames: 40 }));
  await page.getByLabel("Priority").fill("5000");
  await page.getByLabel("File name").fill("film.mp4");
  await page.getByRole("button", { name: "Submit the render" }).click();
  await page.getByText("is 5000, and must be from -1000 to 1000").waitFor();
  assert.equal(await page.getByLabel("Priority").getAttribute("aria-invalid"), "true");
  await page.getByLabel("Priority").fill("");
  await page.getByRole("button", { name: "Submit the render" }).click();

  await page.getByRole("heading", { level: 1, name: "slow" }).waitFor();
  const seen = new Set();
  const bar = page.locator('[role="progressbar"][aria-valuetext*="of 40 frames"]');
  await bar.waitFor();
  while (await bar.count()) seen.add(await bar.getAttribute("aria-valuenow", { timeout: 500 }).catch(() => null));
  assert.ok(seen.size > 2, `progress was seen at ${[...seen]}`);

  await shows(page, "Succeeded");
  const video = page.locator("video");
  await video.evaluate((player) => {
    player.muted = true;
    return player.play();
  });
  await page.waitForFunction(() => {
    const player = document.querySelector("video");
    return player.readyState >= 2 && player.currentTime > 0.2;
  });
  await page.getByText("film.mp4").waitFor();
  const download = page.waitForEvent("download");
  await page.getByRole("link", { name: "Download" }).click();
  assert.equal((await download).suggestedFilename(), "film.mp4");
  await leave();
});

test("a render that is under way is cancelled", async () => {
  const id = await submit("slow", SLOW);
  const { page, leave } = await person(browser);
  await enter(page);
  await page.goto(`/#/renders/${id}`);
  await page.locator('[role="progressbar"][aria-valuetext*="frames"]').waitFor();
  await accessible(page, "a render that is under way");
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel the render" }).click();
  await shows(page, "Cancelled");
  assert.equal((await ask("GET", `/v1/renders/${id}`)).status, "cancelled");
  await page.getByRole("button", { name: "Retry", exact: true }).click();
  await page.getByRole("button", { name: "Cancel" }).waitFor();
  await ask("POST", `/v1/renders/${id}/cancel`);
  await shows(page, "Cancelled");
  await leave();
});

test("why a render failed is told with its place in the sources, and other props make a new one that names it", async () => {
  const id = await submit("throws", { inputProps: { text: "one" }, queue: { group: "broken" } });
  await ended(id);
  const { page, leave } = await person(browser);
  await enter(page);
  await visit(page, `renders/${id}`, "throws");
  await page.getByText("boom at frame 3").first().waitFor();
  assert.match(await page.locator(".stack").textContent(), /Root\.tsx/);
  await page.getByRole("button", { name: "Retry with other props" }).click();
  const editor = page.getByRole("dialog").getByLabel("Input props");
  assert.deepEqual(JSON.parse(await editor.inputValue()), { text: "one" });
  await accessible(page, "the dialog with other props");
  await editor.fill('{"text": "two"}');
  await page.getByRole("button", { name: "Render with these props" }).click();
  await page.getByRole("link", { name: id.slice(-12) }).waitFor();
  const next = page.url().split("/").at(-1);
  assert.notEqual(next, id);
  const render = await ask("GET", `/v1/renders/${next}`);
  assert.deepEqual([render.retryOf, render.group], [id, "broken"]);
  assert.deepEqual((await ask("GET", `/v1/renders/${next}/request`)).inputProps, { text: "two" });
  await ended(next);
  await leave();
});

test("who may not say anything of the environment tries other props in the one that was given", async () => {
  const given = { envVariables: { REMOTION_GREETING: "hello" }, chromiumOptions: { gl: "swangle" } };
  const id = await submit("env", given);
  await ended(id);
  const { token } = await ask("POST", "/v1/tokens", { name: "usual", scopes: ["renders:read", "renders:write"] });
  const { page, leave } = await person(browser);
  await enter(page, token);
  await visit(page, `renders/${id}`, "env");
  await page.getByRole("button", { name: "Retry with other props" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("the same environment and browser options").waitFor();
  await dialog.getByLabel("Input props").fill('{"text": "two"}');
  await page.getByRole("button", { name: "Render with these props" }).click();
  await page.getByRole("link", { name: id.slice(-12) }).waitFor();
  const next = page.url().split("/").at(-1);
  const { inputProps, envVariables, chromiumOptions } = await ask("GET", `/v1/renders/${next}/request`);
  assert.deepEqual({ inputProps, envVariables, chromiumOptions }, { inputProps: { text: "two" }, ...given });
  assert.equal((await ended(next)).status, "succeeded");
  await leave();
});

test("a command that is copied tells those whom the render told", async () => {
  const receiver = await receive(200);
  const id = await submit("tiny", { inputProps: { text: "it's one" }, webhook: { url: receiver.url } });
  await ended(id);
  const { page, leave } = await person(browser, { permissions: ["clipboard-read", "clipboard-write"] });
  await enter(page);
  await visit(page, `renders/${id}`, "tiny");
  await page.locator(".delivery").filter({ hasText: "Delivered" }).waitFor();
  await page.getByRole("button", { name: "Copy as curl" }).click();
  await page.getByText("Copied a command").first().waitFor();
  const command = await page.evaluate(() => navigator.clipboard.readText());
  const env = { ...process.env, TOKEN: process.env.LASTFRAME_TOKEN };
  const { stdout } = await promisify(execFile)("sh", ["-c", command], { env });
  const { renderId: next, retryOf } = await ask("GET", `/v1/renders/${JSON.parse(stdout).renderId}`);
  assert.equal(retryOf, id);
  await ended(next);
  await visit(page, `renders/${next}`, "tiny");
  await page.locator(".delivery").filter({ hasText: "Delivered" }).waitFor();
  assert.equal(receiver.taken.length, 2);
  assert.deepEqual((await ask("GET", `/v1/renders/${next}/request`)).inputProps, { text: "it's one" });
  await leave();
  receiver.close();
});

test("what failed for good is queued again, chosen or all at once", async () => {
  for (const text of ["a", "b"]) await ended(await submit("metadata-throws", { inputProps: { text } }));
  const { page, leave } = await person(browser);
  await enter(page);
  await visit(page, "failed", "Failed");
  const boxes = page.getByRole("checkbox");
  await boxes.nth(0).check();
  await boxes.nth(1).check();
  const redriven = page.waitForResponse((answer) => answer.url().endsWith("/v1/redrive"));
  await page.getByRole("button", { name: "Retry 2 renders" }).click();
  const { renders } = await (await redriven).json();
  assert.equal(renders.length, 2);
  for (const id of renders) await ended(id);
  await boxes.nth(1).waitFor();
  const all = page.waitForResponse((answer) => answer.url().endsWith("/v1/redrive"));
  await page.getByRole("button", { name: "Retry all", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Retry all" }).click();
  const again = await (await all).json();
  assert.ok(again.renders.length >= 2);
  for (const id of again.renders) await ended(id);
  await leave();
});

test("a group is paused, says so, and goes on", async () => {
  const { page, leave } = await person(browser);
  await enter(page);
  await ask("POST", "/v1/groups/customer-7/pause");
  await visit(page, "groups", "Groups");
  const group = page.getByRole("listitem").filter({ hasText: "customer-7" });
  await group.getByText("Paused", { exact: true }).waitFor();
  const id = await submit("tiny", { queue: { group: "customer-7" } });
  await group.getByText("1 render waiting").waitFor();
  await group.getByRole("button", { name: "Resume customer-7" }).click();
  await ended(id);
  await group.waitFor({ state: "detached" });
  await leave();
});

test("a list follows what happens, and is narrowed by state, group and the beginning of a name", async () => {
  const { page, leave } = await person(browser);
  await enter(page);
  const rows = page.locator(".row");
  const id = await submit("env", { queue: { group: "a-group-of-its-own" } });
  await rows.filter({ hasText: "a-group-of-its-own" }).filter({ hasText: "Succeeded" }).waitFor();
  await page.getByLabel("Find").fill("A-GROUP");
  await page.waitForFunction(() => document.querySelectorAll(".row").length === 1);
  await page.waitForURL(/q=A-GROUP/);
  await page.getByLabel("State").selectOption("failed");
  await page.getByRole("heading", { name: "Nothing matches" }).waitFor();
  await page.getByLabel("State").selectOption("");
  await page.getByLabel("Find").fill(id);
  await page.waitForFunction(() => document.querySelectorAll(".row").length === 1);
  await page.reload();
  await rows.filter({ hasText: "env" }).waitFor();
  assert.equal(await rows.count(), 1);
  await leave();
});

test("a list is live also when it is narrowed before it was there", async () => {
  const { page, leave } = await person(browser);
  await enter(page);
  await visit(page, "groups", "Groups");
  let letGo;
  const held = new Promise((go) => (letGo = go));
  let first = true;
  await page.route(/\/v1\/renders\?/, async (route) => {
    if (first) {
      first = false;
      await held;
    }
    // What is held back is asked for no more.
    await route.continue().catch(() => undefined);
  });
  const asked = page.waitForRequest(/\/v1\/renders\?/);
  await page.getByRole("link", { name: "Renders", exact: true }).click();
  await asked;
  const narrowed = page.waitForResponse(/\/v1\/renders\?.*status=queued/);
  await page.getByLabel("State").selectOption("queued");
  await narrowed;
  letGo();
  const id = await submit("tiny", { queue: { group: "nobody-asks", runAt: "2999-01-01T00:00:00Z" } });
  await page.locator(".row").filter({ hasText: "nobody-asks" }).waitFor();
  await ask("POST", `/v1/renders/${id}/cancel`);
  await page.locator(".row").filter({ hasText: "nobody-asks" }).waitFor({ state: "detached" });
  await leave();
});

test("what failed is not asked for more than twice in a second, whatever happens", async () => {
  const group = "falls-together";
  const render = { serveUrl: "test", composition: "metadata-throws", queue: { group } };
  const { renders } = await ask("POST", "/v1/renders/batch", { renders: Array(6).fill(render) });
  const ids = renders.map(({ renderId }) => renderId);
  for (const id of ids) await ended(id);
  await ask("POST", `/v1/groups/${group}/pause`);
  const { page, leave } = await person(browser);
  await enter(page);
  const asked = [];
  const loads = (request) => request.url().includes("status=failed");
  page.on("request", (request) => loads(request) && asked.push(request.url()));
  // Once for itself, and once when it begins to listen.
  let answered = 0;
  const listens = page.waitForResponse((response) => loads(response.request()) && (answered += 1) === 2);
  await visit(page, "failed", "Failed");
  await listens;
  const rows = page.locator(".row").filter({ hasText: group });
  await rows.nth(5).waitFor();
  const [before, since] = [asked.length, performance.now()];
  await ask("POST", "/v1/redrive", { ids });
  await rows.first().waitFor({ state: "detached" });
  const most = 1 + Math.floor((performance.now() - since) / 500);
  assert.ok(asked.length - before <= most, `asked ${asked.length - before} times, and ${most} is enough`);
  for (const id of ids) await ask("POST", `/v1/renders/${id}/cancel`);
  await ask("POST", `/v1/groups/${group}/resume`);
  await leave();
});

test("a long list goes on, and keeps what was shown when something new comes", async () => {
  await ask("POST", "/v1/groups/long/pause");
  const render = { serveUrl: "test", composition: "tiny", queue: { group: "long" } };
  await ask("POST", "/v1/renders/batch", { renders: Array(60).fill(render) });
  const { page, leave } = await person(browser);
  await enter(page);
  await visit(page, "renders?group=long", "Renders");
  const shown = (count) => page.waitForFunction((rows) => document.querySelectorAll(".row").length === rows, count);
  await shown(50);
  await page.getByRole("button", { name: "Show more" }).click();
  await shown(60);
  const focused = () => page.evaluate(() => [...document.querySelectorAll(".row")].indexOf(document.activeElement.closest(".row")));
  assert.equal(await focused(), 50, "one reads on where the list went on");
  await submit("tiny", { queue: { group: "long" } });
  await shown(61);
  assert.equal(await focused(), 51, "and goes on reading when something new comes");
  await leave();
});

test("who may only look sees nothing to press", async () => {
  const { token } = await ask("POST", "/v1/tokens", { name: "reader", scopes: ["renders:read"] });
  const id = await submit("metadata-throws");
  await ended(id);
  const { page, leave } = await person(browser);
  await enter(page, token);
  assert.equal(await page.getByRole("link", { name: "New render" }).count(), 0);
  await visit(page, "failed", "Failed");
  assert.equal(await page.getByRole("checkbox").count(), 0);
  await visit(page, `renders/${id}`, "metadata-throws");
  assert.equal(await page.getByRole("button", { name: /Retry|Cancel|Send/ }).count(), 0);
  await visit(page, "queue", "Queue");
  assert.equal(await page.getByRole("button", { name: /Pause|Resume/ }).count(), 0);
  assert.equal(await page.getByRole("heading", { name: "Tenants" }).count(), 0);
  await leave();
});

test("an administrator pauses the queue and looks at another tenant", async () => {
  const { token } = await ask("POST", "/v1/tokens", { name: "other", tenant: "other" });
  await ask("POST", "/v1/groups/theirs/pause", undefined, token);
  const { page, leave } = await person(browser);
  await enter(page);
  await visit(page, "queue", "Queue");
  await page.getByRole("button", { name: "Pause the queue" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Pause the queue" }).click();
  await page.getByRole("button", { name: "Resume the queue" }).click();
  await page.getByRole("button", { name: "Pause the queue" }).waitFor();
  const asked = [];
  page.on("request", (request) => /\/v1\/renders\?/.test(request.url()) && asked.push(new URL(request.url()).searchParams.get("tenant")));
  const looked = page.waitForRequest(/\/v1\/activity\?tenant=other$/);
  await page.getByRole("link", { name: "other" }).click();
  await page.getByRole("heading", { name: "Nothing matches" }).waitFor();
  assert.equal(await page.getByLabel("Tenant").inputValue(), "other");
  await looked;
  // Of nobody else, not even at first.
  assert.deepEqual([...new Set(asked)], ["other"]);
  await leave();
});

test("by the keyboard alone, somebody signs in, opens a render and cancels it", async () => {
  const id = await submit("slow", SLOW);
  const { page, leave } = await person(browser);
  await enterByKeys(page);

  await page.evaluate(() => document.activeElement?.blur());
  await tabTo(page, "Skip to the content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "main");

  await tabTo(page, "slow");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "slow" }).waitFor();
  await page.waitForFunction(() => document.activeElement?.tagName === "H1");
  await page.locator('[role="progressbar"][aria-valuetext*="frames"]').waitFor();
  await tabTo(page, "Cancel");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  // Gone, not merely closed: until its end is told, a button does not ask a second time.
  await page.locator("dialog").waitFor({ state: "detached" });
  assert.equal(await page.evaluate(() => document.activeElement?.textContent), "Cancel");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  await tabTo(page, "Cancel the render");
  await page.keyboard.press("Enter");
  await shows(page, "Cancelled");
  assert.equal((await ask("GET", `/v1/renders/${id}`)).status, "cancelled");
  // Whoever pressed a button that is gone is not thrown back to the top.
  assert.notEqual(await page.evaluate(() => document.activeElement?.tagName), "BODY");
  await leave();
});

test("by the keyboard alone, a render is submitted, tried with other props, and queued again", async () => {
  const { page, leave } = await person(browser);
  await enterByKeys(page);
  await pressTo(page, "New render", "New render");
  await tabTo(page, "Composition");
  // As one chooses from a list by keys: by the beginning of the name.
  await page.keyboard.type("throws");
  assert.equal(await page.getByLabel("Composition").inputValue(), "throws");
  await tabTo(page, "Input props");
  await rewrite(page, '{"message": "by key"}');
  await pressTo(page, "Submit the render", "throws");
  await shows(page, "Failed");
  const first = page.url().split("/").at(-1);
  assert.deepEqual((await ask("GET", `/v1/renders/${first}/request`)).inputProps, { message: "by key" });

  await tabTo(page, "Retry with other props");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.labels?.[0].textContent), "Input props");
  await rewrite(page, '{"message": "by another key"}');
  await tabTo(page, "Render with these props");
  await page.keyboard.press("Enter");
  await page.getByRole("link", { name: first.slice(-12) }).waitFor();
  await arrived(page, "throws");
  await shows(page, "Failed");
  const next = page.url().split("/").at(-1);
  assert.equal((await ask("GET", `/v1/renders/${next}`)).retryOf, first);
  assert.deepEqual((await ask("GET", `/v1/renders/${next}/request`)).inputProps, { message: "by another key" });

  await tabTo(page, "Skip to the content", "Shift+Tab");
  await pressTo(page, "Failed", "Failed");
  await tabTo(page, `Choose throws, ${next.slice(-12)}`);
  await page.keyboard.press("Space");
  const redriven = page.waitForResponse((answer) => answer.url().endsWith("/v1/redrive"));
  await tabTo(page, "Retry 1 render", "Shift+Tab");
  await page.keyboard.press("Enter");
  assert.deepEqual((await (await redriven).json()).renders, [next]);
  // One is led to the page's name, for the button has nothing to retry any more.
  await arrived(page, "Failed");
  await ended(next);
  await page.getByRole("checkbox", { name: next.slice(-12) }).waitFor();
  await leave();
});

test("by the keyboard alone, what was not delivered is sent again", async () => {
  const receiver = await receive(410);
  const id = await submit("tiny", { webhook: { url: receiver.url } });
  await ended(id);
  const { page, leave } = await person(browser);
  await enterByKeys(page);
  // The newest is the first that is met.
  await pressTo(page, "tiny", "tiny");
  assert.equal(page.url().split("/").at(-1), id);
  const delivery = page.locator(".delivery");
  await delivery.filter({ hasText: "Failed" }).filter({ hasText: "410" }).waitFor();
  receiver.answer = 200;
  const again = `Send again to ${new URL(receiver.url).host}`;
  await tabTo(page, again);
  await page.keyboard.press("Enter");
  await delivery.filter({ hasText: "Delivered" }).filter({ hasText: "2 tries" }).waitFor();
  assert.equal(receiver.taken.length, 2);
  // Whoever sends one on goes on from there.
  await page.waitForFunction((label) => document.activeElement?.getAttribute("aria-label") === label, again);
  await leave();
  receiver.close();
});

test("every page fits a phone, and has no serious fault in light and in dark", async () => {
  const long = "a-very-long-name-of-a-group-that-somebody-has-made-by-joining-many-words-with-hyphens-and-never-stopping";
  const good = await submit("tiny", { queue: { group: long } });
  const bad = await submit("metadata-throws");
  await ask("POST", `/v1/groups/${long}-2/pause`);
  await Promise.all([ended(good), ended(bad)]);
  const pages = [["renders", "Renders"], [`renders/${good}`, "tiny"], [`renders/${bad}`, "metadata-throws"], ["failed", "Failed"], ["groups", "Groups"], ["queue", "Queue"], ["new", "New render"]];
  for (const colorScheme of ["light", "dark"]) {
    const { page, leave } = await person(browser, { colorScheme, viewport: { width: 390, height: 844 }, reducedMotion: "reduce" });
    await enter(page);
    for (const [hash, heading] of pages) {
      await visit(page, hash, heading);
      await accessible(page, `${heading} in ${colorScheme}`);
      await fits(page, heading);
    }
    const navigation = await page.getByRole("navigation").boundingBox();
    assert.ok(navigation.y + navigation.height <= 844 && navigation.y > 700, "the pages are at the thumb");
    await visit(page, "renders/nothing", "There is nothing here");
    await accessible(page, `nothing in ${colorScheme}`);
    await page.setViewportSize({ width: 1280, height: 800 });
    for (const [hash, heading] of pages) {
      await visit(page, hash, heading);
      await accessible(page, `${heading} in ${colorScheme}, wide`);
      await fits(page, heading);
    }
    await leave();
  }
  const { page, leave } = await person(browser, { colorScheme: "light" });
  await enter(page);
  await page.getByLabel("Colours").selectOption("dark");
  await page.reload();
  assert.equal(await page.evaluate(() => getComputedStyle(document.documentElement).colorScheme), "dark");
  await leave();
});

test("the page's files are kept for good, and the page itself is asked about", async () => {
  const first = await fetch(`${server}/`);
  const again = await fetch(`${server}/`, { headers: { "if-none-match": first.headers.get("etag") } });
  assert.equal(again.status, 304);
  const script = /src="(assets\/[^"]+app\.js)"/.exec(await first.text())[1];
  const file = await fetch(`${server}/${script}`);
  assert.match(file.headers.get("cache-control"), /immutable/);
  assert.equal((await fetch(`${server}/${script.replace(/assets\/[^/]+/, "assets/0123456789abcdef")}`)).status, 404);
});

test("what was not delivered is sent again", async () => {
  const receiver = await receive(410);
  const id = await submit("tiny", { webhook: { url: receiver.url } });
  await ended(id);
  const { page, leave } = await person(browser);
  await enter(page);
  await visit(page, `renders/${id}`, "tiny");
  const delivery = page.locator(".delivery");
  await delivery.filter({ hasText: "Failed" }).filter({ hasText: "410" }).waitFor();
  await accessible(page, "a render with a delivery");
  receiver.answer = 200;
  await page.getByRole("button", { name: /^Send again/ }).click();
  await delivery.filter({ hasText: "Delivered" }).filter({ hasText: "2 tries" }).waitFor();
  await leave();
  receiver.close();
});
