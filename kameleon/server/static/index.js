// The tab "index": what is in it, what is wrong with it, and what is done about it.

import { announce, fill, h, number } from "./dom.js";
import { get } from "./http.js";

const BUSY_MS = 2000; // between two readings while a reindex runs or records are pending
const IDLE_MS = 15000; // otherwise; both chosen, not measured
const ENDED = new Set(["done", "stopped", "refused"]);

/** Fills the tab. Returns what the page calls when it is shown and hidden: the status is read as long as it is shown. */
export function mount(element, state) {
  const names = ["problem", "summary", "reindex", "entities", "tenants", "failures", "generations"];
  const parts = Object.fromEntries(names.map((name) => [name, h("div")]));
  const note = h("span", { class: "notice" }, "Reading the status …");
  const refresh = h("button", { type: "button", class: "button", onclick: () => read().then(() => announce(note.textContent)) }, "Refresh");
  fill(element, h("div", { class: "view-head" }, h("h2", {}, "Index"), note, refresh), Object.values(parts), checks());
  const made = {};
  let timer = 0;

  async function read() {
    clearTimeout(timer);
    let status = null;
    try {
      status = await get("api/status");
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
    part("tenants", status.tenants ?? [], tenants);
    part("generations", status.generations, generations);
    showFailures(status.entities.map(({ failed }) => failed));
  }

  async function showFailures(counts) {
    try {
      if (made.counts === counts.join()) return;
      const found = counts.some(Boolean) ? (await get("api/failures")).failures : [];
      part("failures", found, failures);
      made.counts = counts.join();
    } catch (problem) {
      fill(parts.failures, problemBox(problem, () => showFailures(counts)));
    }
  }

  return { show: read, hide: () => clearTimeout(timer) };
}

const isRunning = (run) => Boolean(run) && !ENDED.has(run.phase);

const isBusy = ({ entities: all, reindex: run }) => isRunning(run) || all.some(({ pending }) => pending);

const sum = (all, name) => all.reduce((total, each) => total + (each[name] ?? 0), 0);

/** What went wrong, and a button that tries again. */
export function problemBox(problem, again) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("h2", {}, problem.title || "The request failed"),
    h("p", {}, problem.message),
    again && h("button", { type: "button", class: "button", onclick: again }, "Try again"),
  );
}

function summary({ version, writes, entities: all, generations: made, cache, size: bytes }) {
  if (!all.length) return [empty(writes)];
  const active = made.find(({ state }) => state === "active");
  const cached = cache ?? [];
  const figures = [
    ["Records", number(sum(all, "indexed")), `of ${number(all.length)} ${all.length === 1 ? "entity" : "entities"}`],
    ["Pending", number(sum(all, "pending")), "without a current embedding", sum(all, "pending") && "warning"],
    ["Failed", number(sum(all, "failed")), "refused by the provider", sum(all, "failed") && "error"],
    ["Model", active?.model_name || "none", active ? `weight ${active.weight.toFixed(2)}` : "keywords alone"],
    ["Size", bytes === undefined || bytes === null ? "not known" : size(bytes), "of kameleon's tables"],
    ["Embedding cache", number(sum(cached, "texts")), `texts, ${size(sum(cached, "size"))}`],
  ];
  return [
    h("dl", { class: "index-figures" }, ...figures.map((figure) => card(...figure))),
    h("p", { class: "notice" }, `kameleon ${version}, ${writes ? "read and write" : "read-only"}`),
  ];
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
  const columns = [
    ["Entity", (row) => row.entity],
    ...["indexed", "pending", "failed", "unindexed"].map(counted),
    ["Last updated", (row) => moment(row.last_updated)],
    ["Keywords ranked by", (row) => (row.keyword_search === "server" ? "PostgreSQL" : "kameleon")],
  ];
  const notes = [...new Set(all.map(({ note }) => note).filter(Boolean))];
  const cures = [];
  if (sum(all, "pending")) cures.push(["Pending records are found by keywords alone until they are embedded: ", "kameleon embeddings sync"]);
  if (sum(all, "unindexed")) cures.push(["Rows of mapped classes that are not in the index: ", "kameleon doctor --import MODULE --fix"]);
  return [
    table("Entities", columns, all),
    ...notes.map((note) => h("p", { class: "notice" }, note)),
    ...cures.map(([text, command]) => h("p", { class: "notice" }, text, h("code", {}, command))),
  ];
}

function tenants(all) {
  if (!all.length) return [];
  const columns = [["Tenant", (row) => row.tenant], ["Entity", (row) => row.entity], ...["indexed", "pending", "failed"].map(counted)];
  return [table("Tenants", columns, all)];
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
    h("p", { class: "notice" }, "They are found by keywords alone. Change their texts, or try again with ", h("code", {}, "kameleon embeddings sync --retry-failed")),
  ];
}

function generations(all) {
  if (!all.length) return [];
  const columns = [
    ["Generation", (row) => number(row.number), true],
    ["Model", (row) => row.model_name || row.provider],
    ["Dimensions", (row) => number(row.dimensions), true],
    ["State", (row) => row.state],
    ["Weight", (row) => (row.weighting ? `by query, ${row.weight.toFixed(2)} else` : row.weight.toFixed(2)), true],
    ["Fingerprint", (row) => h("code", {}, (row.fingerprint ?? "").slice(0, 12))],
  ];
  return [table("Generations", columns, all)];
}

/** The doctor reads the whole index, so it runs when it is asked to. */
function checks() {
  const result = h("div", { "aria-live": "polite" });
  const button = h("button", { type: "button", class: "button", onclick: run }, "Run the checks");

  async function run() {
    button.disabled = true;
    fill(result, h("p", { class: "notice working" }, "Comparing tables, index and embeddings …"));
    try {
      const { findings } = await get("api/doctor");
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
    cure && h("p", {}, "Cure: ", ...code(cure)),
  );
}

/** A text with its `commands` as code. */
export function code(text) {
  return text.split("`").map((part, place) => (place % 2 ? h("code", {}, part) : part));
}

/** Bytes in the unit that leaves less than 1,000. */
function size(bytes) {
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
