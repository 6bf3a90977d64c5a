// Asks the server for changes, shows what came of them, and offers to undo them.

import { h } from "./dom.js";
import { mayChange, send } from "./session.js";
import { plainName } from "./text.js";

const SHOWN_MS = 9000;

/** Shows a message for some seconds, with a button if there is something to do about it. */
export function toast(text, { kind = "done", label, action } = {}) {
  const close = () => element.remove();
  const element = h("div", { class: "toast", data: { kind } }, h("span", null, text));
  if (action) {
    const button = h("button", { type: "button" }, label);
    button.addEventListener("click", () => {
      close();
      action();
    });
    element.append(button);
  }
  // An undo is of the last change, so only the newest message may offer one.
  document.getElementById("toasts").replaceChildren(element);
  setTimeout(close, SHOWN_MS);
}

/** Asks a yes or no question in a dialog. */
export function confirm(title, text, yes) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "confirm-title" },
      h("h2", { id: "confirm-title" }, title),
      h("p", null, text),
      h(
        "form",
        { method: "dialog", class: "row-end" },
        h("button", { value: "no" }, "Cancel"),
        h("button", { value: "yes", class: "primary" }, yes),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Undoes the last change of a stream or pattern. */
export async function undo(name) {
  await change({ action: "undo", name }, `${plainName(name)}: the last change is undone`, { undoable: false });
}

/** Makes a change; asks first if the server warns. Returns whether it was made. */
export async function change(asked, done, { undoable = true } = {}) {
  if (!mayChange()) {
    toast("This page is read-only.", { kind: "bad" });
    return false;
  }
  let answer;
  try {
    answer = await send("/api/changes", asked);
  } catch (error) {
    if (!error.warning) {
      toast(error.message, { kind: "bad" });
      return false;
    }
    if (!(await confirm("The workers may be too few", error.message, "Change it all the same"))) return false;
    return change({ ...asked, confirmed: true }, done, { undoable });
  }
  const name = answer.changes[0]?.name;
  const text = answer.changes.length ? done : "Nothing had to be changed";
  const also = answer.notes.length ? `. ${answer.notes.join(". ")}.` : "";
  toast(text + also, undoable && answer.changes.length ? { label: "Undo", action: () => undo(name) } : {});
  return true;
}
