// The texts of a hit, with what matched marked. Places are in characters of Unicode, as Python counts them.

import { h } from "./dom.js";

const LONGEST_TITLE = 160;
const BEYOND_BMP = /[\u{10000}-\u{10FFFF}]/u;

/** The nodes of a text with <mark> around its spans. */
export function marked(text, spans) {
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

/** A hit's title, which is its first line where that is short, and its snippet without that. */
export function titled(hit) {
  const text = hit.matched_text ?? "";
  const line = text.slice(0, LONGEST_TITLE + 1).split("\n", 1)[0];
  const isTitled = line.length > 0 && line.length <= LONGEST_TITLE && line.length < text.length;
  const isWhole = line.length === text.length && line.length > 0 && line.length <= LONGEST_TITLE;
  if (!isTitled && !isWhole) return { title: null, snippet: whole(hit.snippet) };
  const end = lengthOf(line);
  const spans = hit.spans.filter(([, stop]) => stop <= end);
  return { title: marked(line, spans), snippet: isWhole ? null : after(hit.snippet, end) };
}

function whole(snippet) {
  return snippet && snippetNodes(snippet.text, snippet.spans, snippet.is_cut_before, snippet.is_cut_after);
}

/** The part of a snippet that is after the title. */
function after(snippet, end) {
  if (!snippet) return null;
  const cut = end - snippet.start;
  if (cut <= 0) return whole(snippet);
  const text = Array.from(snippet.text).slice(cut).join("");
  const blank = text.length - text.trimStart().length;
  const moved = snippet.spans.filter(([start]) => start >= cut).map((span) => span.map((place) => place - cut - blank));
  return text.trim() ? snippetNodes(text.trimStart(), moved, false, snippet.is_cut_after) : null;
}

function snippetNodes(text, spans, isCutBefore, isCutAfter) {
  return [isCutBefore && "…", ...marked(text, spans), isCutAfter && "…"];
}

/** A value of a record as a short text. */
export function shown(value) {
  if (value === null || value === undefined) return "none";
  if (Array.isArray(value)) return value.map(shown).join(", ");
  if (typeof value === "object") return JSON.stringify(value);
  if (typeof value === "number") return String(value);
  return String(value);
}
