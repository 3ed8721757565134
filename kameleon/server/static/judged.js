// The tab "judge": the curve of all judgements, what follows from it, and the judgements themselves.

import { copyText, fill, h, number, share, toast } from "./dom.js";
import { draw, hasCurve } from "./curve.js";
import { asFiles } from "./judgements.js";
import { judgedHere } from "./evaluations.js";
import { onWidth, reading } from "./judging.js";
import { problemBox, table } from "./index.js";

const FIGURES = { ndcg: "nDCG@10", recall: "recall@100", mrr: "MRR" };
const NAMES = { keyword: "Keywords alone", vector: "Vectors alone", weighted: "Weighted fusion", rrf: "Reciprocal ranks (rrf)", dbsf: "Scores by their distribution (dbsf)" };
const MOST_SHOWN = 50; // queries, until all are asked for; chosen, not measured
const EVAL = "kameleon eval --queries queries.jsonl --qrels qrels.tsv --save";

/** Fills the tab. Returns what the page calls when it is shown. */
export function view(element, state, { judgements, evaluations }) {
  const parts = Object.fromEntries(["problem", "limits", "measured", "local", "list"].map((name) => [name, h("div", { class: `judged-${name}` })]));
  const files = fileButtons(judgements);
  let isLoaded = false;
  const isOpen = { value: false, show: () => ((isOpen.value = true), showList()) };
  fill(element, h("div", { class: "view-head" }, h("h2", {}, "Judgements"), files), Object.values(parts));

  const showMeasured = () => refill(parts.measured, measured(evaluations, judgements, state, parts.measured.clientWidth));
  const showList = () => {
    const all = judgements.list();
    files.hidden = !all.length;
    refill(parts.limits, limits(all, state));
    fill(parts.local, localNote(judgements, state));
    refill(parts.list, all.length ? queries(judgedHere(all, state), judgements, state, isOpen) : isLoaded && nothing(state));
    showMeasured();
  };
  const load = async () => {
    fill(parts.problem, h("p", { class: "notice working", role: "status" }, "Reading the judgements …"));
    try {
      await judgements.load();
      isLoaded = true;
      fill(parts.problem);
      showList();
      if (!evaluations.found && !evaluations.isBusy) evaluations.measure();
    } catch (problem) {
      fill(parts.problem, problemBox(problem, load));
    }
  };
  judgements.addEventListener("change", showList);
  evaluations.addEventListener("change", showMeasured);
  state.subscribe((_values, changed) => changed.has("weight") && showMeasured());
  state.subscribe((_values, changed) => (changed.has("entity") || changed.has("tenant")) && showList());
  onWidth(element, showMeasured);
  showList();
  load();
  return { show: showList };
}

/** Replaces what is in an element; its details stay open, and the focus stays where it was. */
function refill(element, ...children) {
  const controls = () => [...element.querySelectorAll("a, button, summary")];
  const place = controls().indexOf(document.activeElement);
  const wasOpen = element.querySelector("details")?.open;
  fill(element, ...children);
  if (wasOpen) element.querySelector("details")?.setAttribute("open", "");
  if (place >= 0) (controls()[place] ?? controls().at(-1))?.focus();
}

function nothing(state) {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "Nothing is judged yet"),
    h("p", {}, "Search for what your users search for, and mark hits as relevant or not. From the marks this page measures how well each weight of the vectors answers your queries; from ten judged queries on, the best weight can be saved."),
    h("p", {}, h("a", { class: "button", href: state.url({ ...state.values, tab: "search" }), onclick: (event) => follow(event, state, {}) }, "Search")),
  );
}

/** What the judgements are limited to: the tenant, which may be chosen here, and the entities of the search. */
function limits(all, state) {
  const { tenant, entity } = state.values;
  const tenants = [...new Set(all.map((each) => each.tenant).filter(Boolean))].sort();
  const choose = (event) => state.set({ tenant: event.target.value, all_tenants: !event.target.value });
  const option = (value, text) => h("option", { value, ".selected": value === tenant }, text);
  const picker = h("select", { class: "select", "aria-label": "Tenant", onchange: choose }, option("", "All tenants"), tenants.map((name) => option(name, name)));
  const everything = h("button", { type: "button", class: "link-button", onclick: () => state.set({ entity: [] }) }, "Show all entities");
  return [
    tenants.length > 0 && !state.page.tenantIsFixed && h("p", { class: "buttons" }, picker, !tenant && h("span", { class: "notice" }, "Each query is searched in the records of all tenants. Choose one to measure its own searches.")),
    entity.length > 0 && h("p", { class: "notice" }, `Only of ${entity.join(", ")}, as in your search. `, everything),
  ];
}

/** Changes the state instead of loading the page again. */
function follow(event, state, changes) {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  state.set({ ...changes, tab: "search" }, { push: true });
}

function measured(evaluations, judgements, state, width) {
  const { found, problem, isBusy } = evaluations;
  if (problem) return problemBox(problem, () => evaluations.measure());
  if (!found) return isBusy ? h("p", { class: "notice working", role: "status" }, "Measuring the judged queries …") : unmeasured(judgements);
  return h(
    "div",
    { class: isBusy ? "measured is-busy" : "measured" },
    hasCurve(found) ? weighing(found, evaluations, state, width) : h("p", { class: "notice" }, "No vector was searched, so there is no weight to choose."),
    figures(found),
    found.notes.map((note) => h("p", { class: "notice" }, note)),
  );
}

function unmeasured(judgements) {
  return judgements.list().length ? h("p", { class: "notice" }, "Only records that are not relevant are judged so far: mark one that is.") : null;
}

function weighing(found, evaluations, state, width) {
  const chosen = state.values.weight ?? found.weight;
  const image = draw(found, { width: curveWidth(width), height: 260, chosen, onChoose: (weight) => state.set({ weight }) });
  return h(
    "section",
    { class: "card weighing", "aria-label": "nDCG@10 by weight" },
    h("div", {}, image, legend()),
    h("div", { class: "weighing-text" }, verdict(found), h("p", { class: "notice" }, reading(found, chosen)), weightButtons(found, chosen, evaluations, state), valuesTable(found)),
  );
}

/** Beside the text where there is room for both. */
const curveWidth = (width) => Math.max(260, (width >= 860 ? width * 0.6 : width || 640) - 34);

function legend() {
  const entries = [["index", "the index's weight"], ["chosen", "the weight of your search"], ["best", "best"], ["band", "two standard errors of the difference to the index's weight"]];
  return h("ul", { class: "curve-legend" }, entries.map(([name, text]) => h("li", { class: `legend-${name}` }, text)));
}

/** Whether the best weight is worth saving, in a sentence. */
function verdict({ best_weight: best, weight, gain, noise, queries, objection }) {
  const fits = `Weight ${share(best)} fits best, ${share(gain, 3)} better than the index is now`;
  if (objection) return h("p", { class: "verdict" }, `${best === weight ? `The index has the weight that fits best, ${share(best)}` : fits}. ${capital(objection)}.`);
  return h("p", { class: "verdict good" }, `${fits}, more than chance (${share(noise, 3)}) on ${queries} queries.`);
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

function weightButtons(found, chosen, evaluations, state) {
  const weights = [...new Set([found.best_weight, chosen])].filter((weight) => weight !== found.weight);
  const buttons = weights.map((weight) =>
    h("button", { type: "button", class: weight === found.best_weight && !found.objection ? "button button-primary" : "button", onclick: (event) => saveWeight(event.target, weight, evaluations, state) }, `Save ${share(weight)} as the index's weight`),
  );
  if (!buttons.length) return null;
  if (!state.page.writes) return h("p", { class: "notice" }, "This server is read-only: start it with --write to save a weight, or export the files and run ", commandButton(EVAL));
  return h("p", { class: "buttons" }, buttons);
}

async function saveWeight(button, weight, evaluations, state) {
  button.disabled = true;
  try {
    await evaluations.save(weight);
    state.set({ weight: null });
    toast(`The index's weight is ${share(weight)} now`);
  } catch (problem) {
    toast(`Not saved: ${problem.message}`);
    button.disabled = false;
  }
}

function commandButton(command) {
  return h("button", { type: "button", class: "copy-command", title: "Copy", onclick: () => copyText(command) }, h("code", {}, command));
}

function valuesTable({ ndcg_by_weight: curve, errors_by_weight: errors }) {
  const rows = Object.keys(curve).sort((a, b) => a - b);
  const columns = [["Weight", (weight) => share(Number(weight)), true], ["nDCG@10", (weight) => share(curve[weight], 4), true], ["±", (weight) => share(errors[weight], 4), true]];
  return h("details", {}, h("summary", {}, "Values"), table("nDCG@10 by weight, with two standard errors of the difference to the index's", columns, rows));
}

function figures({ figures: all, queries, skipped }) {
  const columns = [["Search", (name) => NAMES[name] ?? name], ...Object.entries(FIGURES).map(([figure, label]) => [label, (name) => share(all[name][figure], 4), true])];
  const caption = `${number(queries)} judged ${queries === 1 ? "query" : "queries"}${skipped ? `, ${number(skipped)} more without a relevant record in the index` : ""}`;
  return table(caption, columns, Object.keys(all));
}

function localNote(judgements, state) {
  const count = judgements.localCount;
  if (!count) return null;
  const kept = `${number(count)} ${count === 1 ? "judgement is" : "judgements are"} kept in this browser`;
  const clear = h("button", { type: "button", class: "button", onclick: () => confirm(`Remove ${kept.replace(" kept", "")}?`) && judgements.clearLocal() }, "Remove");
  if (!state.page.writes) return h("p", { class: "notice buttons" }, `${kept}, not in the index: the server is read-only.`, clear);
  const keep = h("button", { type: "button", class: "button", onclick: () => judgements.keepLocal().then(() => toast("Kept in the index"), (problem) => toast(`Not kept: ${problem.message}`)) }, "Keep in the index");
  return h("p", { class: "notice buttons" }, `${kept}, not in the index.`, keep, clear);
}

function queries(all, judgements, state, isOpen) {
  const groups = new Map();
  for (const each of all) groups.set(each.query, [...(groups.get(each.query) ?? []), each]);
  const shown = [...groups].slice(0, isOpen.value ? groups.size : MOST_SHOWN);
  return [
    h("h3", {}, `${number(groups.size)} ${groups.size === 1 ? "query" : "queries"}, ${number(all.length)} ${all.length === 1 ? "judgement" : "judgements"}`),
    h("ul", { class: "judged-queries" }, shown.map(([query, marks]) => queryItem(query, marks, judgements, state))),
    shown.length < groups.size && h("button", { type: "button", class: "button", onclick: isOpen.show }, `Show all ${number(groups.size)}`),
  ];
}

function queryItem(query, marks, judgements, state) {
  const changes = { q: query, like: null };
  const relevant = marks.filter(({ gain }) => gain > 0).length;
  return h(
    "li",
    {},
    h("a", { href: state.url({ ...state.values, ...changes, tab: "search" }), onclick: (event) => follow(event, state, changes) }, query),
    h("span", { class: "notice" }, ` ${relevant} relevant, ${marks.length - relevant} not`),
    h("ul", { class: "judged-records" }, marks.map((mark) => recordItem(mark, judgements))),
  );
}

function recordItem(mark, judgements) {
  const { entity, id, gain, tenant } = mark;
  const name = `${tenant ? `${tenant} ` : ""}${entity}/${id}`;
  const remove = () => judgements.set({ ...mark, gain: null }).catch((problem) => toast(`Not removed: ${problem.message}`));
  const sign = gain > 0 ? `relevant${gain === 1 ? "" : ` (${gain})`}` : "not relevant";
  return h(
    "li",
    { class: gain > 0 ? "is-relevant" : "is-not" },
    h("span", {}, name),
    h("span", { class: "notice" }, ` ${sign} `),
    h("button", { type: "button", class: "remove", "aria-label": `Remove the judgement of ${name}`, onclick: remove }, "×"),
  );
}

function fileButtons(judgements) {
  const save = (name, kind) => () => download(name, asFiles(judgements.list())[kind]);
  return h(
    "span",
    { class: "buttons" },
    h("span", { class: "notice" }, "Export"),
    h("button", { type: "button", class: "button", onclick: save("qrels.tsv", "qrels") }, "qrels.tsv"),
    h("button", { type: "button", class: "button", onclick: save("queries.jsonl", "queries") }, "queries.jsonl"),
  );
}

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
