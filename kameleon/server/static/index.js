// The tab "index": what is in it, what is wrong with it, and what is done about it.

import { announce, fill, h, number, share } from "./dom.js";
import { get } from "./http.js";
import { button, code, counted, emptyIndex, notice, problemBox, sentence, table, working } from "./parts.js";

const BUSY_MS = 2000; // between two readings while a reindex runs or records are pending
const IDLE_MS = 15000; // otherwise; both chosen, not measured

/** Fills the tab. Returns what the page calls when it is shown and hidden: the status is read as long as it is shown. */
export function mount(element, state) {
  const names = ["problem", "summary", "reindex", "entities", "tenants", "failures", "generations", "sizes"];
  const parts = Object.fromEntries(names.map((name) => [name, h("div")]));
  const note = h("span", { class: "notice" }, "Reading the status …");
  const refresh = button("Refresh", () => read().then(() => announce(note.textContent)));
  const head = h("div", { class: "view-head" }, h("h2", {}, "Index"), note, refresh);
  fill(element, head, Object.values(parts), !state.page.tenantIsFixed && checks(state));
  const made = {};
  let isShown = false;
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
    if (isShown) timer = setTimeout(tick, status && isBusy(status) ? BUSY_MS : IDLE_MS);
  }

  /** A page that is not seen reads nothing. */
  function tick() {
    if (document.hidden) timer = setTimeout(tick, BUSY_MS);
    else read();
  }

  /** Makes a part again only where its values have changed, so that it stays scrolled and selected. */
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

  /** Reads them again only where their counts are others. */
  async function showFailures(counts) {
    const key = [state.values.tenant, ...counts].join();
    if (made.counts === key) return;
    try {
      const found = counts.some(Boolean) ? (await get("api/failures", within(state))).failures : [];
      part("failures", found, failures);
      made.counts = key;
    } catch (problem) {
      fill(parts.failures, problemBox(problem, () => showFailures(counts)));
    }
  }

  function setShown(value) {
    isShown = value;
    if (isShown) read();
    else clearTimeout(timer);
  }

  state.subscribe((_values, changed) => changed.has("tenant") && isShown && read());
  return { show: () => setShown(true), hide: () => setShown(false) };
}

/** The tenant that the page is limited to; without one the status is of all. */
const within = ({ values: { tenant } }) => (tenant ? { tenant } : {});

const isBusy = ({ entities: all, reindex: run }) => Boolean(run?.owner) || all.some(({ pending }) => pending);

const sum = (all, name) => all.reduce((total, each) => total + (each[name] ?? 0), 0);

function summary({ version, writes, entities: all, generations: made, cache, size: sizes }) {
  if (!all.length) return emptyIndex("Records that are written are found at once.", writes && notice("This server writes: POST /api/records does it, too."));
  const active = made.find(({ state }) => state === "active");
  const figures = [
    ["Records", number(sum(all, "indexed")), `of ${counted(all.length, "entity", "entities")}`],
    ["Pending", number(sum(all, "pending")), "without a current embedding", sum(all, "pending") && "warning"],
    ["Failed", number(sum(all, "failed")), "refused by the provider", sum(all, "failed") && "error"],
    ["Model", active?.model_name || "none", active ? `weight ${share(active.weight)}` : "keywords alone"],
    sizes && sizeFigure(sizes),
    sizes && ["Embedding cache", number(sum(cache, "texts")), `texts, ${inBytes(sum(cache, "size"))}`],
  ];
  return [
    h("dl", { class: "index-figures" }, figures.filter(Boolean).map((figure) => figureItem(...figure))),
    notice(`kameleon ${version}, ${writes ? "reads and writes" : "read-only"}`),
  ];
}

/** Of kameleon's tables where the database counts them. */
function sizeFigure({ database, tables }) {
  const own = Object.values(tables).reduce((total, each) => total + each, 0);
  if (!own) return ["Size", inBytes(database), "of the database file"];
  return ["Size", inBytes(own), `of kameleon's tables; the database has ${inBytes(database)}`];
}

function figureItem(name, value, detail, level) {
  const kind = level ? `index-figure is-${level}` : "index-figure";
  return h("div", { class: kind }, h("dt", {}, name), h("dd", {}, value, h("small", {}, detail)));
}

/** A run that works, or one that ended before its generation was complete. */
function reindex(run) {
  if (!run) return [];
  const done = run.embedded + run.reused + run.failed;
  const part = run.total ? Math.floor((100 * done) / run.total) : 0;
  const title = `Reindex to generation ${run.generation}: ${run.owner ? run.phase : `no process works at it (${run.phase})`}`;
  const figures = [
    `${number(done)} of ${number(run.total)} records (${part} %)`,
    run.rows_per_second > 0 && `${number(Math.round(run.rows_per_second))} a second`,
    run.owner && run.seconds_left !== null && `${duration(run.seconds_left)} left`,
    run.failed > 0 && `${number(run.failed)} failed`,
    `began ${new Date(run.began_at).toLocaleString()}`,
  ];
  return [
    h("h3", {}, title),
    h("progress", { max: run.total || 1, value: done, "aria-label": title }),
    h("p", {}, figures.filter(Boolean).join(", ")),
    !run.owner && notice(code("`kameleon embeddings reindex` continues where it ended.")),
  ];
}

/** A time in the largest unit that fits. */
function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** A column of counts. */
const counts = (name) => [name[0].toUpperCase() + name.slice(1), (row) => number(row[name] ?? 0), true];

function entities(all) {
  if (!all.length) return [];
  const unindexed = all.some((row) => row.unindexed) ? ["unindexed"] : [];
  const columns = [
    ["Entity", (row) => row.entity],
    ...["indexed", "pending", "failed", ...unindexed].map(counts),
    ["Last updated", (row) => moment(row.last_updated)],
    ["Keywords ranked by", (row) => (row.keyword_search === "server" ? "PostgreSQL" : "kameleon")],
  ];
  const notes = [...new Set(all.map(({ note }) => note).filter(Boolean))];
  return [
    table("Entities", columns, all),
    notes.map((note) => notice(code(sentence(note)))),
    sum(all, "pending") > 0 && notice(code("Pending records are found by keywords alone. `kameleon embeddings sync` embeds them.")),
    unindexed.length > 0 && notice(code("Rows of mapped classes are not in the index: `kameleon embeddings sync --import MODULE`")),
  ];
}

/** Each tenant with a button that limits the page to it. */
function tenants(all, state) {
  const { tenant } = state.values;
  const choose = (name) => () => state.set({ tenant: name === tenant ? "" : name, all_tenants: false });
  const chooser = (name) => button(name, choose(name), { kind: "link-button", "aria-pressed": String(name === tenant) });
  if (!all.length) return [];
  const reset = button("Show all tenants", choose(tenant), { kind: "link-button" });
  return [
    table("Tenants with most records", [["Tenant", (row) => chooser(row.tenant)], counts("indexed")], all),
    tenant && notice(`All else on this page is of the tenant ${tenant}. `, reset),
  ];
}

function sizes(found) {
  const rows = Object.entries(found?.tables ?? {});
  const columns = [
    ["Table", ([name]) => h("code", {}, name)],
    ["Size", ([, bytes]) => inBytes(bytes), true],
  ];
  return rows.length ? h("details", {}, h("summary", {}, "Sizes of tables"), table("Tables with their indexes", columns, rows)) : [];
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
    notice(code("They are found by keywords alone. Change them, or try again: `kameleon embeddings sync --retry-failed`")),
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

/** The doctor reads the whole index, so it runs at the press of a button. */
function checks(state) {
  const result = h("div", { "aria-live": "polite" });
  const start = button("Run the checks", run);

  async function run() {
    start.disabled = true;
    fill(result, working("Comparing tables, index and embeddings …"));
    try {
      const { findings } = await get("api/doctor", within(state));
      fill(result, findings.length ? findings.map(finding) : h("p", { class: "good" }, "Nothing found."));
    } catch (problem) {
      fill(result, problemBox(problem, run));
    }
    start.disabled = false;
  }

  const about = notice("Compares tables, index and embeddings, page by page; a large index takes a while. It changes nothing.");
  return h("section", { class: "checks" }, h("h3", {}, "Doctor"), about, start, result);
}

function finding({ severity, check, entity, count, message, cure, ids }) {
  const title = `${check}${entity ? ` of ${entity}` : ""}${count > 1 ? ` (${number(count)})` : ""}`;
  return h(
    "article",
    { class: `finding ${severity}` },
    h("h4", {}, h("span", { class: "severity" }, severity), ` ${title}`),
    h("p", {}, message),
    ids.length > 0 && notice(ids.join(", ") + (count > ids.length ? ", …" : "")),
    cure && h("p", {}, "Cure: ", code(cure)),
  );
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
