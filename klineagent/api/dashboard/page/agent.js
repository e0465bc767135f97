// Requests to the agent that served this page, with the token of this tab if there is one.

const TOKEN = "klineagent-token";
// The server answers within 45 s, or says that it does not.
const LONGEST_WAIT_MS = 50_000;
const NO_ANSWER = "the agent does not answer";

/** A request that failed: `status` of HTTP, 0 if there was no answer; `message` is the agent's. */
export class AgentError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  keep: (text) => sessionStorage.setItem(TOKEN, text),
  forget: () => sessionStorage.removeItem(TOKEN),
};

let askForToken = () => Promise.reject(new AgentError(401, "a token is needed"));
let login = null;
let away = null;
// The first answer tells whether a token is needed; one request asks that, not all panels.
isThere(false);

/** `ask(wasWrong)` shows the login and resolves when there is a token to try. */
export function onLocked(ask) {
  askForToken = ask;
}

/** Says whether the agent answers. While it does not, panels' requests wait until it does. */
export function isThere(there) {
  if (there) away?.end();
  if (there) away = null;
  else if (!away) {
    away = {};
    away.over = new Promise((resolve) => (away.end = resolve));
  }
}

/** `wait` is the longest wait in milliseconds; a `probe` is sent also while the agent is away. */
export function get(path, query, options) {
  return send("GET", path, undefined, query, options);
}

/**
 * Sends a request and returns the JSON of its answer. Without the right token it waits for the
 * login, so that no panel has to know of it.
 * @throws {AgentError}
 */
export async function send(method, path, body, query, { wait = LONGEST_WAIT_MS, probe = false } = {}) {
  for (;;) {
    await login;
    if (away && !probe) {
      // A change that is carried out later than its click would surprise.
      if (method !== "GET") throw new AgentError(0, NO_ANSWER);
      await away.over;
    }
    const sent = token.get();
    const answer = await request(method, path + queryText(query), body, sent, wait);
    if (answer.status !== 401) return contentOf(answer);
    if (sent === token.get()) login ??= askForToken(sent !== "").finally(() => (login = null));
  }
}

/** `?a=b`, without what is empty. */
export function queryText(query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value != null);
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

async function request(method, address, body, sent, wait) {
  const headers = {};
  if (sent) headers.Authorization = `Bearer ${sent}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(address, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(wait),
      cache: "no-store",
    });
  } catch {
    throw new AgentError(0, NO_ANSWER);
  }
}

async function contentOf(answer) {
  let content;
  try {
    content = await answer.json();
  } catch {
    throw new AgentError(answer.ok ? 0 : answer.status, `the answer broke off (${answer.status})`);
  }
  if (!answer.ok) throw new AgentError(answer.status, content.error ?? `HTTP ${answer.status}`);
  return content;
}
