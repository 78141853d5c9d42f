// What changes, as it changes: by the server's events where there are some, else by asking again.

/**
 * Where the changes of all renders are that somebody may see.
 * @param {boolean} isAdmin
 */
export const changes = (isAdmin) => isAdmin ? "v1/events?tenants=all" : "v1/events";

/** Milliseconds between two questions. */
const POLL = 2000;
/** Milliseconds within which what changes leads to one question. */
const SOON = 500;

/**
 * Asks a little later, once for all that changes until then.
 * @param {() => Promise<unknown>} ask @param {AbortSignal} signal
 */
export function soon(ask, signal) {
  /** @type {number | undefined} */
  let due;
  signal.addEventListener("abort", () => clearTimeout(due));
  return () => {
    if (signal.aborted) return;
    due ??= window.setTimeout(() => {
      due = undefined;
      ask().catch(() => undefined);
    }, SOON);
  };
}

/**
 * Follows changes of renders until the signal is aborted.
 *
 * @param {object} options
 * @param {string} options.url Where the events are.
 * @param {(render: import("./api.js").Render) => void} options.onRender One has changed.
 * @param {() => Promise<unknown>} options.again Asks for everything anew.
 * @param {AbortSignal} options.signal
 * @param {(live: boolean) => void} [options.onState] Whether what is shown is what is.
 * @param {() => boolean} [options.over] Whether nothing more can change.
 */
export function follow({ url, onRender, again, signal, onState, over }) {
  /** @type {EventSource | undefined} */
  let source;
  /** @type {number | undefined} */
  let timer;

  const poll = async () => {
    if (signal.aborted) return;
    if (!document.hidden && !over?.()) {
      try {
        await again();
        onState?.(true);
      } catch {
        onState?.(false);
      }
    }
    if (!signal.aborted) timer = window.setTimeout(poll, POLL);
  };

  const listen = () => {
    source = new EventSource(url);
    source.addEventListener("render", (event) => onRender(JSON.parse(event.data)));
    source.addEventListener("reset", () => again().catch(() => onState?.(false)));
    source.addEventListener("open", () => onState?.(true));
    source.addEventListener("error", () => {
      // Closed for good: there are no such events here, or they have come to their end.
      if (source?.readyState === EventSource.CLOSED || over?.()) {
        source?.close();
        poll();
      } else {
        onState?.(false);
      }
    });
  };

  listen();
  signal.addEventListener("abort", () => {
    source?.close();
    clearTimeout(timer);
  });
}
