// Numbers, times and names as people read them.

import { h } from "./dom.js";

// Control characters, marks of direction, invisible characters, line separators, and halves of surrogate pairs, which stand
// for bytes that aren't UTF-8.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

const code = (character) => `U+${character.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** Returns a name as one line of text in which every character can be seen. */
export const plainName = (name) => name.replace(UNSEEN, (character) => `⟨${code(character)}⟩`);

/** Returns an element that shows a name, whatever it contains, and keeps its direction to itself. */
export function nameElement(name) {
  const parts = [];
  let end = 0;
  for (const found of name.matchAll(UNSEEN)) {
    if (found.index > end) parts.push(name.slice(end, found.index));
    parts.push(h("span", { class: "control-character" }, code(found[0])));
    end = found.index + found[0].length;
  }
  if (end < name.length) parts.push(name.slice(end));
  return h("bdi", null, ...(name === "" ? [h("span", { class: "control-character" }, "empty")] : parts));
}

/** Returns frames per second: 0.25, 2, 29.9; ∞ for no limit, – for unknown. */
export function fps(value) {
  if (value === null || value === undefined) return "–";
  if (value === "inf" || value === Infinity) return "∞";
  if (value === 0) return "0";
  if (value < 0.01) return value.toPrecision(2);
  return value < 10 ? String(Math.round(value * 100) / 100) : value < 100 ? String(Math.round(value * 10) / 10) : String(Math.round(value));
}

/** Returns a duration: now, 4 s, 3 min, 2 h, 5 d. */
export function duration(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
}

/** Returns how long ago something was. */
export function ago(seconds) {
  return seconds < 1.5 ? "now" : `${duration(seconds)} ago`;
}

/** Returns a number with groups of thousands. */
export const number = (value) => (value ?? 0).toLocaleString("en-GB");

/** Returns bytes: 1.4 GB. */
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  for (; value >= 1000 && i < units.length - 1; i++) value /= 1000;
  return `${value < 10 && i ? value.toFixed(1) : Math.round(value)} ${units[i]}`;
}

export const STATES = {
  live: "Live",
  silent: "Silent",
  behind: "Not counted",
  paused: "Paused",
  unseen: "No frames yet",
};

export const SOURCES = {
  override: "own field",
  pattern: "pattern",
  boost: "boost",
  wildcard: "field *",
  default: "default",
};

export const SKIPS = {
  too_soon: "not due yet",
  paused: "paused",
  duplicate: "same timestamp",
  late: "out of order",
  stale: "too old",
  payload_expired: "picture expired",
  superseded: "superseded",
  limit_unknown: "limit unknown",
};

/** Returns an element with the state of a camera. */
export const badge = (state) => h("span", { class: "badge", data: { state } }, STATES[state] ?? state);
