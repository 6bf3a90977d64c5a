// The keyboard: / searches, arrows move between cameras, e changes a limit, Esc goes back.

import { h } from "./dom.js";

const KEYS = [
  ["/", "find a camera"],
  ["← → ↑ ↓", "move between cameras"],
  ["Enter", "open the camera"],
  ["e", "change the camera's limit"],
  ["Esc", "leave the search, go back to all cameras"],
  ["?", "this list"],
];

/** Shows the list of keys. */
export function showKeys() {
  const dialog = h(
    "dialog",
    { "aria-labelledby": "keys-title" },
    h("h2", { id: "keys-title" }, "Keys"),
    h("table", null, h("tbody", null, ...KEYS.map(([key, what]) => h("tr", null, h("th", { scope: "row" }, h("kbd", null, key)), h("td", null, what))))),
    h("div", { class: "row-end" }, h("button", { type: "button", class: "primary", onclick: () => dialog.close() }, "Close")),
  );
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

const isTyping = (target) => target.matches?.("input, textarea, select") || target.isContentEditable;

function move(key) {
  const links = [...document.querySelectorAll(".tile .name a, .grid tbody a")];
  if (!links.length) return false;
  const at = links.indexOf(document.activeElement);
  if (at < 0) {
    links[0].focus();
    return true;
  }
  const inWall = links[at].closest(".wall");
  let columns = 1;
  if (inWall) columns = Math.max(1, getComputedStyle(inWall).gridTemplateColumns.split(" ").length);
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
  const next = links[Math.max(0, Math.min(links.length - 1, at + step))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
  return true;
}

/** Handles keys: actions are {search, edit, back}. */
export function handleKeys({ search, edit, back }) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") return back(isTyping(event.target));
    if (isTyping(event.target)) return;
    if (event.key === "/") search();
    else if (event.key === "?") showKeys();
    else if (event.key === "e") edit(document.activeElement?.closest(".tile, .grid tr"));
    else if (event.key.startsWith("Arrow") && move(event.key)) event.preventDefault();
    else return;
    // The key isn't for the field that now has the focus.
    event.preventDefault();
  });
}
