#!/usr/bin/env node
// How large the functions on AWS are, how soon they answer for the first time and how soon after that, and what they
// hold in memory, beside the guide's two handlers in Node: in turn, in one run, under one small server of Lambda's
// runtime API. LASTFRAME_PROGRAM names another binary than target/release/lastframe.
// Usage: bench/lambda-start.mjs [rounds] [warm events]     (after `make build` and `make lambda ARCH=x86_64`)
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { ms, spread } from './results.mjs';

const [rounds = 7, events = 50] = process.argv.slice(2).map(Number);
const root = path.resolve(import.meta.dirname, '..');
const handlers = path.join(import.meta.dirname, 'lambda-start');
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'lastframe-bench-'));
const region = 'eu-central-1';
const REMOTION = 'remotion-render-4-0-527-mem2048mb-disk2048mb-120sec';
const SITES = 'remotionlambda-eucentral1-bench';
const keys = { AWS_REGION: region, AWS_DEFAULT_REGION: region, AWS_ACCESS_KEY_ID: 'test', AWS_SECRET_ACCESS_KEY: 'test' };
const signed = (service) => ({ authorization: `AWS4-HMAC-SHA256 Credential=test/20260101/${region}/${service}/aws4_request, SignedHeaders=host, Signature=x` });
const running = new Set();
let over = false;
const start = (program, args, options) => {
  const child = spawn(program, args, options);
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
};
const free = async () => {
  const server = http.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
};
const body = async (request) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
};

/** Remotion's function, as far as it can be asked to begin: who begins is told, and hears that it has. */
const remotion = { asked: () => {} };
const standIn = http.createServer(async (request, answer) => {
  const payload = JSON.parse((await body(request)) || '{}');
  answer.setHeader('content-type', 'application/json');
  if (payload.type === 'start') {
    remotion.asked();
    return answer.end(JSON.stringify({ type: 'success', bucketName: SITES, renderId: 'abcdefgh01' }));
  }
  if (payload.type === 'compositions') {
    const composition = { id: 'main', width: 1280, height: 720, fps: 30, durationInFrames: 60, defaultProps: {} };
    return answer.end(JSON.stringify({ type: 'success', compositions: [composition] }));
  }
  answer.end(JSON.stringify({ type: 'success', version: '4.0.527' }));
});

/** Lambda's runtime API for one process: gives it one event after another. */
class Instance {
  #waiting;
  #arrived;
  #answered = new Map();
  #events = 0;

  static async start(arm) {
    const instance = new Instance();
    const server = http.createServer((request, answer) => instance.#serve(request, answer)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    instance.server = server;
    instance.from = performance.now();
    instance.#arrived = new Promise((resolve) => (instance.arrive = resolve));
    const env = {
      PATH: process.env.PATH, HOME: scratch, TMPDIR: scratch, ...keys, ...arm.env,
      AWS_LAMBDA_RUNTIME_API: `127.0.0.1:${server.address().port}`,
      AWS_LAMBDA_FUNCTION_NAME: arm.name, AWS_LAMBDA_FUNCTION_VERSION: '$LATEST', AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '1769',
      AWS_LAMBDA_LOG_GROUP_NAME: arm.name, AWS_LAMBDA_LOG_STREAM_NAME: '1', AWS_LAMBDA_INITIALIZATION_TYPE: 'on-demand',
    };
    instance.log = fs.openSync(path.join(scratch, `${arm.name}.log`), 'a');
    instance.child = start(arm.command[0], arm.command.slice(1), { env, stdio: ['ignore', instance.log, instance.log] });
    instance.child.once('exit', (code) => instance.stopped || over || instance.arrive(Promise.reject(new Error(`${arm.name} ended with ${code}: ${path.join(scratch, `${arm.name}.log`)}`))));
    return instance;
  }

  async #serve(request, answer) {
    const [, id, what] = request.url.match(/invocation\/([^/]+)(?:\/(\w+))?$/) ?? [];
    if (id === 'next') {
      this.#waiting = answer;
      return this.arrive();
    }
    const text = await body(request);
    this.#answered.get(id)?.({ what: what ?? request.url, text, at: performance.now() });
    answer.writeHead(202).end();
    }

  /** Milliseconds from giving it the event, or from its start for the first one, to its answer. */
  async event(event) {
    const first = this.#events++ === 0;
    await this.#arrived;
    this.#arrived = new Promise((resolve) => (this.arrive = resolve));
    const id = `00000000-0000-4000-8000-${String(this.#events).padStart(12, '0')}`;
    const answered = new Promise((resolve) => this.#answered.set(id, resolve));
    const from = first ? this.from : performance.now();
    this.#waiting.writeHead(200, {
      'content-type': 'application/json',
      'lambda-runtime-aws-request-id': id,
      'lambda-runtime-deadline-ms': String(Date.now() + 60_000),
      'lambda-runtime-invoked-function-arn': `arn:aws:lambda:${region}:000000000000:function:bench`,
      'lambda-runtime-trace-id': 'Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0',
    });
    this.#waiting.end(JSON.stringify(event));
    return { answered: answered.then(({ what, text, at }) => ({ what, text, took: at - from })), from };
  }

  /** The most that it has held, in bytes. */
  memory() {
    const status = fs.readFileSync(`/proc/${this.child.pid}/status`, 'utf8');
    return Number(status.match(/^VmHWM:\s+(\d+)/m)[1]) * 1024;
  }

  async stop() {
    this.stopped = true;
    const gone = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await gone;
    fs.closeSync(this.log);
    this.server.closeAllConnections();
    this.server.close();
  }
}

const exec = (program, args, options = {}) => execFileSync(program, args, { encoding: 'utf8', stdio: 'pipe', ...options });

/** MiniStack, with a stack that `lastframe aws deploy` made and a site as Remotion's own command would have put it. */
const cloud = async () => {
  const port = await free();
  const endpoint = `http://127.0.0.1:${port}`;
  const env = { ...process.env, GATEWAY_PORT: String(port), BIND_HOST: '127.0.0.1', MINISTACK_HOST: 'localhost', IOT_MTLS_ENABLED: '0', AWS_ENDPOINT_URL: endpoint, TMPDIR: scratch };
  start(path.join(root, 'target/peers/venv/bin/ministack'), [], { env, cwd: scratch, stdio: 'ignore' });
  const up = () => fetch(`${endpoint}/_ministack/health`).then(() => true, () => false);
  while (!(await up())) await new Promise((resolve) => setTimeout(resolve, 50));
  const put = async (name, text, type) => {
    const answer = await fetch(`${endpoint}/${SITES}${name}`, { method: 'PUT', body: text, headers: { ...signed('s3'), 'content-type': type } });
    if (!answer.ok) throw new Error(await answer.text());
  };
  await put('', `<CreateBucketConfiguration><LocationConstraint>${region}</LocationConstraint></CreateBucketConfiguration>`, 'application/xml');
  await put('/sites/remotion-app/index.html', "<script>window.remotion_version = '4.0.527';</script>", 'text/html');
  await put('/sites/remotion-app/bundle.js', `// ${'x'.repeat(2 << 20)}`, 'text/javascript');
  const code = path.join(root, 'target/lambda/lastframe-x86_64.zip');
  const lastframe = (...args) => exec(process.env.LASTFRAME_PROGRAM ?? path.join(root, 'target/release/lastframe'), args, { env: { ...process.env, ...keys, AWS_ENDPOINT_URL: endpoint } });
  lastframe('aws', 'deploy', '--code', code, '--architecture', 'x86_64', '--require-approval', 'never', '-p', `RemotionFunction=${REMOTION}`, '-p', `RemotionBucket=${SITES}`, '-p', 'RenderOnLambda=no');
  // It is given by the runtime's own test here, not by the stand-in's mapping.
  const listed = await (await fetch(`${endpoint}/2015-03-31/functions/`, { headers: signed('lambda') })).json();
  const functions = {};
  for (const { Environment } of listed.Functions) {
    const variables = Environment?.Variables ?? {};
    if (variables.LASTFRAME_FUNCTION) functions[variables.LASTFRAME_FUNCTION] = variables;
  }
  const user = JSON.parse(lastframe('aws', 'user', 'add', 'bench@example.com', '--generate', '--token', '--json'));
  return { endpoint, functions, code, token: user.idToken };
};

const sqs = async (endpoint, action, input) => {
  const headers = { ...signed('sqs'), 'content-type': 'application/x-amz-json-1.0', 'x-amz-target': `AmazonSQS.${action}` };
  const answer = await fetch(endpoint, { method: 'POST', headers, body: JSON.stringify(input) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
};

/** A request of the gateway, as it comes to a function. */
const request = (token) => ({
  version: '2.0', routeKey: 'POST /enqueue', rawPath: '/enqueue', rawQueryString: '',
  headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json', host: 'api.execute-api.eu-central-1.amazonaws.com', 'x-forwarded-proto': 'https' },
  requestContext: {
    accountId: '000000000000', apiId: 'api', domainName: 'api.execute-api.eu-central-1.amazonaws.com', domainPrefix: 'api', requestId: 'r', routeKey: 'POST /enqueue', stage: '$default',
    http: { method: 'POST', path: '/enqueue', protocol: 'HTTP/1.1', sourceIp: '192.0.2.1', userAgent: 'curl/8' }, time: '27/Nov/2026:19:00:00 +0000', timeEpoch: Date.now(),
  },
  body: '{"message":"Hello"}', isBase64Encoded: false,
});
const message = (text, handle = 'handle') => ({
  Records: [{
    messageId: '1', receiptHandle: handle, body: text, messageAttributes: {}, md5OfBody: '', eventSource: 'aws:sqs', awsRegion: region,
    eventSourceARN: `arn:aws:sqs:${region}:000000000000:queue.fifo`,
    attributes: { ApproximateReceiveCount: '1', SentTimestamp: String(Date.now()), SenderId: 's', ApproximateFirstReceiveTimestamp: String(Date.now()), MessageGroupId: 'g', MessageDeduplicationId: 'd', SequenceNumber: '1' },
  }],
});
const minute = { version: '0', id: '1', 'detail-type': 'Scheduled Event', source: 'aws.events', account: '000000000000', time: '2026-11-27T19:00:00Z', region, resources: [], detail: {} };

const fine = ({ what, text, took }) => {
  const status = what === 'response' ? (JSON.parse(text)?.statusCode ?? 200) : 500;
  if (status >= 300) throw new Error(`${what}: ${text}`);
  return took;
};

/** One round of a function that answers: cold, warm, and what it held. */
const answers = async (arm, event) => {
  const instance = await Instance.start(arm);
  const cold = fine(await (await instance.event(event())).answered);
  const warm = [];
  for (let i = 0; i < events; i++) warm.push(fine(await (await instance.event(event())).answered));
  const held = instance.memory();
  await instance.stop();
  return { cold, warm: warm.toSorted((a, b) => a - b)[events >> 1], held };
};

/** One round of a function that has Remotion begin: until Remotion's function is asked. What comes after differs: ours stays until the video is there. */
const begins = async (arm, event) => {
  const asked = new Promise((resolve) => (remotion.asked = resolve));
  const instance = await Instance.start(arm);
  const { from, answered } = await instance.event(await event());
  await Promise.race([asked, answered.then(fine).then(() => asked)]);
  const cold = performance.now() - from;
  const held = instance.memory();
  await instance.stop();
  return { cold, held };
};

const megabytes = (value) => `${(value / 1e6).toFixed(value < 1e7 ? 1 : 0)} MB`;

try {
  await once(standIn.listen(0, '127.0.0.1'), 'listening');
  const { endpoint, functions, code, token } = await cloud();
  const elsewhere = { AWS_ENDPOINT_URL: endpoint, AWS_ENDPOINT_URL_LAMBDA: `http://127.0.0.1:${standIn.address().port}` };
  exec('python3', ['-m', 'zipfile', '-e', code, scratch]);
  const bootstrap = path.join(scratch, 'bootstrap');
  fs.chmodSync(bootstrap, 0o755);
  const { QueueUrl } = await sqs(endpoint, 'CreateQueue', { QueueName: 'guide.fifo', Attributes: { FifoQueue: 'true' } });
  const guide = { QUEUE_URL: QueueUrl, REMOTION_FUNCTION: REMOTION, REMOTION_BUCKET: SITES, SERVE_URL: `${endpoint}/${SITES}/sites/remotion-app/index.html`, NODE_PATH: path.join(handlers, 'node_modules'), ...elsewhere };
  const esbuild = path.join(handlers, 'node_modules/.bin/esbuild');
  const bundle = (name, out, ...more) => {
    const file = path.join(scratch, out);
    exec(esbuild, [path.join(handlers, name), '--bundle', '--platform=node', '--target=node20', '--format=cjs', '--log-level=error', `--outfile=${file}`, ...more]);
    exec('python3', ['-m', 'zipfile', '-c', `${file}.zip`, file]);
    return { file, size: fs.statSync(`${file}.zip`).size };
  };
  const node = (name, { file, size }) => ({ name, size, command: [process.execPath, path.join(handlers, 'runtime.cjs')], env: { ...guide, _HANDLER: file } });
  const ours = (role) => ({ name: `lastframe-${role}`, size: fs.statSync(code).size, command: [bootstrap], env: { ...functions[role], ...elsewhere, _HANDLER: 'bootstrap' } });
  const external = ['--external:@aws-sdk/*', '--external:@smithy/*'];
  const api = ours('api');

  // Rings for the render function: a render is submitted by an instance of its own, and its message taken by hand.
  const submitter = await Instance.start(api);
  const ring = async () => {
    fine(await (await submitter.event(request(token))).answered);
    for (;;) {
      const { Messages } = await sqs(endpoint, 'ReceiveMessage', { QueueUrl: functions.render.LASTFRAME_QUEUE_URL, WaitTimeSeconds: 5 });
      if (Messages) return message(Messages[0].Body, Messages[0].ReceiptHandle);
    }
  };
  const rows = [
    ['enqueue', 'Lastframe, `api`', api, (arm) => answers(arm, () => request(token))],
    ['enqueue', 'guide in Node, SDK of the runtime', node('guide-enqueue', bundle('enqueue.mjs', 'enqueue.cjs', ...external)), (arm) => answers(arm, () => request(token))],
    ['enqueue', 'guide in Node, bundled and minified whole', node('guide-enqueue-whole', bundle('enqueue.mjs', 'enqueue-whole.cjs', '--minify')), (arm) => answers(arm, () => request(token))],
    ['render', 'Lastframe, `render`', ours('render'), (arm) => begins(arm, ring)],
    ['render', 'guide in Node', node('guide-render', bundle('render.cjs', 'render.cjs', ...external)), (arm) => begins(arm, () => message('{"message":"Hello"}'))],
    ['render', 'guide in Node, minified', node('guide-render-whole', bundle('render.cjs', 'render-whole.cjs', '--minify')), (arm) => begins(arm, () => message('{"message":"Hello"}'))],
    ['tend', 'Lastframe, `tend`', ours('tend'), (arm) => answers(arm, () => minute)],
  ].map(([role, title, arm, measure]) => ({ role, title, arm, measure, runs: [] }));
  for (const { arm, measure } of rows) await measure(arm); // files come from the disk: not counted
  for (let round = 0; round < rounds; round++) {
    for (const row of round % 2 ? rows.toReversed() : rows) row.runs.push(await row.measure(row.arm));
  }
  await submitter.stop();

  console.log(`${os.availableParallelism()} cores (${os.cpus()[0].model}), Node ${process.version}; ${rounds} rounds in turn, ${events} warm events each; medians, and the range.\n`);
  console.log('| | zip | cold: to the first answer | over Lastframe, round by round | warm | memory, at most |\n| --- | --- | --- | --- | --- | --- |');
  for (const { role, title, arm, runs } of rows) {
    const first = rows.find((row) => row.role === role);
    const ratio = first.arm === arm ? '' : spread(runs.map((run, round) => run.cold / first.runs[round].cold), (value) => value.toFixed(1));
    const of = (name, text) => (runs[0][name] === undefined ? '' : spread(runs.map((run) => run[name]), text));
    console.log(`| ${title} | ${megabytes(arm.size)} | ${of('cold', ms)} | ${ratio} | ${of('warm', ms)} | ${of('held', megabytes)} |`);
  }
} finally {
  over = true;
  const gone = [...running].map((child) => once(child, 'exit'));
  for (const child of running) child.kill('SIGKILL');
  await Promise.all(gone);
  standIn.closeAllConnections();
  standIn.close();
  fs.rmSync(scratch, { recursive: true, force: true });
}
