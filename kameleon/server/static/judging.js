// The view "judging".

import { h, fill } from "./dom.js";

export function mount(element, _state) {
  fill(element, h("p", { class: "empty" }, "Nothing here yet."));
}

/** What marks a hit as relevant or not, beside it. */
export function control(_hit, _state) {
  return null;
}

/** Draws the curve of nDCG@10 by weight into an element beside the slider. */
export function curve(_element, _state) {}
