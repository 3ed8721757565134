// The tab "index": what is in it, what is wrong with it, and what is done about it.

import { announce, fill, h, number, share } from "./dom.js";
import { get } from "./http.js";

const BUSY_MS = 2000; // between two readings while a reindex runs or records are pending
const IDLE_MS = 15000; // otherwise; both chosen, not measured
const ENDED = new Set(["done", "stopped", "refused"]);

/** Fills the tab. Returns what the page calls when it is shown and hidden: the status is read as long as it is shown. */
export function mount(element, state) {
  const names = ["problem", "summary", "reindex", "entities", "tenants", "failures", "generations", "sizes"];
  const parts = Object.fromEntries(names.map((name) => [name, h("div")]));
  const note = h("span", { class: "notice" }, "Reading the status …");
  const refresh = h("button", { type: "button", class: "button", onclick: () => read().then(() => announce(note.textContent)) }, "Refresh");
  fill(element, h("div", { class: "view-head" }, h("h2", {}, "Index"), note, refresh), Object.values(parts), !state.page.tenantIsFixed && checks(state));
  const made = {};
  let timer = 0;

  async function read() {
    clearTimeout(timer);
    let status = null;
    try {
      status = await get("api/status", within(state));
      show(status);
      note.textContent = `Read at ${new Date().toLocaleTimeString()}`;
    } catch (problem) {
      fill(parts.problem, problemBox(problem, read));
      note.textContent = "Not read";
    }
    clearTimeout(timer);
    timer = setTimeout(tick, status && isBusy(status) ? BUSY_MS : IDLE_MS);
  }

  /** A page that is not seen does not ask. */
  function tick() {
    if (document.hidden) timer = setTimeout(tick, BUSY_MS);
    else read();
  }

  /** Makes a part again only where its values have changed: who reads or scrolls in it is not disturbed. */
  function part(name, values, make) {
    const text = JSON.stringify(values);
    if (made[name] !== text) fill(parts[name], make(values));
    made[name] = text;
  }

  function show(status) {
    fill(parts.problem);
    part("summary", status, summary);
    part("reindex", status.reindex, reindex);
    part("entities", status.entities, entities);
    part("tenants", [status.tenants ?? [], state.values.tenant], ([all]) => tenants(all, state));
    part("generations", status.generations, generations);
    part("sizes", status.size, sizes);
    showFailures(status.entities.map(({ failed }) => failed));
  }

  async function showFailures(counts) {
    try {
      if (made.counts === counts.join()) return;
      const found = counts.some(Boolean) ? (await get("api/failures", within(state))).failures : [];
      part("failures", found, failures);
      made.counts = counts.join();
    } catch (problem) {
      fill(parts.failures, problemBox(problem, () => showFailures(counts)));
    }
  }

  state.subscribe((values, changed) => changed.has("tenant") && values.tab === "index" && read());
  return { show: read, hide: () => clearTimeout(timer) };
}

/** The tenant that the page is limited to; without one the status is of all. */
const within = ({ values: { tenant } }) => (tenant ? { tenant } : {});

const isRunning = (run) => Boolean(run) && !ENDED.has(run.phase);

const isBusy = ({ entities: all, reindex: run }) => isRunning(run) || all.some(({ pending }) => pending);

const sum = (all, name) => all.reduce((total, each) => total + (each[name] ?? 0), 0);

/** What went wrong, and a button that tries again. */
export function problemBox(problem, again) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("h2", {}, problem.title || "The request failed"),
    problem.message !== problem.title && h("p", {}, problem.message),
    again && h("button", { type: "button", class: "button", onclick: again }, "Try again"),
  );
}

function summary({ version, writes, entities: all, generations: made, cache, size: sizes }) {
  if (!all.length) return empty(writes);
  const active = made.find(({ state }) => state === "active");
  const figures = [
    ["Records", number(sum(all, "indexed")), `of ${number(all.length)} ${all.length === 1 ? "entity" : "entities"}`],
    ["Pending", number(sum(all, "pending")), "without a current embedding", sum(all, "pending") && "warning"],
    ["Failed", number(sum(all, "failed")), "refused by the provider", sum(all, "failed") && "error"],
    ["Model", active?.model_name || "none", active ? `weight ${share(active.weight)}` : "keywords alone"],
    ...(sizes ? [sizeCard(sizes), ["Embedding cache", number(sum(cache, "texts")), `texts, ${inBytes(sum(cache, "size"))}`]] : []),
  ];
  return [
    h("dl", { class: "index-figures" }, figures.map((figure) => card(...figure))),
    h("p", { class: "notice" }, `kameleon ${version}, ${writes ? "reads and writes" : "read-only"}`),
  ];
}

/** Of kameleon's tables where the database counts them. */
function sizeCard({ database, tables }) {
  const own = Object.values(tables).reduce((total, each) => total + each, 0);
  if (!own) return ["Size", inBytes(database), "of the database file"];
  return ["Size", inBytes(own), `of kameleon's tables; the database has ${inBytes(database)}`];
}

function card(name, value, detail, level) {
  return h("div", { class: level ? `index-figure is-${level}` : "index-figure" }, h("dt", {}, name), h("dd", {}, value, h("small", {}, detail)));
}

function empty(writes) {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "The index is empty"),
    h("p", {}, "Insert a record, and it can be searched at once:"),
    h("pre", { class: "code", tabindex: 0 }, `kameleon data insert Contact '{"id": "7", "name": "Ann Lee", "about": "met in Oslo"}'`),
    writes && h("p", {}, "This server writes: POST /api/records does it, too."),
  );
}

function reindex(run) {
  if (!run || run.phase === "done") return [];
  const done = run.done ?? run.embedded + run.reused + run.failed;
  const seconds = run.embedding_s + run.writing_s;
  const rate = run.rows_per_second ?? (seconds ? done / seconds : 0);
  const left = rate ? Math.max(0, run.total - done) / rate : null;
  const share = run.total ? Math.floor((100 * done) / run.total) : 0;
  const title = isRunning(run) ? `Reindex of generation ${run.generation}: ${run.phase}` : `The last reindex was ${run.phase}`;
  return [
    h("h3", {}, title),
    h("progress", { max: run.total || 1, value: done, "aria-label": title }),
    h(
      "p",
      {},
      `${number(done)} of ${number(run.total)} records (${share} %)`,
      rate ? `, ${number(Math.round(rate))} a second` : "",
      isRunning(run) && left !== null ? `, ${duration(left)} left` : "",
      run.failed ? `, ${number(run.failed)} failed` : "",
      `; began ${new Date(run.began_at).toLocaleString()}`,
      isRunning(run) && !run.owner ? ". No process works at it." : "",
    ),
    (!isRunning(run) || !run.owner) &&
      h("p", {}, "Run ", h("code", {}, "kameleon embeddings reindex"), " again, and it resumes."),
  ];
}

/** A time in words, of the largest unit that fits. */
export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** A table that scrolls by itself where the window is narrow. Columns are [name, cell of a row, is a number]. */
export function table(caption, columns, rows) {
  const cell = (row, [, read, isNumber]) => h("td", { class: isNumber ? "number" : "" }, read(row));
  return h(
    "div",
    { class: "scrolling", tabindex: 0, role: "region", "aria-label": caption },
    h(
      "table",
      { class: "table" },
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, ...columns.map(([name, , isNumber]) => h("th", { scope: "col", class: isNumber ? "number" : "" }, name)))),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...columns.map((column) => cell(row, column))))),
    ),
  );
}

const counted = (name) => [name[0].toUpperCase() + name.slice(1), (row) => number(row[name] ?? 0), true];

function entities(all) {
  if (!all.length) return [];
  const unindexed = all.some((row) => row.unindexed) ? ["unindexed"] : [];
  const columns = [
    ["Entity", (row) => row.entity],
    ...["indexed", "pending", "failed", ...unindexed].map(counted),
    ["Last updated", (row) => moment(row.last_updated)],
    ["Keywords ranked by", (row) => (row.keyword_search === "server" ? "PostgreSQL" : "kameleon")],
  ];
  const notes = [...new Set(all.map(({ note }) => note).filter(Boolean))];
  return [
    table("Entities", columns, all),
    notes.map((note) => h("p", { class: "notice" }, code(note))),
    sum(all, "pending") > 0 && h("p", { class: "notice" }, code("Pending records are found by keywords alone. `kameleon embeddings sync` embeds them.")),
    unindexed.length > 0 && h("p", { class: "notice" }, code("Rows of mapped classes are not in the index. `kameleon embeddings sync --import MODULE` indexes them.")),
  ];
}

/** Each tenant with a button that limits the page to it. */
function tenants(all, state) {
  const { tenant } = state.values;
  const only = (name) => h("button", { type: "button", class: "link-button", "aria-pressed": String(name === tenant), onclick: () => state.set({ tenant: name === tenant ? "" : name, all_tenants: false }) }, name);
  if (!all.length) return [];
  return [
    table("Tenants with most records", [["Tenant", (row) => only(row.tenant)], counted("indexed")], all),
    tenant && h("p", { class: "notice" }, `All else on this page is of the tenant ${tenant}. `, h("button", { type: "button", class: "link-button", onclick: () => state.set({ tenant: "" }) }, "Show all tenants")),
  ];
}

function sizes(found) {
  const rows = Object.entries(found?.tables ?? {});
  if (!rows.length) return [];
  return h("details", {}, h("summary", {}, "Sizes of tables"), table("Tables with their indexes", [["Table", ([name]) => h("code", {}, name)], ["Size", ([, bytes]) => inBytes(bytes), true]], rows));
}

function failures(all) {
  if (!all.length) return [];
  const columns = [
    ["Record", (row) => `${row.entity}/${row.id}`],
    ...(all.some(({ tenant }) => tenant) ? [["Tenant", (row) => row.tenant]] : []),
    ["Reason", (row) => row.reason],
    ["Message", (row) => row.message],
    ["Attempts", (row) => number(row.attempts), true],
  ];
  return [
    table("Failed records", columns, all),
    h("p", { class: "notice" }, code("They are found by keywords alone. Change their texts, or try again: `kameleon embeddings sync --retry-failed`")),
  ];
}

function generations(all) {
  if (!all.length) return [];
  const columns = [
    ["Number", (row) => String(row.number)],
    ["Model", (row) => row.model_name || row.provider],
    ["Dimensions", (row) => number(row.dimensions), true],
    ["State", (row) => row.state],
    ["Weight", (row) => (row.weighting ? "by query" : share(row.weight)), true],
    ["Vectors searched", (row) => row.vector_index],
    ["Fingerprint", (row) => h("code", {}, row.fingerprint.slice(0, 12))],
  ];
  return [table("Generations", columns, all)];
}

/** The doctor reads the whole index, so it runs when it is asked to. */
function checks(state) {
  const result = h("div", { "aria-live": "polite" });
  const button = h("button", { type: "button", class: "button", onclick: run }, "Run the checks");

  async function run() {
    button.disabled = true;
    fill(result, h("p", { class: "notice working" }, "Comparing tables, index and embeddings …"));
    try {
      const { findings } = await get("api/doctor", within(state));
      fill(result, (findings.length ? findings.map(finding) : [h("p", { class: "good" }, "Nothing found.")]));
    } catch (error) {
      fill(result, problemBox(error, run));
    }
    button.disabled = false;
  }

  return h(
    "section",
    { class: "checks" },
    h("h3", {}, "Doctor"),
    h("p", { class: "notice" }, "Compares tables, index and embeddings, page by page; a large index takes a while. It changes nothing."),
    button,
    result,
  );
}

function finding({ severity, check, entity, count, message, cure, ids }) {
  return h(
    "article",
    { class: `finding ${severity}` },
    h("h4", {}, h("span", { class: "severity" }, severity), ` ${check}`, entity && ` of ${entity}`, count > 1 && ` (${number(count)})`),
    h("p", {}, message),
    ids.length > 0 && h("p", { class: "notice" }, ids.join(", "), count > ids.length && ", …"),
    cure && h("p", {}, "Cure: ", code(cure)),
  );
}

/** A text with its `commands` as code. */
export function code(text) {
  return text.split("`").map((part, place) => (place % 2 ? h("code", {}, part) : part));
}

/** Bytes in the unit that leaves less than 1,000. */
function inBytes(bytes) {
  let value = bytes;
  for (const unit of ["B", "kB", "MB"]) {
    if (value < 1000) return `${value < 10 && unit !== "B" ? value.toFixed(1) : Math.round(value)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} GB`;
}

/** A moment of ISO 8601 in the reader's own time zone. */
function moment(text) {
  return text ? h("time", { datetime: text }, new Date(text).toLocaleString()) : "";
}
