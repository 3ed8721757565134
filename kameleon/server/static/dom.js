// Makes elements. Texts are text nodes, never HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `class`, `on…` listeners, `data-…`, ARIA and other attributes; properties that are not attributes by a
 * leading dot (".value"); custom properties of CSS by their name ("--share"). */
export function h(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (name.startsWith(".")) element[name.slice(1)] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...shown(children));
  return element;
}

/** Replaces what is in an element. */
export function fill(element, ...children) {
  element.replaceChildren(...shown(children));
  return element;
}

function shown(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Announces a sentence to screen readers. */
export function announce(text) {
  document.getElementById("live").textContent = text;
}

let hiding;

/** Shows a sentence for three seconds. */
export function toast(text) {
  const element = document.getElementById("toast");
  element.textContent = text;
  element.hidden = false;
  announce(text);
  clearTimeout(hiding);
  hiding = setTimeout(() => (element.hidden = true), 3000);
}

/** Calls a function once no further call came for some milliseconds. */
export function debounced(call, wait) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...given), wait);
  };
}

export function number(value) {
  return value.toLocaleString("en");
}

/** .83 for 0.83: figures between 0 and 1 in two or three digits. */
export function share(value, digits = 2) {
  return value.toFixed(digits).replace(/^(-?)0\./, "$1.");
}

export function copyText(text, what = "Copied") {
  navigator.clipboard.writeText(text).then(() => toast(what), () => toast("The browser does not allow to copy"));
}
