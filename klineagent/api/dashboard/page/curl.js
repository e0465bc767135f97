// Under each panel: the request that answers the same, for a shell. It never holds the token.

import { queryText, token } from "./agent.js";
import { make } from "./element.js";

const requests = new WeakMap();
// Readers have a variable of their own: `klineagent serve` takes the first for its own token.
let variable = "KLINEAGENT_TOKEN";

/** Says whose token it is that the lines name. */
export function accessIs(access) {
  variable = access === "read" ? "KLINEAGENT_READ_TOKEN" : "KLINEAGENT_TOKEN";
}

/** Shows `method path?query` with `body` as the curl line of `section`. */
export function curl(section, ...request) {
  const details = section.querySelector(":scope > details.curl");
  if (!details.firstChild) fill(details);
  requests.set(details, request);
  show(details);
}

function show(details) {
  const code = details.querySelector("code");
  const text = line(...requests.get(details));
  if (code.textContent !== text) code.textContent = text;
  const hint = details.querySelector("p");
  hint.hidden = !token.get();
  hint.textContent = `First: export ${variable}=… (the token of this tab)`;
}

function fill(details) {
  const code = make("code");
  const copy = make("button", { type: "button", textContent: "Copy" });
  copy.addEventListener("click", async () => {
    await copied(code);
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 2_000);
  });
  // There may be a token by now.
  details.addEventListener("toggle", () => show(details));
  details.append(make("summary", { textContent: "curl" }), make("p", { className: "quiet" }), make("pre", { tabIndex: 0 }, code), copy);
}

function line(method, path, query, body) {
  const parts = ["curl"];
  if (token.get()) parts.push(`-H "Authorization: Bearer $${variable}"`);
  if (method !== "GET") parts.push(`-X ${method}`);
  parts.push(quoted(location.origin + path + queryText(query)));
  if (body !== undefined) parts.push(`-d ${quoted(JSON.stringify(body))}`);
  return parts.join(" ");
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

// The clipboard is closed to pages that come over plain HTTP from another machine.
async function copied(code) {
  if (navigator.clipboard) return navigator.clipboard.writeText(code.textContent).catch(() => {});
  getSelection().selectAllChildren(code);
  document.execCommand("copy");
}
