// The page's state, which its URL has, so that a link restores it.

/** Each value with its default. A name is that of the search option in the library where it is one. */
const DEFAULTS = {
  tab: "search",
  q: "",
  entity: [],
  mode: "hybrid",
  fusion: "weighted",
  weight: null,
  where: null,
  sort: "",
  min_score: 0,
  limit: 10,
  diversity: 0,
  passages: 0,
  group_by: "",
  synonyms: true,
  rules: true,
  tenant: "",
  all_tenants: false,
  like: null,
  legs: false,
  fields: [],
};
const LISTS = ["entity", "fields"];

export class State {
  #listeners = [];

  /** `page` is what the server wrote into it: {writes, tenant, tenantIsFixed, hasToken, title}; `entities` are
   * those that there are, once they were read. */
  constructor(page) {
    this.page = page;
    this.entities = [];
    this.values = fromQuery(location.search);
    addEventListener("popstate", () => this.#become(fromQuery(location.search)));
  }

  /** Changes values and the URL. `push` makes an entry in the browser's history: for what Back should undo. */
  set(changes, { push = false } = {}) {
    const values = { ...this.values, ...changes };
    const url = this.url(values);
    if (push && url !== location.pathname + location.search) history.pushState(null, "", url);
    else history.replaceState(null, "", url);
    this.#become(values);
  }

  /** The URL of these values. */
  url(values = this.values) {
    return location.pathname + toQuery(values);
  }

  /** Calls listener(values, changed) after each change; `changed` is the set of names. */
  subscribe(listener) {
    this.#listeners.push(listener);
  }

  #become(values) {
    const changed = new Set(Object.keys(DEFAULTS).filter((name) => !same(values[name], this.values[name])));
    this.values = values;
    if (changed.size) for (const listener of this.#listeners) listener(values, changed);
  }
}

function same(one, other) {
  return JSON.stringify(one) === JSON.stringify(other);
}

export function isDefault(name, value) {
  return same(value, DEFAULTS[name]);
}

function toQuery(values) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (isDefault(name, value)) continue;
    if (LISTS.includes(name)) for (const one of value) query.append(name, one);
    else query.set(name, typeof value === "object" ? JSON.stringify(value) : String(value));
  }
  const text = query.toString();
  return text ? `?${text}` : "";
}

function fromQuery(text) {
  const query = new URLSearchParams(text);
  const values = { ...DEFAULTS };
  for (const [name, initial] of Object.entries(DEFAULTS)) {
    if (!query.has(name)) continue;
    const given = query.get(name);
    if (LISTS.includes(name)) values[name] = query.getAll(name);
    else if (typeof initial === "boolean") values[name] = given === "true";
    else if (typeof initial === "number") values[name] = finite(given, initial);
    else if (initial === null) values[name] = parsed(given);
    else values[name] = given;
  }
  return values;
}

function finite(text, otherwise) {
  const value = Number(text);
  return Number.isFinite(value) ? value : otherwise;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
