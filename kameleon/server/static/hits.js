// The list of hits.

import { h, share } from "./dom.js";
import { explanation, scoreBar } from "./explaining.js";
import * as judging from "./judging.js";
import { factNodes, factsOf, titled } from "./texts.js";

const shownHits = new WeakMap();

export const keyOf = (hit) => JSON.stringify([hit.entity, hit.id, hit.tenant ?? ""]);

/** The list item of a hit; one of a listing is not ranked. `actions` are {similar(hit), filter(field, value),
 * isFilterable(entity, field)}, `open` the keys of the hits whose explanation is shown. */
export function hitItem(hit, place, { state, actions, open, isRanked }) {
  const key = keyOf(hit);
  const facts = factsOf(hit, state.values.fields);
  const { title, snippet } = titled(hit, facts);
  const details = h("div", { class: "details" });
  const item = h(
    "li",
    { class: "hit", tabindex: "-1", "data-key": key },
    h("div", { class: "place figure", "aria-hidden": "true" }, place),
    h(
      "div",
      { class: "hit-body" },
      h(
        "div",
        { class: "hit-head" },
        h("h3", { class: title ? "hit-title" : "hit-title is-untitled" }, title ?? `${hit.entity} ${hit.id}`),
        isRanked && scoreOf(hit),
      ),
      snippet && h("p", { class: "snippet" }, snippet),
      factList(hit, facts, actions),
      passages(hit),
      footOf(hit, { state, actions, open, details, key }),
      details,
    ),
  );
  if (open.has(key)) details.append(explanation(hit));
  shownHits.set(item, hit);
  return item;
}

/** Draws the facts of hits again, once it is known which fields are filtered by. */
export function redrawFacts(list, { state, actions }) {
  for (const item of list.children) {
    const hit = shownHits.get(item);
    item.querySelector(".facts").replaceWith(factList(hit, factsOf(hit, state.values.fields), actions));
  }
}

function scoreOf(hit) {
  return h(
    "div",
    { class: "score" },
    hit.is_pinned && h("span", { class: "badge badge-accent" }, "Pinned"),
    scoreBar(hit),
    h("span", { class: "figure" }, h("span", { class: "visually-hidden" }, "Score "), share(hit.score)),
  );
}

function factList(hit, facts, actions) {
  return h("dl", { class: "facts", hidden: !facts.length }, facts.map((fact) => h("div", {}, h("dt", {}, fact.name), h("dd", {}, factNodes(fact).map((one) => factValue(hit, fact.name, one, actions))))));
}

function factValue(hit, field, { value, text, nodes }, actions) {
  if (!actions.isFilterable(hit.entity, field)) return h("span", {}, nodes);
  return h("button", { type: "button", class: "fact", title: `Only ${field}: ${text}`, onclick: () => actions.filter(field, value) }, nodes);
}

function passages(hit) {
  if (!hit.passages?.length) return null;
  return h(
    "ol",
    { class: "passages" },
    hit.passages.map((passage) => h("li", {}, h("span", { class: "figure soft" }, share(passage.score)), " ", passage.text)),
  );
}

function footOf(hit, { state, actions, open, details, key }) {
  const why = h("button", { type: "button", class: "link-button", "data-do": "explain", "aria-expanded": String(open.has(key)) }, "Why here");
  why.addEventListener("click", () => {
    const opens = !open.has(key);
    if (opens) open.add(key);
    else open.delete(key);
    why.setAttribute("aria-expanded", String(opens));
    details.querySelector(".why")?.remove();
    if (opens) details.prepend(explanation(hit));
    details.dispatchEvent(new CustomEvent("resized", { bubbles: true }));
  });
  return h(
    "div",
    { class: "hit-foot" },
    h("span", { class: "ref" }, h("span", {}, hit.entity), h("code", {}, hit.id), hit.tenant && h("span", { class: "badge", title: "Tenant" }, hit.tenant)),
    h("span", { class: "hit-actions" }, hit.explanation?.length > 0 && why, similarButton(hit, actions), recordButton(hit, details)),
    !state.values.like && judging.control(hit, state),
  );
}

function similarButton(hit, actions) {
  return h("button", { type: "button", class: "link-button", "data-do": "similar", onclick: () => actions.similar(hit) }, "Similar");
}

/** Shows all of a record: its data, or the text that is indexed of it. */
function recordButton(hit, details) {
  const button = h("button", { type: "button", class: "link-button", "aria-expanded": "false" }, "Record");
  button.addEventListener("click", () => {
    const shownBefore = details.querySelector(".record");
    button.setAttribute("aria-expanded", String(!shownBefore));
    if (shownBefore) shownBefore.remove();
    else details.append(record(hit));
    details.dispatchEvent(new CustomEvent("resized", { bubbles: true }));
  });
  return button;
}

function record(hit) {
  if (!hit.data) return h("pre", { class: "code record", tabindex: "0" }, hit.matched_text);
  return h("pre", { class: "code record", tabindex: "0" }, JSON.stringify({ id: hit.id, ...hit.data }, null, 2));
}
