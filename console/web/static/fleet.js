// The fleet: sidecars, workers, the queue, Redis, and whether the workers can count what the limits ask.

import { h, svg } from "./dom.js";
import { listen, now, sections } from "./store.js";
import { SKIPS, bytes, duration, fps, number } from "./text.js";

const DEAD = {
  bad_stream_name: "bad name",
  bad_ts: "bad timestamp",
  no_payload: "no picture",
  bad_frame_key: "bad key",
  undecodable: "undecodable",
  trimmed: "dropped while held",
  lost: "forgotten by Redis",
  failed: "failed",
};

function capacity(value) {
  if (!value) return [h("p", { class: "fine" }, "Not known yet.")];
  const known = value.most ?? Math.max(value.peak, value.counted);
  const scale = Math.max(known, value.asked, 0.1) * 1.05;
  const width = (part) => `${Math.min(100, (part / scale) * 100)}%`;
  const over = value.most !== null && value.asked > value.most;
  const sentence = value.full
    ? `The workers are full: they count ${fps(value.counted)} of the ${fps(value.asked)} fps that the limits ask for.`
    : `The workers keep up: they count ${fps(value.counted)} of the ${fps(value.asked)} fps that the limits ask for.`;
  const mark = (part) => svg("rect", { class: "mark", x: width(part), width: "2", height: "100%" });
  return [
    h(
      "div",
      { class: "capacity" },
      svg(
        "svg",
        { role: "img", "aria-label": sentence },
        svg("rect", { class: over ? "over" : "asked", width: width(value.asked), height: "100%" }),
        svg("rect", { class: "counted", width: width(value.counted), height: "100%" }),
        mark(known),
      ),
    ),
    h("p", { class: "scale" }, h("span", null, "0"), h("span", null, `${fps(scale)} fps`)),
    h("p", { class: "headline" }, sentence),
    h(
      "p",
      { class: "fine" },
      value.most !== null
        ? `When they are full they count ${fps(value.most)} fps. ${value.full ? `${fps(value.given_up)} admitted frames per second are given up for newer ones; streams get turns in proportion to their limits.` : ""}`
        : `The most that was counted within the last hour is ${fps(value.peak)} fps. How much more they could count shows only when they are full.`,
    ),
  ];
}

function list(pairs) {
  return h("dl", { class: "numbers" }, ...pairs.filter(Boolean).flatMap(([label, value]) => [h("dt", null, label), h("dd", null, value)]));
}

function lines(headings, body, none) {
  if (!body.length) return h("p", { class: "fine" }, none);
  return h(
    "div",
    { class: "scroll-x", tabindex: "0", role: "region", "aria-label": headings[0] },
    h("table", null, h("thead", null, h("tr", null, ...headings.map((text) => h("th", { scope: "col" }, text)))), h("tbody", null, ...body.map((cells) => h("tr", null, ...cells.map((cell) => h("td", null, cell)))))),
  );
}

const status = (good, text) => h("span", { class: "badge", data: { state: good ? "live" : "silent" } }, text);

function sidecars(all) {
  const body = (all ?? []).map((each) => [
    each.address,
    each.problem ? status(false, each.problem) : each.redis_problem ? h("span", { class: "badge", data: { state: "warning" } }, each.redis_problem) : status(true, each.redis_state || "answers"),
    each.version ?? "–",
    each.streams === undefined ? "–" : number(each.streams),
    each.default_fps ? `${each.default_fps} fps` : "–",
    each.scope || "–",
    each.shadow ? "shadow: admits all" : (each.pacing ?? "–"),
    each.answers_ms === undefined ? "–" : `${each.answers_ms} ms`,
  ]);
  return lines(["Sidecar", "State", "Version", "Streams", "Default", "Scope", "Pacing", "Answers in"], body, "No sidecar is configured.");
}

function workers(queue) {
  const body = (queue?.workers ?? []).map((each) => [each.name, status(each.idle_s < 60, each.idle_s < 60 ? "reads" : "idle"), number(each.pending), duration(each.idle_s)]);
  return lines(["Worker", "State", "Holds", "Last read"], body, "No worker has read the queue yet.");
}

function accounting(queue) {
  const fields = queue?.accounting ?? {};
  const sum = (prefix) => Object.entries(fields).reduce((total, [name, value]) => total + (name.startsWith(prefix) ? value : 0), 0);
  const parts = (prefix, words) =>
    Object.entries(fields)
      .filter(([name, value]) => name.startsWith(prefix) && value)
      .sort((a, b) => b[1] - a[1])
      .map(([name, value]) => [`  – ${words[name.slice(prefix.length)] ?? name.slice(prefix.length)}`, number(value)]);
  return list([
    ["Received", number(fields.received)],
    ["Counted", number(fields.counted)],
    ["Skipped", number(sum("skipped:"))],
    ...parts("skipped:", SKIPS),
    ["Dead letters", number(sum("dead:"))],
    ...parts("dead:", DEAD),
  ]);
}

function queueNumbers(queue) {
  if (!queue || queue.frames === undefined) return h("p", { class: "fine" }, "The queue can't be read.");
  return list([
    queue.partitions > 1 && ["Partitions", number(queue.partitions)],
    ["Entries in the queue", number(queue.frames)],
    ["Not read yet", queue.lag === null || queue.lag === undefined ? "–" : number(queue.lag)],
    ["Held by workers", number(queue.pending)],
    ["Oldest held", queue.oldest_pending_at ? duration(Math.max(0, now() - queue.oldest_pending_at)) : "–"],
    ["Dropped unread", number(queue.dropped)],
    ["Results kept", number(queue.counts)],
    ["Dead letters kept", number(queue.dead)],
  ]);
}

function partitions(queue) {
  const body = (queue?.each ?? []).map((each, i) => [String(i), number(each.frames), each.lag === null ? "–" : number(each.lag), number(each.pending), number(each.readers)]);
  return lines(["Partition", "Entries", "Not read yet", "Held", "Workers"], body, "The queue has one partition.");
}

function redis(value) {
  if (!value?.version) return h("p", { class: "fine" }, "Redis says nothing about itself to this user (INFO).");
  return list([
    ["Server", `${value.name} ${value.version}`],
    ["Answers in", `${value.answers_ms} ms`],
    ["Memory", value.maxmemory ? `${bytes(value.used_memory)} of ${bytes(value.maxmemory)}` : bytes(value.used_memory)],
    ["When full", value.policy],
    ["Commands per second", number(value.instantaneous_ops_per_sec)],
    ["Clients", number(value.connected_clients)],
    ["Evicted keys", number(value.evicted_keys)],
    ["Changes of limits", value.tracking ? "pushed" : "polled"],
  ]);
}

/** Shows the fleet in an element; returns what ends it. */
export function fleet(main) {
  const bodies = Object.fromEntries(["capacity", "sidecars", "workers", "queue", "partitions", "accounting", "redis", "console"].map((name) => [name, h("div")]));
  const panel = (name, title, wide) => h("section", { class: wide ? "panel wide" : "panel", "aria-label": title }, h("h2", null, title), bodies[name]);
  main.replaceChildren(
    h("div", { class: "head" }, h("h1", null, "Fleet")),
    h(
      "div",
      { class: "fleet" },
      panel("capacity", "Capacity", true),
      panel("sidecars", "Sidecars", true),
      panel("workers", "Workers"),
      panel("queue", "Queue"),
      panel("accounting", "All frames so far"),
      panel("redis", "Redis"),
      panel("partitions", "Partitions", true),
      panel("console", "This console", true),
    ),
  );
  let before = null;

  function show() {
    const value = sections.fleet ?? {};
    bodies.capacity.replaceChildren(...capacity(value.capacity));
    bodies.sidecars.replaceChildren(sidecars(value.sidecars));
    bodies.workers.replaceChildren(workers(value.queue));
    bodies.queue.replaceChildren(queueNumbers(value.queue));
    bodies.partitions.replaceChildren(partitions(value.queue));
    bodies.accounting.replaceChildren(accounting(value.queue));
    bodies.redis.replaceChildren(redis(value.redis));
    const own = value.console;
    if (own) {
      const at = performance.now() / 1000;
      if (!before || at - before.at > 9) before = { at, ...own, rate: before && { redis: (own.redis - before.redis) / (at - before.at), sidecars: (own.sidecars - before.sidecars) / (at - before.at) } };
      const rate = before.rate ? `${fps(before.rate.redis)} commands per second to Redis and ${fps(before.rate.sidecars)} calls per second to sidecars` : "measuring";
      bodies.console.replaceChildren(h("p", { class: "fine" }, `${number(own.viewers)} open pages share one feed, which costs ${rate}. The last hour of ${number(own.history)} streams is kept in its memory.`));
    }
  }

  show();
  const stop = listen((changes) => {
    if (changes.sections.has("fleet")) show();
  });
  return { close: stop };
}
