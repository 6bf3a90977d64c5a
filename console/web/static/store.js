// What the server tells: every camera by its number, and the sections. One connection for the whole page.

/** The rows by number, as the server sends them. */
export const rows = new Map();
export const sections = {};

const numbers = new Map();
const listeners = new Set();
let clockOffset = 0;
let pending = null;
let heardAt = performance.now();

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

/** Connects, and stays connected; tells each change of the connection: live or lost. */
export function connect(onConnection) {
  const source = new EventSource("/api/events");
  const heard = () => {
    heardAt = performance.now();
    onConnection("live");
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
  source.addEventListener("error", () => {
    onConnection("lost");
    // The browser tries again by itself, except after an answer that isn't events, such as that of a session that ended.
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(() => connect(onConnection), 3000);
    }
  });
  const watch = setInterval(() => {
    if (source.readyState === EventSource.CLOSED) clearInterval(watch);
    else if (performance.now() - heardAt > 15000) onConnection("lost");
  }, 5000);
}
