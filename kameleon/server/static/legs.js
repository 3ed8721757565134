// Shows the two legs beside the fusion, with lines from a record's place in each leg to its place in the fusion.

import { fill, h, share, svg } from "./dom.js";
import { keyOf } from "./hits.js";
import { titleText } from "./texts.js";

/** The three columns. `show(answer)` draws the legs, `link()` the lines; `fused` is the element of the fused hits. */
export function legsView(fused) {
  const keyword = column("Keywords", "BM25", "of-words");
  const vector = column("Vectors", "Embeddings", "of-vectors");
  const middle = h("section", { class: "leg leg-fused", "aria-label": "Fused" }, h("h2", { class: "leg-head" }, "Fused"), fused);
  const lines = svg("svg", { class: "links", "aria-hidden": "true" });
  const element = h("div", { class: "legs" }, keyword.element, middle, vector.element, lines);
  const link = () => element.isConnected && drawLinks(element, lines);
  new ResizeObserver(link).observe(element);
  element.addEventListener("resized", () => requestAnimationFrame(link));
  const point = (event) => {
    const key = event.type === "pointerleave" || event.type === "focusout" ? null : event.target.closest("[data-key]")?.dataset.key;
    for (const one of element.querySelectorAll("[data-key]")) one.classList.toggle("is-pointed", one.dataset.key === key);
  };
  element.addEventListener("click", (event) => {
    const key = event.target.closest(".leg-hit")?.dataset.key;
    const item = key && [...fused.children].find((one) => one.dataset.key === key);
    item?.focus();
  });
  for (const name of ["pointerover", "pointerleave", "focusin", "focusout"]) element.addEventListener(name, point);
  return {
    element,
    middle,
    show(answer) {
      const places = new Map(answer.hits.map((hit, index) => [keyOf(hit), index + 1]));
      keyword.show(answer.legs?.keyword ?? [], places);
      vector.show(answer.legs?.vector ?? [], places);
    },
    link,
  };
}

function column(name, how, side) {
  const list = h("ol", { class: "leg-hits" });
  const element = h("section", { class: `leg leg-${side}`, "aria-label": `${name} alone` }, h("h2", { class: "leg-head" }, name, h("span", { class: "soft small" }, how)), list);
  const show = (hits, places) => {
    if (!hits.length) return void fill(list, h("li", { class: "notice leg-empty" }, `Nothing by ${name.toLowerCase()} alone.`));
    fill(list, hits.map((hit, index) => legItem(hit, index + 1, places.get(keyOf(hit)), side)));
  };
  return { element, show };
}

function legItem(hit, place, fusedPlace, side) {
  const where = fusedPlace ? `place ${fusedPlace} in the fusion` : "not on the fused page";
  return h(
    "li",
    { class: `leg-hit ${fusedPlace ? "" : "is-left-out"}`, "data-key": keyOf(hit), title: `${hit.entity} ${hit.id}: ${where}` },
    h("span", { class: "place figure" }, place),
    h("span", { class: "leg-title" }, titleText(hit)),
    h("span", { class: "leg-score figure" }, share(hit.score)),
    h("span", { class: `leg-bar ${side}`, "aria-hidden": "true" }, h("span", { "--share": hit.score })),
    h("span", { class: "visually-hidden" }, where),
  );
}

function drawLinks(element, lines) {
  const frame = element.getBoundingClientRect();
  const fused = new Map([...element.querySelectorAll(".leg-fused [data-key]")].map((item) => [item.dataset.key, item]));
  const paths = [];
  for (const [selector, side] of [[".leg-of-words .leg-hit", "of-words"], [".leg-of-vectors .leg-hit", "of-vectors"]]) {
    for (const item of element.querySelectorAll(selector)) {
      const other = fused.get(item.dataset.key);
      if (other) paths.push(path(item, other, frame, side));
    }
  }
  lines.setAttribute("viewBox", `0 0 ${frame.width} ${frame.height}`);
  fill(lines, paths);
}

/** A curve from the side of a leg's item to that of the fused one. */
function path(item, other, frame, side) {
  const from = item.getBoundingClientRect();
  const to = other.querySelector(".hit-head").getBoundingClientRect();
  const card = other.getBoundingClientRect();
  const isLeft = side === "of-words";
  const x1 = (isLeft ? from.right : from.left) - frame.left;
  const x2 = (isLeft ? card.left : card.right) - frame.left;
  const y1 = from.top + from.height / 2 - frame.top;
  const y2 = to.top + to.height / 2 - frame.top;
  const bend = (x2 - x1) / 2;
  return svg("path", { class: `link ${side}`, "data-key": item.dataset.key, d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}` });
}
