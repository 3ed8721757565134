// Shows how a hit's score is made, as bars.

import { h, share } from "./dom.js";

const NAMES = { keyword: "Keywords", vector: "Vectors", rerank: "Reranker" };
const CLOSE = 0.005; // the difference of scores that are shown as equal

const isLeg = (part) => part.leg in NAMES;

/** How much each leg gives to the score, 0 to 1 both. */
function contributions(hit) {
  const given = { keyword: 0, vector: 0 };
  for (const part of hit.explanation ?? []) if (part.leg in given) given[part.leg] = part.weight * part.evidence;
  return given;
}

/** A thin bar of both legs' contributions. */
export function scoreBar(hit) {
  const { keyword, vector } = contributions(hit);
  const sum = keyword + vector;
  const scale = sum > 0 ? hit.score / sum : 0;
  return h(
    "span",
    { class: "score-bar", "aria-hidden": "true", title: `Keywords ${share(keyword)}, vectors ${share(vector)}` },
    h("span", { class: "of-words", "--share": Math.min(1, keyword * scale) }),
    h("span", { class: "of-vectors", "--share": Math.min(1, vector * scale) }),
  );
}

/** All parts of a score: the legs, boosts, and what else put the hit where it is. */
export function explanation(hit) {
  const parts = hit.explanation ?? [];
  const legs = parts.filter(isLeg);
  const others = parts.filter((part) => !isLeg(part));
  return h(
    "div",
    { class: "why" },
    legs.length > 0 && h("div", { class: "bars" }, legs.map(legBar), others.filter((part) => part.leg.startsWith("boost:")).map(boostBar)),
    h("ul", { class: "sentences" }, sentences(hit, legs, others).map((text) => h("li", {}, text))),
  );
}

function legBar(part) {
  const given = part.weight * part.evidence;
  const facts = [
    part.rank ? `rank ${part.rank}` : "not among its best",
    `${part.leg === "keyword" ? "BM25" : part.leg === "vector" ? "cosine" : "raw"} ${share(part.raw)}`,
  ];
  return h(
    "div",
    { class: `bar-row of-${part.leg === "keyword" ? "words" : "vectors"}` },
    h("span", { class: "bar-name" }, NAMES[part.leg]),
    h("span", { class: "bar", "aria-hidden": "true" }, h("span", { class: "bar-possible", "--share": part.weight }), h("span", { class: "bar-fill", "--share": given })),
    h("span", { class: "bar-figure figure" }, share(given)),
    h("span", { class: "bar-facts figure" }, `${share(part.weight)} × ${share(part.evidence)} · ${facts.join(" · ")}`),
    part.terms?.length > 0 && h("span", { class: "bar-terms" }, part.terms.map((term) => h("span", { class: "term" }, term))),
  );
}

function boostBar(part) {
  const strength = Math.min(1, Math.abs(Math.log2(part.score)) / Math.log2(10));
  const name = part.leg.slice("boost:".length);
  return h(
    "div",
    { class: "bar-row of-boost" },
    h("span", { class: "bar-name", title: `Boost: ${name}` }, "Boost"),
    h("span", { class: "bar", "aria-hidden": "true" }, h("span", { class: "bar-fill", "--share": strength })),
    h("span", { class: "bar-figure figure" }, `× ${part.score.toFixed(2)}`),
    h("span", { class: "bar-facts" }, name.startsWith("{") ? `${name} ${part.raw ? "holds" : "does not hold"}` : `${name}: ${share(part.raw)}`),
  );
}

function sentences(hit, legs, others) {
  const texts = [];
  const fused = legs.filter((part) => part.leg !== "rerank");
  if (fused.length > 1) {
    const sum = fused.reduce((total, part) => total + part.weight * part.score, 0);
    texts.push(`Ranked by ${fused.map((part) => `${share(part.weight)} × ${share(part.score)}`).join(" + ")} = ${share(sum)}, each leg's score normalised.`);
  }
  const factor = others.filter((part) => part.leg.startsWith("boost:")).reduce((product, part) => product * part.score, 1);
  const evidence = legs.reduce((total, part) => total + part.weight * part.evidence, 0);
  if (factor === 1 && fused.length > 0 && legs.length === fused.length && evidence - hit.score > CLOSE) {
    texts.push(`The score is at most that of the hit before: ${share(hit.score)} instead of ${share(evidence)}.`);
  }
  for (const part of others) {
    if (part.leg === "pinned") texts.push(`Pinned to place ${part.rank}, whatever the score.`);
    if (part.leg === "diversity") texts.push(`Place ${part.rank} by relevance; at most ${share(part.raw)} like a hit before it.`);
  }
  return texts;
}
