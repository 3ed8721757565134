// The site's search box, answered by kameleon's API, where this page is served beside it (python -m examples.docs_search).
const root = new URL("../../", document.currentScript.src);
const api = new URL("kameleon/api/search", root);
const DELAY_MS = 80; // Bounds how often a reader who types is answered. Chosen, not measured.

const STYLE = `
.ks { position: relative; margin: 0 .4rem; color: var(--md-default-fg-color); }
.ks input { font: inherit; font-size: .7rem; width: 11rem; padding: .3rem .5rem; border-radius: .2rem;
  border: 1px solid var(--md-default-fg-color--light); background: var(--md-default-bg-color); color: inherit; }
.ks ol { position: absolute; right: 0; top: 2rem; width: min(32rem, 90vw); max-height: 80vh; overflow-y: auto; margin: 0;
  padding: 0; list-style: none; background: var(--md-default-bg-color); box-shadow: var(--md-shadow-z3); font-size: .65rem; }
.ks a, .ks p { display: block; margin: 0; padding: .4rem .6rem; color: inherit; }
.ks a:hover, .ks a:focus { background: var(--md-default-fg-color--lightest); }
.ks small { color: var(--md-default-fg-color--light); }
`;

function element(name, text, children = []) {
  const made = document.createElement(name);
  made.append(...(text ? [text] : []), ...children);
  return made;
}

function marked({ text, spans }) {
  const characters = Array.from(text); // spans count characters, not UTF-16 units
  const parts = [];
  let end = 0;
  for (const [from, to] of spans) {
    parts.push(characters.slice(end, from).join(""), element("mark", characters.slice(from, to).join("")));
    end = to;
  }
  return [...parts, characters.slice(end).join("")];
}

function shown(hit) {
  const link = element("a", "", [element("strong", hit.data.title), " ", element("small", hit.data.headings.join(" › "))]);
  link.href = new URL(hit.id, root);
  if (hit.snippet) link.append(element("div", "", marked(hit.snippet)));
  return element("li", "", [link]);
}

async function answer(query, signal) {
  const url = new URL(api);
  url.search = new URLSearchParams({ query, entity: "Section", limit: 10, snippet_length: 160 });
  const answered = await fetch(url, { signal });
  if (!answered.ok) throw new Error(`the search was answered with ${answered.status}`);
  return (await answered.json()).hits;
}

function begin(place) {
  const input = element("input");
  Object.assign(input, { type: "search", placeholder: "Search", ariaLabel: "Search the documentation" });
  const list = element("ol");
  list.hidden = true;
  list.ariaLive = "polite";
  const form = element("form", "", [input, list]);
  form.className = "ks";
  form.role = "search";
  let waiting, request;

  async function update() {
    request?.abort();
    request = new AbortController();
    const query = input.value.trim();
    list.hidden = !query;
    if (!query) return;
    try {
      const hits = await answer(query, request.signal);
      list.replaceChildren(...(hits.length ? hits.map(shown) : [element("li", "", [element("p", "Nothing is found.")])]));
    } catch (error) {
      if (error.name !== "AbortError") list.replaceChildren(element("li", "", [element("p", error.message)]));
    }
  }

  input.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, DELAY_MS);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    list.querySelector("a")?.click();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Escape") list.hidden = true;
  });
  document.addEventListener("click", (event) => {
    if (!form.contains(event.target)) list.hidden = true;
  });
  document.head.append(element("style", STYLE));
  document.querySelector('label[for="__search"]')?.remove();
  place.replaceWith(form);
}

const place = document.querySelector(".md-search");
if (place) fetch(`${api}?query=&limit=1`).then((answered) => answered.ok && begin(place)).catch(() => undefined);
