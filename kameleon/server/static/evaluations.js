// Measures the judgements whenever they change: nDCG@10 by weight, and what the index's own weight gives.

import { send } from "./http.js";
import { debounced } from "./dom.js";

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
    state.subscribe((_values, changed) => ["entity", "tenant", "all_tenants"].some((name) => changed.has(name)) && again());
  }

  async measure() {
    this.#running?.abort();
    if (!this.judgements.list().some(({ gain }) => gain > 0)) {
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

  /** Saves a weight as the index's own, and measures again. */
  async save(weight) {
    await send("PUT", "api/weight", { weight });
    await this.measure();
  }

  #body() {
    const { entity, tenant, all_tenants } = this.state.values;
    const within = all_tenants ? { all_tenants } : tenant ? { tenant } : {};
    return { judgements: this.judgements.ownList, entities: entity.length ? entity : undefined, ...within };
  }

  #become(changes) {
    Object.assign(this, changes);
    this.dispatchEvent(new Event("change"));
  }
}
