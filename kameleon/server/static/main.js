// The page's entry: the tabs, the colours, the shortcuts. Each view is a module with `mount(element, state)`, which is
// called when its tab is first shown; what mount returns may have `show()`, called each time, and `hide()`.

import { h } from "./dom.js";
import { State } from "./state.js";
import * as index from "./index.js";
import * as judging from "./judging.js";
import { dialog } from "./parts.js";
import * as search from "./search.js";

const VIEWS = { search, judge: judging, index };
const THEMES = ["system", "light", "dark"];
const SHORTCUTS = [
  ["/", "Go to the query"],
  ["j, k", "Next hit, previous hit"],
  ["e", "Explain the hit's score"],
  ["s", "Find similar records"],
  ["l", "Show the two legs beside the fusion"],
  ["[, ]", "Less and more weight for the vectors"],
  ["1, 2, 3", "Search, Judge, Index"],
  ["Esc", "Leave what is open"],
  ...(judging.SHORTCUTS ?? []),
];

const { writes, tenant, token, title } = document.body.dataset;
const state = new State({ writes: writes === "true", tenant, tenantIsFixed: tenant !== "", hasToken: token === "true", title });
const mounted = {};

function showTab() {
  const shown = state.values.tab in VIEWS ? state.values.tab : "search";
  for (const name of Object.keys(VIEWS)) {
    const element = document.getElementById(name);
    if (element.hidden === false && name !== shown) mounted[name]?.hide?.();
    element.hidden = name !== shown;
  }
  for (const link of document.querySelectorAll(".tabs [data-tab]")) {
    if (link.dataset.tab === shown) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    link.href = state.url({ ...state.values, tab: link.dataset.tab });
  }
  mounted[shown] ??= VIEWS[shown].mount(document.getElementById(shown), state) ?? {};
  mounted[shown].show?.();
}

function followLinks() {
  for (const link of document.querySelectorAll(".tabs [data-tab]")) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      state.set({ tab: link.dataset.tab }, { push: true });
    });
  }
  state.subscribe((_values, changed) => {
    if (changed.has("tab")) {
      showTab();
      scrollTo({ top: 0 });
    }
    for (const link of document.querySelectorAll(".tabs [data-tab]")) link.href = state.url({ ...state.values, tab: link.dataset.tab });
  });
}

function chooseColours() {
  const button = document.getElementById("theme");
  let chosen = document.documentElement.dataset.theme ?? "system";
  const label = () => button.setAttribute("aria-label", `Colours: ${chosen === "system" ? "as the system" : chosen}`);
  label();
  button.addEventListener("click", () => {
    chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
    if (chosen === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = chosen;
    try {
      localStorage.setItem("kameleon.theme", chosen);
    } catch {
      // Storage is blocked: the choice lasts as long as the page.
    }
    label();
  });
}

function helpDialog() {
  const rows = SHORTCUTS.map(([keys, does]) =>
    h("div", {}, h("dt", {}, keys.split(", ").map((key) => h("kbd", {}, key))), h("dd", {}, does)),
  );
  return dialog("help-title", "Keyboard", "dialog", h("dl", { class: "shortcuts" }, rows));
}

function takeShortcuts() {
  const help = helpDialog();
  document.getElementById("help").addEventListener("click", () => help.showModal());
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest("input:not([type=checkbox]):not([type=radio]):not([type=range]), textarea, select");
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || event.target.closest("dialog[open]")) return;
    if (isTyping && event.key !== "Escape") return;
    if (event.key === "?") help.showModal();
    else if (["1", "2", "3"].includes(event.key)) state.set({ tab: Object.keys(VIEWS)[event.key - 1] }, { push: true });
    else if (mounted[state.values.tab]?.key?.(event) !== true) return;
    event.preventDefault();
  });
}

followLinks();
chooseColours();
takeShortcuts();
showTab();
