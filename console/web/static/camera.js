// One camera: its picture, its limit, its last hour, and why its frames are counted or not.

import { chart } from "./chart.js";
import { h, setText } from "./dom.js";
import { Shot } from "./pictures.js";
import { address, read } from "./session.js";
import { byName, listen, now } from "./store.js";
import { SKIPS, SOURCES, STATES, ago, badge, fps, nameElement, number, plainName } from "./text.js";

const DETAILS_MS = 2000;
const HISTORY_MS = 10000;

/** Shows a camera in an element; returns what ends it. */
export function camera(main, name, panel) {
  const state = badge("unseen");
  const image = h("img", { alt: "The last counted picture, with the hands that were found", hidden: true });
  const blank = h("span", null, "no picture");
  const shot = new Shot(image, (shown) => {
    image.hidden = !shown;
    blank.hidden = shown;
  });
  const facts = {
    hands: ["Hands", h("span"), h("small")],
    source: ["Camera fps", h("span"), h("small")],
    limit: ["Limit", h("span"), h("small")],
    admitted: ["Admitted fps", h("span"), h("small")],
    counted: ["Counted fps", h("span"), h("small")],
  };
  const why = h("ul", { class: "why" });
  const totals = h("dl", { class: "numbers" });
  const publisher = h("dl", { class: "numbers" });
  const json = h("pre", { class: "json", tabindex: "0" });
  const problem = h("p", { class: "flaw", hidden: true });
  const hands = chart("Hands in the last hour", [{ key: "hands", label: "hands" }], { area: true });
  const rates = chart("Frames per second in the last hour", [
    { key: "source_fps", label: "camera" },
    { key: "limit", label: "limit" },
    { key: "admitted_fps", label: "admitted" },
    { key: "counted_fps", label: "counted" },
  ]);
  const details = h("details", { class: "panel" }, h("summary", null, "Last result (JSON)"), json);

  main.replaceChildren(
    h("div", { class: "head" }, h("a", { href: "#/", class: "button" }, "← All cameras"), h("h1", { class: "title" }, nameElement(name)), state, problem),
    h(
      "div",
      { class: "camera" },
      h(
        "div",
        null,
        h(
          "section",
          { class: "panel big", "aria-label": "Now" },
          h("div", { class: "shot" }, blank, image),
          h("dl", { class: "facts" }, ...Object.values(facts).map(([label, value, small]) => h("div", null, h("dt", null, label), h("dd", null, value, small)))),
        ),
        h("section", { class: "panel" }, h("h2", null, "Hands, last hour"), hands.element),
        h("section", { class: "panel" }, h("h2", null, "Frames per second, last hour"), rates.element),
      ),
      h(
        "div",
        null,
        panel?.element,
        h("section", { class: "panel" }, h("h2", null, "Why"), why),
        h("section", { class: "panel" }, h("h2", null, "Frames"), totals),
        h("section", { class: "panel" }, h("h2", null, "Publisher"), publisher),
        details,
      ),
    ),
  );
  shot.setVisible(true);

  function show() {
    const row = byName(name);
    if (!row) {
      setText(blank, "There is no such camera.");
      return;
    }
    state.dataset.state = row.state;
    setText(state, STATES[row.state] ?? row.state);
    const set = (key, value, small) => {
      setText(facts[key][1], value);
      setText(facts[key][2], small);
    };
    set("hands", row.hands === null ? "–" : String(row.hands), row.counted_at ? `counted ${ago(now() - row.counted_at)}` : "not counted yet");
    set("source", fps(row.source_fps), row.heard_at ? `last frame ${ago(now() - row.heard_at)}` : "no frame yet");
    set("limit", row.limit === "inf" ? "none" : fps(row.limit), SOURCES[row.limit_source] ?? "unknown");
    set("admitted", fps(row.admitted_fps), "by the sidecar");
    set("counted", fps(row.counted_fps), row.counted_at ? `${fps(row.age)} s old` : "");
    if (!row.picture) setText(blank, "The pictures of this camera are switched off.");
    shot.update(row);
    panel?.update(row);
  }

  async function readDetails() {
    try {
      const found = await read(address("/api/camera", name));
      why.replaceChildren(...found.explanation.map((sentence) => h("li", null, sentence)));
      const fields = found.fields;
      const shown = [
        ["Received", fields.received],
        ["Admitted", fields.admitted],
        ["Counted", fields.counted],
        ["Skipped", fields.skipped],
        ...Object.entries(fields)
          .filter(([field]) => field.startsWith("skipped:"))
          .map(([field, count]) => [`  ${SKIPS[field.slice(8)] ?? field.slice(8)}`, count]),
        ["Dead letters", fields.dead],
      ];
      totals.replaceChildren(
        ...shown.filter(([, count]) => count !== undefined).flatMap(([label, count]) => [h("dt", null, label), h("dd", null, number(Number(count)))]),
        h("dt", null, "Last skipped because"),
        h("dd", null, SKIPS[fields.last_skip] ?? "–"),
        h("dt", null, "Picture"),
        h("dd", null, fields.width ? `${fields.width} × ${fields.height}` : "–"),
      );
      const said = found.camera;
      const known = [
        ["State", said.state && `${said.state} since ${new Date(Number(said.since) * 1000).toLocaleString("en-GB")}`],
        ["Source", said.source],
        ["Codec", said.codec],
        ["Size", said.size],
        ["Arrived", said.arrived && number(Number(said.arrived))],
        ["Published", said.published && number(Number(said.published))],
        ["Left out, not due", said.thinned && number(Number(said.thinned))],
        ["Dropped", said.dropped && number(Number(said.dropped))],
        ["Last error", said.error && `${said.error} (${ago(now() - Number(said.error_at))})`],
        ["Host", said.host],
      ].filter(([, text]) => text);
      publisher.replaceChildren(
        ...(known.length ? known : [["State", "no publisher says anything about it"]]).flatMap(([label, text]) => [h("dt", null, label), h("dd", null, plainName(text))]),
      );
      if (details.open || !json.firstChild) setText(json, found.result ? JSON.stringify(found.result, null, 2) : "no result yet");
    } catch (error) {
      why.replaceChildren(h("li", null, error.message));
    }
  }

  async function readHistory() {
    try {
      const points = await read(address("/api/history", name));
      hands.update(points);
      rates.update(points);
    } catch {
      // shown by the connection at the top
    }
  }

  show();
  readDetails();
  readHistory();
  const stop = listen(show);
  const timers = [setInterval(show, 1000), setInterval(readDetails, DETAILS_MS), setInterval(readHistory, HISTORY_MS)];
  return {
    close() {
      stop();
      timers.forEach(clearInterval);
      shot.close();
    },
  };
}
