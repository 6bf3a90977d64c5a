// What the server tells: every camera by its number, and the sections. One connection for the whole page.

import { renewSession } from "./session.js";

/** How long nothing may be heard, ms; the server says something every 5 s. */
const QUIET_MS = 15000;

/** The rows by number, as the server sends them. */
export const rows = new Map();
export const sections = {};

const numbers = new Map();
const listeners = new Set();
let clockOffset = 0;
let pending = null;
let heardAt = performance.now();
let attempts = 0;

/** The time by Redis' clock, seconds; all times in rows are by this clock. */
export const now = () => Date.now() / 1000 + clockOffset;

/** Returns the row of a camera by its name. */
export const byName = (name) => rows.get(numbers.get(name));

/** Calls a function after changes, at most once per picture of the screen, with {rows: Set of numbers, members, sections}. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function note() {
  if (!pending) {
    pending = { rows: new Set(), members: false, sections: new Set() };
    requestAnimationFrame(() => {
      const changes = pending;
      pending = null;
      for (const listener of listeners) listener(changes);
    });
  }
  return pending;
}

function take(data, changes) {
  if (data.at) clockOffset = data.at - Date.now() / 1000;
  for (const [id, fields] of data.rows ?? []) {
    const row = rows.get(id);
    if (row) Object.assign(row, fields);
    else {
      rows.set(id, { id, ...fields });
      numbers.set(fields.name, id);
      changes.members = true;
    }
    changes.rows.add(id);
  }
  for (const id of data.gone ?? []) {
    const row = rows.get(id);
    if (row && numbers.get(row.name) === id) numbers.delete(row.name);
    rows.delete(id);
    changes.members = true;
  }
  for (const [section, value] of Object.entries(data)) {
    if (section === "at" || section === "rows" || section === "gone") continue;
    sections[section] = value;
    changes.sections.add(section);
  }
}

function replace(data) {
  const changes = note();
  rows.clear();
  numbers.clear();
  changes.members = true;
  take(data, changes);
}

/** Connects, and stays connected; tells each change of the connection: live, lost or full. */
export function connect(onConnection) {
  const source = new EventSource("/api/events");
  const heard = () => {
    heardAt = performance.now();
    attempts = 0;
    onConnection("live");
  };
  const lose = () => {
    clearInterval(watch);
    source.close();
    onConnection("lost");
    reconnect(onConnection);
  };
  source.addEventListener("snapshot", (event) => {
    replace(JSON.parse(event.data));
    heard();
  });
  source.addEventListener("change", (event) => {
    take(JSON.parse(event.data), note());
    heard();
  });
  source.addEventListener("alive", heard);
  source.addEventListener("error", lose);
  heardAt = performance.now();
  // A connection may also end without a word, as when a proxy forgets it.
  const watch = setInterval(() => performance.now() - heardAt > QUIET_MS && lose(), 1000);
}

/** Connects again soon, but not at the same moment as all other pages, if the session still lasts. */
async function reconnect(onConnection) {
  attempts += 1;
  await new Promise((resolve) => setTimeout(resolve, Math.min(attempts, 5) * (500 + Math.random() * 500)));
  try {
    const { room } = await renewSession();
    if (room) return connect(onConnection);
    onConnection("full");
  } catch {
    // the server can't be reached
  }
  return reconnect(onConnection);
}
