// Measures the judgements whenever they change: nDCG@10 by weight, and what the index's own weight gives.

import { debounced } from "./dom.js";
import { send } from "./http.js";

const WAIT_MS = 150; // of marks in a row the last is measured; chosen, not measured

/** The last evaluation. "change" is dispatched when it begins (`isBusy`), and when it ends with `found` or `problem`. */
export class Evaluations extends EventTarget {
  found = null;
  problem = null;
  isBusy = false;
  #running = null;

  constructor(judgements, state) {
    super();
    this.judgements = judgements;
    this.state = state;
    const again = debounced(() => this.measure(), WAIT_MS);
    judgements.addEventListener("change", again);
    state.subscribe((_values, changed) => (changed.has("entity") || changed.has("tenant")) && again());
  }

  async measure() {
    this.#running?.abort();
    if (!this.#judged().some(({ gain }) => gain > 0)) {
      this.#become({ found: null, problem: null, isBusy: false });
      return;
    }
    const running = new AbortController();
    this.#running = running;
    this.#become({ isBusy: true });
    try {
      const found = await send("POST", "api/evaluate", this.#body(), { signal: running.signal });
      this.#become({ found, problem: null, isBusy: false });
    } catch (problem) {
      if (problem.name !== "AbortError") this.#become({ problem, isBusy: false });
    }
  }

  /** Whether anything is judged, of what the page is limited to. */
  get hasJudgements() {
    return this.#judged().length > 0;
  }

  #judged() {
    return judgedHere(this.judgements.list(), this.state);
  }

  /** Saves a weight as the index's own, and measures again. */
  async save(weight) {
    await send("PUT", "api/weight", { weight });
    await this.measure();
  }

  /** Queries of several tenants are searched in the records of all, unless one is chosen. */
  #body() {
    const { entity, tenant } = this.state.values;
    const hasTenants = !this.state.page.tenantIsFixed && this.judgements.list().some((each) => each.tenant);
    const within = tenant ? { tenant } : hasTenants ? { all_tenants: true } : {};
    return { judgements: this.judgements.ownList, entities: entity.length ? entity : undefined, ...within };
  }

  #become(changes) {
    Object.assign(this, changes);
    this.dispatchEvent(new Event("change"));
  }
}

/** The judgements of the entities and the tenant that the page is limited to. */
export function judgedHere(all, { values: { entity, tenant } }) {
  return all.filter((each) => (!entity.length || entity.includes(each.entity)) && (!tenant || each.tenant === tenant));
}
