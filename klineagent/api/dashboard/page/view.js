// What is looked at, as the query of the page's address: a link is a view.

const KEYS = ["symbol", "interval", "candle", "days", "to", "filter", "panel"];
const listeners = [];

/** What is looked at; an absent key is an empty string. */
export function get() {
  const query = new URLSearchParams(location.search);
  return Object.fromEntries(KEYS.map((key) => [key, query.get(key) ?? ""]));
}

/** The address of the view with `changes`; an empty value removes its key. */
export function link(changes) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries({ ...get(), ...changes })) {
    if (value !== "" && value != null) query.set(key, value);
  }
  return `?${query}`;
}

/**
 * Changes the view and tells all panels. What is typed or dragged replaces the entry in the
 * browser's history (`{ replace: true }`), what is chosen gets one of its own.
 */
export function set(changes, { replace = false } = {}) {
  const address = link(changes);
  if (address === link({})) return;
  history[replace ? "replaceState" : "pushState"](null, "", address === "?" ? "/" : address);
  tell();
}

/** Calls `listener(view)` at each change. */
export function follow(listener) {
  listeners.push(listener);
}

/** Shows the panel with this id, and puts the keyboard there. */
export function show(panel) {
  const title = document.getElementById(`${panel}-title`);
  title?.focus({ preventScroll: true });
  title?.scrollIntoView({ block: "start" });
}

function tell() {
  for (const listener of listeners) listener(get());
}

addEventListener("popstate", tell);
// Links to views are real links, for a new tab; a plain click stays on the page, and keeps what of
// the view the link does not name.
addEventListener("click", (event) => {
  const anchor = event.target.closest?.('a[href^="?"]');
  if (!anchor || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const changes = Object.fromEntries(new URLSearchParams(anchor.getAttribute("href")));
  set(changes);
  if (changes.panel) show(changes.panel);
});
