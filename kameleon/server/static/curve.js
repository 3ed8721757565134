// Draws nDCG@10 by weight of the vector leg, with two standard errors of its difference to the index's own weight.

import { share, svg } from "./dom.js";
import { counted } from "./parts.js";

const MARGIN = { top: 22, right: 12, bottom: 34, left: 40 };
const BESIDE = { top: 14, right: 8, bottom: 4, left: 8 }; // as far in as the ends of the slider below it

/** Whether an evaluation has a curve: where no vector was searched there is no weight. */
export const hasCurve = (found) => found.weight !== null && Object.keys(found.ndcg_by_weight).length > 0;

/** The points of an evaluation, by weight. */
function points({ ndcg_by_weight: ndcg, errors_by_weight: errors }) {
  return Object.entries(ndcg)
    .map(([weight, value]) => ({ weight: Number(weight), value, error: errors[weight] ?? 0 }))
    .sort((a, b) => a.weight - b.weight);
}

/** The value and the error at any weight, between two points by a straight line. */
export function at(drawn, weight) {
  const after = drawn.findIndex((point) => point.weight >= weight);
  if (after <= 0) return after === 0 ? drawn[0] : drawn.at(-1);
  const [left, right] = [drawn[after - 1], drawn[after]];
  const share = (weight - left.weight) / (right.weight - left.weight);
  const between = (name) => left[name] + share * (right[name] - left[name]);
  return { weight, value: between("value"), error: between("error") };
}

/** A sentence for screen readers. */
export function summary(drawn, current, best) {
  const figure = (weight) => at(drawn, weight).value.toFixed(3);
  return (
    `nDCG@10 by weight: ${figure(0)} by keywords alone, ${figure(1)} by vectors alone, ` +
    `${figure(current)} at the index's ${current.toFixed(2)}, highest ${figure(best)} at ${best.toFixed(2)}`
  );
}

/** The figure at a weight, and its difference to the index's own with two standard errors. */
export function reading(found, chosen) {
  const drawn = points(found);
  const { value, error } = at(drawn, chosen);
  const difference = value - at(drawn, found.weight).value;
  const queries = counted(found.queries, "judged query", "judged queries");
  const figure = `nDCG@10 ${share(value, 3)} at ${share(chosen)}`;
  if (Math.abs(chosen - found.weight) < 1e-9) return `${figure}, the index's weight; ${queries}`;
  const sign = difference < 0 ? "−" : "+";
  const range = found.queries > 1 ? ` ± ${share(error, 3)}` : "";
  return `${figure}: ${sign}${share(Math.abs(difference), 3)}${range} to the index's ${share(found.weight)}; ${queries}`;
}

/** The ends of the vertical axis, at least .1 apart, and its marks, so many at most and at whole steps. */
function axis(drawn, most) {
  const low = Math.min(...drawn.map(({ value, error }) => value - error));
  const high = Math.max(...drawn.map(({ value, error }) => value + error));
  const step = [0.02, 0.05, 0.1, 0.2, 0.25, 0.5].find((each) => Math.max(high - low, 0.1) / each <= most) ?? 0.5;
  const bottom = Math.max(0, Math.floor(low / step + 1e-9) * step);
  const top = Math.max(bottom + 2 * step, Math.min(1, Math.ceil(high / step - 1e-9) * step));
  const marks = [];
  for (let mark = bottom; mark <= top + 1e-9; mark += step) marks.push(mark);
  return { bottom, top, marks };
}

const round = (number) => Number(number.toFixed(2));

function path(places) {
  return places.map(([x, y], number) => `${number ? "L" : "M"}${round(x)} ${round(y)}`).join("");
}

/** The lines of the axes and their texts; beside the slider those of the horizontal axis are the slider's own. */
function axes(marks, { x, y, height, isBeside }) {
  const lines = marks.map((mark) => svg("line", { class: "curve-grid", x1: x(0), x2: x(1), y1: y(mark), y2: y(mark) }));
  const place = isBeside ? [0, -3, "start"] : [-6, 4, "end"];
  const texts = marks.map((mark) => svg("text", { x: x(0) + place[0], y: y(mark) + place[1], "text-anchor": place[2] }, share(mark)));
  if (isBeside) return [lines, texts.slice(1)];
  const ends = [[0, "keywords", "start"], [0.5, ".5", "middle"], [1, "vectors", "end"]].map(([weight, text, anchor]) =>
    svg("text", { x: x(weight), y: height - 14, "text-anchor": anchor }, text),
  );
  return [lines, texts, ends, svg("text", { x: x(0), y: 12 }, "nDCG@10")];
}

/**
 * Draws an evaluation: the band of its error, the curve, the index's weight (a ring, and a broken line
 * at its nDCG@10), the best (a diamond) and the weight that is chosen now (a vertical line).
 */
export function draw(evaluation, { width, height, chosen, onChoose, isBeside = false }) {
  const drawn = points(evaluation);
  const { bottom, top, marks } = axis(drawn, isBeside ? 2 : 5);
  const margin = isBeside ? BESIDE : MARGIN;
  const inner = { width: width - margin.left - margin.right, height: height - margin.top - margin.bottom };
  const x = (weight) => margin.left + weight * inner.width;
  const y = (value) => margin.top + ((top - Math.min(Math.max(value, bottom), top)) / (top - bottom)) * inner.height;
  const { weight: current, best_weight: best } = evaluation;
  const image = svg("svg", {
    class: "curve", role: "img", width, height, viewBox: `0 0 ${width} ${height}`, "aria-label": summary(drawn, current, best),
  });
  image.append(...axes(marks, { x, y, height, isBeside }).flat());
  const above = drawn.map(({ weight, value, error }) => [x(weight), y(value + error)]);
  const below = drawn.map(({ weight, value, error }) => [x(weight), y(value - error)]).reverse();
  image.append(svg("path", { class: "curve-band", d: `${path([...above, ...below])}Z` }));
  const here = y(at(drawn, current).value);
  image.append(svg("line", { class: "curve-current", x1: x(0), x2: x(1), y1: here, y2: here }));
  image.append(svg("path", { class: "curve-line", d: path(drawn.map(({ weight, value }) => [x(weight), y(value)])) }));
  image.append(svg("line", { class: "curve-chosen", x1: x(chosen), x2: x(chosen), y1: margin.top, y2: y(bottom) }));
  image.append(svg("circle", { class: "curve-chosen", cx: x(chosen), cy: y(at(drawn, chosen).value), r: 4 }));
  image.append(svg("circle", { class: "curve-index", cx: x(current), cy: here, r: 5 }));
  const [bx, by] = [x(best), y(at(drawn, best).value)];
  image.append(svg("path", { class: "curve-best", d: `M${bx} ${by - 6}L${bx + 6} ${by}L${bx} ${by + 6}L${bx - 6} ${by}Z` }));
  image.addEventListener("pointerdown", (event) => onChoose(weightAt(image, event.clientX, x(0), inner.width)));
  return image;
}

/** The weight at a place of the window, in steps of .05. The slider does it for the keyboard. */
function weightAt(image, clientX, left, width) {
  const scale = image.viewBox.baseVal.width / image.getBoundingClientRect().width;
  const part = ((clientX - image.getBoundingClientRect().left) * scale - left) / width;
  return round(Math.round(Math.min(Math.max(part, 0), 1) * 20) / 20);
}
