// Keeps judgements: in the index where the server writes, else in this browser, on top of those of the index.

import { get, send } from "./http.js";

const storageKey = `kameleon.judgements:${document.body.dataset.records}`;

const key = ({ query, entity, id, tenant }) => JSON.stringify([query, entity, id, tenant ?? ""]);

const byQuery = (a, b) => (a.query < b.query ? -1 : Number(a.query > b.query));

/** Judgements by query, record and tenant. "change" is dispatched after each change. */
export class Judgements extends EventTarget {
  #kept = new Map(); // in the index
  #local = new Map(); // in this browser; a gain of null removes one that is in the index
  #loading = null;

  constructor(writes) {
    super();
    this.writes = writes;
    this.#readLocal();
    addEventListener("storage", (event) => {
      if (event.key === storageKey) {
        this.#readLocal();
        this.#changed();
      }
    });
  }

  /** Reads those of the index once; each caller waits for the same request. */
  load() {
    this.#loading ??= this.reload().catch((error) => {
      this.#loading = null;
      throw error;
    });
    return this.#loading;
  }

  async reload() {
    const { judgements } = await get("api/judgements");
    this.#kept = new Map(judgements.map((each) => [key(each), each]));
    this.#changed();
  }

  /** All of them, sorted by query. */
  list() {
    const merged = new Map([...this.#kept, ...this.#local]);
    return [...merged.values()].filter((each) => each.gain !== null).sort(byQuery);
  }

  gain(judgement) {
    const found = this.#local.get(key(judgement)) ?? this.#kept.get(key(judgement));
    return found?.gain ?? null;
  }

  get localCount() {
    return this.#local.size;
  }

  /** Those to evaluate: none where the index has them all. */
  get ownList() {
    return this.#local.size ? this.list() : undefined;
  }

  /** Keeps a judgement; a gain of null removes it. What is shown changes at once, and back if the server refuses. */
  async set(judgement) {
    if (!this.writes) {
      this.#setLocal(judgement);
      return;
    }
    const name = key(judgement);
    const before = this.#kept.get(name);
    const local = this.#local.get(name);
    this.#replace(this.#kept, name, judgement.gain === null ? undefined : judgement);
    this.#replace(this.#local, name, undefined);
    this.#changed();
    try {
      await send("PUT", "api/judgements", judgement);
    } catch (error) {
      this.#replace(this.#kept, name, before);
      this.#replace(this.#local, name, local);
      this.#changed();
      throw error;
    }
    this.#writeLocal();
    this.#changed();
  }

  /** Moves those of this browser into the index. */
  async keepLocal() {
    await send("PUT", "api/judgements", [...this.#local.values()]);
    this.#local.clear();
    this.#writeLocal();
    await this.reload();
  }

  /** Removes those of this browser. */
  clearLocal() {
    this.#local.clear();
    this.#writeLocal();
    this.#changed();
  }

  #setLocal(judgement) {
    const name = key(judgement);
    const isKept = (this.#kept.get(name)?.gain ?? null) === judgement.gain;
    this.#replace(this.#local, name, isKept ? undefined : judgement);
    this.#changed();
    this.#writeLocal();
  }

  #replace(map, name, value) {
    if (value === undefined) map.delete(name);
    else map.set(name, value);
  }

  #readLocal() {
    try {
      const stored = JSON.parse(localStorage.getItem(storageKey) ?? "[]");
      this.#local = new Map(stored.map((each) => [key(each), each]));
    } catch {
      this.#local = new Map(); // storage is off, or holds something else
    }
  }

  #writeLocal() {
    try {
      if (this.#local.size) localStorage.setItem(storageKey, JSON.stringify([...this.#local.values()]));
      else localStorage.removeItem(storageKey);
    } catch (error) {
      throw new Error("This browser keeps no judgements: its storage is off or full.", { cause: error });
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

/** The files that `kameleon eval` reads: BEIR's qrels.tsv and queries.jsonl. A query's id follows from its text, so that
 * files of different days fit each other. */
export function asFiles(judgements) {
  const idOf = encodeURIComponent;
  const queries = [...new Set(judgements.map(({ query }) => query))].sort();
  const lines = judgements.map(({ query, entity, id, gain }) => `${idOf(query)}\t${entity}/${id}\t${gain}\n`);
  return {
    qrels: `query-id\tcorpus-id\tscore\n${lines.join("")}`,
    queries: queries.map((query) => `${JSON.stringify({ _id: idOf(query), text: query })}\n`).join(""),
  };
}
