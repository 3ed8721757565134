// How the hits are ordered.

import { entitiesFor, searchedEntities } from "./requests.js";
import { fill, h } from "./dom.js";

const SORTABLE = ["integer", "number", "date", "datetime", "text", "boolean", "any"];

export function sortPicker(state) {
  const element = h("select", { class: "select", "aria-label": "Order", onchange: (event) => state.set({ sort: event.target.value, entity: entitiesFor(state) }, { push: true }) });
  const draw = () => {
    const chosen = searchedEntities(state);
    const fields = chosen.length ? chosen[0].fields.filter(({ name, type, text }) => !text && SORTABLE.includes(type) && chosen.every((one) => one.fields.some((field) => field.name === name))) : [];
    const { sort } = state.values;
    const isRanked = state.values.q.trim() || state.values.like;
    const known = [["", isRanked ? "Relevance" : "Entity and id"], ...fields.flatMap(({ name }) => [[name, `${name}, ascending`], [`-${name}`, `${name}, descending`]])];
    if (!known.some(([value]) => value === sort)) known.push([sort, sort]);
    fill(element, known.map(([value, text]) => h("option", { value, selected: value === sort }, text)));
  };
  state.subscribe((_values, changed) => ["sort", "entity", "q", "like"].some((name) => changed.has(name)) && draw());
  draw();
  return { element, draw };
}
