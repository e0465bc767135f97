// The panel of one candle: all that the agent, its ledger and the database know about it.

import { AgentError } from "./agent.js";
import { make } from "./element.js";
import { shifted, written } from "./interval.js";

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
  let why = null;
  let asking = null;
  let askedAt = 0;
  let shown = "";

  async function load({ symbol, interval, candle }, again = false) {
    const query = { symbol, interval, open_time: candle };
    page.curl(section, "GET", "/v1/why", query);
    askedAt = performance.now();
    const own = (asking = Symbol(candle));
    if (!again) list([["State", "asking …"]]);
    try {
      why = await page.agent.get("/v1/why", query);
      if (own === asking) show(again);
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      if (own !== asking) return;
      shown = "";
      list([["No answer", error.message]]);
    } finally {
      if (own === asking) asking = null;
    }
  }

  function show(again) {
    const lines = told(why);
    const text = JSON.stringify(lines);
    if (text === shown) return;
    shown = text;
    list(lines);
    facts.dataset.state = why.state;
    if (!again || lines[0][1] !== facts.dataset.told) page.announce(`${title.textContent}: ${lines[0][1]}. ${why.explanation}`);
    facts.dataset.told = lines[0][1];
  }

  function list(lines) {
    facts.replaceChildren(...lines.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  }

  function move(candles) {
    const view = page.view.get();
    page.view.set({ candle: new Date(shifted(view.interval, timeOf(view.candle), candles)).toISOString() });
  }
  previous.addEventListener("click", () => move(-1));
  next.addEventListener("click", () => move(1));

  function viewChanged(view) {
    const { symbol, interval, candle } = view;
    const key = [symbol, interval, candle].join(" ");
    if (key === chosen) return;
    chosen = key;
    const has = symbol && interval && candle && !Number.isNaN(timeOf(candle));
    hint.hidden = Boolean(has);
    tools.hidden = title.hidden = facts.hidden = !has;
    why = null;
    shown = "";
    asking = null;
    if (!has) return;
    title.textContent = `${symbol} ${interval}, ${written(timeOf(candle), interval)} UTC`;
    itself.href = page.view.link({ symbol, interval, candle, panel: "story" });
    load(view);
  }

  function overview() {
    if (why === null || asking !== null || FINAL.has(why.state)) return;
    if (performance.now() - askedAt > AGAIN_MS) load(page.view.get(), true);
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
      ["Failed tries", search.tries ? `${search.tries}; the last: ${search.error || "no reason known"}` : search.error || "none"],
      ["Waits for", search.waits_for + (search.next_try ? `; next try from ${moment(search.next_try)}` : "")]);
  }
  if (lost) lines.push(["Lost", `${lost.how}; found at ${moment(lost.found)}, ${lost.healed ? `fetched at ${moment(lost.healed)}` : "not fetched yet"}`]);
  if (!store.answered) lines.push(["Database", `no answer: ${store.error}`]);
  else if (store.row === null) lines.push(["Database", "has no final row of it"]);
  else {
    const row = store.row;
    lines.push(
      ["Database", `has its final row, from source ${row.source}, as of ${moment(row.event_time)}, version ${row.version}`],
      ["Values", `open ${row.open}, high ${row.high}, low ${row.low}, close ${row.close}, volume ${row.volume}, ${row.trades.toLocaleString("en")} trades`]);
  }
  return lines;
}

function moment(time) {
  return `${new Date(time).toISOString().replace("T", " ").slice(0, 19)}`;
}

// The address may have milliseconds or ISO 8601.
export function timeOf(candle) {
  return /^\d+$/.test(candle) ? Number(candle) : Date.parse(candle);
}
