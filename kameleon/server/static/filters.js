// Filters beside the hits: by the values that fields have, by ranges of numbers and of dates, and as JSON.

import { boundsOf, described, plain, toggled, valuesOf, withCondition } from "./conditions.js";
import { debounced, fill, h, number } from "./dom.js";
import { get } from "./http.js";
import { countRequest, entitiesFor, within } from "./requests.js";
import { shown } from "./texts.js";

// All chosen, not measured.
const FEW_NUMBERS = 8; // different numbers that are offered one by one; of more, a range
const SHOWN_VALUES = 7; // values of a field before "more"
const MOST_FIELDS = 20; // fields, as the facets of one search
const OPEN_AT_FIRST = 4; // fields that are open
const LONGEST_VALUE = 60; // characters of a value
const MONTHS = 24;
const IDLE = 250; // milliseconds after an answer before values are counted
const MOST_ENTITIES = 5; // entities that are searched together and filtered by their fields
const SAMPLED = 50; // records that are read for fields of short texts
const LONGEST_SAMPLED = 40; // characters of a short text
const DATE = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?$/;

/** How a field is filtered: "values", "range", "dates", or null where its values are too many to choose from. */
function kindOf({ type }, values) {
  if (!values?.length) return null;
  const texts = values.map(({ value }) => value);
  if (type === "date" || type === "datetime" || texts.every((value) => typeof value === "string" && DATE.test(value))) return "dates";
  if (texts.every((value) => typeof value === "number")) return values.length > FEW_NUMBERS ? "range" : "values";
  if (texts.some((value) => String(value).length > LONGEST_VALUE)) return null;
  return values.length > 20 && values.every(({ count }) => count === 1) ? null : "values";
}

/** The panel. `define()` finds the fields to filter by; `show()` counts for a search that was made. */
export function filtersPanel(state) {
  const groups = h("div", { class: "groups" });
  const element = h("section", { class: "filters", "aria-label": "Filters", tabindex: "-1" }, groups, jsonFilter(state));
  const panel = new Panel(state, groups);
  return { element, show: () => panel.count(), define: () => panel.define(), isFilterable: (entity, field) => panel.isFilterable(entity, field) };
}

class Panel {
  #fields = [];
  #counts = {};
  #open = null;
  #expanded = new Set();
  #drawn = new Map();
  #defined = "";
  #isDefining = false;
  #described = new Map();
  #running;

  constructor(state, element) {
    this.state = state;
    this.element = element;
    this.countSoon = debounced(() => this.#count(), IDLE);
    state.subscribe((_values, changed) => {
      if (changed.has("entity") || changed.has("tenant") || changed.has("all_tenants")) this.define();
      else if (changed.has("where")) this.#draw();
    });
  }

  isFilterable(entity, field) {
    const chosen = this.#names();
    return chosen.includes(entity) && this.#fields.some(({ name }) => name === field);
  }

  #names() {
    const { entity } = this.state.values;
    return entity.length ? entity : this.state.entities.map(({ name }) => name);
  }

  /** Finds the fields of the searched entities, and how each is filtered. */
  async define() {
    const names = this.#names();
    const whose = within(this.state.values);
    this.#defined = JSON.stringify([names, whose]);
    const known = this.#defined;
    this.#fields = [];
    this.#drawn = new Map();
    this.#isDefining = true;
    if (names.length) fill(this.element, h("p", { class: "notice" }, "Counting the values of the fields…"));
    const described = names.length > MOST_ENTITIES ? [] : await Promise.all(names.map((name) => this.#entity(name, whose)));
    if (known !== this.#defined) return;
    this.#isDefining = false;
    const present = described.filter(Boolean);
    this.#fields = present.length ? filtered(present).slice(0, MOST_FIELDS) : [];
    this.#open = new Set(this.#fields.slice(0, OPEN_AT_FIRST).map(({ name }) => name));
    this.#counts = {};
    this.#draw();
    this.count();
  }

  async #entity(name, whose) {
    const key = JSON.stringify([name, whose]);
    if (!this.#described.has(key)) {
      const described = get(`api/entities/${encodeURIComponent(name)}`, whose).then((entity) => withShort(entity, whose), () => null);
      this.#described.set(key, described);
    }
    return this.#described.get(key);
  }

  count() {
    this.countSoon();
  }

  /** Counts the values of open fields over what was found; those of a filtered field without its own filter. */
  async #count() {
    this.#running?.abort();
    this.#running = new AbortController();
    const { signal } = this.#running;
    const { values } = this.state;
    const isWhole = this.#isWhole();
    const open = this.#fields.filter(({ name, kind }) => this.#open?.has(name) && kind !== "range" && !(isWhole && kind === "values"));
    const own = open.filter(({ name }) => values.where?.[name] !== undefined);
    const others = open.filter((field) => !own.includes(field));
    const wanted = [[values, others], ...own.map((field) => [{ ...values, where: withCondition(values.where, field.name) }, [field]])];
    try {
      const found = await Promise.all(wanted.filter(([, fields]) => fields.length).map(([of, fields]) => this.#facets(of, fields, signal)));
      this.#counts = Object.assign({}, ...found);
      this.#draw();
    } catch (error) {
      if (error.name !== "AbortError") this.#counts = {};
    }
  }

  /** Whether all records are listed, whose counts are known. */
  #isWhole() {
    const { q, like, where } = this.state.values;
    return !q.trim() && !like && !where;
  }

  async #facets(values, fields, signal) {
    const { path, params } = countRequest({ ...values, entity: entitiesFor(this.state) }, fields.map(({ name, kind }) => (kind === "dates" ? { [name]: "month" } : name)));
    const { facets } = await get(path, { ...params, facets: JSON.stringify(params.facets) }, { signal });
    return Object.fromEntries(fields.map(({ name }) => [name, facets?.[name] ?? []]));
  }

  /** Draws the groups that are not as they were; a group that a pointer is on stays. */
  #draw() {
    if (this.#isDefining) return;
    const focused = document.activeElement?.dataset?.focus;
    if (this.element.contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox])")) return;
    const drawn = this.#drawn;
    this.#drawn = new Map(this.#fields.map((field) => [field.name, this.#drawnGroup(field, drawn.get(field.name))]));
    const groups = [...this.#drawn.values()].map(({ group }) => group);
    const isInPlace = groups.length > 0 && groups.length === drawn.size && groups.length === this.element.children.length;
    if (!isInPlace) fill(this.element, groups.length ? groups : this.#none());
    else groups.forEach((group, index) => this.element.children[index] === group || this.element.children[index].replaceWith(group));
    if (focused && document.activeElement?.dataset?.focus !== focused) [...this.element.querySelectorAll("[data-focus]")].find((one) => one.dataset.focus === focused)?.focus();
  }

  #drawnGroup(field, before) {
    const { name } = field;
    const shows = JSON.stringify([this.#isWhole() && field.values, this.#counts[name], this.state.values.where?.[name], this.#expanded.has(name), this.#open.has(name)]);
    return before?.shows === shows && before.field === field ? before : { shows, field, group: this.#group(field) };
  }

  #none() {
    const text = this.#names().length > 1 ? "Choose an entity to filter by its fields." : "No fields to filter by.";
    return h("p", { class: "notice" }, this.#defined ? text : "");
  }

  #group(field) {
    const { name, kind } = field;
    const body = kind === "range" ? this.#range(field) : kind === "dates" ? this.#dates(field) : this.#values(field);
    const group = h("details", { class: "group", open: this.#open.has(name) }, h("summary", { "data-focus": name }, name), body);
    group.addEventListener("toggle", () => {
      if (group.open === this.#open.has(name)) return;
      if (group.open) this.#open.add(name);
      else this.#open.delete(name);
      this.count();
    });
    return group;
  }

  #values({ name, values }) {
    const chosen = valuesOf(this.state.values.where?.[name]) ?? [];
    const texts = new Set(chosen.map((value) => JSON.stringify(value)));
    const counted = this.#isWhole() ? values : this.#counts[name];
    const counts = new Map((counted ?? []).map((one) => [JSON.stringify(valueOf(one)), one.count]));
    const listed = [...values.map(valueOf), ...chosen.filter((value) => !values.some((one) => JSON.stringify(valueOf(one)) === JSON.stringify(value)))];
    const count = (value) => (counted ? counts.get(JSON.stringify(value)) ?? 0 : null);
    const sorted = listed.sort((one, other) => count(other) - count(one));
    const isExpanded = this.#expanded.has(name);
    const shown = isExpanded ? sorted : sorted.filter((value, index) => index < SHOWN_VALUES || texts.has(JSON.stringify(value)));
    return h(
      "ul",
      { class: "values" },
      shown.map((value) => this.#value(name, value, count(value), texts.has(JSON.stringify(value)))),
      sorted.length > shown.length && h("li", {}, h("button", { type: "button", class: "link-button small", "data-focus": `${name}-more`, onclick: () => this.#expand(name) }, `${sorted.length - shown.length} more`)),
    );
  }

  #expand(name) {
    this.#expanded.add(name);
    this.#draw();
  }

  #value(name, value, count, isChosen) {
    const box = h("input", { type: "checkbox", ".checked": isChosen, "data-focus": `${name}=${JSON.stringify(value)}`, onchange: () => this.#set(toggled(this.state.values.where, name, value)) });
    return h("li", {}, h("label", { class: count === 0 && !isChosen ? "value is-none" : "value" }, box, h("span", { class: "value-name" }, shown(plain(value))), h("span", { class: "count figure" }, count === null ? "" : number(count))));
  }

  #range({ name, values }) {
    const numbers = values.map(({ value }) => value);
    const { from, to } = boundsOf(this.state.values.where?.[name]) ?? {};
    const read = (text) => (text === "" ? undefined : Number(text));
    return this.#bounds(name, from, to, "number", read, [String(Math.min(...numbers)), String(Math.max(...numbers))]);
  }

  #bounds(name, from, to, type, read, placeholders = []) {
    const fields = [["from", from, placeholders[0]], ["to", to, placeholders[1]]].map(([label, value, placeholder]) =>
      h("input", { type, class: "input", step: "any", "aria-label": `${name} ${label}`, placeholder, ".value": value === undefined ? "" : String(value).slice(0, type === "date" ? 10 : undefined) }),
    );
    const change = () => {
      const [first, last] = fields.map((field) => read(field.value));
      const condition = { ...(first === undefined ? {} : { $gte: first }), ...(last === undefined ? {} : { $lte: last }) };
      this.#set(withCondition(this.state.values.where, name, Object.keys(condition).length ? condition : undefined));
    };
    for (const field of fields) field.addEventListener("change", change);
    const ends = [type === "date" && "from", fields[0], "to", fields[1]].filter(Boolean);
    return h("div", { class: `bounds of-${type}` }, ends.map((end) => (typeof end === "string" ? h("span", { class: "soft", "aria-hidden": "true" }, end) : end)));
  }

  /** The latest months as columns, and two dates. */
  #dates({ name }) {
    const months = (this.#counts[name] ?? []).slice(-MONTHS);
    const most = Math.max(1, ...months.map(({ count }) => count));
    const chosen = JSON.stringify(this.state.values.where?.[name]);
    const { from, to } = boundsOf(this.state.values.where?.[name]) ?? {};
    const columns = months.map((month) => {
      const condition = month.where[name];
      const isChosen = JSON.stringify(condition) === chosen;
      const label = `${month.from.slice(0, 7)}: ${number(month.count)}`;
      const choose = () => this.#set(withCondition(this.state.values.where, name, isChosen ? undefined : condition));
      return h("button", { type: "button", class: "month", title: label, "aria-label": label, "aria-pressed": String(isChosen), "data-focus": `${name}@${month.from}`, "--share": month.count / most, onclick: choose });
    });
    const ends = months.length > 1 && h("div", { class: "month-ends" }, h("span", {}, months[0].from.slice(0, 7)), h("span", {}, months.at(-1).from.slice(0, 7)));
    return h("div", {}, h("div", { class: "months" }, columns), ends, this.#bounds(name, from, to, "date", (text) => (text ? { $date: text } : undefined)));
  }

  #set(where) {
    filterBy(this.state, where);
  }
}

/** Changes the filter. */
export function filterBy(state, where) {
  state.set({ where, ...(where ? { entity: entitiesFor(state) } : {}) }, { push: true });
}

/** A counted value as `where` takes it. */
function valueOf(counted) {
  return counted.where ? Object.values(counted.where)[0] : counted.value;
}

/** An entity with the values of those searched fields, too, that are short in the first records: names, states. */
async function withShort(entity, whose) {
  const { hits } = await get("api/search", { ...whose, entity: entity.name, limit: SAMPLED, highlight: false });
  const texts = entity.fields.filter(({ filterable, text }) => text && !filterable).map(({ name }) => name);
  const short = texts.filter((name) => isShort(hits.map((hit) => hit.data?.[name])));
  if (!short.length) return entity;
  const { facets } = await get("api/search", { ...whose, entity: entity.name, limit: 1, highlight: false, facets: JSON.stringify(short.slice(0, MOST_FIELDS)) });
  const fields = entity.fields.map((field) => (short.includes(field.name) ? { ...field, filterable: true } : field));
  return { ...entity, fields, values: { ...entity.values, ...facets } };
}

function isShort(values) {
  const given = values.filter((value) => value !== undefined && value !== null).map(String);
  return given.length > 1 && given.every((text) => text.length <= LONGEST_SAMPLED) && new Set(given).size < given.length;
}

/** The fields to filter several entities by, with the values of all, and of which kind each filter is. Records of the
 * store are filtered by any field of theirs, a mapped class only by its own columns. */
function filtered(entities) {
  const known = new Map(entities.flatMap(({ fields }) => fields).filter(({ filterable }) => filterable).map((field) => [field.name, field]));
  const has = (entity, name) => entity.fields.some((field) => field.name === name && field.filterable);
  const isStored = entities.every(({ kind }) => kind === "records");
  const shared = [...known.values()].filter(({ name }) => isStored || entities.every((entity) => has(entity, name)));
  const count = ({ name }) => entities.filter((entity) => has(entity, name)).length;
  const fields = shared.map((field) => {
    const values = merged(entities.map((entity) => entity.values?.[field.name] ?? []));
    return { ...field, values, kind: kindOf(field, values) };
  });
  return fields.filter(({ kind }) => kind).sort((one, other) => count(other) - count(one));
}

function merged(lists) {
  const counts = new Map();
  for (const one of lists.flat()) {
    const key = JSON.stringify(valueOf(one));
    const before = counts.get(key);
    counts.set(key, before ? { ...before, count: before.count + one.count } : one);
  }
  return [...counts.values()].sort((one, other) => other.count - one.count);
}

/** Any filter of the library, as JSON. */
function jsonFilter(state) {
  const area = h("textarea", { class: "input json", rows: 3, spellcheck: "false", "aria-label": "Filter as JSON", placeholder: '{"price": {"$lt": 20}}' });
  const fault = h("p", { class: "notice fault", role: "alert" });
  const draw = () => (area.value = state.values.where ? JSON.stringify(state.values.where, null, 1) : "");
  area.addEventListener("change", () => {
    try {
      const where = area.value.trim() ? JSON.parse(area.value) : null;
      if (where !== null && (typeof where !== "object" || Array.isArray(where))) throw new Error("a filter is an object");
      fault.textContent = "";
      filterBy(state, where);
    } catch (error) {
      fault.textContent = `No filter: ${error.message}`;
    }
  });
  state.subscribe((_values, changed) => changed.has("where") && document.activeElement !== area && draw());
  draw();
  return h("details", { class: "group" }, h("summary", {}, "As JSON"), area, fault);
}

/** The conditions in force, each with a button that removes it. */
export function filterChips(state) {
  const element = h("div", { class: "chips" });
  const draw = () => {
    const entries = Object.entries(state.values.where ?? {});
    fill(
      element,
      entries.map(([field, condition]) => {
        const text = described(field, condition);
        const remove = () => state.set({ where: withCondition(state.values.where, field) }, { push: true });
        return h("button", { type: "button", class: "chip", "aria-label": `Remove the filter ${text}`, onclick: remove }, text, h("span", { "aria-hidden": "true" }, "×"));
      }),
      entries.length > 1 && h("button", { type: "button", class: "link-button small", onclick: () => state.set({ where: null }, { push: true }) }, "Clear all"),
    );
  };
  state.subscribe((_values, changed) => changed.has("where") && draw());
  draw();
  return element;
}
