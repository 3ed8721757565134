// Parts that views share: buttons, tables, problems, texts with commands.

import { fill, h } from "./dom.js";

/** A button of one of the page's kinds: "button", "button button-primary", "link-button". */
export function button(text, onclick, { kind = "button", ...attributes } = {}) {
  return h("button", { type: "button", class: kind, onclick, ...attributes }, text);
}

/** A small text that explains. */
export const notice = (...children) => h("p", { class: "notice" }, children);

/** That something is read or measured. */
export const working = (text) => h("p", { class: "notice working", role: "status" }, text);

/** What went wrong, and a button that tries again. */
export function problemBox(problem, again) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("h2", {}, problem.title || "The request failed"),
    problem.message !== problem.title && h("p", {}, code(sentence(problem.message))),
    button("Try again", again),
  );
}

/** That nothing is indexed, and how that changes. */
export function emptyIndex(text, ...more) {
  const example = `kameleon data insert Note '{"id": 1, "text": "The first record"}'`;
  return h("div", { class: "empty" }, h("h2", {}, "The index is empty"), h("p", {}, text), h("pre", { class: "code", tabindex: 0 }, example), more);
}

/** A dialog that a press beside it closes, too. */
export function dialog(id, title, kind, ...content) {
  const close = h("form", { method: "dialog" }, h("button", { class: "button" }, "Close"));
  const element = h("dialog", { class: kind, "aria-labelledby": id }, h("h2", { id }, title), content, close);
  element.addEventListener("click", (event) => event.target === element && element.close());
  document.body.append(element);
  return element;
}

/** A text with its `commands` as code. */
export function code(text) {
  return text.split("`").map((part, place) => (place % 2 ? h("code", {}, part) : part));
}

/** A message of the library as a sentence. */
export function sentence(text) {
  const begun = text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

/** "1 query", "2 queries". */
export function counted(count, one, several = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : several}`;
}

/** A table that scrolls by itself where the window is narrow. Columns are [name, cell of a row, whether it is a number]. */
export function table(caption, columns, rows) {
  const kind = ([, , isNumber]) => (isNumber ? "number" : null);
  const head = columns.map((column) => h("th", { scope: "col", class: kind(column) }, column[0]));
  const cells = (row) => columns.map((column) => h("td", { class: kind(column) }, column[1](row)));
  return h(
    "div",
    { class: "scrolling", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      { class: "table" },
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, head)),
      h("tbody", {}, rows.map((row) => h("tr", {}, cells(row)))),
    ),
  );
}

/** Replaces what is in an element; its details stay open, and the focus stays where it was. */
export function refill(element, ...children) {
  const controls = () => [...element.querySelectorAll("a, button, select, summary")];
  const place = controls().indexOf(document.activeElement);
  const wasOpen = element.querySelector("details")?.open;
  fill(element, ...children);
  if (wasOpen) element.querySelector("details")?.setAttribute("open", "");
  if (place >= 0) (controls()[place] ?? controls().at(-1))?.focus();
}

/** Calls a function when an element has another width. */
export function onWidth(element, call) {
  let width = 0;
  new ResizeObserver(() => {
    if (element.clientWidth === width) return;
    width = element.clientWidth;
    call();
  }).observe(element);
}
