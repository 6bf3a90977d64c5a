// Keeps an img showing the last picture of a camera while it can be seen. A picture is fetched when there is a newer one, a
// few at a time, and the one before stays until it is there.

import { address } from "./session.js";

const AT_ONCE = 6;
const waiting = [];
let fetching = 0;

function next() {
  while (fetching < AT_ONCE && waiting.length) {
    const shot = waiting.shift();
    shot.queued = false;
    if (!shot.visible || !shot.wanted) continue;
    fetching += 1;
    shot.fetch().finally(() => {
      fetching -= 1;
      next();
    });
  }
}

export class Shot {
  constructor(image, onShown) {
    this.image = image;
    this.onShown = onShown;
    this.visible = false;
    this.queued = false;
    this.wanted = null;
    this.shown = -1;
    this.url = null;
  }

  /** Shows the picture of a row, as soon as it is visible. */
  update(row) {
    if (!row.picture) {
      this.onShown(false);
      return;
    }
    if (row.counted_at === this.shown) return;
    this.wanted = { name: row.name, at: row.counted_at };
    this.queue();
  }

  setVisible(visible) {
    this.visible = visible;
    if (visible) this.queue();
  }

  queue() {
    if (this.visible && this.wanted && !this.queued) {
      this.queued = true;
      waiting.push(this);
      next();
    }
  }

  async fetch() {
    const wanted = this.wanted;
    this.wanted = null;
    try {
      const answer = await fetch(address("/api/picture", wanted.name, { at: wanted.at }));
      if (answer.status === 204) this.onShown(false);
      else if (answer.ok) this.show(URL.createObjectURL(await answer.blob()));
      this.shown = wanted.at;
    } catch {
      // the next change of the row asks again
    }
  }

  show(url) {
    const before = this.url;
    this.url = url;
    this.image.onload = this.image.onerror = () => before && URL.revokeObjectURL(before);
    this.image.src = url;
    this.onShown(true);
  }

  close() {
    this.visible = false;
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = null;
  }
}
