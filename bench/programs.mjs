// The programs that are measured: how they start, what they take, how they stop.
import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

const here = import.meta.dirname;
const root = path.resolve(here, '..');
const target = path.join(process.env.CARGO_TARGET_DIR ?? path.join(root, 'target'), 'release');
const program = (name) => path.join(target, name);
/** Command-line options from an object; those that are undefined or false are left out. */
const flags = (options) =>
  Object.entries(options).flatMap(([name, value]) => (value === true ? [`--${name}`] : value === undefined || value === false ? [] : [`--${name}`, String(value)]));
const soon = () => new Promise((resolve) => setTimeout(resolve, 5));

/** Runs to the end and returns what the last line of its output says in JSON. */
const run = async (command, args) => {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  const code = await new Promise((resolve, reject) => child.once('error', reject).once('close', resolve));
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}`);
  return JSON.parse(output.trimEnd().split('\n').at(-1));
};

/** One measurement by `lastframe-bench`. */
export const measure = (what, options) => run(program('lastframe-bench'), [what, ...flags(options)]);
/** One measurement by BullMQ. */
export const bullmq = (what, options) => run(process.execPath, [path.join(here, 'bullmq.mjs'), what, ...flags(options)]);

const running = [];
const start = (command, args, options = {}) => {
  const child = spawn(command, args, { stdio: 'ignore', ...options });
  const stopped = new Promise((resolve) => child.once('exit', resolve));
  const stop = () => {
    child.kill('SIGTERM');
    return stopped;
  };
  child.once('error', (error) => console.error(String(error)));
  running.push(stop);
  return { child, stop, ended: () => child.exitCode !== null || child.signalCode !== null || child.pid === undefined };
};
/** Stops what still runs, the last started first. */
export const stopAll = async () => {
  for (const stop of running.toReversed()) await stop();
};

/** A server on `data`, ready, and the milliseconds that took. */
export const startLastframe = async (data) => {
  const address = path.join(data, 'address');
  fs.rmSync(address, { force: true });
  const from = performance.now();
  const { child, stop, ended } = start(program('lastframe'), ['serve', '--listen', '127.0.0.1:0', '--data', data]);
  const ready = async () => fs.existsSync(address) && (await fetch(`${fs.readFileSync(address, 'utf8')}/readyz`)).ok;
  while (!(await ready())) {
    if (ended()) throw new Error('lastframe serve ended');
    await soon();
  }
  const ms = performance.now() - from;
  const token = fs.readFileSync(path.join(data, 'admin-token'), 'utf8').trim();
  return { pid: child.pid, stop, ms, url: fs.readFileSync(address, 'utf8'), token };
};

/** Bundles the project at `project` and makes it known as `name` to the running server on `data`. */
export const addSite = (data, project, name) => {
  const env = { ...process.env, LASTFRAME_DATA: data };
  execFileSync(program('lastframe'), ['site', 'add', project, '--name', name], { env, stdio: ['ignore', 'ignore', 'inherit'] });
};

/** Lets nothing more start on a server. */
export const pause = async ({ url, token }) => {
  const answer = await fetch(`${url}/v1/queue/pause`, { method: 'POST', headers: { authorization: `Bearer ${token}` } });
  if (!answer.ok) throw new Error(`pausing the queue was answered with ${answer.status}`);
};

const freePort = () =>
  new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
/** What a Redis answers to a command without arguments. */
const ask = (port, command) =>
  new Promise((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1', () => socket.end(`${command}\r\n`));
    let answer = '';
    socket.on('data', (chunk) => (answer += chunk)).on('close', () => resolve(answer)).on('error', reject);
  });

/** The version of redis-server; none when it is not installed. */
export const redisVersion = () => {
  try {
    return /v=(\S+)/.exec(execFileSync('redis-server', ['--version'], { encoding: 'utf8' }))?.[1];
  } catch {
    return undefined;
  }
};

/** A Redis of its own in `folder`, as BullMQ's guide wants it, with this `appendfsync`. */
export const startRedis = async (folder, appendfsync) => {
  fs.mkdirSync(folder);
  const port = await freePort();
  const settings = { port, bind: '127.0.0.1', dir: folder, appendonly: 'yes', appendfsync, 'maxmemory-policy': 'noeviction' };
  const { child, ended } = start('redis-server', [...flags(settings), '--save', '']);
  while (!(await ask(port, 'PING').catch(() => '')).startsWith('+PONG')) {
    if (ended()) throw new Error('redis-server ended');
    await soon();
  }
  return { pid: child.pid, port };
};

/** An HTTP server that adds what is posted to BullMQ. */
export const startBullmq = async (redis, body) => {
  const args = ['serve', ...flags({ port: redis.port, queue: 'http', body })];
  const { child, stop } = start(process.execPath, [path.join(here, 'bullmq.mjs'), ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const line = await new Promise((resolve, reject) => child.once('error', reject).once('exit', reject).stdout.once('data', resolve));
  return { pid: child.pid, stop, url: `http://127.0.0.1:${JSON.parse(line).port}` };
};

const ticks = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
/** Seconds of processor time that these processes have taken. */
export const processorTime = (pids) => {
  const each = pids.map((pid) => fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' '));
  return each.reduce((sum, fields) => sum + (Number(fields[11]) + Number(fields[12])) / ticks, 0);
};

/** Resident bytes of a process. */
export const memory = (pid) => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) * 1024;

/** How often `lastframe-bench` syncs a file while it measures; none when there is no strace. */
export const countSyncs = (what, options) => {
  try {
    execFileSync('strace', ['-V'], { stdio: 'ignore' });
  } catch {
    return undefined;
  }
  const trace = path.join(options.data, 'trace');
  execFileSync('strace', ['-f', '-c', '-e', 'trace=fsync,fdatasync', '-o', trace, program('lastframe-bench'), what, ...flags(options)], { stdio: 'ignore' });
  const lines = fs.readFileSync(trace, 'utf8').split('\n').filter((line) => /\bf(data)?sync$/.test(line.trim()));
  return lines.reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[3]), 0);
};

/** The version of an npm package that is installed here. */
export const version = (name) => JSON.parse(fs.readFileSync(path.join(here, 'node_modules', name, 'package.json'), 'utf8')).version;

/** What it all runs on; how long the disk of `folder` takes to sync a page is what single submits wait for. */
export const machine = (folder) => {
  const system = execFileSync('findmnt', ['-n', '-o', 'FSTYPE,SOURCE', '-T', folder], { encoding: 'utf8' }).trim().replace(/\s+/, ' on ');
  const file = fs.openSync(path.join(folder, 'sync'), 'w');
  const waits = Array.from({ length: 500 }, () => {
    fs.writeSync(file, Buffer.alloc(4096));
    const from = performance.now();
    fs.fdatasyncSync(file);
    return performance.now() - from;
  });
  fs.closeSync(file);
  waits.sort((a, b) => a - b);
  const wait = (percent) => waits[Math.floor((waits.length - 1) * percent)].toFixed(2);
  return `${os.availableParallelism()} cores (${os.cpus()[0].model}), ${(os.totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${os.release()}, ${system}, a synced page takes ${wait(0.5)} ms (p99 ${wait(0.99)})`;
};
