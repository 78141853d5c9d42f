// The API, as this page uses it. It is signed in by a cookie that scripts cannot read.

/**
 * @typedef {{code: string, name: string, message: string, stack?: string, retryable: boolean}} Failure
 * @typedef {{number: number, worker: string, startedAt: string, endedAt?: string, outcome?: string, error?: Failure}} Attempt
 * @typedef {{contentType: string, sha256?: string, frameCount?: number, width?: number, height?: number,
 *   durationInSeconds?: number, deletedAt?: string}} Output
 * @typedef {{
 *   renderId: string, tenant: string, status: "queued" | "rendering" | "succeeded" | "failed" | "cancelled",
 *   kind: "media" | "still", serveUrl: string, siteVersion: string, composition: string, group?: string, priority: number,
 *   phase?: string, position?: number, blockedBy?: {reason: string, runAt?: string, renderId?: string}, attempt: number,
 *   maxAttempts: number, overallProgress: number, framesRendered: number, frameCount?: number, etaAt?: string,
 *   outputFile?: string, outputSizeInBytes?: number, output?: Output, timeToFinish?: number, errors: Failure[],
 *   runAt: string, createdAt: string, startedAt?: string, finishedAt?: string, cancelRequestedAt?: string,
 *   attempts?: Attempt[], retryOf?: string}} Render
 * @typedef {{subject: string, tenant: string, scopes: string[], expiresIn?: number}} Me
 * @typedef {{group: string, paused: boolean, heldBy?: string, head?: string, queued: number}} Group
 * @typedef {{queued: number, rendering: number, succeeded: number, failed: number, cancelled: number}} Counts
 * @typedef {{start: string, accepted: number, succeeded: number, failed: number}} Hour
 * @typedef {{tenant?: string, paused: boolean, counts: Counts, hours: Hour[], concurrency?: number,
 *   workers?: {worker: string, renders: string[]}[]}} Activity
 * @typedef {{at: string, tookMs: number, code?: number, error?: string}} Try
 * @typedef {{deliveryId: string, channel: string, endpoint: string, status: string, nextTryAt?: string, tries: number,
 *   log?: Try[]}} Delivery
 */

/** What the server said when it did not do what it was asked. */
export class Problem extends Error {
  /** @param {number} status @param {any} body */
  constructor(status, body) {
    super(body?.detail ?? `The server answered with ${status}.`);
    this.status = status;
    /** @type {string} */
    this.code = body?.code ?? "unknown";
    /** @type {{pointer: string, detail: string}[]} */
    this.errors = body?.errors ?? [];
  }

  /** All of it, in one sentence for a person. */
  get sentence() {
    const fields = this.errors.map(({ pointer, detail }) => `${pointer.slice(1) || "request"}: ${detail}`);
    return fields.length ? fields.join("; ") : this.message;
  }
}

const UNTIL = "lastframe.session.until";
/** Seconds before its end that a session is renewed. */
const EARLY = 60;

/** Told when nobody is signed in any more. */
export const signedOut = new EventTarget();

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {AbortSignal} [signal]
 */
async function ask(method, path, body, signal) {
  const text = typeof body === "string" ? body : body === undefined ? undefined : JSON.stringify(body);
  const headers = { "x-lastframe-dashboard": "1" };
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: text, signal, credentials: "same-origin", redirect: "error" });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, { code: "unreachable", detail: "The server cannot be reached." });
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => null);
  throw new Problem(answer.status, problem);
}

/**
 * As `ask`, renewing the session where it has ended.
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @param {AbortSignal} [signal]
 */
async function request(method, path, body, signal) {
  const until = Number(localStorage.getItem(UNTIL) ?? Infinity);
  if (Date.now() / 1000 > until - EARLY) await renew(until);
  try {
    return await ask(method, path, body, signal);
  } catch (error) {
    if (!(error instanceof Problem) || error.status !== 401) throw error;
    signedOut.dispatchEvent(new Event("signed-out"));
    throw error;
  }
}

/**
 * A refresh token is good once, so of all tabs one renews and the others wait for it.
 * @param {number} until
 */
async function renew(until) {
  const work = async () => {
    if (Number(localStorage.getItem(UNTIL)) !== until) return;
    try {
      remember(await (await ask("POST", "v1/session/renew")).json());
    } catch (error) {
      if (error instanceof Problem && error.status !== 0) localStorage.removeItem(UNTIL);
    }
  };
  renewing ??= (navigator.locks ? navigator.locks.request("lastframe.renew", work) : work()).finally(() => (renewing = null));
  await renewing;
}

/** @type {Promise<unknown> | null} */
let renewing = null;

/** @param {Me} me */
function remember(me) {
  if (me.expiresIn) localStorage.setItem(UNTIL, String(Math.floor(Date.now() / 1000) + me.expiresIn));
  else localStorage.removeItem(UNTIL);
  return me;
}

/** @param {Record<string, string | number | undefined | null>} fields */
function query(fields) {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
}

/** @param {string} path @param {AbortSignal} [signal] @returns {Promise<any>} */
const get = async (path, signal) => (await request("GET", path, undefined, signal)).json();

/** @param {string} path @param {unknown} [body] @returns {Promise<any>} */
const post = async (path, body) => (await request("POST", path, body)).json();

const part = encodeURIComponent;

export const api = {
  /** @param {{email: string, password: string} | {token: string}} credentials @returns {Promise<Me>} */
  signIn: async (credentials) => remember(await (await ask("POST", "v1/session", credentials)).json()),
  signOut: async () => {
    await ask("DELETE", "v1/session");
    localStorage.removeItem(UNTIL);
  },
  /** @returns {Promise<Me>} */
  me: () => get("v1/me"),
  /**
   * @param {Record<string, string | undefined>} filter
   * @param {AbortSignal} [signal]
   * @returns {Promise<{renders: Render[], nextCursor?: string}>}
   */
  renders: (filter, signal) => get(`v1/renders${query(filter)}`, signal),
  /** @param {string} id @param {AbortSignal} [signal] @returns {Promise<Render>} */
  render: (id, signal) => get(`v1/renders/${part(id)}`, signal),
  /** @param {string} id @param {AbortSignal} [signal] @returns {Promise<Record<string, any>>} */
  asked: (id, signal) => get(`v1/renders/${part(id)}/request`, signal),
  /** @param {string} id @param {AbortSignal} [signal] @returns {Promise<string>} */
  log: async (id, signal) => (await request("GET", `v1/renders/${part(id)}/log`, undefined, signal)).text(),
  /** @param {string} id @returns {Promise<Render>} */
  cancel: (id) => post(`v1/renders/${part(id)}/cancel`),
  /** @param {string} id @returns {Promise<Render>} */
  retry: (id) => post(`v1/renders/${part(id)}/retry`),
  /** @param {string} id @returns {Promise<{url: string, expiresAt: string}>} */
  link: (id) => post(`v1/renders/${part(id)}/links`, {}),
  /** @param {string} kind @param {object} body @returns {Promise<Render>} */
  submit: (kind, body) => post(kind === "still" ? "v1/stills" : "v1/renders", body),
  /** @param {object} which @returns {Promise<{renders: string[], more: boolean, until: string}>} */
  redrive: (which) => post("v1/redrive", which),
  /** @param {{cursor?: string, tenant?: string}} filter @param {AbortSignal} [signal]
   *  @returns {Promise<{groups: Group[], nextCursor?: string}>} */
  groups: (filter, signal) => get(`v1/groups${query(filter)}`, signal),
  /** @param {string} group @param {"pause" | "resume"} verb @returns {Promise<Group>} */
  steer: (group, verb) => post(`v1/groups/${part(group)}/${verb}`),
  /** @param {"pause" | "resume"} verb */
  steerQueue: (verb) => post(`v1/queue/${verb}`),
  /** @param {string | undefined} tenant @param {AbortSignal} [signal] @returns {Promise<Activity>} */
  activity: (tenant, signal) => get(`v1/activity${query({ tenant })}`, signal),
  /** @param {AbortSignal} [signal] @returns {Promise<{tenants: any[]}>} */
  tenants: (signal) => get("v1/tenants", signal),
  /** @param {any} tenant @param {boolean} paused */
  pauseTenant: async ({ tenant, weight, maxConcurrency, maxQueued, submitsPerMinute, maxBody, maxRenderSeconds }, paused) => {
    const settings = { weight, maxConcurrency, maxQueued, submitsPerMinute, maxBody, maxRenderSeconds, paused };
    await request("PUT", `v1/tenants/${part(tenant)}`, settings);
  },
  /** @param {AbortSignal} [signal] @returns {Promise<any[]>} */
  sites: (signal) => get("v1/sites", signal),
  /** What was sent about a render; none where this server sends nothing.
   *  @param {string} id @param {AbortSignal} [signal] @returns {Promise<Delivery[] | null>} */
  deliveries: async (id, signal) => {
    try {
      return (await get(`v1/deliveries${query({ renderId: id })}`, signal)).deliveries;
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return null;
      throw error;
    }
  },
  /** @param {string} id */
  redeliver: (id) => request("POST", `v1/deliveries/${part(id)}/redeliver`),
};

/** @param {string} id */
export const posterOf = (id) => `v1/renders/${part(id)}/poster`;
/** @param {string} id @param {boolean} [save] */
export const outputOf = (id, save) => `v1/renders/${part(id)}/output${save ? "?download=1" : ""}`;

/** @param {Me} me @param {string} scope */
export const allows = (me, scope) => me.scopes.includes("admin") || me.scopes.includes(scope);
