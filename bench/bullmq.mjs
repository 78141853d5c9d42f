// What BullMQ can do, driven as its guide says. Each command measures one thing once and prints one line of JSON.
// Usage: bullmq.mjs add|load|work|serve --port REDIS --queue NAME ...
import fs from 'node:fs';
import http from 'node:http';
import { parseArgs } from 'node:util';
import { Queue, Worker } from 'bullmq';
import Redis from 'ioredis';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: Object.fromEntries(['port', 'queue', 'body', 'callers', 'depth', 'workers', 'seconds'].map((name) => [name, { type: 'string' }])),
});
const number = (name) => Number(values[name]);
// Pipelining by itself is not in the guide; ioredis offers it, and BullMQ gains by it.
const connect = () => new Redis({ host: '127.0.0.1', port: number('port'), maxRetriesPerRequest: null, enableAutoPipelining: true });
const queue = new Queue(values.queue, { connection: connect() });
const body = JSON.parse(fs.readFileSync(values.body, 'utf8'));
/** Adds each caller makes before it counts. */
const WARM_UP = 20;
/** Jobs in one `addBulk`. */
const BATCH = 1_000;

const fill = async (count) => {
  for (let left = count; left > 0; left -= BATCH) {
    await queue.addBulk(Array.from({ length: Math.min(left, BATCH) }, () => ({ name: 'render', data: body })));
  }
};
const percentile = (sorted, percent) => sorted[Math.floor(((sorted.length - 1) * percent) / 100)];

/** Adds one job at a time from each caller. */
const add = async (callers, seconds) => {
  const all = Array.from({ length: callers });
  await Promise.all(all.map(async () => {
    for (let i = 0; i < WARM_UP; i++) await queue.add('render', body);
  }));
  const [start, cpu] = [performance.now(), process.cpuUsage()];
  const latencies = [];
  await Promise.all(all.map(async () => {
    for (let asked = start; asked - start < seconds * 1_000; ) {
      await queue.add('render', body);
      const answered = performance.now();
      latencies.push(answered - asked);
      asked = answered;
    }
  }));
  const passed = (performance.now() - start) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  latencies.sort((a, b) => a - b);
  const [p50_ms, p99_ms] = [percentile(latencies, 50), percentile(latencies, 99)];
  return { calls: latencies.length, seconds: passed, per_second: latencies.length / passed, p50_ms, p99_ms, cores: (user + system) / 1e6 / passed };
};

/** Completes a quarter of the queue, and fills it up again, until `seconds` were measured. */
const work = async (depth, workers, seconds) => {
  let [calls, passed] = [0, 0];
  while (passed < seconds) {
    const pass = await workOnce(Math.floor(depth / 4), workers, seconds - passed);
    calls += pass.calls;
    passed += pass.seconds;
    await fill(pass.completed);
  }
  return { calls, seconds: passed, per_second: calls / passed };
};

/** The first job of each slot is not counted: it waits for the worker to start. */
const workOnce = async (most, workers, seconds) => {
  const connection = connect();
  // Keeping so many is what the guide calls good practice.
  const keep = { removeOnComplete: { count: 1_000 }, removeOnFail: { count: 5_000 } };
  const worker = new Worker(values.queue, async () => {}, { connection, concurrency: workers, autorun: false, ...keep });
  let [completed, start] = [0, 0];
  const pass = await new Promise((resolve, reject) => {
    worker.on('error', reject);
    worker.on('completed', () => {
      completed += 1;
      if (completed === workers) start = performance.now();
      const passed = (performance.now() - start) / 1_000;
      if (completed > workers && (completed === workers + most || passed >= seconds)) {
        resolve({ calls: completed - workers, seconds: passed });
      }
    });
    worker.run().catch(reject);
  });
  await worker.close();
  await connection.quit();
  return { ...pass, completed };
};

/** Answers 202 when the job is added. */
const serve = () => new Promise((resolve) => {
  const server = http.createServer((request, response) => {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', async () => {
      const job = await queue.add('render', JSON.parse(Buffer.concat(chunks)));
      const answer = JSON.stringify({ id: job.id });
      response.writeHead(202, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(answer) });
      response.end(answer);
    });
  });
  process.once('SIGTERM', () => server.close(resolve));
  server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
});

await queue.waitUntilReady();
const commands = {
  add: () => add(number('callers'), number('seconds')),
  load: async () => {
    const start = performance.now();
    await fill(number('depth'));
    const seconds = (performance.now() - start) / 1_000;
    return { jobs: number('depth'), seconds, per_second: number('depth') / seconds };
  },
  work: () => work(number('depth'), number('workers'), number('seconds')),
  serve,
};
const figures = await commands[positionals[0]]();
if (figures) console.log(JSON.stringify(figures));
await queue.close();
process.exit(0);
