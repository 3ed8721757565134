// The view "index".

import { h, fill } from "./dom.js";

export function mount(element, _state) {
  fill(element, h("p", { class: "empty" }, "Nothing here yet."));
}
