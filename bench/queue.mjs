#!/usr/bin/env node
// The queue of Lastframe beside BullMQ on Redis, in turn, in one run. Prints a table in Markdown.
// Usage: bench/queue.mjs [--quick] [--rounds N] [--seconds S] [--million] [--scratch DIR] [--out FILE]
//        (make bench-queue builds what it needs)
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import * as programs from './programs.mjs';
import { bullmq, measure } from './programs.mjs';
import { ALWAYS, EVERYSEC, LASTFRAME, Results, bytes, count, ms, plural, spread } from './results.mjs';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    seconds: { type: 'string' },
    million: { type: 'boolean', default: false },
    scratch: { type: 'string', default: os.tmpdir() },
    out: { type: 'string' },
  },
});
const quick = options.quick;
const rounds = Number(options.rounds ?? (quick ? 2 : 3));
const seconds = Number(options.seconds ?? (quick ? 0.5 : 2));
const callers = quick ? [1, 256] : [1, 16, 256];
const connections = quick ? [1, 64] : [1, 16, 64, 256];
const depths = quick ? [1_000, 10_000] : [1_000, 100_000, 1_000_000];
const bullmqDepths = options.million ? depths : depths.filter((depth) => depth < 1_000_000);
const workers = quick ? [16] : [1, 16];
const shapes = { even: '10 tenants of 1,000 groups', hot: 'half in one group', own: 'a group each' };
const deepest = depths.at(-1);

const root = path.resolve(import.meta.dirname, '..');
const scratch = fs.mkdtempSync(path.join(options.scratch, 'lastframe-bench-'));
const folder = (...names) => path.join(scratch, ...names);
const say = (text) => process.stderr.write(`${text}\n`);
const results = new Results();

try {
  const from = performance.now();
  const redisVersion = programs.redisVersion();
  if (!redisVersion) say('redis-server is missing, so Lastframe runs alone: as root, apt-get install redis-server');
  const redises = new Map();
  for (const [arm, appendfsync] of redisVersion ? [[ALWAYS, 'always'], [EVERYSEC, 'everysec']] : []) {
    redises.set(arm, await programs.startRedis(folder(`redis-${appendfsync}`), appendfsync));
  }

  const body = folder('body.json');
  const request = (text) => JSON.stringify({ serveUrl: 'app', composition: 'main', inputProps: { text } });
  fs.writeFileSync(body, request('x'.repeat(1_000 - request('').length)));

  say('starting a server and adding a site to it');
  const server = await programs.startLastframe(folder('server'));
  results.note('memory of `lastframe serve`, nothing queued', LASTFRAME, bytes(programs.memory(server.pid)));
  programs.addSite(folder('server'), path.join(root, 'remotion-app'), 'app');
  // Accepting is measured, not rendering.
  await programs.pause(server);

  const targets = [{ arm: LASTFRAME, url: `${server.url}/v1/renders`, token: server.token, pids: [server.pid] }];
  for (const [arm, redis] of redises) {
    const added = await programs.startBullmq(redis, body);
    targets.push({ arm, url: `${added.url}/`, pids: [added.pid, redis.pid] });
  }
  /** The load generator against one server; with what each request took of the server, Redis included. */
  const post = async ({ url, token, pids }, connections) => {
    const before = programs.processorTime(pids);
    const figures = await measure('http', { url, token, body, connections, seconds });
    const server_us = ((programs.processorTime(pids) - before) * 1e6) / figures.answered;
    return { ...figures, server_us };
  };

  const cases = [];
  for (const n of callers) {
    const row = `submits in-process, ${n} at once`;
    cases.push({ row, arm: LASTFRAME, run: () => measure('submit', { data: folder('submit'), callers: n, seconds }) });
    for (const [arm, { port }] of redises) {
      cases.push({ row, arm, run: () => bullmq('add', { port, body, queue: 'add', callers: n, seconds }) });
    }
  }
  for (const n of connections) {
    for (const target of targets) {
      cases.push({ row: `submits over HTTP, ${plural(n, 'connection')}`, arm: target.arm, run: () => post(target, n) });
    }
  }
  const workRow = (shape, depth, n) => `claim + complete, ${count(depth)} queued, ${shapes[shape]}, ${n} at once`;
  for (const n of workers) {
    for (const shape of Object.keys(shapes)) {
      for (const depth of depths) {
        const row = workRow(shape, depth, n);
        const data = folder(`${shape}-${depth}`);
        cases.push({ row, arm: LASTFRAME, run: () => measure('work', { data, shape, depth, workers: n, seconds }) });
        // BullMQ has no groups: its queue is one line, whatever the shape.
        for (const [arm, { port }] of shape === 'even' && bullmqDepths.includes(depth) ? redises : []) {
          cases.push({ row, arm, run: () => bullmq('work', { port, body, queue: `work-${depth}`, depth, workers: n, seconds }) });
        }
      }
    }
  }

  for (const depth of depths) {
    say(`queueing ${count(depth)}`);
    const load = (shape) => measure('load', { data: folder(`${shape}-${depth}`), shape, depth });
    const loaded = await load('even');
    if (depth === deepest) {
      results.note(`submits in-process, a thousand renders each, up to ${count(depth)}`, LASTFRAME, `${count(loaded.per_second)} renders /s`);
      results.note(`database with ${count(depth)} queued`, LASTFRAME, bytes(fs.statSync(folder(`even-${depth}`, 'lastframe.db')).size));
    }
    // The others at once, because nobody looks at how long they take.
    const added = bullmqDepths.includes(depth) ? [...redises.values()] : [];
    await Promise.all([load('hot'), load('own'), ...added.map(({ port }) => bullmq('load', { port, body, queue: `work-${depth}`, depth }))]);
  }

  for (let round = 0; round < rounds; round++) {
    // There and back, so that no arm always follows the same other one.
    for (const { row, arm, run } of round % 2 ? cases.toReversed() : cases) {
      say(`round ${round + 1} of ${rounds}: ${row}: ${arm}`);
      results.add(row, arm, await run());
    }
  }

  for (const n of workers) {
    for (const [shape, words] of Object.entries(shapes)) {
      const row = `cost of claim + complete, ${count(deepest)} queued over ${count(depths[0])}, ${words}, ${n} at once`;
      results.cost(row, workRow(shape, deepest, n), workRow(shape, depths[0], n));
    }
  }

  say('waiting for a turn');
  const behind = quick ? 10_000 : 100_000;
  await measure('load', { data: folder('turn'), shape: 'one', depth: behind });
  for (const n of workers) {
    const turns = await measure('turn', { data: folder('turn'), workers: n });
    const text = `${spread(turns.claims_before, count)} claims before it; ${spread(turns.waits_ms, ms)}`;
    results.note(`wait of a new tenant's render behind ${count(behind)} of another, ${plural(n, 'worker')}, ${turns.tenants} times`, LASTFRAME, text);
  }

  say('counting syncs');
  for (const n of [1, 256]) {
    const calls = n * 20;
    const syncs = (calls) => programs.countSyncs('submit', { data: folder('submit'), callers: n, seconds: 600, calls });
    // What starting, warming up and stopping takes is counted alone, and taken off.
    const [all, without] = [syncs(calls), syncs(0)];
    results.note(`file syncs for each submit, ${n} at once`, LASTFRAME, all === undefined ? 'no strace' : ((all - without) / calls).toPrecision(2));
  }

  say('starting again');
  const full = folder(`even-${deepest}`);
  const opened = [];
  for (let round = 0; round < rounds; round++) opened.push((await measure('open', { data: full })).ms);
  results.note(`opening the store, ${count(deepest)} queued`, LASTFRAME, spread(opened, ms));
  await measure('pause', { data: full });
  const again = await programs.startLastframe(full);
  results.note(`\`lastframe serve\` until ready, ${count(deepest)} queued`, LASTFRAME, ms(again.ms));
  results.note(`memory of \`lastframe serve\`, ${count(deepest)} queued`, LASTFRAME, bytes(programs.memory(again.pid)));
  results.note('memory of `lastframe serve` after the submits above', LASTFRAME, bytes(programs.memory(server.pid)));

  const head = programs.machine(scratch);
  const text = [
    `${head}; ${rounds} rounds of ${seconds} s, in turn; medians, and the range.`,
    `Lastframe: SQLite, WAL, \`synchronous=FULL\`. ${redisVersion ? `BullMQ ${programs.version('bullmq')}, ioredis ${programs.version('ioredis')}, Redis ${redisVersion}, Node ${process.version}.` : 'No Redis.'}`,
    '',
    results.table(),
    '',
    results.loadGenerator(),
  ].join('\n');
  console.log(text);
  if (options.out) fs.writeFileSync(options.out, `${text}\n`);
  say(`took ${((performance.now() - from) / 60_000).toFixed(1)} minutes`);
} finally {
  await programs.stopAll();
  fs.rmSync(scratch, { recursive: true, force: true });
}
