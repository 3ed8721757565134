// Marks hits as relevant or not, beside each hit; draws nDCG@10 by weight beside the slider.

import { draw, hasCurve, reading } from "./curve.js";
import { fill, h, svg, toast } from "./dom.js";
import { Evaluations } from "./evaluations.js";
import { Judgements } from "./judgements.js";
import { view } from "./judged.js";
import { onWidth } from "./parts.js";

export const SHORTCUTS = [["+, -", "The hit is relevant, is not"]];

const MARKS = [
  { gain: 1, label: "Relevant", sign: "M4 10.5l4 4 8-9" },
  { gain: 0, label: "Not relevant", sign: "M5 5l10 10M15 5L5 15" },
];
const sessions = new WeakMap();

/** What the parts of a page share: its judgements and their evaluations. */
function session(state) {
  if (!sessions.has(state)) {
    const judgements = new Judgements(state.page.writes);
    sessions.set(state, { judgements, evaluations: new Evaluations(judgements, state) });
    judgements.load().catch(() => {}); // the tab "judge" shows why, and tries again
  }
  return sessions.get(state);
}

/** The tab "judge". */
export function mount(element, state) {
  return view(element, state, session(state));
}

/** Two buttons that mark a hit; a second press takes the mark off. Null where there is no query to judge it for. */
export function control(hit, state) {
  const query = state.values.q.trim().replace(/\s+/g, " "); // as the index keeps it
  if (!query) return null;
  const { judgements } = session(state);
  const judged = { query, entity: hit.entity, id: hit.id, ...(hit.tenant ? { tenant: hit.tenant } : {}) };
  const buttons = MARKS.map((mark) => markButton(mark, judged, judgements));
  const element = h("span", { class: "judge", role: "group", "aria-label": `Is ${hit.entity} ${hit.id} relevant?` }, buttons);
  const show = () => showMarks(buttons, judgements.gain(judged));
  show();
  whileShown(element, judgements, show);
  return element;
}

function markButton({ gain, label, sign }, judged, judgements) {
  const icon = svg("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, svg("path", { d: sign }));
  const button = h("button", { type: "button", class: `judge-mark judge-${gain}`, "aria-label": label, title: label }, icon);
  button.addEventListener("click", async () => {
    const isOff = button.getAttribute("aria-pressed") === "true";
    try {
      await judgements.set({ ...judged, gain: isOff ? null : gain });
    } catch (problem) {
      toast(`Not kept: ${problem.message}`);
    }
  });
  return button;
}

function showMarks([relevant, not], gain) {
  relevant.setAttribute("aria-pressed", gain !== null && gain > 0);
  relevant.title = gain > 1 ? `Relevant, with a gain of ${gain}` : "Relevant";
  not.setAttribute("aria-pressed", gain !== null && gain <= 0);
}

/** Listens as long as the element is in the page: hits are replaced with each answer. */
function whileShown(element, source, listener) {
  let wasShown = false;
  const call = () => {
    wasShown ||= element.isConnected;
    if (wasShown && !element.isConnected) source.removeEventListener("change", call);
    else listener();
  };
  source.addEventListener("change", call);
}

/** Draws the curve into an element beside the slider, and again with each judgement and each weight. */
export function curve(element, state) {
  const { evaluations, judgements } = session(state);
  const image = h("div", { class: "curve-image" });
  const readout = h("p", { class: "curve-readout notice", "aria-live": "polite" });
  fill(element, readout, image);
  element.classList.add("curve-beside");
  const show = () => {
    element.hidden = !judgements.list().length;
    element.classList.toggle("is-busy", evaluations.isBusy);
    const { found, problem } = evaluations;
    if (problem) return fill(image), fill(readout, problem.message);
    if (!found || !hasCurve(found)) return fill(image), fill(readout, waiting(judgements, evaluations));
    const chosen = state.values.weight ?? found.weight;
    const size = { width: element.clientWidth || 300, height: 110, isBeside: true };
    fill(image, draw(found, { ...size, chosen, onChoose: (weight) => state.set({ weight }) }));
    return fill(readout, reading(found, chosen));
  };
  evaluations.addEventListener("change", show);
  judgements.addEventListener("change", show);
  state.subscribe((_values, changed) => changed.has("weight") && show());
  onWidth(element, show);
  show();
}

function waiting(judgements, { isBusy, found }) {
  if (isBusy) return "Measuring …";
  if (found) return "No vector was searched, so there is no weight to choose.";
  return judgements.list().length ? "Mark a relevant hit, and nDCG@10 is shown by weight." : "";
}

/** "+" and "-" mark the hit that has the focus. */
document.addEventListener("keydown", (event) => {
  const gain = { "+": 1, "-": 0 }[event.key];
  if (gain === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog[open]")) return;
  let around = event.target;
  while (around && !around.querySelector(".judge")) around = around.parentElement;
  const found = around?.querySelectorAll(".judge") ?? [];
  if (found.length !== 1) return;
  found[0].querySelector(`.judge-${gain}`).click();
  event.preventDefault();
});
