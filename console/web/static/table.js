// The table: one line for each camera, for hundreds and thousands of them. Only the lines that can be seen exist.

import { h, setText } from "./dom.js";
import { empty } from "./empty.js";
import { filters } from "./filters.js";
import { compareNames, found, wanted } from "./finding.js";
import { listen, now, rows } from "./store.js";
import { SKIPS, SOURCES, ago, badge, fps, nameElement, number, plainName } from "./text.js";
import { cameraLink } from "./wall.js";

const LINE = 38;
const MARGIN = 12;
const SORT_MS = 1000;

const limitOf = (row) => (row.limit === "inf" ? Infinity : (row.limit ?? -1));

const COLUMNS = [
  { key: "name", label: "Camera", class: "name-column" },
  { key: "state", label: "State", class: "wide-column" },
  { key: "hands", label: "Hands", right: true, text: (row) => (row.hands === null ? "–" : String(row.hands)), value: (row) => row.hands ?? -1 },
  { key: "source_fps", label: "Camera fps", right: true, text: (row) => fps(row.source_fps) },
  { key: "limit", label: "Limit", right: true, text: (row) => (row.limit === "inf" ? "none" : fps(row.limit)), value: limitOf },
  { key: "limit_source", label: "From", text: (row) => (row.invalid ? "bad value" : (SOURCES[row.limit_source] ?? "–")) },
  { key: "admitted_fps", label: "Admitted", right: true, text: (row) => fps(row.admitted_fps) },
  { key: "counted_fps", label: "Counted", right: true, text: (row) => fps(row.counted_fps) },
  { key: "age", label: "Age", right: true, text: (row) => (row.counted_at ? `${fps(row.age)} s` : "–") },
  { key: "heard_at", label: "Last frame", right: true, text: (row) => (row.heard_at ? ago(now() - row.heard_at) : "never") },
  { key: "skipped", label: "Skipped", right: true, text: (row) => number(row.skipped) },
  { key: "last_skip", label: "Because", class: "wide-column", text: (row) => SKIPS[row.last_skip] ?? row.last_skip },
];

const order = { key: "name", down: false };

function compare(a, b) {
  const column = COLUMNS.find((each) => each.key === order.key);
  const value = column.value ?? ((row) => row[order.key]);
  const [x, y] = [value(a), value(b)];
  const result = order.key === "name" ? compareNames(a, b) : typeof x === "string" ? x.localeCompare(y) : x - y;
  return (order.down ? -result : result) || compareNames(a, b);
}

class Line {
  constructor() {
    this.cells = COLUMNS.map((column) => h("td", { class: column.right ? "right" : null }));
    this.link = h("a");
    this.cells[0].append(this.link);
    this.element = h("tr", null, ...this.cells);
    this.element.line = this;
    this.row = null;
  }

  show(row, place) {
    this.element.setAttribute("aria-rowindex", String(place + 2));
    if (this.row?.name !== row.name) {
      this.link.replaceChildren(nameElement(row.name));
      this.link.setAttribute("href", cameraLink(row.name));
      this.cells[0].title = plainName(row.name);
      this.state = null;
    }
    this.row = row;
    if (this.state !== row.state) {
      this.state = row.state;
      this.cells[1].replaceChildren(badge(row.state));
    }
    for (let i = 2; i < COLUMNS.length; i++) setText(this.cells[i], COLUMNS[i].text(row));
  }
}

/** Shows the table in an element; returns what ends it. */
export function table(main) {
  const bar = filters(() => sort());
  const headers = COLUMNS.map((column) => {
    const button = h("button", { type: "button" }, column.label, h("span", { "aria-hidden": "true" }));
    const header = h("th", { scope: "col", class: [column.class, column.right && "right"].filter(Boolean).join(" ") || null }, button);
    button.addEventListener("click", () => {
      order.down = order.key === column.key ? !order.down : Boolean(column.right);
      order.key = column.key;
      sort();
    });
    return header;
  });
  const above = h("tr", { class: "filler", "aria-hidden": "true" }, h("td", { colspan: String(COLUMNS.length) }));
  const below = h("tr", { class: "filler", "aria-hidden": "true" }, h("td", { colspan: String(COLUMNS.length) }));
  const body = h("tbody", null, above, below);
  const caption = h("caption", { class: "visually-hidden" }, "Cameras");
  const grid = h("table", null, caption, h("thead", null, h("tr", null, ...headers)), body);
  const view = h("div", { class: "grid", tabindex: "0", role: "region", "aria-label": "Cameras" }, grid);
  const none = h("div");
  const lines = [];
  let sorted = [];
  let sortDue = false;

  function sort() {
    sortDue = false;
    sorted = found().sort(compare);
    for (const [i, column] of COLUMNS.entries()) {
      const active = column.key === order.key;
      if (active) headers[i].setAttribute("aria-sort", order.down ? "descending" : "ascending");
      else headers[i].removeAttribute("aria-sort");
      setText(headers[i].firstChild.lastChild, active ? (order.down ? "↓" : "↑") : "");
    }
    grid.setAttribute("aria-rowcount", String(sorted.length + 1));
    none.replaceChildren(...(sorted.length ? [] : [empty(rows.size, wanted)]));
    view.hidden = !sorted.length;
    bar.update();
    show();
  }

  function show() {
    const first = Math.max(0, Math.floor(view.scrollTop / LINE) - MARGIN);
    const count = Math.min(sorted.length - first, Math.ceil((view.clientHeight || 800) / LINE) + 2 * MARGIN);
    while (lines.length < count) {
      const line = new Line();
      lines.push(line);
      body.insertBefore(line.element, below);
    }
    while (lines.length > Math.max(count, 0)) lines.pop().element.remove();
    for (let i = 0; i < count; i++) lines[i].show(sorted[first + i], first + i);
    above.firstChild.style.height = `${first * LINE}px`;
    below.firstChild.style.height = `${Math.max(0, sorted.length - first - count) * LINE}px`;
  }

  view.addEventListener("scroll", () => requestAnimationFrame(show), { passive: true });
  const resized = () => show();
  addEventListener("resize", resized);
  const clock = setInterval(() => (sortDue ? sort() : show()), SORT_MS);
  const stop = listen((changes) => {
    if (changes.members && !sorted.length) sort();
    sortDue = true;
  });
  main.replaceChildren(h("div", { class: "head" }, h("h1", null, "Cameras"), bar.element), view, none);
  sort();
  return {
    find() {
      view.scrollTop = 0;
      sort();
    },
    close() {
      stop();
      clearInterval(clock);
      removeEventListener("resize", resized);
    },
  };
}
