// The panel that changes what is recorded: first the bill, and only then the change.

import { bill } from "./bill.js";
import { make } from "./element.js";
import { counted, number } from "./format.js";
import { table, write } from "./table.js";

// The first is spot's only, and sixty times as much as the next: nobody gets it unasked.
const INTERVALS = "1s 1m 3m 5m 15m 30m 1h 2h 4h 6h 8h 12h 1d 3d 1w 1M".split(" ");
const MOST_SHOWN = 100;
const PATH = "/v1/subscriptions";
const WANTED = "Recorded as wanted";

export function open(section, page) {
  const body = section.querySelector(".body");
  const ask = bill(body, (body, dryRun) => {
    const query = dryRun ? { dry_run: true } : {};
    page.curl(section, "PATCH", PATH, query, body);
    return page.agent.send("PATCH", PATH, body, query);
  }, carriedOut);
  const entry = form(ask, (entries) => wanted?.has(entries) ?? false);
  const progress = make("progress", { hidden: true, "aria-label": "Streams that run" });
  const state = make("p", { className: "quiet", role: "status" });
  let wanted = null;
  body.prepend(entry);
  body.append(state, progress);
  page.curl(section, "GET", PATH);
  let shown = "";

  async function refresh() {
    let now;
    try {
      now = await page.agent.get(PATH);
    } catch (error) {
      shown = "";
      return write(state, error.message);
    }
    const { streams, symbols, max_symbols: most, saved } = now;
    write(state, [
      `${counted(symbols, "symbol")} of at most ${number(most)}, ${counted(streams.wanted, "stream")}: ${number(streams.active)} active, ${number(streams.pending)} pending`,
      streams.ending ? `, ${number(streams.ending)} ending` : "",
      saved ? "." : ". Changes do not survive a restart of the agent.",
    ].join(""));
    progress.hidden = !streams.pending;
    progress.max = streams.wanted || 1;
    progress.value = streams.active;
    entry.usual(now.subscriptions);
    wanted?.show(now);
  }

  // Readers see what is wanted, and no button that the agent would refuse.
  function allow() {
    const may = page.mayCommand;
    section.hidden = false;
    section.querySelector("h2").textContent = may ? "Add and remove" : WANTED;
    entry.hidden = !may;
    wanted?.whole.remove();
    wanted = list(ask, may);
    body.append(wanted.whole);
  }

  function carriedOut(outcome) {
    page.announce(`${counted(outcome.added, "stream")} added, ${counted(outcome.removed, "stream")} removed.`);
    refresh();
  }

  return {
    overview({ totals }) {
      const now = [totals.symbols, totals.series, totals.active, page.mayCommand].join();
      if (wanted?.may !== page.mayCommand) allow();
      if (now !== shown) refresh();
      shown = now;
    },
    viewChanged: ({ symbol, interval }) => entry.propose(symbol, interval),
  };
}

// Names and patterns at intervals, to add or to remove.
function form(ask, isWanted) {
  const names = make("input", { id: "change-names", autocomplete: "off", spellcheck: false, required: true, "aria-describedby": "change-help" });
  const boxes = INTERVALS.map((value) => make("input", { type: "checkbox", value, checked: value !== "1s" }));
  const all = make("button", { type: "button", textContent: "All or none" });
  const whole = make(
    "form", { className: "change" },
    make("label", { for: "change-names", textContent: "Symbols or patterns" }), names,
    make("p", { className: "quiet", id: "change-help", textContent: "BTCUSDT, spot:ETHUSDT, *USDC: commas or blanks between them" }),
    make("fieldset", {}, make("legend", { textContent: "Intervals" }), ...boxes.map((box) => make("label", {}, box, box.value)), all),
    make("button", { type: "submit", textContent: "What would adding cost?" }), " ",
    make("button", { type: "button", value: "remove", textContent: "What would removing do?" }),
  );
  all.addEventListener("click", () => {
    const isAll = boxes.every((box) => box.checked);
    for (const box of boxes) box.checked = !isAll;
    ask.withdraw();
  });
  const entries = () => entriesOf(names.value, boxes.filter((box) => box.checked).map((box) => box.value));
  whole.addEventListener("submit", (event) => {
    event.preventDefault();
    ask("Add", { add: entries() });
  });
  whole.querySelector("[value=remove]").addEventListener("click", () => {
    if (whole.reportValidity()) ask("Remove", { remove: entries() }, isWanted(entries()));
  });
  let isAsTold = true;
  whole.addEventListener("input", () => {
    isAsTold = false;
    ask.withdraw();
  });
  // What the agent records already is ticked, as `klineagent add` would take it.
  whole.usual = (subscriptions) => {
    const configured = subscriptions.filter(({ from }) => from === "configuration");
    const told = (configured.length ? configured : subscriptions).map(({ intervals }) => intervals);
    if (!isAsTold || !told.length || told.includes("all")) return;
    isAsTold = false;
    for (const box of boxes) box.checked = told.flat().includes(box.value);
  };
  let proposed = "";
  // What is looked at is proposed, unless something was typed.
  whole.propose = (symbol, interval) => {
    if (!symbol || names.value !== proposed) return;
    names.value = proposed = symbol;
    isAsTold &&= !interval;
    if (interval) for (const box of boxes) box.checked = box.value === interval;
    ask.withdraw();
  };
  return whole;
}

/** The entries of a set that `text` names: symbols together, each pattern by itself. */
export function entriesOf(text, chosen) {
  const intervals = chosen.length === INTERVALS.length ? "all" : chosen;
  const names = text.split(/[\s,;]+/).filter(Boolean);
  const symbols = names.filter((name) => !/[*?[]/.test(name));
  const patterns = names.filter((name) => /[*?[]/.test(name));
  return [
    ...(symbols.length ? [{ symbols, intervals }] : []),
    ...patterns.map((name) => ({ match: { name }, intervals })),
  ];
}

// What is wanted now, with a filter; each row, or all that the filter leaves, can be removed.
function list(ask, may) {
  const filter = make("input", { type: "search", id: "change-filter", autocomplete: "off" });
  const bulk = make("button", { type: "button", hidden: true });
  const more = make("p", { className: "quiet" });
  const whole = make("div", {}, make("h3", { textContent: WANTED, hidden: !may }), make("p", {}, make("label", { for: "change-filter", textContent: "Filter " }), filter, " ", bulk));
  const show = table(whole, {
    caption: "Symbols and patterns that are wanted",
    none: "Nothing.",
    key: (row) => row.key,
    columns: [
      { title: "Symbol or pattern", cell: (row) => row.name, head: true },
      { title: "Intervals", cell: (row) => row.intervals },
      { title: "Note", cell: (row) => row.note, tone: () => "warn" },
      ...(may ? [{ title: "Remove", cell: removal }] : []),
    ],
  });
  const except = make("p", { className: "quiet" });
  whole.append(more, except);
  function removal({ entry, name }) {
    const button = make("button", { type: "button", textContent: "Remove …", "aria-label": `Remove ${name} …` });
    button.addEventListener("click", () => ask("Remove", { remove: [entry] }, true));
    return button;
  }
  let rows = [];
  const found = () => rows.filter(({ text }) => text.toLowerCase().includes(filter.value.trim().toLowerCase()));
  function draw() {
    const left = found();
    show(left.slice(0, MOST_SHOWN));
    more.textContent = left.length > MOST_SHOWN ? `and ${number(left.length - MOST_SHOWN)} more: filter` : "";
    bulk.hidden = !may || !filter.value.trim() || left.length < 2;
    bulk.textContent = `Remove these ${number(left.length)} …`;
  }
  filter.addEventListener("input", () => {
    ask.withdraw();
    draw();
  });
  bulk.addEventListener("click", () => ask("Remove", { remove: together(found().map(({ entry }) => entry)) }, true));
  return {
    whole,
    may,
    // Whether one of `entries` stands in the list by its own text.
    has(entries) {
      const names = new Set(rows.map(({ name }) => name));
      return entries.some(({ symbols, match }) => (match ? names.has(match.name) : symbols.some((each) => names.has(each))));
    },
    show(now) {
      rows = rowsOf(now);
      draw();
      const exceptions = now.exclude.flatMap(({ symbols, intervals }) => symbols.map((symbol) => `${symbol} ${intervalText(intervals)}`));
      except.textContent = exceptions.length ? `Except ${exceptions.slice(0, MOST_SHOWN).join(", ")}${exceptions.length > MOST_SHOWN ? ", …" : ""}` : "";
    },
  };
}

function rowsOf({ subscriptions, exclude, pending, refused, unmatched }) {
  const notes = new Map([...pending, ...refused].map(({ symbol, reason }) => [symbol, reason]));
  const nowhere = new Set(unmatched.map((match) => JSON.stringify(match)));
  return subscriptions.flatMap(({ from, ...entry }) => {
    const parts = entry.match ? [entry] : entry.symbols.flatMap((symbol) => withoutRemoved({ ...entry, symbols: [symbol] }, exclude));
    return parts.map((part) => {
      const name = part.match ? patternText(part.match) : part.symbols[0];
      const intervals = intervalText(part.intervals);
      const note = [
        notes.get(name) ?? (part.match && nowhere.has(JSON.stringify(part.match)) ? "matches nothing now" : ""),
        from === "configuration" ? "of the configuration: back after a restart" : "",
      ].filter(Boolean).join("; ");
      const text = [part.venue, name, intervals].filter(Boolean).join(" ");
      return { entry: part, name, intervals, note, text, key: `${text} ${from}` };
    });
  });
}

/** `entries` with the symbols of equal intervals in one: a request has at most 64 KiB. */
export function together(entries) {
  const joined = new Map();
  for (const entry of entries) {
    const key = JSON.stringify([entry.venue, entry.intervals, entry.match]);
    if (joined.has(key)) joined.get(key).symbols.push(...entry.symbols);
    else joined.set(key, entry.match ? entry : { ...entry, symbols: [...entry.symbols] });
  }
  return [...joined.values()];
}

// What is left of one symbol's entry: what the configuration names stays in the set when it is
// removed, beside an exception.
function withoutRemoved(part, exclude) {
  const removed = exclude.filter(({ venue, symbols }) => venue === part.venue && symbols?.includes(part.symbols[0]));
  if (removed.some(({ intervals }) => intervals === "all")) return [];
  const gone = new Set(removed.flatMap(({ intervals }) => intervals));
  if (!gone.size) return [part];
  const left = (part.intervals === "all" ? INTERVALS : part.intervals).filter((each) => !gone.has(each));
  return left.length ? [{ ...part, intervals: left }] : [];
}

function intervalText(intervals) {
  return intervals === "all" ? "all" : intervals.join(" ");
}

function patternText({ name, quote, contract, exclude = [] }) {
  return [name ?? "*", quote, contract, exclude.length && `but ${exclude.join(" ")}`].filter(Boolean).join(" ");
}
