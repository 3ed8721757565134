// The same search as Python, curl and a command line, to copy.

import { copyText, fill, h } from "./dom.js";
import { get, urlOf } from "./http.js";
import { dialog } from "./parts.js";
import { options, request } from "./requests.js";

const FLAGS = { fusion: "--fusion", weight: "--weight", mode: "--mode", min_score: "--min-score", diversity: "--diversity", sort: "--sort", limit: "--limit", passages: "--passages", group_by: "--group-by", tenant: "--tenant" };
const SIMILAR_LACKS = ["fusion", "weight", "sort", "diversity", "group_by", "synonyms", "rules"];

export function shareButton(state) {
  const body = h("div");
  const element = dialog("share-title", "This search, to copy", "dialog dialog-wide", body);
  const write = (embedded) => {
    const { tenant, tenantIsFixed, hasToken } = state.page;
    const values = tenantIsFixed ? { ...state.values, tenant } : state.values;
    const texts = [["Python", python(values, embedded)], ["Command line", commandLine(values)], ["curl", curl(state.values, hasToken)], ["Link to this page", new URL(state.url(), location.href).href]];
    fill(body, texts.map(([name, text]) => block(name, text)));
  };
  let known = null;
  const open = async () => {
    write(known);
    element.showModal();
    known ??= await generation();
    write(known);
  };
  return h("button", { type: "button", class: "button", "aria-haspopup": "dialog", onclick: open }, "Copy");
}

/** What the index is embedded with, null where it has no embeddings or the status is not to be had. */
async function generation() {
  try {
    const { generations } = await get("api/status");
    return generations.find(({ state }) => state === "active") ?? null;
  } catch {
    return null;
  }
}

function block(name, text) {
  return h(
    "section",
    { class: "share-block" },
    h("div", { class: "share-head" }, h("h3", {}, name), h("button", { type: "button", class: "link-button small", "aria-label": `Copy: ${name}`, onclick: () => copyText(text, `${name} copied`) }, "Copy")),
    h("pre", { class: "code", tabindex: "0", "aria-label": name }, text),
  );
}

/** A value as Python writes it; {"$date": …} as a date. */
function literal(value) {
  if (value === null) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value === "string") return quoted(value);
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value !== "object") return String(value);
  const entries = Object.entries(value);
  if (entries.length === 1 && entries[0][0] === "$date") return moment(entries[0][1]);
  return `{${entries.map(([name, one]) => `${quoted(name)}: ${literal(one)}`).join(", ")}}`;
}

function quoted(text) {
  return JSON.stringify(text).replace(/[\u007f-\u009f\u2028\u2029]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function moment(text) {
  return text.length === 10 ? `date.fromisoformat(${quoted(text)})` : `datetime.fromisoformat(${quoted(text)})`;
}

function python(values, embedded = null) {
  const { entity, all_tenants, ...rest } = options(values);
  const many = entity && (entity.length > 1 || values.like);
  const named = entity ? { [values.like ? "entities" : "entity"]: many ? entity : entity[0] } : {};
  const first = values.like ? values.like.map(literal) : [literal(values.q)];
  const given = Object.entries({ ...named, ...rest }).map(([name, value]) => `${name}=${literal(value)}`);
  if (all_tenants) given.push("tenant=kameleon.ALL_TENANTS");
  const all = [...first, ...given, "highlight=True"];
  const oneLine = all.join(", ");
  const call = oneLine.length < 60 ? oneLine : `\n    ${all.join(",\n    ")},\n`;
  const dates = ["date", "datetime"].filter((name) => new RegExp(`\\b${name}\\.fromisoformat`).test(call));
  return [
    ...(dates.length ? [`from datetime import ${dates.join(", ")}`, ""] : []),
    "import kameleon",
    "",
    ...(embedded && embedded.provider !== "static" ? [`# the index's model is ${embedded.model_name}`] : []),
    `search = kameleon.SearchEngine(kameleon.create_engine("DATABASE_URL")${embedded ? `, embedding_provider=${quoted(embedded.provider)}` : ""})`,
    `for hit in search.${values.like ? "similar" : "search"}(${call}):`,
    "    print(hit.score, hit.entity, hit.id, hit.snippet)",
  ].join("\n");
}

/** Quotes a word. Control characters, by which pasted text could act on a terminal, are escaped as bash and zsh do. */
function shell(text) {
  if (/[\u0000-\u001f\u007f-\u009f]/.test(text)) {
    return `$'${text.replace(/[\\']/g, "\\$&").replace(/[\u0000-\u001f\u007f-\u009f]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`)}'`;
  }
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function commandLine(values) {
  const given = options(values);
  const parts = ["kameleon", values.like ? "similar" : "search"];
  for (const entity of given.entity ?? []) parts.push("--entity", shell(entity));
  if (given.where) parts.push("--where", shell(JSON.stringify(given.where)));
  for (const [name, flag] of Object.entries(FLAGS)) {
    if (name in given && !(values.like && SIMILAR_LACKS.includes(name))) parts.push(name === "sort" ? `${flag}=${shell(given[name])}` : `${flag} ${shell(String(given[name]))}`);
  }
  if (given.all_tenants) parts.push("--all-tenants");
  if (!values.like && given.synonyms === false) parts.push("--no-synonyms");
  if (!values.like && given.rules === false) parts.push("--no-rules");
  const words = values.like ?? (values.q.trim() ? [values.q] : []);
  if (words.some((word) => word.startsWith("-"))) parts.push("--");
  parts.push(...words.map(shell));
  return parts.join(" ");
}

function curl(values, hasToken) {
  const { path, params } = request(values);
  const token = hasToken ? '-H "Authorization: Bearer $KAMELEON_TOKEN" ' : "";
  return `curl ${token}${shell(urlOf(path, params).href)}`;
}
