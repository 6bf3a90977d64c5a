// What stands where no camera is.

import { h } from "./dom.js";

/** Returns what to say instead of cameras: none exists, or none is found. */
export function empty(number, wanted) {
  if (number) {
    return h(
      "div",
      { class: "empty" },
      h("h2", null, "No camera is found"),
      h("p", null, wanted.text ? "No name contains these words. " : "No camera is in this state. ", "Press Esc to see all."),
    );
  }
  return h(
    "div",
    { class: "empty" },
    h("h2", null, "No cameras yet"),
    h("p", null, "A camera appears with its first frame, and with its first limit in Redis. This simulates one:"),
    h("code", null, "hand-counter publish synthetic:fps=25,hands=2 --stream-name cam1"),
  );
}
