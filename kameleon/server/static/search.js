// The view "Search": searches while a query is typed, and shows the hits.

import { entityPicker, modePicker, optionsMenu, queryBar, weightSlider } from "./controls.js";
import { withCondition } from "./conditions.js";
import { announce, fill, h, number } from "./dom.js";
import { filterBy, filterChips, filtersPanel } from "./filters.js";
import { hitItem, redrawFacts } from "./hits.js";
import { get } from "./http.js";
import { legsView } from "./legs.js";
import { emptyIndex, noHits, notices, problem } from "./messages.js";
import { pageRequest, searchedVectors, within } from "./requests.js";
import { shareButton } from "./sharing.js";
import { sortPicker } from "./sorting.js";

const SLOW = 300; // milliseconds before a search is shown as running; chosen, not measured
const SEARCHED_BY = ["q", "entity", "mode", "fusion", "weight", "where", "sort", "min_score", "limit", "diversity", "passages", "group_by", "synonyms", "rules", "tenant", "all_tenants", "like", "legs"];

export function mount(element, state) {
  const view = new SearchView(element, state);
  view.start();
  return { show: () => view.input.focus({ preventScroll: true }), key: (event) => view.key(event) };
}

class SearchView {
  #running;
  #open = new Set();
  #answer = null;

  constructor(element, state) {
    this.state = state;
    this.bar = queryBar(state);
    this.input = this.bar.input;
    this.picker = entityPicker(state);
    this.weight = weightSlider(state);
    this.filters = filtersPanel(state);
    this.sort = sortPicker(state);
    this.summary = h("h2", { class: "summary" });
    this.notes = h("div", { class: "notes" });
    this.list = h("ol", { class: "hits" });
    this.after = h("div", { class: "after" });
    this.legs = legsView(this.list);
    this.legsButton = h("button", { type: "button", class: "button", hidden: true, onclick: () => this.#toggleLegs() }, "Show legs");
    this.results = h("section", { class: "results", "aria-label": "Hits" });
    this.actions = {
      similar: (hit) => this.#similar(hit),
      filter: (field, value) => filterBy(state, withCondition(state.values.where, field, value)),
      isFilterable: (entity, field) => this.filters.isFilterable(entity, field),
    };
    const filtersButton = h("button", { type: "button", class: "button only-narrow", "aria-expanded": "false" }, "Filters");
    const toggleFilters = () => {
      const isShown = element.classList.toggle("shows-filters");
      filtersButton.setAttribute("aria-expanded", String(isShown));
      (isShown ? this.filters.element : filtersButton).focus({ preventScroll: true });
      scrollTo({ top: 0 }); // the filters are above the query where the page is narrow
    };
    filtersButton.addEventListener("click", toggleFilters);
    this.filters.element.append(h("button", { type: "button", class: "button filters-end", onclick: toggleFilters }, "Show the hits"));
    this.results.append(
      h("div", { class: "results-head" }, this.summary, h("div", { class: "results-tools" }, filtersButton, this.sort.element, this.legsButton, shareButton(state))),
      ...[filterChips(state), this.weight.element, this.notes, this.legs.element, this.after],
    );
    const controls = h("div", { class: "controls" }, this.bar.offered, modePicker(state), optionsMenu(state));
    const main = h("div", { class: "found" }, h("div", { class: "query-area" }, this.bar.element, controls), this.results);
    this.filters.element.prepend(this.picker.element);
    fill(element, h("div", { class: "columns" }, this.filters.element, main));
    this.element = element;
  }

  start() {
    this.state.subscribe((_values, changed) => {
      const names = SEARCHED_BY.filter((name) => changed.has(name));
      if (names.length) this.#search({ isMoved: names.every((name) => name === "weight" || name === "fusion") });
      if (changed.has("fields")) redrawFacts(this.list, this);
      if (changed.has("tenant") || changed.has("all_tenants")) this.#loadEntities();
    });
    this.#search().then(() => this.#loadEntities()); // hits come first
  }

  async #loadEntities() {
    try {
      const { entities } = await get("api/entities", within(this.state.values));
      this.state.entities = entities;
      this.picker.show(entities);
      this.sort.draw();
      await this.filters.define();
      redrawFacts(this.list, this);
    } catch {
      this.picker.show([]);
    }
  }

  /** Requests the first page; an older request that still runs is aborted. `isMoved`: only what orders the fusion was
   * changed, so that the legs are as they were. */
  async #search({ isMoved = false } = {}) {
    this.#running?.abort();
    const running = (this.#running = new AbortController());
    this.results.setAttribute("aria-busy", "true");
    const slow = setTimeout(() => this.#isSlow(true), SLOW);
    const had = isMoved && this.state.values.legs ? this.#answer?.legs : null;
    const { path, params } = pageRequest(this.state.values, { withLegs: !had });
    try {
      const answer = await get(path, params, { signal: running.signal });
      if (had) answer.legs = had;
      if (!isMoved) this.#open.clear();
      this.#draw(answer, { isMoved });
      this.filters.show();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#fail(error);
    } finally {
      clearTimeout(slow);
      if (running === this.#running) {
        this.#isSlow(false);
        this.results.setAttribute("aria-busy", "false");
      }
    }
  }

  #isSlow(isSlow) {
    document.getElementById("progress").hidden = !isSlow;
    this.results.classList.toggle("is-slow", isSlow);
  }

  #fail(error) {
    this.#answer = null;
    this.summary.textContent = "";
    fill(this.list);
    fill(this.after);
    this.#drawTools(this.state.values);
    fill(this.notes, problem(error, () => this.#search(), this.state));
  }

  #draw(answer, { isMoved = false } = {}) {
    const { values } = this.state;
    const before = isMoved ? placesOf(this.list) : null;
    this.#answer = answer;
    const items = answer.hits.map((hit, index) => this.#item(hit, index + 1));
    const focused = this.list.contains(document.activeElement) && document.activeElement.closest("[data-key]").dataset.key;
    fill(this.list, items);
    if (focused) items.find((item) => item.dataset.key === focused)?.focus({ preventScroll: true });
    if (before) move(this.list, before);
    const showsLegs = Boolean(answer.legs);
    this.legs.element.classList.toggle("is-on", showsLegs);
    this.element.classList.toggle("compares", showsLegs);
    if (showsLegs) this.legs.show(answer);
    requestAnimationFrame(() => this.legs.link());
    this.weight.show(answer.plan);
    this.#drawTools(values);
    const summary = summaryOf(answer, values);
    fill(this.summary, summary.text, summary.time && h("span", { class: "soft" }, summary.time));
    announce(summary.text);
    fill(this.notes, notices(answer, this.state));
    if (answer.hits.length) fill(this.after, answer.cursor && this.#more(answer.cursor));
    else fill(this.after, values.q || values.like || values.where || values.entity.length ? noHits(this.state) : emptyIndex(this.state));
  }

  #drawTools(values) {
    const canShowLegs = values.mode === "hybrid" && values.q.trim() && !values.like;
    this.legsButton.hidden = !canShowLegs || !(values.legs || searchedVectors(this.#answer?.plan));
    this.legsButton.textContent = values.legs ? "Hide legs" : "Show legs";
    this.legsButton.setAttribute("aria-pressed", String(values.legs));
  }

  #item(hit, place) {
    const isRanked = Boolean(this.state.values.q.trim() || this.state.values.like);
    return hitItem(hit, place, { state: this.state, actions: this.actions, open: this.#open, isRanked });
  }

  #more(cursor) {
    const button = h("button", { type: "button", class: "button" }, "More hits");
    button.addEventListener("click", async () => {
      button.disabled = true;
      const { path, params } = pageRequest(this.state.values, { withLegs: false });
      try {
        const answer = await get(path, { ...params, cursor }, { signal: this.#running.signal });
        const shown = this.list.children.length;
        const items = answer.hits.map((hit, index) => this.#item(hit, shown + index + 1));
        this.list.append(...items);
        items[0]?.focus();
        fill(this.after, answer.cursor && this.#more(answer.cursor));
        this.legs.link();
      } catch (error) {
        if (error.name !== "AbortError") fill(this.after, problem(error, () => this.#search(), this.state));
      }
    });
    return button;
  }

  #toggleLegs() {
    this.state.set({ legs: !this.state.values.legs }, { push: true });
  }

  #similar(hit) {
    this.state.set({ like: [hit.entity, hit.id], where: null, sort: "" }, { push: true });
    scrollTo({ top: 0 });
  }

  /** Takes a shortcut; true where it was one. */
  key(event) {
    const hit = document.activeElement?.closest?.(".hits > .hit");
    const hits = [...this.list.children];
    const go = (index) => hits[index]?.focus();
    const keys = {
      "/": () => (this.input.focus(), this.input.select()),
      j: () => go(hit ? hits.indexOf(hit) + 1 : 0),
      k: () => go(hit ? hits.indexOf(hit) - 1 : 0),
      e: () => hit?.querySelector("[data-do=explain]")?.click(),
      s: () => hit?.querySelector("[data-do=similar]")?.click(),
      l: () => !this.legsButton.hidden && this.#toggleLegs(),
      "[": () => !this.weight.element.hidden && this.weight.step(-1),
      "]": () => !this.weight.element.hidden && this.weight.step(1),
      Escape: () => this.#leave(),
    };
    if (!(event.key in keys)) return false;
    keys[event.key]();
    return true;
  }

  #leave() {
    if (document.activeElement === this.input && this.list.children.length) this.list.children[0].focus();
    else if (this.state.values.like) this.state.set({ like: null }, { push: true });
  }
}

function summaryOf(answer, values) {
  const count = `${answer.is_total_exact ? "" : "At least "}${number(answer.total)}`;
  const noun = values.q.trim() || values.like ? (answer.total === 1 ? "hit" : "hits") : answer.total === 1 ? "record" : "records";
  const legs = answer.plan?.legs ?? {};
  const ms = Object.values(legs).reduce((sum, one) => sum + one, 0);
  return { text: `${count} ${noun}`, time: ms ? ` in ${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` : "" };
}

function placesOf(list) {
  return new Map([...list.children].map((item) => [item.dataset.key, item.getBoundingClientRect().top]));
}

/** Moves items from where they were to where they are. */
function move(list, before) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const item of list.children) {
    const from = before.get(item.dataset.key);
    const distance = from === undefined ? 0 : from - item.getBoundingClientRect().top;
    if (distance) item.animate([{ transform: `translateY(${distance}px)` }, { transform: "none" }], { duration: 180, easing: "ease-out" });
    else if (from === undefined) item.animate([{ opacity: 0 }, { opacity: 1 }], { duration: 180 });
  }
}
