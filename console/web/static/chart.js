// Lines over the last hour, as SVG. What a line shows can also be read as text, point by point, with the arrow keys.

import { h, setText, svg } from "./dom.js";

const WIDTH = 600;
const HEIGHT = 180;
const LEFT = 34;
const BOTTOM = 20;

function top(highest) {
  for (const step of [0.5, 1, 2, 3, 4, 5, 8, 10, 15, 20, 30, 40, 60, 100]) if (highest <= step) return step;
  return 10 ** Math.ceil(Math.log10(highest));
}

function path(points, x, y, bounded) {
  let text = "";
  let drawing = false;
  points.forEach((value, i) => {
    if (value === null) {
      drawing = false;
      return;
    }
    text += `${drawing ? "L" : "M"}${x(i).toFixed(1)} ${y(Math.min(value, bounded)).toFixed(1)}`;
    drawing = true;
  });
  return text;
}

/** Returns a chart: series are [{key, label, text}], and update(points) shows columns of equal length with their times. */
export function chart(title, series, { area = false } = {}) {
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": title });
  const value = h("p", { class: "chart-value", "aria-live": "off" });
  const legend = h(
    "ul",
    { class: "legend" },
    ...series.map((each) => h("li", null, svg("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, svg("path", { class: "series", "data-series": each.key, d: "M0 4H22" })), each.label)),
  );
  const frame = h("div", { class: "chart", tabindex: "0", role: "group", "aria-label": `${title}; arrow keys read the points` }, drawing);
  const element = h("figure", null, h("figcaption", null, series.length > 1 ? legend : null), frame, value);
  let shown = null;
  let cursor = null;

  const width = () => frame.clientWidth || WIDTH;

  function update(points) {
    shown = points;
    const at = points.at ?? [];
    const w = width();
    drawing.setAttribute("viewBox", `0 0 ${w} ${HEIGHT}`);
    const highest = top(Math.max(0.1, ...series.flatMap((each) => (points[each.key] ?? []).filter((v) => v !== null))));
    const end = at.length ? at[at.length - 1] : 0;
    const begin = Math.min(end - 300, at[0] ?? 0);
    const x = (i) => LEFT + ((at[i] - begin) / Math.max(end - begin, 1)) * (w - LEFT - 4);
    const y = (v) => 8 + (1 - v / highest) * (HEIGHT - BOTTOM - 8);
    const minutes = Math.max(5, Math.round((end - begin) / 60));
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const level = share * highest;
      parts.push(svg("path", { class: "axis", d: `M${LEFT} ${y(level)}H${w - 4}` }));
      parts.push(svg("text", { x: LEFT - 6, y: y(level) + 4, "text-anchor": "end" }, String(Math.round(level * 100) / 100)));
    }
    parts.push(svg("text", { x: LEFT, y: HEIGHT - 4 }, `${minutes} min ago`));
    parts.push(svg("text", { x: w - 4, y: HEIGHT - 4, "text-anchor": "end" }, "now"));
    for (const each of series) {
      const line = path(points[each.key] ?? [], x, y, highest);
      if (!line) continue;
      if (area && at.length > 1) {
        const known = (points[each.key] ?? []).map((v, i) => (v === null ? -1 : i)).filter((i) => i >= 0);
        if (known.length > 1 && !line.slice(1).includes("M")) {
          parts.push(svg("path", { class: "area", "data-series": each.key, d: `${line}L${x(known[known.length - 1])} ${y(0)}L${x(known[0])} ${y(0)}Z` }));
        }
      }
      parts.push(svg("path", { class: "series", "data-series": each.key, d: line }));
    }
    if (cursor !== null && at[cursor] !== undefined) parts.push(svg("path", { class: "cursor", d: `M${x(cursor)} 8V${HEIGHT - BOTTOM}` }));
    drawing.replaceChildren(...parts);
    drawing.setAttribute("aria-label", `${title}. ${sentence(at.length - 1)}`);
    setText(value, sentence(cursor ?? at.length - 1));
  }

  function sentence(i) {
    if (!shown?.at?.length || shown.at[i] === undefined) return "Nothing has been recorded yet.";
    const time = new Date(shown.at[i] * 1000).toLocaleTimeString("en-GB");
    const values = series.map((each) => `${each.label} ${shown[each.key]?.[i] ?? "–"}`);
    return `${time}: ${values.join(", ")}`;
  }

  function move(to) {
    const last = (shown?.at?.length ?? 0) - 1;
    if (last < 0) return;
    cursor = to === null ? null : Math.max(0, Math.min(last, to));
    update(shown);
  }

  frame.addEventListener("keydown", (event) => {
    const last = (shown?.at?.length ?? 0) - 1;
    if (event.key === "ArrowLeft") move((cursor ?? last) - 1);
    else if (event.key === "ArrowRight") move((cursor ?? last) + 1);
    else return;
    value.setAttribute("aria-live", "polite");
    event.preventDefault();
    event.stopPropagation();
  });
  frame.addEventListener("pointermove", (event) => {
    const at = shown?.at ?? [];
    if (at.length < 2) return;
    const box = frame.getBoundingClientRect();
    const end = at[at.length - 1];
    const begin = Math.min(end - 300, at[0]);
    const time = begin + ((event.clientX - box.left - LEFT) / (box.width - LEFT - 4)) * (end - begin);
    let nearest = 0;
    at.forEach((each, i) => {
      if (Math.abs(each - time) < Math.abs(at[nearest] - time)) nearest = i;
    });
    move(nearest);
  });
  frame.addEventListener("pointerleave", () => move(null));
  return { element, update };
}
