// What a search is made with: the query, entities, the mode, the weight, and further options.

import { debounced, fill, h, number, share } from "./dom.js";
import { get } from "./http.js";
import * as judging from "./judging.js";
import { searchedEntities, searchedVectors, within } from "./requests.js";

const TYPING = 20;
const COMPLETING = 150;
const STEP = 0.05;

/** The query's field, with words that complete it below. */
export function queryBar(state) {
  const input = h("input", {
    type: "search",
    id: "query",
    class: "query",
    placeholder: "Search by words or meaning",
    "aria-label": "Query",
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    enterkeyhint: "search",
    ".value": state.values.q,
  });
  const offered = h("div", { class: "offered", "aria-label": "Completions", role: "group" });
  const type = debounced(() => state.set({ q: input.value, like: null }), TYPING);
  const complete = completing(input, offered, state);
  input.addEventListener("input", () => {
    type();
    complete();
  });
  const form = h(
    "form",
    { class: "query-bar", role: "search", onsubmit: (event) => event.preventDefault() },
    h("div", { class: "query-field" }, input, h("kbd", { class: "query-key", "aria-hidden": "true" }, "/")),
  );
  form.addEventListener("submit", () => state.set({ q: input.value, like: null }, { push: true }));
  state.subscribe((values, changed) => {
    if (changed.has("q") && input.value !== values.q && document.activeElement !== input) input.value = values.q;
  });
  return { element: form, input, offered };
}

function completing(input, offered, state) {
  let running;
  const complete = debounced(async () => {
    running?.abort();
    running = new AbortController();
    const text = input.value;
    if (text.trim().length < 2 || /\s$/.test(text)) return void fill(offered);
    const params = { text, limit: 6, entity: state.values.entity, ...within(state.values) };
    try {
      const { suggestions } = await get("api/suggest", params, { signal: running.signal });
      fill(offered, suggestions.filter((one) => one.toLowerCase() !== text.trim().toLowerCase()).map(button));
    } catch {
      fill(offered);
    }
  }, COMPLETING);
  const button = (text) =>
    h("button", { type: "button", class: "completion", onclick: () => take(text) }, text);
  const take = (text) => {
    input.value = `${text} `;
    input.focus();
    fill(offered);
    state.set({ q: input.value, like: null });
  };
  return complete;
}

/** Which entities are searched: none chosen is all of them. */
export function entityPicker(state) {
  const list = h("ul", { class: "values" });
  const element = h("fieldset", { class: "group entities", hidden: true }, h("legend", {}, "Entities"), list);
  let known = [];
  const draw = () => {
    const chosen = state.values.entity;
    const focused = document.activeElement?.dataset?.focus;
    element.hidden = known.length < 2;
    fill(list, known.map((entity) => entityItem(entity, chosen, state)));
    if (focused) [...list.querySelectorAll("[data-focus]")].find((one) => one.dataset.focus === focused)?.focus();
  };
  state.subscribe((_values, changed) => changed.has("entity") && draw());
  return {
    element,
    show(entities) {
      known = entities;
      draw();
    },
  };
}

function entityItem({ name, indexed }, chosen, state) {
  const toggle = () => {
    const entity = chosen.includes(name) ? chosen.filter((one) => one !== name) : [...chosen, name];
    state.set({ entity, where: null, sort: "" }, { push: true });
  };
  const box = h("input", { type: "checkbox", ".checked": chosen.includes(name), "data-focus": `entity=${name}`, onchange: toggle });
  return h("li", {}, h("label", { class: "value" }, box, h("span", { class: "value-name", title: name }, name), h("span", { class: "count figure" }, number(indexed))));
}

/** Buttons of which one is pressed. */
function segmented(label, name, choices, state) {
  const element = h("div", { class: "segmented", role: "group", "aria-label": label });
  const draw = () =>
    fill(
      element,
      choices.map(([value, text, title]) =>
        h("button", { type: "button", title, "aria-pressed": String(state.values[name] === value), onclick: () => state.set({ [name]: value }, { push: true }) }, text),
      ),
    );
  draw();
  state.subscribe((_values, changed) => {
    if (!changed.has(name)) return;
    const had = element.contains(document.activeElement);
    draw();
    if (had) element.querySelector("[aria-pressed=true]")?.focus();
  });
  return element;
}

export function modePicker(state) {
  return segmented("Mode", "mode", [
    ["hybrid", "Hybrid", "Words and meaning, fused"],
    ["keyword", "Keywords", "BM25 alone"],
    ["vector", "Vectors", "Embeddings alone"],
  ], state);
}

/** The weight of the vector leg. `show(plan)` states the one that was used, and hides it where no vector was searched. */
export function weightSlider(state) {
  let used = state.values.weight ?? 0.5;
  let weighs = true;
  const input = h("input", { type: "range", min: 0, max: 1, step: STEP, "aria-label": "Weight of the vectors", class: "weight-input" });
  const words = h("span", { class: "figure" });
  const vectors = h("span", { class: "figure" });
  const reset = h("button", { type: "button", class: "link-button small", onclick: () => state.set({ weight: null }) }, "Use the index’s own");
  const curve = h("div", { class: "weight-curve" });
  const own = h("span", { class: "soft small" }, "The index’s own weight for this query");
  const element = h(
    "div",
    { class: "weight" },
    h("div", { class: "weight-ends" }, h("span", { class: "end-words" }, "Keywords ", words), h("span", { class: "end-vectors" }, vectors, " Vectors")),
    h("div", { class: "weight-track" }, curve, input),
    h("div", { class: "weight-foot" }, own, reset),
  );
  const draw = () => {
    const weight = state.values.weight ?? used;
    input.value = weight;
    input.style.setProperty("--share", weight);
    input.setAttribute("aria-valuetext", `Keywords ${share(1 - weight)}, vectors ${share(weight)}`);
    words.textContent = share(1 - weight);
    vectors.textContent = share(weight);
    reset.hidden = state.values.weight === null;
    own.hidden = state.values.weight !== null;
    element.hidden = !weighs || state.values.mode !== "hybrid" || !state.values.q.trim() || state.values.like !== null;
  };
  input.addEventListener("input", () => state.set({ weight: Number(input.value) }));
  state.subscribe(draw);
  draw();
  judging.curve(curve, state);
  return {
    element,
    show(plan) {
      weighs = searchedVectors(plan);
      if (state.values.weight === null && plan?.mode === "hybrid") used = plan.weight;
      draw();
    },
    step(direction) {
      const weight = (state.values.weight ?? used) + direction * STEP;
      state.set({ weight: Math.round(Math.min(1, Math.max(0, weight)) * 100) / 100 });
    },
  };
}

/** Options that are changed less often. */
export function optionsMenu(state) {
  const body = h("div", { class: "menu-body" });
  const element = h("details", { class: "menu" }, h("summary", { class: "button" }, "Options"), body);
  const draw = () =>
    fill(
      body,
      choice("Fusion", "fusion", [["weighted", "Weighted scores"], ["rrf", "Reciprocal ranks (RRF)"], ["dbsf", "By distribution (DBSF)"]], state),
      choice("Hits", "limit", [10, 20, 50, 100].map((limit) => [limit, String(limit)]), state),
      slider("Least score", "min_score", state),
      slider("Diversity", "diversity", state),
      choice("Passages", "passages", [0, 1, 3, 5].map((count) => [count, { 0: "None", 1: "The best" }[count] ?? `The best ${count}`]), state),
      choice("Group by", "group_by", [["", "Nothing"], ["entity", "Entity"]], state),
      check("Synonyms", "synonyms", state),
      check("Query rules", "rules", state),
      !state.page.tenantIsFixed && tenantField(state),
      shownFields(state),
    );
  draw();
  state.subscribe((_values, changed) => {
    if (!body.contains(document.activeElement) && changed.size) draw();
  });
  element.addEventListener("toggle", () => element.open && draw());
  document.addEventListener("click", (event) => element.open && !element.contains(event.target) && (element.open = false));
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !element.open) return;
    element.open = false;
    element.querySelector("summary").focus();
    event.preventDefault();
  });
  return element;
}

function choice(label, name, choices, state) {
  const change = (event) => state.set({ [name]: choices[event.target.selectedIndex][0] });
  return h(
    "label",
    { class: "option" },
    h("span", {}, label),
    h("select", { class: "select", onchange: change }, choices.map(([value, text]) => h("option", { selected: value === state.values[name] }, text))),
  );
}

function slider(label, name, state) {
  const figure = h("output", { class: "figure soft" }, share(state.values[name]));
  const change = (event) => {
    figure.textContent = share(Number(event.target.value));
    state.set({ [name]: Number(event.target.value) });
  };
  return h("label", { class: "option" }, h("span", {}, label), h("span", { class: "option-slider" }, h("input", { type: "range", min: 0, max: 1, step: STEP, ".value": String(state.values[name]), oninput: change }), figure));
}

function check(label, name, state) {
  return h("label", { class: "option option-check" }, h("span", {}, label), h("input", { type: "checkbox", ".checked": state.values[name], onchange: (event) => state.set({ [name]: event.target.checked }) }));
}

/** Which fields of stored records are shown beside a hit's text; the short ones where none is chosen. */
function shownFields(state) {
  const stored = searchedEntities(state).filter(({ kind }) => kind === "records");
  const names = [...new Set(stored.flatMap(({ fields }) => fields.map(({ name }) => name)))];
  const box = (name) => {
    const change = (event) => {
      const others = state.values.fields.filter((one) => one !== name);
      state.set({ fields: event.target.checked ? [...others, name] : others });
    };
    return h("label", { class: "value" }, h("input", { type: "checkbox", ".checked": state.values.fields.includes(name), onchange: change }), name);
  };
  return names.length > 0 && h("fieldset", { class: "shown-fields" }, h("legend", {}, "Fields shown"), names.map(box));
}

function tenantField(state) {
  const change = debounced((event) => state.set({ tenant: event.target.value.trim(), all_tenants: false }), 300);
  const names = h("datalist", { id: "tenants" });
  const offer = async () => {
    const { tenants } = await get("api/status").catch(() => ({ tenants: [] }));
    fill(names, tenants.map(({ tenant }) => h("option", { value: tenant })));
  };
  return [
    names,
    h("label", { class: "option" }, h("span", {}, "Tenant"), h("input", { list: "tenants", onfocus: offer,  class: "input", ".value": state.values.tenant, placeholder: "none", oninput: change, disabled: state.values.all_tenants })),
    check("All tenants", "all_tenants", state),
  ];
}
