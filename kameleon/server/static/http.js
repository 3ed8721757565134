// Calls the API. Every URL is relative to the page, so that a path prefix works.

/** What the API answered instead of a result (RFC 9457), or that it did not answer. */
class Problem extends Error {
  constructor({ status = 0, title = "", detail = "" }) {
    super(detail || title || `HTTP status ${status}`);
    this.status = status;
    this.title = title;
  }
}

/** The URL of a path below the page with query parameters: lists are repeated, structures are JSON. */
export function urlOf(path, params = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    const values = Array.isArray(value) ? value : [value];
    for (const one of values) {
      if (one === null || one === undefined || one === "") continue;
      query.append(name, typeof one === "object" ? JSON.stringify(one) : String(one));
    }
  }
  const text = query.toString();
  return new URL(path + (text ? `?${text}` : ""), document.baseURI);
}

/** The JSON of a GET. Raises Problem; an AbortError where `signal` was aborted. */
export function get(path, params = {}, { signal } = {}) {
  return call(urlOf(path, params), { signal });
}

/** The JSON that POST, PUT, PATCH or DELETE returns, null where there is none. */
export function send(method, path, body, { signal, params = {} } = {}) {
  const headers = { "Content-Type": "application/json" };
  const content = body === undefined ? undefined : JSON.stringify(body);
  return call(urlOf(path, params), { method, headers, body: content, signal });
}

async function call(url, options) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin", ...options, headers: { Accept: "application/json", ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ title: "No answer", detail: "The server does not answer. Is it still running?" });
  }
  const text = await response.text();
  const document_ = parsed(text);
  if (document_?.title === "TokenRequired") location.reload(); // The session ended: the server shows its sign-in form.
  if (!response.ok) throw new Problem({ title: response.statusText, ...document_, status: response.status });
  return document_;
}

function parsed(text) {
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    return { detail: text.slice(0, 300) };
  }
}
