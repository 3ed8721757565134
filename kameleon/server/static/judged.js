// The tab "judge": what follows from all judgements, and the judgements themselves.

import { fill, h, toast } from "./dom.js";
import { judgedHere } from "./evaluations.js";
import { asFiles } from "./judgements.js";
import { button, counted, notice, onWidth, problemBox, refill, working } from "./parts.js";
import { measured } from "./weighing.js";

const MOST_SHOWN = 50; // queries, before "Show all"; chosen, not measured

/** Fills the tab. Returns what the page calls when it is shown. */
export function view(element, state, { judgements, evaluations }) {
  const names = ["problem", "limits", "measured", "local", "list"];
  const parts = Object.fromEntries(names.map((name) => [name, h("div", { class: `judged-${name}` })]));
  const files = fileButtons(judgements);
  fill(element, h("div", { class: "view-head" }, h("h2", {}, "Judgements"), files), Object.values(parts));
  const shows = { isLoaded: false, all: false };

  const showMeasured = () => refill(parts.measured, measured(evaluations, state, parts.measured.clientWidth));
  const show = () => {
    const all = judgements.list();
    files.hidden = !all.length;
    refill(parts.limits, limits(all, state));
    fill(parts.local, localNote(judgements, state));
    const context = { judgements, state, shows, show };
    refill(parts.list, all.length ? queries(judgedHere(all, state), context) : shows.isLoaded && nothing(state));
    showMeasured();
  };
  const load = async () => {
    fill(parts.problem, working("Reading the judgements …"));
    try {
      await judgements.load();
      shows.isLoaded = true;
      fill(parts.problem);
      show();
      if (!evaluations.found && !evaluations.isBusy) evaluations.measure();
    } catch (problem) {
      fill(parts.problem, problemBox(problem, load));
    }
  };
  judgements.addEventListener("change", show);
  evaluations.addEventListener("change", showMeasured);
  state.subscribe((_values, changed) => changed.has("weight") && showMeasured());
  state.subscribe((_values, changed) => (changed.has("entity") || changed.has("tenant")) && show());
  onWidth(element, showMeasured);
  load();
  return { show };
}

function nothing(state) {
  const href = state.url({ ...state.values, tab: "search" });
  const steps =
    "Search for what your users search for, and mark hits as relevant or not. This page then measures how well each " +
    "weight of the vectors answers your queries; from ten judged queries on, the best weight can be worth saving.";
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "Nothing is judged yet"),
    h("p", {}, steps),
    h("p", {}, h("a", { class: "button", href, onclick: (event) => follow(event, state, {}) }, "Search")),
  );
}

/** Changes the state instead of loading the page again. */
function follow(event, state, changes) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  state.set({ ...changes, tab: "search" }, { push: true });
}

/** What the judgements are limited to: the tenant, which may be chosen here, and the entities of the search. */
function limits(all, state) {
  const { tenant, entity } = state.values;
  const tenants = [...new Set(all.map((each) => each.tenant).filter(Boolean))].sort();
  const everything = button("Show all entities", () => state.set({ entity: [] }), { kind: "link-button" });
  return [
    tenants.length > 0 && !state.page.tenantIsFixed && tenantPicker(tenants, tenant, state),
    entity.length > 0 && notice(`Only of ${entity.join(", ")}, as in your search. `, everything),
  ];
}

function tenantPicker(tenants, chosen, state) {
  const option = (value, text) => h("option", { value, ".selected": value === chosen }, text);
  const onchange = (event) => state.set({ tenant: event.target.value, all_tenants: !event.target.value });
  const options = [option("", "All tenants"), tenants.map((name) => option(name, name))];
  return h(
    "div",
    { class: "buttons" },
    h("select", { class: "select", "aria-label": "Tenant", onchange }, options),
    !chosen && notice("Each query is searched in the records of all tenants. Choose one to measure its own searches."),
  );
}

function localNote(judgements, state) {
  const count = judgements.localCount;
  if (!count) return null;
  const kept = `${counted(count, "judgement is", "judgements are")} kept in this browser, not in the index`;
  const clear = () => confirm(`Remove ${counted(count, "judgement")} from this browser?`) && judgements.clearLocal();
  const keep = () => judgements.keepLocal().then(() => toast("Kept in the index"), (problem) => toast(`Not kept: ${problem.message}`));
  return h(
    "div",
    { class: "buttons" },
    notice(state.page.writes ? `${kept}.` : `${kept}: the server is read-only.`),
    state.page.writes && button("Keep in the index", keep),
    button("Remove", clear),
  );
}

function queries(all, { judgements, state, shows, show }) {
  const groups = new Map();
  for (const each of all) groups.set(each.query, [...(groups.get(each.query) ?? []), each]);
  const listed = [...groups].slice(0, shows.all ? groups.size : MOST_SHOWN);
  const showAll = () => {
    shows.all = true;
    show();
  };
  return [
    h("h3", {}, `${counted(groups.size, "query", "queries")}, ${counted(all.length, "judgement")}`),
    h("ul", { class: "judged-queries" }, listed.map(([query, marks]) => queryItem(query, marks, judgements, state))),
    listed.length < groups.size && button(`Show all ${groups.size}`, showAll),
  ];
}

function queryItem(query, marks, judgements, state) {
  const changes = { q: query, like: null };
  const relevant = marks.filter(({ gain }) => gain > 0).length;
  const href = state.url({ ...state.values, ...changes, tab: "search" });
  return h(
    "li",
    {},
    h("a", { href, onclick: (event) => follow(event, state, changes) }, query),
    h("span", { class: "notice" }, ` ${relevant} relevant, ${marks.length - relevant} not`),
    h("ul", { class: "judged-records" }, marks.map((mark) => recordItem(mark, judgements))),
  );
}

function recordItem(mark, judgements) {
  const { entity, id, gain, tenant } = mark;
  const name = `${tenant ? `${tenant} ` : ""}${entity}/${id}`;
  const remove = () => judgements.set({ ...mark, gain: null }).catch((problem) => toast(`Not removed: ${problem.message}`));
  return h(
    "li",
    { class: gain > 0 ? "is-relevant" : "is-not" },
    h("span", {}, name),
    h("span", { class: "notice" }, gain > 0 ? `relevant${gain === 1 ? "" : ` (${gain})`}` : "not relevant"),
    button("×", remove, { kind: "remove", "aria-label": `Remove the judgement of ${name}` }),
  );
}

function fileButtons(judgements) {
  const save = (name, kind) => button(name, () => download(name, asFiles(judgements.list())[kind]));
  return h("div", { class: "buttons" }, notice("Export"), save("qrels.tsv", "qrels"), save("queries.jsonl", "queries"));
}

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
