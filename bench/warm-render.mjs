#!/usr/bin/env node
// The same frames by a warm Lastframe server and by `remotion render`, in turn, in one run.
// Usage: bench/warm-render [rounds] [composition] [frames]     (after `make build`)
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const [rounds = '5', composition = 'chart', frames = '60'] = process.argv.slice(2);
const root = path.resolve(import.meta.dirname, '..');
const app = path.join(root, 'remotion-app');
const lastframe = path.join(root, 'target/release/lastframe');
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'lastframe-bench-'));
const env = { ...process.env, LASTFRAME_DATA: path.join(scratch, 'data') };
const cores = String(os.availableParallelism());
const last = Number(frames) - 1;

const server = spawn(lastframe, ['serve', '--listen', '127.0.0.1:0'], { env, stdio: 'ignore' });
const stopped = new Promise((resolve) => server.once('exit', resolve));
try {
  const address = path.join(env.LASTFRAME_DATA, 'address');
  while (!fs.existsSync(address)) await new Promise((resolve) => setTimeout(resolve, 20));
  const quiet = { env, stdio: ['ignore', 'ignore', 'inherit'] };
  execFileSync(lastframe, ['site', 'add', app, '--name', 'app'], quiet);
  const url = fs.readFileSync(address, 'utf8');
  const token = fs.readFileSync(path.join(env.LASTFRAME_DATA, 'admin-token'), 'utf8');
  const headers = { authorization: `Bearer ${token}` };
  const site = await (await fetch(`${url}/v1/sites/app`, { headers })).json();
  const bundle = path.join(env.LASTFRAME_DATA, 'sites', site.version);
  const cli = path.join(app, 'node_modules/@remotion/cli/remotion-cli.js');
  const browser = fs.existsSync('/usr/bin/chromium-headless-shell') ? ['--browser-executable=/usr/bin/chromium-headless-shell'] : [];

  /** Seconds from before the request to the end that the live events tell of, and milliseconds from 202 to the lease. */
  const warm = async () => {
    const from = performance.now();
    const body = JSON.stringify({ serveUrl: 'app', composition, frameRange: [0, last] });
    const accepted = await (await fetch(`${url}/v1/renders`, { method: 'POST', headers, body })).json();
    const events = await fetch(`${url}/v1/renders/${accepted.renderId}/events`, { headers });
    await events.text();
    const seconds = (performance.now() - from) / 1000;
    const render = await (await fetch(`${url}/v1/renders/${accepted.renderId}`, { headers })).json();
    if (render.status !== 'succeeded') throw new Error(JSON.stringify(render.errors));
    return { seconds, start: Date.parse(render.startedAt) - Date.parse(render.createdAt) };
  };
  const cold = () => {
    const from = performance.now();
    const out = path.join(scratch, 'cli.mp4');
    execFileSync('node', [cli, 'render', bundle, composition, out, `--frames=0-${last}`, `--concurrency=${cores}`, '--log=error', ...browser], { cwd: app, stdio: 'ignore' });
    return (performance.now() - from) / 1000;
  };

  const first = await warm(); // opens the browser: not counted
  cold();
  const runs = [];
  for (let round = 0; round < Number(rounds); round++) {
    const { seconds, start } = await warm();
    runs.push({ warm: seconds, start, cli: cold() });
  }
  const summary = (values) => {
    const sorted = values.toSorted((a, b) => a - b);
    const text = (value) => value.toFixed(2);
    return `median ${text(sorted[sorted.length >> 1])}  (${text(sorted[0])} to ${text(sorted.at(-1))})`;
  };
  console.log(`${composition}, ${frames} frames, ${cores} cores, ${rounds} rounds in turn, Remotion ${site.remotionVersion}`);
  console.log(`Lastframe, first render, browser opened  ${first.seconds.toFixed(2)} s`);
  console.log(`Lastframe, warm                          ${summary(runs.map((run) => run.warm))} s`);
  console.log(`remotion render, from the same bundle    ${summary(runs.map((run) => run.cli))} s`);
  console.log(`ratio, pair by pair                      ${summary(runs.map((run) => run.cli / run.warm))}`);
  console.log(`from 202 to the lease                    ${summary(runs.map((run) => run.start))} ms`);
} finally {
  server.kill('SIGTERM');
  await stopped;
  fs.rmSync(scratch, { recursive: true, force: true });
}
