// Times, sizes and names as people read them.

const WHEN = new Intl.RelativeTimeFormat(undefined, { numeric: "auto", style: "short" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const NUMBER = new Intl.NumberFormat();

/** @type {[Intl.RelativeTimeFormatUnit, number][]} */
const STEPS = [["day", 86400], ["hour", 3600], ["minute", 60]];

/**
 * How long ago, or in how long.
 * @param {string} time
 */
export function ago(time) {
  const seconds = (Date.parse(time) - Date.now()) / 1000;
  for (const [unit, length] of STEPS) {
    if (Math.abs(seconds) >= length) return WHEN.format(Math.round(seconds / length), unit);
  }
  return seconds > 10 ? WHEN.format(Math.round(seconds), "second") : "just now";
}

/** @param {string} time */
export const full = (time) => FULL.format(new Date(time));

/** @param {number} value */
export const number = (value) => NUMBER.format(value);

/**
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export const counted = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  const steps = ["kB", "MB", "GB", "TB"];
  let value = bytes / 1000;
  let step = 0;
  while (value >= 999.5 && step < steps.length - 1) {
    value /= 1000;
    step += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${steps[step]}`;
}

/** @param {number} milliseconds */
export function lasting(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${rest} s`;
}

/** @param {string} id */
export const short = (id) => id.slice(-12);

/** @param {string | undefined} word */
export const capital = (word) => (word ? word[0].toUpperCase() + word.slice(1) : "");

/** @type {Record<string, string>} */
const PHASES = { bundling: "Opening the site", rendering: "Rendering frames", stitching: "Joining the video", uploading: "Verifying and storing" };

/**
 * What a render is doing or waiting for, in a few words.
 * @param {import("./api.js").Render} render
 */
export function state(render) {
  if (render.status === "rendering") {
    if (render.cancelRequestedAt) return "Stopping";
    const frames = render.frameCount ? `${number(render.framesRendered)} of ${counted(render.frameCount, "frame")}` : "";
    return render.phase === "rendering" && frames ? frames : PHASES[render.phase ?? ""] ?? "Rendering";
  }
  if (render.status === "queued") return waiting(render);
  if (render.status === "failed") return render.errors[0]?.message ?? "Failed";
  if (render.status === "cancelled") return "Stopped on request";
  return [render.output?.durationInSeconds ? lasting(render.output.durationInSeconds * 1000) : null,
    render.outputSizeInBytes ? size(render.outputSizeInBytes) : null].filter(Boolean).join(" · ");
}

/** @param {import("./api.js").Render} render */
function waiting(render) {
  const blocked = render.blockedBy;
  switch (blocked?.reason) {
    case "delayed": return `Starts ${ago(blocked.runAt ?? render.runAt)}`;
    case "group": return "Waits for an earlier render of its group";
    case "groupPaused": return "Its group is paused";
    case "groupHeld": return "Its group is held by a failed render";
    case "tenantPaused": case "queuePaused": return "Paused";
    default: break;
  }
  if (Date.parse(render.runAt) > Date.now() + 1000) return `Starts ${ago(render.runAt)}`;
  return render.position ? (render.position === 1 ? "Next in line" : `Place ${number(render.position)} in line`) : "Waiting for its turn";
}
