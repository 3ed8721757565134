// The messages beside the hits: corrections, notes, problems, and that there is nothing.

import { h } from "./dom.js";
import { button, emptyIndex as empty, notice, problemBox } from "./parts.js";

const link = (text, does) => button(text, does, { kind: "link-button" });

/** What was done to the query, and what was left out. */
export function notices(answer, state) {
  const corrections = Object.entries(answer.corrections ?? {}).map(([typed, taken]) => correction(typed, taken, answer, state));
  const synonyms = Object.entries(answer.synonyms ?? {}).map(([typed, others]) => notice("Also searching for ", strong(others.join(", ")), ` (${typed}). `, link("Without synonyms", () => state.set({ synonyms: false }, { push: true }))));
  return [state.values.like && similarTo(state), corrections, synonyms, answer.note && notice(sentence(answer.note))];
}

function correction(typed, taken, answer, state) {
  const isPresent = answer.plan?.terms?.includes(typed);
  const exact = () => state.set({ q: quotedWord(state.values.q, typed) }, { push: true });
  return notice(isPresent ? "Also showing hits for " : "Showing hits for ", strong(taken), isPresent ? `: few records have “${typed}”. ` : `: no record has “${typed}”. `, link(`Only “${typed}”`, exact));
}

/** The query with a word in quotes, so that it is taken as it is typed. */
function quotedWord(query, word) {
  const at = query.toLowerCase().indexOf(word.toLowerCase());
  return at < 0 ? `"${word}"` : `${query.slice(0, at)}"${query.slice(at, at + word.length)}"${query.slice(at + word.length)}`;
}

function similarTo(state) {
  const [entity, id] = state.values.like;
  return h("p", { class: "notice like" }, "Records similar to ", strong(`${entity} ${id}`), ". ", link("Back to the search", () => state.set({ like: null }, { push: true })));
}

function strong(text) {
  return h("strong", {}, text);
}

function sentence(text) {
  const begun = text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

export function problem(error, again, state) {
  if (error.title !== "TenantRequired") return problemBox(error, again);
  const ofAll = () => state.set({ all_tenants: true }, { push: true });
  return problemBox(error, again, link("Search the records of all tenants", ofAll));
}

export function noHits(state) {
  const { where, entity, min_score, mode } = state.values;
  const ways = [
    where && link("Remove the filters", () => state.set({ where: null }, { push: true })),
    entity.length > 0 && link("Search all entities", () => state.set({ entity: [] }, { push: true })),
    min_score > 0 && link("Accept any score", () => state.set({ min_score: 0 }, { push: true })),
    mode === "keyword" && link("Search by meaning, too", () => state.set({ mode: "hybrid" }, { push: true })),
  ].filter(Boolean);
  return h("div", { class: "empty" }, h("h2", {}, "No record matches"), ways.length ? h("p", { class: "ways" }, ways) : h("p", {}, "Neither a word of the query nor its meaning is near to anything in the index."));
}

export function emptyIndex({ values: { tenant } }) {
  return empty(tenant ? `There is no record of the tenant ${tenant}.` : "Records that are written are found at once.");
}
