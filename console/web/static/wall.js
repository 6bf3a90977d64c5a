// The wall: a tile for each camera, with its last picture. What needs attention comes first.

import { h, setAttribute, setText } from "./dom.js";
import { empty } from "./empty.js";
import { filters } from "./filters.js";
import { byAttention, found, wanted } from "./finding.js";
import { Shot } from "./pictures.js";
import { listen, now, rows } from "./store.js";
import { SOURCES, STATES, ago, badge, duration, fps, nameElement, plainName } from "./text.js";

const PAGE = 500;
/** Tiles that are made at once; the others follow, some with each picture of the screen, so that the first can be seen early. */
const FIRST = 40;
const NEXT = 60;
/** How often the times since the last frames are shown anew, ms. */
const CLOCK_MS = 1000;

export const cameraLink = (name) => `#/camera/${encodeURIComponent(name.toWellFormed())}`;

class Tile {
  constructor(row) {
    this.row = row;
    this.state = badge(row.state);
    this.image = h("img", { alt: "", hidden: true, decoding: "async" });
    this.blank = h("span", { class: "blank" }, "no picture");
    this.count = h("b");
    this.hands = h("span", { class: "hands" }, this.count, " ", (this.unit = h("span", null, "hands")));
    this.heard = h("span", { class: "heard" });
    this.source = h("dd");
    this.limit = h("dd", null, (this.limitFps = h("span")), " ", (this.from = h("small")));
    this.counted = h("dd");
    this.flaw = h("p", { class: "flaw", hidden: true });
    this.link = h("a", { href: cameraLink(row.name) }, nameElement(row.name));
    this.element = h(
      "li",
      { class: "tile", title: plainName(row.name) },
      h("div", { class: "shot" }, this.blank, this.image, this.state, this.hands),
      h(
        "div",
        { class: "text" },
        h("div", { class: "name" }, this.link, this.heard),
        h(
          "dl",
          { class: "rates" },
          h("div", null, h("dt", null, "Camera fps"), this.source),
          h("div", null, h("dt", null, "Limit"), this.limit),
          h("div", null, h("dt", null, "Counted fps"), this.counted),
        ),
        this.flaw,
      ),
    );
    this.element.tile = this;
    this.shot = new Shot(this.image, (shown) => {
      this.image.hidden = !shown;
      this.blank.hidden = shown;
    });
  }

  update() {
    const row = this.row;
    setAttribute(this.element, "data-state", row.state);
    setAttribute(this.state, "data-state", row.state);
    setText(this.state, STATES[row.state] ?? row.state);
    this.hands.hidden = row.hands === null || row.state === "silent";
    setText(this.count, String(row.hands ?? ""));
    setText(this.unit, row.hands === 1 ? "hand" : "hands");
    setText(this.source, fps(row.source_fps));
    setText(this.limitFps, row.limit === "inf" ? "none" : fps(row.limit));
    setText(this.from, SOURCES[row.limit_source] ?? "");
    setText(this.counted, fps(row.counted_fps));
    const flaw = row.camera_error ? plainName(row.camera_error) : row.invalid ? `Bad value in Redis: ${plainName(row.invalid)}` : "";
    this.flaw.hidden = !flaw;
    setText(this.flaw, flaw);
    this.blank.textContent = row.picture ? "no picture yet" : "pictures are switched off";
    this.tick();
    this.shot.update(row);
  }

  tick() {
    const row = this.row;
    const since = now() - row.heard_at;
    const text = !row.heard_at ? "" : row.state === "silent" ? `silent for ${duration(since)}` : ago(since);
    setText(this.heard, text);
  }
}

/** Shows the wall in an element; returns a function that ends it. */
export function wall(main) {
  const list = h("ul", { class: "wall", "aria-label": "Cameras" });
  const more = h("p", { class: "more" });
  const none = h("div");
  const bar = filters(() => arrange());
  const tiles = new Map();
  const visible = new Set();
  let shown = PAGE;
  let made = FIRST;
  let growing = 0;
  let arrangeDue = true;
  let closed = false;

  const observer = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const tile = entry.target.tile;
        tile.shot.setVisible(entry.isIntersecting);
        if (entry.isIntersecting) {
          visible.add(tile);
          tile.update();
        } else visible.delete(tile);
      }
    },
    { rootMargin: "150px" },
  );

  function arrange() {
    arrangeDue = false;
    const all = found().sort(byAttention);
    const wantedTiles = Math.min(shown, all.length);
    const part = all.slice(0, Math.min(wantedTiles, made));
    const kept = new Set(part.map((row) => row.id));
    for (const [id, tile] of tiles) {
      if (!kept.has(id) || rows.get(id) !== tile.row) {
        observer.unobserve(tile.element);
        visible.delete(tile);
        tile.shot.close();
        tile.element.remove();
        tiles.delete(id);
      }
    }
    let place = list.firstElementChild;
    for (const row of part) {
      let tile = tiles.get(row.id);
      if (!tile) {
        tile = new Tile(row);
        tiles.set(row.id, tile);
        tile.update();
        list.insertBefore(tile.element, place);
        observer.observe(tile.element);
      } else if (tile.element === place) place = place.nextElementSibling;
      else if (!tile.element.contains(document.activeElement)) list.insertBefore(tile.element, place);
    }
    more.replaceChildren();
    if (made < wantedTiles) growing ||= requestAnimationFrame(() => setTimeout(grow));
    const left = all.length - wantedTiles;
    if (left) {
      const button = h("button", { type: "button" }, `Show ${Math.min(PAGE, left)} of ${left} more`);
      button.addEventListener("click", () => {
        shown += PAGE;
        arrange();
      });
      more.append(button);
    }
    none.replaceChildren(...(part.length ? [] : [empty(rows.size, wanted)]));
    bar.update();
  }

  function grow() {
    growing = 0;
    if (closed) return;
    made += NEXT;
    arrange();
  }

  function changed(changes) {
    if (changes.members) arrangeDue = true;
    for (const id of changes.rows) {
      const tile = tiles.get(id);
      if (!tile) continue;
      if (tile.element.dataset.state !== tile.row.state) {
        setAttribute(tile.element, "data-state", tile.row.state);
        arrangeDue = true;
      }
      if (visible.has(tile)) tile.update();
    }
    if (changes.members) arrange();
  }

  const clock = setInterval(() => {
    if (arrangeDue) arrange();
    else bar.update();
    for (const tile of visible) tile.tick();
  }, CLOCK_MS);

  main.replaceChildren(h("div", { class: "head" }, h("h1", null, "Cameras"), bar.element), list, none, more);
  arrange();
  const stop = listen(changed);
  return {
    find() {
      shown = PAGE;
      arrange();
    },
    close() {
      closed = true;
      stop();
      clearInterval(clock);
      observer.disconnect();
      for (const tile of tiles.values()) tile.shot.close();
    },
  };
}
