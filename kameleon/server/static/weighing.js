// What follows from the judgements: the curve, whether its best weight is worth saving, and the figures.

import { draw, hasCurve, reading } from "./curve.js";
import { copyText, h, share, toast } from "./dom.js";
import { button, code, counted, notice, problemBox, table, working } from "./parts.js";

const FIGURES = { ndcg: "nDCG@10", recall: "recall@100", mrr: "MRR" };
const WAYS = {
  keyword: "Keywords alone",
  vector: "Vectors alone",
  weighted: "Weighted fusion",
  rrf: "Reciprocal ranks (rrf)",
  dbsf: "Scores by their distribution (dbsf)",
};
const LEGEND = {
  index: "the index's weight",
  chosen: "the weight of your search",
  best: "best",
  band: "two standard errors of the difference to the index's weight",
};
const EVAL = "kameleon eval --queries queries.jsonl --qrels qrels.tsv --save";
const BESIDE_PX = 860; // from this width on the text is beside the curve

/** The last evaluation, as wide as `width`. */
export function measured(evaluations, state, width) {
  const { found, problem, isBusy } = evaluations;
  if (problem) return problemBox(problem, () => evaluations.measure());
  if (!found && isBusy) return working("Measuring the judged queries …");
  if (!found) return evaluations.hasJudgements && notice("Only records that are not relevant are judged so far: mark one that is.");
  return h(
    "div",
    { class: isBusy ? "is-busy" : null },
    hasCurve(found) ? weighing(evaluations, state, width) : notice("No vector was searched, so there is no weight to choose."),
    figures(found),
    found.notes.map((note) => notice(code(note))),
  );
}

function weighing(evaluations, state, width) {
  const { found } = evaluations;
  const chosen = state.values.weight ?? found.weight;
  const size = { width: Math.max(260, (width >= BESIDE_PX ? width * 0.6 : width || 640) - 34), height: 260 };
  const image = draw(found, { ...size, chosen, onChoose: (weight) => state.set({ weight }) });
  const text = [verdict(found), notice(reading(found, chosen)), saving(evaluations, chosen, state), values(found)];
  return h(
    "section",
    { class: "card weighing", "aria-label": "nDCG@10 by weight" },
    h("div", {}, image, legend()),
    h("div", { class: "weighing-text" }, text),
  );
}

function legend() {
  return h("ul", { class: "curve-legend" }, Object.entries(LEGEND).map(([name, text]) => h("li", { class: `legend-${name}` }, text)));
}

/** Whether the best weight is worth saving, in a sentence. */
function verdict({ best_weight: best, weight, gain, noise, queries, objection }) {
  const judged = counted(queries, "judged query", "judged queries");
  if (!objection) return h("p", { class: "good" }, `Weight ${share(best)} fits best, ${share(gain, 3)} better than the index is now, more than chance (${share(noise, 3)}) on ${judged}.`);
  if (best === weight) return h("p", {}, `The index has the weight that fits best, ${share(best)}, on ${judged}.`);
  return h("p", {}, `Weight ${share(best)} fits best, but ${objection}.`);
}

/** Buttons that save the best weight and the chosen one; of a read-only server what does it. */
function saving(evaluations, chosen, state) {
  const { best_weight: best, weight: own, objection } = evaluations.found;
  const weights = [...new Set([best, chosen])].filter((weight) => weight !== own);
  if (!weights.length) return null;
  if (!state.page.writes) {
    const copy = button(h("code", {}, EVAL), () => copyText(EVAL), { kind: "copy-command", title: "Copy" });
    return notice("This server is read-only: start it with --write to save a weight, or export the files and run ", copy);
  }
  const kind = (weight) => (weight === best && !objection ? "button button-primary" : "button");
  const save = (weight) => (event) => saveWeight(event.currentTarget, weight, evaluations, state);
  const label = (weight) => `Save ${share(weight)} as the index's weight`;
  return h("p", { class: "buttons" }, weights.map((weight) => button(label(weight), save(weight), { kind: kind(weight) })));
}

async function saveWeight(pressed, weight, evaluations, state) {
  pressed.disabled = true;
  try {
    await evaluations.save(weight);
    state.set({ weight: null });
    toast(`The index's weight is ${share(weight)} now`);
  } catch (problem) {
    toast(`Not saved: ${problem.message}`);
    pressed.disabled = false;
  }
}

function values({ ndcg_by_weight: curve, errors_by_weight: errors }) {
  const columns = [
    ["Weight", (weight) => share(Number(weight)), true],
    ["nDCG@10", (weight) => share(curve[weight], 4), true],
    ["±", (weight) => share(errors[weight], 4), true],
  ];
  const rows = Object.keys(curve).sort((a, b) => a - b);
  return h("details", {}, h("summary", {}, "Values"), table("nDCG@10 by weight, and two standard errors of the difference", columns, rows));
}

function figures({ figures: all, queries, skipped }) {
  const measures = Object.entries(FIGURES).map(([name, label]) => [label, (way) => share(all[way][name], 4), true]);
  const others = skipped ? `, ${skipped} more without a relevant record in the index` : "";
  const columns = [["Search", (way) => WAYS[way] ?? way], ...measures];
  return table(counted(queries, "judged query", "judged queries") + others, columns, Object.keys(all));
}
