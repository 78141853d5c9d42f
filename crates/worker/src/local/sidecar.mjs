/**
 * Renders with the site's own version of @remotion/renderer, on behalf of the Lastframe worker.
 *
 * Commands come in and events go out as JSON lines on two inherited descriptors of their own, so that
 * nothing a library prints can break the protocol. One command runs at a time; to cancel, the worker
 * kills the process tree. The browser stays open between renders.
 */
import diagnostics from 'node:diagnostics_channel';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createRequire, SourceMap } from 'node:module';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { format, stripVTControlCharacters } from 'node:util';

const { LASTFRAME_COMMAND_FD, LASTFRAME_EVENT_FD, LASTFRAME_RENDERER, LASTFRAME_BROWSER, TMPDIR } = process.env;
// Only where sites are kept to themselves. What starts the browser reads these as well.
const { LASTFRAME_BROWSER_STARTER, LASTFRAME_BUNDLE_PORT, LASTFRAME_PROXY } = process.env;
// No business of the browser or of ffmpeg. LASTFRAME_SIDECAR stays: the worker knows all that belongs to us by it.
for (const name of ['COMMAND_FD', 'EVENT_FD', 'RENDERER', 'BROWSER']) delete process.env[`LASTFRAME_${name}`];

const requireFromRenderer = createRequire(path.join(LASTFRAME_RENDERER, 'package.json'));
const remotion = requireFromRenderer(LASTFRAME_RENDERER);
const { RenderInternals } = remotion;

// ---------------------------------------------------------------------------------------- protocol

/** Written synchronously: an event is out before anything that follows it, the end of the process included. */
function send(event) {
  let rest = Buffer.from(`${JSON.stringify(event)}\n`);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(fs.writeSync(Number(LASTFRAME_EVENT_FD), rest));
    } catch (error) {
      if (error.code !== 'EAGAIN') process.exit(1); // nobody is listening any more
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

/** Splits at \n alone: node:readline would also split at U+2028, which JSON strings may contain. */
function readCommands(handle) {
  let parts = [];
  new net.Socket({ fd: Number(LASTFRAME_COMMAND_FD), readable: true, writable: false })
    .setEncoding('utf8')
    .on('data', (chunk) => {
      parts.push(chunk);
      if (!chunk.includes('\n')) return;
      const lines = parts.join('').split('\n');
      parts = [lines.pop()];
      for (const line of lines) handle(JSON.parse(line));
    })
    .on('close', () => process.exit(0));
}

// --------------------------------------------------------------------------------------- processes

/** Every process Remotion starts: how one ended is a fact, where error messages would have to be guessed at. */
const children = new Set();

diagnostics.subscribe('child_process', ({ process: child }) => {
  const run = current;
  children.add(child);
  child.once('exit', (code, signal) => {
    children.delete(child);
    const stopped = signal === 'SIGTERM' || code === 255; // how Remotion ends an ffmpeg it no longer needs
    if (run && isEncoder(child) && (signal || code > 0) && !stopped) run.encoderExit ??= { code, signal };
  });
});

function killChildren() {
  for (const child of children) child.kill('SIGKILL');
}
process.on('exit', killChildren);

/** Remotion serves the bundle, and a proxy that fetches any URL, on all interfaces: nobody but this machine may call it. */
diagnostics.subscribe('net.server.socket', ({ socket }) => {
  if (!/^(::1|(::ffff:)?127\.[\d.]+)$/.test(socket.remoteAddress)) socket.destroy();
});

const isEncoder = (child) => /^ffmpeg(\.exe)?$/.test(path.basename(child.spawnfile ?? ''));
const isBrowser = (child) => child.spawnargs?.some((argument) => argument.startsWith('--remote-debugging-p'));

/** Resident memory of a process and all its descendants, or undefined where /proc cannot tell. */
function rssOfTree(pid) {
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
    const own = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) * 1024;
    const threads = fs.readdirSync(`/proc/${pid}/task`);
    const forked = threads.flatMap((thread) =>
      fs.readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' ').filter(Boolean),
    );
    return forked.reduce((sum, child) => sum + (rssOfTree(child) ?? 0), own);
  } catch {
    return undefined;
  }
}

/** How often the kernel has killed for want of memory, on this machine. */
function oomKills() {
  try {
    return Number(/^oom_kill (\d+)/m.exec(fs.readFileSync('/proc/vmstat', 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

// ----------------------------------------------------------------------------------------- network

/** Where Remotion serves the bundle; any port it finds when undefined. */
const port = LASTFRAME_BUNDLE_PORT && Number(LASTFRAME_BUNDLE_PORT);

const direct = new http.Agent();

/** An agent that reaches everything through the worker's proxy, except what Remotion serves itself. */
const proxied = (Agent, secure) =>
  class extends Agent {
    createConnection(options, callback) {
      if (options.host === 'localhost' && Number(options.port) === port) return super.createConnection(options, callback);
      const host = net.isIPv6(options.host) ? `[${options.host}]` : options.host;
      const asked = `${host}:${options.port}`;
      http
        .request({ host: '127.0.0.1', port: LASTFRAME_PROXY, method: 'CONNECT', path: asked, agent: direct })
        .on('connect', ({ statusCode, headers }, socket) => {
          if (statusCode === 200) return callback(null, secure ? tls.connect({ ...options, socket }) : socket);
          socket.destroy();
          const why = headers['x-lastframe-refused'] ?? `the proxy answered ${statusCode}`;
          callback(new Error(`Error while downloading from ${asked}: ${why}`));
        })
        .on('error', callback)
        .end();
    }
  };

if (LASTFRAME_PROXY) {
  http.globalAgent = new (proxied(http.Agent, false))();
  https.globalAgent = new (proxied(https.Agent, true))();
}

/** Remotion closes the server of its last step without waiting for it, and takes no port that is not free. */
async function portIsFree() {
  const taken = () =>
    new Promise((resolve) => {
      const server = net.createServer();
      server.once('error', () => resolve(true)).listen(port, () => server.close(() => resolve(false)));
    });
  for (let tries = 0; port && tries < 200 && (await taken()); tries++) await new Promise((resolve) => setTimeout(resolve, 10));
}

// ----------------------------------------------------------------------------------------- browser

/** What Remotion starts as its browser. */
async function browserExecutable() {
  if (!LASTFRAME_BROWSER_STARTER) return LASTFRAME_BROWSER ?? null;
  process.env.LASTFRAME_BROWSER = LASTFRAME_BROWSER ?? (await remotion.ensureBrowser()).path;
  return LASTFRAME_BROWSER_STARTER;
}

/** @type {{instance: object, key: string, pid: number, exit?: object, gone: Promise<never>} | null} */
let browser = null;

/** The browser of the last render if it lives and was opened the same way, else a new one. */
async function warmBrowser({ chromiumOptions = {}, logLevel = 'info' }) {
  const key = JSON.stringify([chromiumOptions, logLevel]);
  if (browser && browser.key === key && !browser.exit) return browser;
  await closeBrowser();
  const instance = await remotion.openBrowser('chrome', {
    browserExecutable: await browserExecutable(),
    chromiumOptions,
    logLevel,
  });
  const child = [...children].findLast(isBrowser);
  if (!child) throw new Error('Failed to launch the browser: it ended at once');
  const opened = { instance, key, pid: child.pid };
  opened.gone = new Promise((_, reject) => {
    child.once('exit', (code, signal) => {
      opened.exit = { code, signal };
      reject(new Error('The browser is gone'));
    });
  });
  opened.gone.catch(() => undefined); // the browser may also go while nothing waits for it
  browser = opened;
  return opened;
}

async function closeBrowser() {
  const closing = browser;
  browser = null;
  if (closing && !closing.exit) await closing.instance.close({ silent: true }).catch(() => undefined);
}

// ----------------------------------------------------------------------------------------- options

/** Options that a page takes, whatever it is opened for. */
const PAGE_OPTIONS = [
  'chromiumOptions', 'envVariables', 'inputProps', 'logLevel', 'mediaCacheSizeInBytes', 'offthreadVideoCacheSizeInBytes',
  'offthreadVideoThreads', 'timeoutInMilliseconds',
];
const OUTPUT_OPTIONS = ['imageFormat', 'isProduction', 'jpegQuality', 'licenseKey', 'scale'];
const OPTIONS = {
  compositions: PAGE_OPTIONS,
  still: [...PAGE_OPTIONS, ...OUTPUT_OPTIONS, 'frame'],
  media: [
    ...PAGE_OPTIONS, ...OUTPUT_OPTIONS, 'audioBitrate', 'audioCodec', 'codec', 'colorSpace', 'crf', 'disallowParallelEncoding',
    'encodingBufferSize', 'encodingMaxRate', 'enforceAudioTrack', 'everyNthFrame', 'forSeamlessAacConcatenation', 'frameRange',
    'gopSize', 'metadata', 'muted', 'numberOfGifLoops', 'pixelFormat', 'preferLossless', 'proResProfile',
    'sampleRate', 'videoBitrate', 'x264Preset',
  ],
};

/** Remotion Lambda's options that replace a value of the composition. */
const FORCED = { forceWidth: 'width', forceHeight: 'height', forceFps: 'fps', forceDurationInFrames: 'durationInFrames' };

/** Not for the renderer: the composition is selected with these; the bundle lies where the command says. */
const CONSUMED = ['composition', 'serveUrl', ...Object.keys(FORCED)];

const pick = (options, names) => Object.fromEntries(Object.entries(options).filter(([name]) => names.includes(name)));

/** An option left at null means the default, as for Remotion Lambda. An option we would ignore is refused. */
function readOptions(kind, given) {
  const options = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== null));
  const unknown = Object.keys(options).find((name) => !OPTIONS[kind].includes(name) && !CONSUMED.includes(name));
  if (unknown) throw new InvalidOption(`The option "${unknown}" cannot be honoured`);
  return options;
}

// ---------------------------------------------------------------------------------------- commands

async function compositions({ id, serveUrl, options }) {
  const page = readOptions('compositions', options);
  const { instance, gone } = await warmBrowser(page);
  const from = { ...page, puppeteerInstance: instance, onBrowserLog, port };
  current.stage = 'selecting';
  await portIsFree();
  const found = await Promise.race([gone, remotion.getCompositions(serveUrl, from)]).catch((error) => {
    if (classify(error, current).code !== 'calculate_metadata_failed') throw error;
    return Promise.race([gone, oneByOne(serveUrl, from)]);
  });
  return { type: 'compositions', id, compositions: found.map(({ props, ...composition }) => composition) };
}

/** Where one composition fails with its default props, Remotion lists none: the others should not suffer for it. */
async function oneByOne(serveUrl, from) {
  const select = (id) => portIsFree().then(() => remotion.selectComposition({ ...from, serveUrl, id }));
  // The one way to the names alone that every version has: to ask for a name that cannot be.
  const names = await select('\0').then(() => '', (error) => /Available compositions: (.*)/s.exec(error.message)?.[1] ?? '');
  const found = [];
  for (const id of names.split(', ').map((name) => name.trim()).filter(Boolean)) {
    const failed = (error) => ({ id, width: 0, height: 0, fps: 0, durationInFrames: 0, error: shortened(error.message) });
    found.push(await select(id).catch(failed));
  }
  return found;
}

async function render({ id, kind, serveUrl, outputLocation, temporary, concurrency, options: given }) {
  const options = readOptions(kind, given);
  fs.mkdirSync(temporary, { recursive: true });
  const { instance, gone } = await warmBrowser(options);
  process.env.TMPDIR = temporary; // not before: the browser's profile outlives the render that opens it
  const shared = { serveUrl, puppeteerInstance: instance, onBrowserLog, port };

  current.stage = 'selecting';
  await portIsFree();
  const selected = await Promise.race([
    gone,
    remotion.selectComposition({ ...pick(options, PAGE_OPTIONS), ...shared, id: options.composition }),
  ]);
  const composition = { ...selected };
  for (const [option, field] of Object.entries(FORCED)) composition[field] = options[option] ?? composition[field];

  current.stage = 'validating';
  const { cancel, cancelSignal } = remotion.makeCancelSignal();
  const output = kind === 'still' ? renderStill : renderMedia;
  await portIsFree();
  try {
    await Promise.race([gone, output({ id, composition, outputLocation, concurrency, options, shared: { ...shared, cancelSignal } })]);
  } catch (error) {
    cancel(); // else Remotion would go on behind our back after the browser is gone
    throw error;
  }
  const probed = await probe(outputLocation);
  return { type: 'finished', id, probe: probed, poster: await poster(outputLocation, temporary, probed) };
}

async function renderMedia({ id, composition, outputLocation, concurrency, options, shared }) {
  const progress = progressReporter(id);
  const size = videoSize(composition, options);
  let frameCount = 0;
  await remotion.renderMedia({
    ...pick(options, OPTIONS.media),
    ...shared,
    // Encoding along with rendering takes whole pixels only; afterwards, Remotion rounds them.
    ...(size.whole ? {} : { disallowParallelEncoding: true }),
    composition,
    outputLocation,
    concurrency,
    overwrite: true,
    // Where Remotion would replace a dead browser by one of its own, which may hang for ever, this makes it fail.
    browserExecutable: '/dev/null',
    onStart: (start) => {
      current.stage = 'rendering';
      frameCount = start.frameCount;
      send(mediaStarted(id, composition, frameCount, size, options));
    },
    onProgress: ({ renderedFrames, encodedFrames, progress: done, stitchStage }) =>
      progress(stitchStage === 'muxing' ? 'stitching' : 'rendering', renderedFrames, encodedFrames, done),
  });
  progress('stitching', frameCount, frameCount, 1);
}

async function renderStill({ id, composition, outputLocation, options, shared }) {
  const { scale = 1 } = options;
  const still = remotion.renderStill({
    ...pick(options, OPTIONS.still),
    ...shared,
    composition,
    output: outputLocation,
    overwrite: true,
  });
  send({
    type: 'started',
    id,
    composition: summary(composition),
    frameCount: 1,
    width: Math.round(composition.width * scale),
    height: Math.round(composition.height * scale),
    durationInSeconds: 0,
  });
  await still;
  progressReporter(id)('rendering', 1, 1, 1);
}

/** The size that Remotion gives the video: some codecs need even sides. */
function videoSize({ width, height }, { codec, scale = 1 }) {
  const { actualWidth, actualHeight } = RenderInternals.validateEvenDimensionsWithCodec({
    width, height, codec, scale, wantsImageSequence: false, indent: false, logLevel: 'error',
  });
  const sides = [actualWidth * scale, actualHeight * scale];
  return { width: Math.round(sides[0]), height: Math.round(sides[1]), whole: sides.every(Number.isInteger) };
}

function mediaStarted(id, composition, frameCount, { width, height }, { everyNthFrame = 1 }) {
  const durationInSeconds = (frameCount * everyNthFrame) / composition.fps;
  return { type: 'started', id, composition: summary(composition), frameCount, width, height, durationInSeconds };
}

const summary = ({ id, width, height, fps, durationInFrames, defaultCodec }) => ({ id, width, height, fps, durationInFrames, defaultCodec });

/** At most five reports a second, but every change of phase and the end; no figure ever goes back. */
function progressReporter(id) {
  const last = { at: 0, phase: '', framesRendered: 0, framesEncoded: 0, progress: 0 };
  return (phase, framesRendered, framesEncoded, progress) => {
    const now = performance.now();
    if (phase === last.phase && now - last.at < 200 && progress < 1) return;
    last.at = now;
    last.phase = last.phase === 'stitching' ? last.phase : phase;
    last.framesRendered = Math.max(last.framesRendered, framesRendered);
    last.framesEncoded = Math.max(last.framesEncoded, framesEncoded);
    last.progress = Math.min(1, Math.max(last.progress, progress));
    const { at, ...report } = last;
    send({ type: 'progress', id, ...report });
  };
}

/** What Remotion's own ffprobe says of the file, its packets counted. */
async function probe(file) {
  try {
    const { stdout } = await RenderInternals.callFf({
      bin: 'ffprobe',
      args: ['-v', 'error', '-count_packets', '-show_format', '-show_streams', '-of', 'json', file],
      indent: false,
      logLevel: 'error',
      binariesDirectory: null,
    });
    return JSON.parse(stdout);
  } catch (error) {
    return { error: shortened(error.message) };
  }
}

/** The longest that a poster may take, in milliseconds: a render does not wait for a picture of itself. */
const POSTER_PATIENCE = 5000;

/** Draws the frame in the middle, at most 640 pixels wide, beside the file. Says whether there is one now. */
async function poster(file, folder, { streams = [], format = {} }) {
  const video = streams.find(({ codec_type }) => codec_type === 'video');
  if (!video) return false;
  const middle = video.nb_read_packets > 1 ? Number(video.duration ?? format.duration) / 2 : 0;
  const drawn = path.join(folder, 'poster.jpg');
  try {
    await RenderInternals.callFf({
      bin: 'ffmpeg',
      args: [
        '-v', 'error', '-nostdin', '-y', '-threads', '1', '-protocol_whitelist', 'file',
        ...(middle > 0 ? ['-ss', middle.toFixed(3)] : []), '-i', file,
        '-map', '0:v:0', '-frames:v', '1', '-vf', "scale=w='min(640,iw)':h=-2,format=yuvj420p",
        '-q:v', '4', '-f', 'image2', '-update', '1', drawn,
      ],
      indent: false,
      logLevel: 'error',
      binariesDirectory: null,
      options: { timeout: POSTER_PATIENCE, killSignal: 'SIGKILL' },
    });
    return fs.existsSync(drawn);
  } catch (error) {
    log('verbose', `no poster: ${shortened(error.message)}`);
    return false;
  }
}

// --------------------------------------------------------------------------------------------- log

const LOG_LINES = 500;
const LOG_LINE_LENGTH = 2000;
const LEVELS = { error: 'error', assert: 'error', warning: 'warn', debug: 'verbose', trace: 'verbose', verbose: 'verbose' };

function log(level, text) {
  if (!current || ++current.logLines > LOG_LINES + 1) return;
  const cut = current.logLines > LOG_LINES;
  const line = cut ? `The log was cut after ${LOG_LINES} lines` : stripVTControlCharacters(text).trim().slice(0, LOG_LINE_LENGTH);
  send({ type: 'log', id: current.id, level: cut ? 'warn' : level, text: line });
}

/** Remotion hands over each network error twice, with the same stack trace. */
function onBrowserLog({ type, text, stackTrace }) {
  if (!current || current.browserLine?.stackTrace === stackTrace) return;
  current.browserLine = { stackTrace, text: text.replace(/\s*\(\)$/, '') };
  log(LEVELS[type] ?? 'info', text);
}

/** Remotion's own warnings. It prints what the browser says as well, which we have already. */
for (const level of ['warn', 'error']) {
  const print = console[level];
  console[level] = (...values) => {
    print(...values);
    const line = stripVTControlCharacters(format(...values)).trim();
    const topic = line.replace(/\d+\.\d+/g, ''); // said again with every page it opens, with other figures
    const heard = current?.browserLine?.text;
    if (!line || !current || current.printed.has(topic) || (heard && line.endsWith(heard))) return;
    current.printed.add(topic);
    log(level, line);
  };
}

// ------------------------------------------------------------------------------------------ errors

class InvalidOption extends Error {}

/** Codes that messages tell, in order of precedence, and whether another try could mend the fault. */
const MESSAGES = [
  [/Could not find composition with ID/, 'composition_not_found', false],
  [/is not public; render\.allow_hosts/, 'asset_failed', false],
  [/ENOSPC|No space left on device/i, 'no_space', true],
  [/ENOMEM|Cannot allocate memory|out of memory/i, 'out_of_memory', true],
  [/Incompatible site:|verify that it is a Remotion project/, 'site_unreachable', false],
  [/^net::ERR_|but the status code was|but got no response|Is this a valid path to a Webpack bundle|ENOENT.*\/bundle\.js/, 'site_unreachable', true],
  [/was called but not cleared after|exceeded rendering the component|timeout \d+ms exceeded|Timed out (evaluating|after)/, 'delay_render_timeout', true],
  [/Error while downloading|while downloading file|Tried to download file|Download finished with|\/ffprobe /, 'asset_failed', true],
  [/(loading|load) image with src|Could not play |error while playing |Cannot render (audio|video) /, 'asset_failed', true],
  [/Failed to fetch|NetworkError|Network error|socket hang up|\bE(CONN\w+|AI_\w+|NOTFOUND|HOSTUNREACH|TIMEDOUT)\b/, 'asset_failed', true],
  [/Compositor (error|quit|exited)/, 'asset_failed', true],
  [/Page crashed!|Target closed|Session closed|Failed to launch the browser/, 'browser_crashed', true],
  [/neither audio nor video|does not support hardware acceleration|not a valid GL backend|"mediaCacheSizeInBytes" prop/, 'invalid_option', false],
];

/** @returns {{code: string, retryable: boolean}} */
function classify(error, { stage, encoderExit, oomKillsBefore }) {
  const { exit } = browser ?? {};
  if (exit || encoderExit?.signal) {
    if (oomKills() > oomKillsBefore) return { code: 'out_of_memory', retryable: true };
  }
  if (exit) return { code: 'browser_crashed', retryable: true };
  if (error instanceof InvalidOption) return { code: 'invalid_option', retryable: false };

  const told = MESSAGES.find(([pattern]) => pattern.test(error.message));
  if (told) return { code: told[1], retryable: told[2] };

  // Remotion knows no message for a thrown value that is no Error.
  const fromPage = error instanceof RenderInternals.SymbolicateableError || error.message === '';
  if (fromPage) {
    const cancelled = error.name === 'CancelledError' || /^\s+at cancelRender\b/m.test(error.stack ?? '');
    if (cancelled) return { code: 'render_cancelled', retryable: false };
    return { code: stage === 'selecting' ? 'calculate_metadata_failed' : 'component_error', retryable: false };
  }
  if (encoderExit || /FFmpeg/i.test(error.message)) return { code: 'encoder_failed', retryable: Boolean(encoderExit?.signal) };
  if (error.syscall) return { code: 'internal', retryable: true };
  return { code: stage === 'selecting' || stage === 'validating' ? 'invalid_option' : 'internal', retryable: false };
}

async function failure(error, run) {
  const { code, retryable } = classify(error, run);
  const ended = browser?.exit?.signal ?? browser?.exit?.code;
  const message =
    ended !== undefined ? `The browser ended unexpectedly (${ended})`
    : error.message ? error.message.replace(/^(\w*Error): /, '')
    : 'The site threw a value that is not an Error';
  const stack = await mapped(error.stack ?? '', run.serveUrl).catch(() => error.stack);
  return { name: error.name, message: shortened(message), stack: shortened(stack), retryable, code };
}

/** ffmpeg introduces itself at length; what went wrong stands at the end. */
function shortened(text) {
  const plain = stripVTControlCharacters(text).replace(/^ +(built with|configuration:|lib\w+ +\d+\.).*\n?/gm, '');
  return plain.length > 8000 ? `${plain.slice(0, 2000)}\n[...]\n${plain.slice(-6000)}` : plain;
}

/**
 * The stack in terms of the site's own files. Remotion's symbolicateError() fetches bundle and map from the
 * server of the render, which is closed by then; the same maps lie beside the bundle.
 */
async function mapped(stack, serveUrl) {
  const remote = /^https?:/.test(serveUrl);
  const maps = new Map();
  const place = /(https?:\/\/[^\s()]+?\.js):(\d+):(\d+)/g;
  for (const [, url] of stack.matchAll(place)) {
    if (maps.has(url)) continue;
    const load = async () => {
      if (remote) return (await fetch(`${url}.map`, { signal: AbortSignal.timeout(10_000) })).text();
      return fs.promises.readFile(path.join(serveUrl, `${decodeURIComponent(new URL(url).pathname)}.map`), 'utf8');
    };
    const map = await load().then((text) => new SourceMap(JSON.parse(text)), () => null);
    maps.set(url, map);
  }
  return stack.replace(place, (generated, url, line, column) => {
    const entry = maps.get(url)?.findEntry(line - 1, column - 1);
    if (!entry?.originalSource) return generated;
    return `${entry.originalSource.replace(/^(webpack:\/\/[^/]*\/)?(\.\/)?/, '')}:${entry.originalLine + 1}:${entry.originalColumn + 1}`;
  });
}

// -------------------------------------------------------------------------------------------- main

/** The running command. */
let current = null;

async function run(command) {
  current = { ...command, stage: 'opening', logLines: 0, printed: new Set(), oomKillsBefore: oomKills() };
  process.env.TMPDIR = TMPDIR;
  let outcome;
  try {
    outcome = await (command.type === 'render' ? render(command) : compositions(command));
  } catch (error) {
    outcome = { type: 'failed', id: command.id, error: await failure(Object(error), current) };
    await closeBrowser(); // a failed render may leave tabs behind, some of which never stop
    killChildren();
  }
  current = null;
  send(outcome);
}

function die(error) {
  console.error(error);
  if (current) {
    // The site's code runs in the browser only: a fault of this process may not be the render's own.
    const { code, retryable } = browser?.exit ? classify(error, current) : { code: 'internal', retryable: true };
    const { name, message, stack } = Object(error);
    send({ type: 'failed', id: current.id, error: { name, message: String(message ?? error), stack, retryable, code } });
  }
  process.exit(1);
}

process.on('uncaughtException', die);
process.on('unhandledRejection', (error) => {
  // Remotion closes pages without waiting for it, and those may be gone by then, or their browser.
  if (!/^Protocol error|Target closed|Session closed/.test(error?.message)) die(error);
});

readCommands((command) => {
  if (!current) return run(command);
  const error = { name: 'ProtocolError', message: `${current.id} is still running`, stack: '', retryable: false, code: 'internal' };
  send({ type: 'failed', id: command.id, error });
});

setInterval(() => {
  const browserRssInBytes = browser && !browser.exit ? rssOfTree(browser.pid) : undefined;
  send({ type: 'alive', rssInBytes: process.memoryUsage.rss(), browserRssInBytes });
}, 1000);

send({ type: 'ready', remotionVersion: requireFromRenderer('./package.json').version });
