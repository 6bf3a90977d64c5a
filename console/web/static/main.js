// The page: opens the session, connects, and shows the view that the address names.

import { camera } from "./camera.js";
import { wanted } from "./finding.js";
import { fleet } from "./fleet.js";
import { handleKeys, showKeys } from "./keys.js";
import { limitPanel, openLimit } from "./limit_panel.js";
import { limits } from "./limits.js";
import { mayChange, openSession, send, session } from "./session.js";
import { byName, connect, listen, rows, sections } from "./store.js";
import { setText } from "./dom.js";
import { plainName } from "./text.js";
import { table } from "./table.js";
import { wall } from "./wall.js";

const main = document.getElementById("main");
const search = document.getElementById("search");
const connection = document.getElementById("connection");
const notice = document.getElementById("notice");
const logout = document.getElementById("logout");
let view = null;
let panel = null;
let shown = null;

function cameraName(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function route() {
  const [, place = "", name = ""] = location.hash.split("/");
  if (shown === location.hash) return;
  const first = shown === null;
  shown = location.hash;
  view?.close();
  panel = place === "camera" ? limitPanel(cameraName(name)) : null;
  if (place === "camera") view = camera(main, cameraName(name), panel);
  else if (place === "table") view = table(main);
  else if (place === "fleet") view = fleet(main);
  else if (place === "limits") view = limits(main);
  else view = wall(main);
  const title = { camera: plainName(cameraName(name)), table: "Table", fleet: "Fleet", limits: "Limits" }[place] ?? "Cameras";
  document.title = `${title} – hand-counter`;
  for (const link of document.querySelectorAll(".tabs a")) {
    if (link.getAttribute("href") === `#/${place}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!first) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

function showTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

search.addEventListener("input", () => {
  wanted.text = search.value;
  if (view?.find) view.find();
  else location.hash = "#/";
});
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter") document.querySelector(".tile .name a, .grid tbody a")?.click();
});
document.getElementById("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const theme = dark ? "light" : "dark";
  showTheme(theme);
  localStorage.setItem("theme", theme);
});
document.getElementById("help").addEventListener("click", showKeys);
logout.addEventListener("click", async () => {
  await send("/logout", {}).catch(() => {}); // a session that has ended needs none
  location.assign("/");
});
handleKeys({
  search: () => search.focus(),
  edit: (element) => {
    if (panel && mayChange()) panel.focus();
    const row = rows.get(element?.tile?.row.id ?? element?.line?.row.id);
    if (row) openLimit(row, { byName, listen });
  },
  back: (typing) => {
    if (typing || wanted.text || wanted.state) {
      search.value = wanted.text = wanted.state = "";
      search.blur();
      view?.find?.();
    } else if (location.hash.startsWith("#/camera")) history.length > 1 ? history.back() : (location.hash = "#/");
  },
});
addEventListener("hashchange", route);
listen((changes) => {
  if (!changes.sections.has("problems") && !changes.sections.has("left_out")) return;
  const problems = [...(sections.problems ?? [])];
  if (sections.left_out) problems.push(`${sections.left_out} streams aren't shown: see --max-streams`);
  notice.hidden = !problems.length;
  setText(notice, problems.join(". "));
});
showTheme(localStorage.getItem("theme"));
// At the same time, so that the cameras are there when it is known who looks.
const opening = openSession();
connect((state) => {
  connection.dataset.state = state;
  setText(connection, { live: "live", lost: "connection lost, trying again", full: "too many pages are open" }[state]);
});
await opening;
logout.hidden = !session.can_log_out;
setText(document.getElementById("who"), session.role === "operator" ? session.name : `${session.name} (read-only)`);
route();
