// Makes requests of the state: the parameters of the API and, of the same names, those to copy.

import { isDefault } from "./state.js";

const RANKING = ["mode", "fusion", "weight", "min_score", "diversity", "synonyms", "rules"];
const SHARED = ["entity", "where", "sort", "limit", "passages", "group_by", "tenant", "all_tenants"];
/** Characters of the snippets beside two legs. */
const ONE_LINE = 72;

/** The options of `search`, or of `similar`, that differ from the defaults of the library. */
export function options(values) {
  const names = [...SHARED, ...RANKING];
  const given = names.filter((name) => !isDefault(name, values[name]) && applies(name, values));
  return Object.fromEntries(given.map((name) => [name, values[name]]));
}

function applies(name, values) {
  if (name === "weight" || name === "fusion") return values.mode === "hybrid";
  if (name === "diversity") return !values.sort && !values.group_by && (values.q.trim() || values.like);
  if (name === "tenant") return !values.all_tenants;
  return true;
}

/** The verb and its parameters in the API. */
export function request(values) {
  const { entity, ...rest } = options(values);
  if (values.like) {
    const [own, id] = values.like;
    return { path: "api/similar", params: { entity: own, id, ...(entity ? { entities: entity } : {}), ...rest } };
  }
  return { path: "api/search", params: { query: values.q, ...(entity ? { entity } : {}), ...rest } };
}

/** The parameters that name whose records are meant. */
export function within({ tenant, all_tenants }) {
  return all_tenants ? { all_tenants } : { tenant };
}

/** Whether the two legs are to be shown beside the fusion, where there is one. */
function comparesLegs(values) {
  return Boolean(values.legs && values.mode === "hybrid" && values.q.trim() && !values.like);
}

/** Whether a search had a vector leg: not where the index has no embeddings, or the provider is down. */
export function searchedVectors(plan) {
  return Boolean(plan && "vector" in plan.legs);
}

/** The same with what the page shows beside hits: explanations, and the legs where they are compared. */
export function pageRequest(values, { withLegs = true } = {}) {
  const { path, params } = request(values);
  const compares = comparesLegs(values);
  return { path, params: { ...params, explain: true, ...(compares ? { snippet_length: ONE_LINE, legs: withLegs } : {}) } };
}

/** The same as a request for the counts of fields. */
export function countRequest(values, facets) {
  const { path, params } = request(values);
  return { path, params: { ...params, limit: 1, highlight: false, facets } };
}

/** The entities that are searched, as the API describes them. */
export function searchedEntities({ entities, values: { entity } }) {
  return entities.filter(({ name }) => !entity.length || entity.includes(name));
}

/** The entities that a filter, an order or counts by field have to name: the columns of a mapped class are known where
 * it is searched by its name. */
export function entitiesFor(state) {
  const chosen = state.values.entity;
  if (chosen.length || !state.entities.some(({ kind }) => kind === "class")) return chosen;
  return state.entities.map(({ name }) => name);
}
