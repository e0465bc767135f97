// The panel of one candle: all that the agent, its ledger and the database know about it.

import { AgentError } from "./agent.js";
import { make } from "./element.js";
import { counted } from "./format.js";
import { opening, shifted, written } from "./interval.js";

// A candle whose state can still change is looked at again.
const AGAIN_MS = 5_000;
const FINAL = new Set(["stored", "absent", "not_covered"]);
const STATES = {
  stored: "stored",
  on_its_way: "on its way to the database",
  closed: "closed",
  lost: "lost",
  forming: "forming",
  expected: "expected",
  missing: "missing",
  absent: "absent",
  not_covered: "not recorded",
};

export function open(section, page) {
  const body = section.querySelector(".body");
  const title = make("h3", {});
  const previous = make("button", { type: "button" }, "Previous candle");
  const next = make("button", { type: "button" }, "Next candle");
  const itself = make("a", {}, "Link to this candle");
  const facts = make("dl", { className: "facts" });
  const hint = make("p", { className: "quiet" }, "Choose a candle in the chart, or a range of a day in the coverage.");
  const tools = make("p", { className: "controls", hidden: true }, previous, next, itself);
  body.append(hint, title, tools, facts);

  let chosen = "";
  let isFinal = true;
  let asking = null;
  let askedAt = 0;
  let shown = "";
  let said = "";

  async function load({ symbol, interval, candle }, again = false) {
    const query = { symbol, interval, open_time: new Date(openOf(candle, interval)).toISOString() };
    page.curl(section, "GET", "/v1/why", query);
    askedAt = performance.now();
    const own = (asking = Symbol(candle));
    if (!again) list([["State", "asking …"]]);
    try {
      const answer = await page.agent.get("/v1/why", query);
      if (own !== asking) return;
      isFinal = FINAL.has(answer.state);
      show(answer, again);
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      if (own !== asking) return;
      // There is no such candle; no later answer will be another.
      isFinal = error.status === 400;
      shown = "";
      list([["No answer", error.message]]);
    } finally {
      if (own === asking) asking = null;
    }
  }

  function show(why, again) {
    const lines = told(why);
    const text = JSON.stringify(lines);
    if (text === shown) return;
    shown = text;
    list(lines);
    const state = lines[0][1];
    if (!again || state !== said) page.announce(`${title.textContent}: ${state}. ${why.explanation}`);
    said = state;
  }

  function list(lines) {
    const rows = lines.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)));
    facts.replaceChildren(...rows);
  }

  function move(candles) {
    const view = page.view.get();
    page.view.set({ candle: new Date(shifted(view.interval, openOf(view.candle, view.interval), candles)).toISOString() });
  }
  previous.addEventListener("click", () => move(-1));
  next.addEventListener("click", () => move(1));

  function viewChanged(view) {
    const { symbol, interval, candle } = view;
    const key = [symbol, interval, candle].join(" ");
    if (key === chosen) return;
    chosen = key;
    const has = symbol && interval && candle && !Number.isNaN(openOf(candle, interval));
    hint.hidden = Boolean(has);
    tools.hidden = title.hidden = facts.hidden = !has;
    isFinal = true;
    shown = "";
    asking = null;
    if (!has) return;
    title.textContent = `${symbol} ${interval}, ${written(openOf(candle, interval), interval)} UTC`;
    itself.href = page.view.link({ symbol, interval, candle, panel: "story" });
    load(view);
  }

  function overview() {
    const isDue = performance.now() - askedAt > AGAIN_MS;
    if (!isFinal && asking === null && isDue) load(page.view.get(), true);
  }

  return { overview, viewChanged };
}

// What `/v1/why` says, as names and sentences.
function told({ state, explanation, open_time, close_time, due, newest_event, store, search, lost }) {
  const lines = [
    ["State", STATES[state] ?? state],
    ["Why", explanation],
    ["Opens, closes", `${moment(open_time)}, ${moment(close_time)}`],
    ["Due", `${moment(due)}: missing from then on, unless received`],
  ];
  if (newest_event) lines.push(["Newest event", moment(newest_event)]);
  if (search) {
    lines.push(
      ["Missing since", moment(search.since)],
      ["How", `${search.how} (${search.urgency})`],
      ["Failed tries", [search.tries || "none", search.error].filter(Boolean).join("; the last: ")],
      ["Waits for", search.waits_for + (search.next_try ? `; next try from ${moment(search.next_try)}` : "")]);
  }
  if (lost) {
    const end = lost.healed ? `fetched at ${moment(lost.healed)}` : "not fetched yet";
    lines.push(["Lost", `${lost.how}; found at ${moment(lost.found)}, ${end}`]);
  }
  if (!store.answered) lines.push(["Database", `no answer: ${store.error}`]);
  else if (store.row === null) lines.push(["Database", "has no final row of it"]);
  else {
    const { source, event_time, version, open, high, low, close, volume, trades } = store.row;
    lines.push(
      ["Database", `has its final row, from source ${source}, as of ${moment(event_time)}, version ${version}`],
      ["Prices", `open ${open}, high ${high}, low ${low}, close ${close}`],
      ["Volume", `${volume} in ${counted(trades, "trade")}`]);
  }
  return lines;
}

function moment(time) {
  return `${new Date(time).toISOString().replace("T", " ").slice(0, 19)}`;
}

/** When the candle opens whose moment an address names, in milliseconds or ISO 8601; NaN if none. */
export function openOf(candle, interval) {
  return opening(interval, /^\d+$/.test(candle) ? Number(candle) : Date.parse(candle));
}
