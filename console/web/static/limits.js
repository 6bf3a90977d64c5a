// All limits as they stand in Redis: fields, patterns, boosts, what is wrong with them, import and export, and who changed what.

import { change, toast, undo } from "./changing.js";
import { h, setText } from "./dom.js";
import { compareNames, wanted } from "./finding.js";
import { mayChange, read, send } from "./session.js";
import { listen, now, sections } from "./store.js";
import { ago, duration, nameElement, number, plainName } from "./text.js";

const SHOWN = 300;
const KINDS = { limit: "Stream", pattern: "Pattern", boost: "Boost" };
const AUDIT_MS = 5000;

function entries(data) {
  const list = [];
  for (const [name, value] of Object.entries(data.limits)) list.push({ kind: "limit", name, value });
  for (const [name, value] of Object.entries(data.patterns)) list.push({ kind: "pattern", name, value });
  for (const [name, value] of Object.entries(data.boosts)) list.push({ kind: "boost", name, value });
  const bad = new Map(data.findings.map((finding) => [`${finding.kind} ${finding.name}`, finding]));
  for (const entry of list) entry.finding = bad.get(`${entry.kind} ${entry.name}`);
  const order = (entry) => (entry.finding?.severity === "error" ? 0 : entry.finding ? 1 : entry.name === "*" ? 2 : 3);
  return list.sort((a, b) => order(a) - order(b) || a.kind.localeCompare(b.kind) || compareNames(a, b));
}

function valueText({ kind, value }) {
  if (kind !== "boost") return value === "" ? "empty" : plainName(value);
  const [fps, until] = value.split(/\s+/);
  const left = Number(until) - now();
  return Number.isFinite(left) ? `${fps} fps, ${left > 0 ? `${duration(left)} left` : "ended"}` : plainName(value);
}

function auditText(kind, value) {
  if (!value) return "none";
  if (kind !== "boost") return plainName(value);
  const [fps, until] = value.split(" ");
  const end = new Date(Number(until) * 1000);
  return Number.isNaN(end.getTime()) ? plainName(value) : `${fps} until ${end.toLocaleTimeString("en-GB", { timeStyle: "short" })}`;
}

/** Asks for the new value of an entry in a dialog. */
function edit(entry) {
  const field = h("input", { type: "text", inputmode: "decimal", value: entry.kind === "boost" ? "" : entry.value, id: "edit-fps", autocomplete: "off" });
  const dialog = h(
    "dialog",
    { "aria-labelledby": "edit-title" },
    h("h2", { id: "edit-title" }, "Limit of ", nameElement(entry.name)),
    h(
      "form",
      { method: "dialog" },
      h("label", { for: "edit-fps" }, "Frames per second; 0 pauses, inf lifts the limit"),
      field,
      h("div", { class: "row-end" }, h("button", { value: "no", type: "button", onclick: () => dialog.close("no") }, "Cancel"), h("button", { value: "yes", class: "primary" }, "Set limit")),
    ),
  );
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (dialog.returnValue === "yes") set(entry.kind === "pattern" ? "pattern" : "limit", entry.name, field.value);
  });
  document.body.append(dialog);
  dialog.showModal();
  field.select();
}

function set(kind, name, text) {
  const fps = text.trim().replace(",", ".");
  const asked = kind === "pattern" ? { action: "pattern", name, fps } : { action: "set", names: [name], fps };
  return change(asked, `${plainName(name)}: ${fps} fps`);
}

const remove = (entry) => change({ action: "remove", kind: entry.kind, name: entry.name }, `${plainName(entry.name)} is removed`);

function buttons(entry) {
  if (!mayChange()) return null;
  const name = plainName(entry.name) || "empty name";
  return h(
    "div",
    { class: "buttons" },
    entry.kind === "boost" || entry.finding?.code === "bad-name" ? null : h("button", { type: "button", "aria-label": `Edit ${name}`, onclick: () => edit(entry) }, "Edit"),
    h("button", { type: "button", "aria-label": `Remove ${name}`, onclick: () => remove(entry) }, "Remove"),
  );
}

function importing() {
  const text = h("textarea", { "aria-label": "Limits as YAML or CSV", placeholder: "limits:\n  cam1: 2\npatterns:\n  floor1-*: 0.5", spellcheck: "false" });
  const form = h("select", { "aria-label": "Format" }, h("option", { value: "yaml" }, "YAML"), h("option", { value: "csv" }, "CSV"));
  const replace = h("input", { type: "checkbox", id: "replace" });
  const file = h("input", { type: "file", "aria-label": "File with limits", accept: ".yaml,.yml,.csv,text/*" });
  const preview = h("div");
  file.addEventListener("change", async () => {
    const chosen = file.files[0];
    if (!chosen) return;
    text.value = await chosen.text();
    form.value = chosen.name.endsWith(".csv") ? "csv" : "yaml";
  });
  const asked = () => ({ action: "import", text: text.value, format: form.value, replace: replace.checked });
  const look = h("button", { type: "button" }, "Show what would change");
  look.addEventListener("click", async () => {
    try {
      const found = await send("/api/changes", { ...asked(), dry_run: true });
      preview.replaceChildren(
        h("p", null, found.changes.length ? `${number(found.changes.length)} changes:` : "Nothing would change."),
        h("ul", { class: "audit" }, ...found.changes.slice(0, 50).map((each) => h("li", null, nameElement(each.name), `: ${each.old || "none"} → ${each.new || "none"}`))),
        found.warning ? h("p", { class: "flaw" }, found.warning) : "",
      );
    } catch (error) {
      toast(error.message, { kind: "bad" });
    }
  });
  const make = h("button", { type: "button", class: "primary" }, "Import");
  make.addEventListener("click", () => change(asked(), "The limits are imported"));
  return h("details", { class: "panel" }, h("summary", null, "Import"), h("form", { onsubmit: (event) => event.preventDefault() }, file, form, text, h("span", null, replace, h("label", { for: "replace", class: "inline" }, " remove all others")), look, make), preview);
}

function adding() {
  const name = h("input", { type: "text", id: "add-name", autocomplete: "off", spellcheck: "false" });
  const fps = h("input", { type: "text", id: "add-fps", inputmode: "decimal", class: "limit-field", autocomplete: "off" });
  const form = h(
    "form",
    null,
    h("label", null, "Stream, pattern (floor1-*) or * for all others", name),
    h("label", null, "fps", fps),
    h("button", { class: "primary" }, "Set limit"),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const kind = name.value !== "*" && /[*?]/.test(name.value) ? "pattern" : "limit";
    if (name.value && (await set(kind, name.value, fps.value))) form.reset();
  });
  return h("section", { class: "panel", "aria-label": "New limit" }, h("h2", null, "New limit"), form);
}

/** Shows the limits in an element; returns what ends it. */
export function limits(main) {
  const body = h("tbody");
  const count = h("span", { class: "fine" });
  const none = h("p", { class: "fine" });
  const findings = h("ul", { class: "findings" });
  const wrong = h("section", { class: "panel", hidden: true, "aria-label": "Wrong or doubtful" }, h("h2", null, "Wrong or doubtful"), findings);
  const audit = h("ul", { class: "audit" });
  const export_ = (form) => h("a", { class: "button", href: `/api/export?format=${form}`, download: `limits.${form}` }, `Export ${form.toUpperCase()}`);
  let data = { limits: {}, patterns: {}, boosts: {}, findings: [] };
  let version = -1;

  main.replaceChildren(
    h("div", { class: "head" }, h("h1", null, "Limits"), count, h("span", { class: "spacer" }), export_("yaml"), export_("csv")),
    h(
      "div",
      { class: "limits" },
      h(
        "div",
        null,
        wrong,
        h(
          "section",
          { class: "panel", "aria-label": "All limits" },
          h("h2", null, "In Redis"),
          h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": "Limits in Redis" }, h("table", null, h("thead", null, h("tr", null, ...["Name", "Kind", "Value", "Note", "Actions"].map((label) => h("th", { scope: "col", class: label === "Actions" ? "right" : null }, label)))), body)),
          none,
        ),
      ),
      h("div", null, mayChange() ? [adding(), importing()] : null, h("section", { class: "panel", "aria-label": "Changes" }, h("h2", null, "Changes"), audit)),
    ),
  );

  function show() {
    const words = wanted.text.toLowerCase().split(/\s+/).filter(Boolean);
    const all = entries(data);
    const found = all.filter((entry) => words.every((word) => entry.name.toLowerCase().includes(word)));
    body.replaceChildren(
      ...found.slice(0, SHOWN).map((entry) =>
        h(
          "tr",
          null,
          h("td", null, nameElement(entry.name)),
          h("td", null, entry.name === "*" && entry.kind === "limit" ? "All others" : KINDS[entry.kind]),
          h("td", null, valueText(entry)),
          h("td", null, entry.finding ? h("span", { class: "badge", data: { state: entry.finding.severity === "error" ? "silent" : "warning" } }, entry.finding.code.replaceAll("-", " ")) : ""),
          h("td", null, buttons(entry)),
        ),
      ),
    );
    setText(count, `${number(all.length)} in Redis`);
    setText(none, !all.length ? "There are no limits in Redis: every stream has the sidecar's default (--fps)." : found.length > SHOWN ? `${number(found.length - SHOWN)} more: search for them by name.` : !found.length ? "No name contains these words." : "");
    wrong.hidden = !data.findings.length;
    findings.replaceChildren(
      ...data.findings.slice(0, 20).map((finding) => {
        const entry = { kind: finding.kind, name: finding.name, value: "", finding };
        return h("li", { data: { severity: finding.severity } }, h("b", null, finding.name ? nameElement(finding.name) : "All limits"), h("span", null, finding.message), finding.name ? buttons(entry) : null);
      }),
    );
  }

  async function load() {
    version = sections.limits?.version ?? -1;
    try {
      data = await read("/api/limits");
      show();
    } catch (error) {
      setText(none, error.message);
    }
  }

  async function loadAudit() {
    try {
      const list = await read("/api/audit");
      const newest = new Map();
      audit.replaceChildren(
        ...(list.length ? list : []).map((each) => {
          const key = `${each.kind} ${each.name}`;
          const first = !newest.has(key);
          newest.set(key, each);
          const undoable = mayChange() && first && each.tool !== "other";
          return h(
            "li",
            null,
            nameElement(each.name),
            ` ${each.kind === "limit" ? "" : `(${each.kind}) `}${auditText(each.kind, each.old)} → ${auditText(each.kind, each.new)} `,
            undoable ? h("button", { type: "button", class: "plain", "aria-label": `Undo the change of ${plainName(each.name)}`, onclick: () => undo(each.name) }, "Undo") : null,
            h("span", { class: "fine" }, `${ago(now() - each.at)}, ${each.tool === "other" ? "by other means, noticed afterwards" : `${plainName(each.who)} with ${plainName(each.tool)}`}`),
          );
        }),
        ...(list.length ? [] : [h("li", null, "No change has been noted yet.")]),
      );
    } catch (error) {
      audit.replaceChildren(h("li", null, error.message));
    }
  }

  load();
  loadAudit();
  const stop = listen((changes) => {
    if (changes.sections.has("limits") && sections.limits.version !== version) {
      load();
      setTimeout(loadAudit, 200);
    }
  });
  const timer = setInterval(loadAudit, AUDIT_MS);
  return {
    find: show,
    close() {
      stop();
      clearInterval(timer);
    },
  };
}
