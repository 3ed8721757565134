// The texts of a hit, with what matched marked. Places are in characters of Unicode, as Python counts them.

import { h } from "./dom.js";

// All chosen, not measured; in characters but for the last.
const LONGEST_TITLE = 160;
const LONGEST_FACT = 48;
const LONGEST_MARKED = 20_000; // of a text whose lines are compared with fields
const MOST_FACTS = 6;
const BEYOND_BMP = /[\u{10000}-\u{10FFFF}]/u;

/** The nodes of a text with <mark> around its spans. */
function marked(text, spans) {
  const characters = BEYOND_BMP.test(text) ? Array.from(text) : text;
  const part = (start, end) => (typeof characters === "string" ? characters.slice(start, end) : characters.slice(start, end).join(""));
  const nodes = [];
  let end = 0;
  for (const [start, stop] of spans) {
    nodes.push(part(end, start), h("mark", {}, part(start, stop)));
    end = stop;
  }
  return [...nodes, part(end)];
}

function lengthOf(text) {
  return BEYOND_BMP.test(text) ? Array.from(text).length : text.length;
}

/** A hit's first line where that is short enough for a title. */
function titleLine(hit) {
  const line = (hit.matched_text ?? "").slice(0, LONGEST_TITLE + 1).split("\n", 1)[0];
  return line.length > 0 && line.length <= LONGEST_TITLE ? line : null;
}

/** One line for a hit. */
export function titleText(hit) {
  return titleLine(hit) ?? hit.matched_text?.slice(0, LONGEST_TITLE) ?? hit.id;
}

/** A hit's title, which is its first line where that is short, and its snippet without that. */
export function titled(hit, facts = []) {
  const line = titleLine(hit);
  const lines = new Set(facts.map((fact) => fact.line));
  if (line === null) return { title: null, snippet: snippetNodes(hit, 0, lines) };
  const end = lengthOf(line);
  const spans = hit.spans.filter(([, stop]) => stop <= end);
  return { title: marked(line, spans), snippet: snippetNodes(hit, end, lines) };
}

/** The snippet from a character of the hit's text on, its fields apart; without those of `facts`, which are shown with
 * their names. */
function snippetNodes(hit, from, facts) {
  const { snippet } = hit;
  if (!snippet) return null;
  const characters = Array.from(snippet.text);
  const begin = Math.max(0, from - snippet.start);
  const lines = fieldsOf(characters, begin, Array.from(hit.matched_text).slice(snippet.start, snippet.start + characters.length));
  const kept = lines.filter(({ start, stop }) => !facts.has(characters.slice(start, stop).join("")));
  const nodes = kept.map(({ start, stop }, index) => [index > 0 && h("span", { class: "between" }, " · "), marked(characters.slice(start, stop).join(""), within(snippet.spans, start, stop))]);
  if (!nodes.length) return null;
  return [snippet.is_cut_before && begin === 0 && "…", ...nodes, snippet.is_cut_after && kept.at(-1) === lines.at(-1) && "…"].flat(3);
}

/** The values of a record that are beside its text, {name, line, values, spans}: those of the wanted fields, or, where
 * none are, the first short ones and those that have what matched. */
export function factsOf(hit, wanted = []) {
  const title = titleLine(hit);
  const matched = matchedLines(hit);
  const entries = Object.entries(hit.data ?? {}).filter(([name, value]) => (wanted.length ? wanted.includes(name) : isShort(value)));
  const all = entries.map(([name, value]) => {
    const line = shown(value);
    return { name, line, values: Array.isArray(value) ? value : [value], spans: matched.get(line) ?? [] };
  });
  if (wanted.length) return all;
  return all.filter(({ line }) => line !== title).filter(({ spans }, index) => index < MOST_FACTS || spans.length);
}

function isShort(value) {
  if (value === null || value === "") return false;
  if (Array.isArray(value)) return value.length > 0 && value.every((one) => typeof one !== "object") && shown(value).length <= LONGEST_FACT;
  return typeof value !== "object" && String(value).length <= LONGEST_FACT;
}

/** What matched in each line of the hit's text. */
function matchedLines(hit) {
  const lines = new Map();
  let start = 0;
  for (const line of (hit.matched_text ?? "").slice(0, LONGEST_MARKED).split("\n")) {
    const stop = start + lengthOf(line);
    lines.set(line, within(hit.spans, start, stop));
    start = stop + 1;
  }
  return lines;
}

/** The nodes of each value of a fact, with what matched marked. */
export function factNodes({ values, spans }) {
  let start = 0;
  return values.map((value) => {
    const text = shown(value);
    const stop = start + lengthOf(text);
    const nodes = marked(text, within(spans, start, stop));
    start = stop + ", ".length;
    return { value, text, nodes };
  });
}

/** Where the fields of a snippet are: it has a blank where the text has a line break. */
function fieldsOf(characters, begin, source) {
  const lines = [];
  let start = begin;
  for (let place = begin; place <= characters.length; place += 1) {
    if (place < characters.length && source[place] !== "\n") continue;
    if (characters.slice(start, place).join("").trim()) lines.push({ start, stop: place });
    start = place + 1;
  }
  return lines;
}

function within(spans, start, stop) {
  return spans.filter(([from, to]) => from < stop && to > start).map(([from, to]) => [Math.max(from, start) - start, Math.min(to, stop) - start]);
}

/** A value of a record as a short text. */
export function shown(value) {
  if (value === null || value === undefined) return "none";
  if (Array.isArray(value)) return value.map(shown).join(", ");
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}
