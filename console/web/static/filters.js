// The buttons that show only the cameras in one state.

import { h, setText } from "./dom.js";
import { counts, wanted } from "./finding.js";
import { STATES, number } from "./text.js";

const LABELS = { "": "All", ...STATES, invalid: "Bad value" };

/** Returns the buttons, and a function that shows the current numbers. */
export function filters(onChange) {
  const buttons = new Map();
  const element = h("div", { class: "filters", role: "group", "aria-label": "Show cameras by state" });
  for (const [state, label] of Object.entries(LABELS)) {
    const count = h("b", null, "0");
    const button = h("button", { type: "button", "aria-pressed": "false" }, label, count);
    button.addEventListener("click", () => {
      wanted.state = state;
      update();
      onChange();
    });
    buttons.set(state, { button, count });
    element.append(button);
  }
  function update() {
    const numbers = counts();
    for (const [state, { button, count }] of buttons) {
      setText(count, number(numbers[state]));
      button.setAttribute("aria-pressed", String(wanted.state === state));
      button.hidden = state !== "" && !numbers[state] && wanted.state !== state;
    }
  }
  return { element, update };
}
