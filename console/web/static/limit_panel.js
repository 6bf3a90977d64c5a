// What changes a camera's limit: a slider with a field and presets, pause, a boost with its countdown, undo.

import { change, undo } from "./changing.js";
import { h, setText } from "./dom.js";
import { mayChange, session } from "./session.js";
import { now } from "./store.js";
import { SOURCES, fps, plainName } from "./text.js";

const PRESETS = ["0.1", "0.25", "0.5", "1", "2", "5", "10", "inf"];
const LOWEST = 0.05;
const HIGHEST = 60;
const STEPS = 200;
const TIMES = [
  ["10 minutes", 600],
  ["1 hour", 3600],
  ["4 hours", 14400],
  ["24 hours", 86400],
];

const toStep = (value) => Math.round((Math.log(Math.min(HIGHEST, Math.max(LOWEST, value)) / LOWEST) / Math.log(HIGHEST / LOWEST)) * STEPS);
const fromStep = (step) => Number((LOWEST * (HIGHEST / LOWEST) ** (step / STEPS)).toPrecision(2));

const said = (text) => (text === "inf" ? "no limit" : `${text} fps`);

/** Returns the panel of a camera: its element, and update(row). */
export function limitPanel(name) {
  const shown = plainName(name);
  const now_ = h("p", { class: "limit-now" }, h("b"), " ", h("span", { class: "fine" }));
  const slider = h("input", { type: "range", min: "0", max: String(STEPS), step: "1", "aria-label": "Limit, frames per second", class: "limit-slider" });
  const field = h("input", { type: "text", inputmode: "decimal", autocomplete: "off", spellcheck: "false", "aria-label": "Limit, frames per second; inf: none", class: "limit-field" });
  const apply = h("button", { type: "submit", class: "primary" }, "Set limit");
  const pause = h("button", { type: "button" }, "Pause");
  const reset = h("button", { type: "button", title: "Remove the stream's own limit" }, "Remove own limit");
  const undoing = h("button", { type: "button" }, "Undo last change");
  const boostFps = h("input", { type: "text", inputmode: "decimal", "aria-label": "Boost, frames per second", value: "10", class: "limit-field" });
  const boostTime = h("select", { "aria-label": "How long" }, ...TIMES.map(([label, seconds]) => h("option", { value: String(seconds) }, label)));
  const boosting = h("button", { type: "submit" }, "Boost");
  const countdown = h("p", { class: "countdown", hidden: true }, h("span"), " ", h("button", { type: "button" }, "End it now"));
  let row = null;
  let edited = false;

  const set = (text) => change({ action: "set", names: [name], fps: text }, `${shown}: ${said(text)}`).then((done) => done && (edited = false));

  slider.addEventListener("input", () => {
    edited = true;
    field.value = String(fromStep(Number(slider.value)));
    slider.setAttribute("aria-valuetext", said(field.value));
  });
  field.addEventListener("input", () => {
    edited = true;
    const value = Number(field.value.replace(",", "."));
    if (value > 0) slider.value = String(toStep(value));
  });
  pause.addEventListener("click", () => {
    const paused = row?.limit === 0;
    change({ action: paused ? "resume" : "pause", names: [name] }, `${shown} ${paused ? "continues" : "is paused"}`).then(() => (edited = false));
  });
  reset.addEventListener("click", () => change({ action: "reset", names: [name] }, `${shown}: its own limit is removed`).then(() => (edited = false)));
  undoing.addEventListener("click", () => undo(name));
  countdown.lastChild.addEventListener("click", () => change({ action: "end_boost", names: [name] }, `${shown}: the boost has ended`));

  const presets = h(
    "div",
    { class: "presets", role: "group", "aria-label": "Presets" },
    ...PRESETS.map((text) => h("button", { type: "button", onclick: () => set(text) }, text === "inf" ? "no limit" : text)),
  );
  const form = h("form", { class: "limit-form" }, slider, field, h("span", { class: "fine" }, "fps"), apply);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    set(field.value.trim().replace(",", "."));
  });
  const boostForm = h("form", { class: "limit-form" }, h("span", null, "Boost to"), boostFps, h("span", { class: "fine" }, "fps for"), boostTime, boosting);
  boostForm.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = boostFps.value.trim().replace(",", ".");
    change({ action: "boost", names: [name], fps: text, seconds: Number(boostTime.value) }, `${shown}: boosted to ${said(text)}`);
  });

  const why = session.changes ? "Only operators may change limits." : "Read-only: the console was started without --allow-changes.";
  const element = h(
    "section",
    { class: "panel limit-panel", "aria-label": "Limit" },
    h("h2", null, "Limit"),
    now_,
    mayChange() ? [form, presets, h("div", { class: "limit-actions" }, pause, reset, undoing), countdown, boostForm] : h("p", { class: "fine" }, why),
  );

  function tick() {
    const left = row?.boost_until ? row.boost_until - now() : 0;
    countdown.hidden = !(left > 0);
    if (left > 0) {
      const whole = Math.ceil(left);
      const text = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60].map((part) => String(part).padStart(2, "0")).join(":");
      setText(countdown.firstChild, `Boost ends in ${text}`);
    }
  }

  return {
    element,
    focus: () => {
      field.focus();
      field.select();
    },
    update(newest) {
      row = newest;
      setText(now_.firstChild, row.limit === "inf" ? "No limit" : row.limit === 0 ? "Paused" : row.limit === null ? "Default" : `${fps(row.limit)} fps`);
      setText(now_.lastChild, row.invalid ? `bad value in Redis: ${plainName(row.invalid)}` : `from: ${SOURCES[row.limit_source] ?? "unknown"}`);
      setText(pause, row.limit === 0 ? "Resume" : "Pause");
      reset.disabled = row.field === null && !row.boost_until;
      if (!edited && document.activeElement !== field && document.activeElement !== slider) {
        field.value = row.limit === null ? "" : String(row.limit);
        slider.value = String(row.limit === "inf" ? STEPS : toStep(row.limit || LOWEST));
        slider.setAttribute("aria-valuetext", said(field.value || "default"));
      }
      tick();
    },
  };
}

/** Opens the panel of a camera in a dialog. */
export function openLimit(row, { byName, listen }) {
  const panel = limitPanel(row.name);
  const close = h("button", { type: "button" }, "Close");
  const dialog = h("dialog", { class: "limit-dialog", "aria-label": `Limit of ${plainName(row.name)}` }, h("p", { class: "dialog-name" }, plainName(row.name)), panel.element, h("div", { class: "row-end" }, close));
  const show = () => byName(row.name) && panel.update(byName(row.name));
  const stop = listen(show);
  const timer = setInterval(show, 1000);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    stop();
    clearInterval(timer);
    dialog.remove();
  });
  document.body.append(dialog);
  show();
  dialog.showModal();
  panel.focus();
}
