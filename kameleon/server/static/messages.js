// The messages beside the hits: corrections, notes, problems, and that there is nothing.

import { fill, h } from "./dom.js";
import { get } from "./http.js";
import { button, code, emptyIndex as empty, notice, problemBox, sentence } from "./parts.js";

const OFFERED_TENANTS = 12;

const link = (text, does) => button(text, does, { kind: "link-button" });

/** What was done to the query, and what was left out. */
export function notices(answer, state) {
  const corrections = Object.entries(answer.corrections ?? {}).map(([typed, taken]) => correction(typed, taken, answer, state));
  const synonyms = Object.entries(answer.synonyms ?? {}).map(([typed, others]) => notice("Also searching for ", strong(others.join(", ")), ` (${typed}). `, link("Without synonyms", () => state.set({ synonyms: false }, { push: true }))));
  const note = answer.note || (hasNoEmbeddings(answer) ? "keywords alone: the index has no embeddings" : "");
  return [state.values.like && similarTo(state), corrections, synonyms, note && notice(code(sentence(note)))];
}

function hasNoEmbeddings({ plan, hits }) {
  return plan?.mode === "hybrid" && plan.generation === null && plan.terms.length > 0 && hits.length > 0;
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

export function problem(error, again, state) {
  return error.title === "TenantRequired" && !state.page.tenantIsFixed ? chooseTenant(state) : problemBox(error, again);
}

/** Offers the tenants with most records, and those of all. */
function chooseTenant(state) {
  const offered = h("p", { class: "ways" });
  const choose = (tenant) => button(tenant, () => state.set({ tenant, all_tenants: false }, { push: true }), { kind: "chip" });
  const offer = async () => {
    const { tenants } = await get("api/status").catch(() => ({ tenants: [] }));
    fill(offered, tenants.map(({ tenant }) => tenant).filter(Boolean).slice(0, OFFERED_TENANTS).map(choose));
  };
  offer();
  const all = link("Search the records of all tenants", () => state.set({ all_tenants: true }, { push: true }));
  return h("div", { class: "empty" }, h("h2", {}, "Whose records?"), h("p", {}, "The records have tenants: choose one here or in Options."), offered, h("p", {}, all));
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
