// Builds elements. Text is only ever set as text: no markup is parsed anywhere, and the browser is told to refuse it.

const SVG = "http://www.w3.org/2000/svg";

function put(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name in element && !(element instanceof SVGElement) && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Returns an element: h("p", {class: "note"}, "text", child). Properties that are null are left out. */
export function h(tag, properties, ...children) {
  return put(document.createElement(tag), properties, children);
}

/** Returns an element of SVG. */
export function svg(tag, properties, ...children) {
  return put(document.createElementNS(SVG, tag), properties, children);
}

/** Sets the text of an element if it is another one; the page isn't laid out again for nothing. */
export function setText(element, text) {
  if (element.firstChild?.nodeType === 3 && !element.firstElementChild) {
    if (element.firstChild.data !== text) element.firstChild.data = text;
  } else if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute if it has another value. */
export function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}
