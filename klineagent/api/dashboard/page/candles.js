// The panel of candles: one series, live, with its gaps; a candle opens its story.

import { AgentError } from "./agent.js";
import { BANDS, bandsOf, markOf } from "./bands.js";
import { CandleFeed } from "./candle_feed.js";
import { make } from "./element.js";
import { byLength, DAY_MS, lengthOf, written } from "./interval.js";
import { chartLibrary, LibraryChart } from "./library_chart.js";
import { learn, lossesOf } from "./losses.js";
import { onTheme } from "./palette.js";
import { MOST_CANDLES } from "./series_candles.js";
import { timeOf } from "./story.js";

const EVERY_MS = 1_000;
// Nearer to an edge than so many candles, more are fetched.
const NEAR = 60;
const AGAIN_MS = 5_000;
const SYMBOLS_AGAIN_MS = 60_000;
const FIRST_CHOICES = ["BTCUSDT", "spot:BTCUSDT"];

export function open(section, page) {
  const body = section.querySelector(".body");
  const names = make("datalist", { id: "candle-symbols" });
  const symbolInput = make("input", { type: "text", autocomplete: "off", spellcheck: false, list: "" });
  symbolInput.setAttribute("list", names.id);
  const intervals = make("span", { role: "group", "aria-label": "Interval", className: "intervals" });
  const latest = make("button", { type: "button", hidden: true }, "To the newest candle");
  const picker = make("form", { className: "controls" }, make("label", {}, "Symbol ", symbolInput), intervals, latest, names);
  const values = make("p", { className: "values" });
  const host = make("div", {
    className: "candle-chart", role: "slider", tabIndex: 0, "aria-label": "Chosen candle", "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0,
    "aria-valuetext": "none", "aria-describedby": "candle-keys",
  });
  const keys = make("p", { className: "quiet", id: "candle-keys" }, "Left and right choose a candle, Enter tells why it is as it is.");
  const note = make("p", { className: "note", role: "status" });
  const install = make("p", { className: "quiet", hidden: true }, "For a chart with more comfort: ", make("code", {}, "pip install 'klineagent[dashboard]'"));
  const closed = make("p", { className: "closed", "aria-live": "polite" });
  const kept = make("p", { className: "quiet" });
  body.append(picker, values, host, legend(), note, closed, keys, kept, install);

  let chart = null;
  let feed = null;
  let series = null;
  let losses = [];
  let lossesSeen = "";
  let chosen = null;
  // A series that is chosen meanwhile does not overwrite what is being typed.
  let isTyping = false;
  let lastClosed = null;
  let symbolsAt = -SYMBOLS_AGAIN_MS;
  let symbols = [];
  let timer = null;
  // The edge that the chart is near to. The feed may have been busy when it came there.
  let near = null;

  const hooks = {
    onRange(from, to, all) {
      near = from < NEAR ? "older" : to > all - NEAR ? "newer" : null;
      if (near) feed?.[near]();
    },
    onHover: (open) => describe(open ?? chosen),
    onPick: (open) => pick(open),
  };
  const ready = chartLibrary().then(async (library) => {
    install.hidden = library !== null;
    host.dataset.chart = library === null ? "plain" : "library";
    if (library !== null) chart = new LibraryChart(library, host, hooks);
    else chart = new (await import("./plain_chart.js")).PlainChart(host, hooks);
    onTheme(() => chart.theme());
  });

  async function follow(wanted, around) {
    series = wanted;
    if (feed) feed.stopped = true;
    feed = null;
    lastClosed = null;
    closed.textContent = values.textContent = "";
    note.textContent = "Asking for candles …";
    if (!isTyping) symbolInput.value = wanted.symbol;
    page.curl(section, "GET", "/v1/tail", { ...wanted, limit: 500, gaps: "listed" });
    const [recorded] = await Promise.all([intervalsOf(wanted.symbol), ready]);
    if (series !== wanted) return;
    showIntervals(wanted.interval, recorded);
    clearTimeout(timer);
    losses = lossesOf(wanted.symbol, wanted.interval);
    chart.show([], [], style());
    if (recorded && !recorded.includes(wanted.interval)) {
      notRecorded(wanted);
      timer = setTimeout(() => series === wanted && follow(wanted, around), AGAIN_MS);
      return;
    }
    const own = new CandleFeed(page, wanted, {
      changed: (rows, whole) => own === feed && draw(rows, whole),
      failed: (error) => own === feed && fail(error),
    });
    feed = own;
    await own.start(around);
    if (own !== feed) return;
    if (around !== null) draw([], true, around);
    tick();
  }

  async function tick() {
    const own = feed;
    if (document.visibilityState === "visible") {
      await own?.tick();
      if (near) own?.[near]();
    }
    if (own === feed) timer = setTimeout(tick, EVERY_MS);
  }

  function style() {
    return { interval: series.interval, hasDays: lengthOf(series.interval) >= DAY_MS, hasSeconds: series.interval.endsWith("s") };
  }

  function draw(rows, whole, at) {
    const { candles } = feed.kept;
    const isLast = rows.length === 1 && rows[0] === candles.at(-1);
    if (!whole && isLast) chart.update({ open: rows[0].open, candle: rows[0] });
    else chart.show(feed.kept.places(), bandsOf(feed.kept, losses), { ...style(), decimals: decimalsOf(candles), at });
    latest.hidden = feed.live;
    const missing = feed.kept.missing.reduce((sum, span) => sum + span.candles, 0);
    kept.textContent = `${candles.length.toLocaleString("en")} candles here, of at most ${MOST_CANDLES.toLocaleString("en")} that the page keeps${missing ? `; ${missing.toLocaleString("en")} missing` : ""}.`;
    host.dataset.candles = candles.length;
    host.dataset.missing = missing;
    host.setAttribute("aria-valuemax", Math.max(0, candles.length - 1));
    describe(chosen);
    tellClosed();
  }

  function tellClosed() {
    const newest = feed.kept.candles.findLast((candle) => candle.is_closed);
    if (!newest || !feed.live || newest.open === lastClosed) return;
    lastClosed = newest.open;
    closed.textContent = `Last closed candle: ${sentence(newest)}`;
  }

  function fail(error) {
    if (error === null) {
      note.textContent = feed.kept.candles.length ? "" : "No candle has come yet.";
      return;
    }
    note.textContent = error.message;
  }

  function notRecorded({ symbol, interval }) {
    kept.textContent = "";
    note.replaceChildren(`${symbol} ${interval} is not recorded. `, make("code", {}, `klineagent ctl add ${symbol}`), " adds it");
    if (page.mayCommand) note.append(", or ", make("a", { href: page.view.link({ panel: "change" }) }, "Add and remove"));
    note.append(".");
  }

  function describe(open) {
    const candle = open === null ? feed?.kept.candles.at(-1) : feed?.kept.at(open);
    if (candle) values.textContent = sentence(candle);
    else if (open !== null && open !== undefined) values.textContent = `${written(open, series.interval)}: no candle here`;
  }

  function sentence(candle) {
    const mark = markOf(candle, losses);
    return [
      `${written(candle.open, series.interval)} UTC`,
      `open ${candle.first}`, `high ${candle.high}`, `low ${candle.low}`, `close ${candle.close}`,
      `volume ${candle.volume.toLocaleString("en")}`,
      candle.is_closed ? `source ${candle.source}${mark ? `, ${mark}` : ""}` : "forming",
    ].join(" · ");
  }

  function point(open) {
    chosen = open;
    chart?.choose(open);
    describe(open);
    const candle = open === null ? null : feed?.kept.at(open);
    host.setAttribute("aria-valuenow", open === null ? 0 : (feed?.kept.position(open) ?? 0));
    host.setAttribute("aria-valuetext", open === null ? "none" : candle ? sentence(candle) : `${written(open, series.interval)}, no candle`);
  }

  function pick(open) {
    point(open);
    page.view.set({ ...series, candle: new Date(open).toISOString() });
  }

  host.addEventListener("keydown", (event) => {
    const places = feed?.kept.places() ?? [];
    if (!places.length) return;
    const at = chosen === null ? places.length : places.findIndex((place) => place.open >= chosen);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 20, PageDown: at + 20, Home: 0, End: places.length - 1 }[event.key];
    if (to !== undefined) point(places[Math.max(0, Math.min(places.length - 1, to))].open);
    else if (event.key === "Enter" && chosen !== null) {
      pick(chosen);
      page.view.show("story");
    } else return;
    event.preventDefault();
    if (to < NEAR) feed.older();
    else if (to > places.length - NEAR) feed.newer();
  });

  function choose(changes) {
    page.view.set({ ...series, candle: "", ...changes });
  }
  picker.addEventListener("submit", (event) => event.preventDefault());
  symbolInput.addEventListener("input", () => (isTyping = true));
  symbolInput.addEventListener("change", () => {
    isTyping = false;
    const [, venue = "", name] = /^(?:(\w+):)?(.*)$/.exec(symbolInput.value.trim());
    if (name) choose({ symbol: (venue ? `${venue.toLowerCase()}:` : "") + name.toUpperCase() });
  });
  symbolInput.addEventListener("focus", () => loadSymbols());
  latest.addEventListener("click", () => {
    point(null);
    follow(series, null);
    page.view.set({ candle: "" });
  });

  async function loadSymbols() {
    if (performance.now() - symbolsAt < (symbols.length ? SYMBOLS_AGAIN_MS : AGAIN_MS)) return;
    symbolsAt = performance.now();
    ({ symbols } = await page.agent.get("/symbols"));
    names.replaceChildren(...symbols.map((each) => make("option", { value: each })));
  }

  // The intervals at which a symbol is recorded; null if the agent does not tell.
  async function intervalsOf(symbol) {
    try {
      return (await page.agent.get("/v1/coverage", { symbol })).series.map((each) => each.interval);
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      return null;
    }
  }

  function showIntervals(interval, recorded) {
    const all = [...new Set([interval, ...(recorded ?? [])])].sort(byLength);
    intervals.replaceChildren(...all.map((each) => make("button", {
      type: "button", "aria-pressed": each === interval, onclick: () => choose({ interval: each }),
    }, each)));
  }

  async function viewChanged(view) {
    if (!view.symbol) {
      await loadSymbols().catch(() => {});
      if (!symbols.length) note.textContent = "No series is recorded.";
      if (page.view.get().symbol || !symbols.length || series) return null;
      const symbol = FIRST_CHOICES.find((each) => symbols.includes(each)) ?? symbols[0];
      return follow({ symbol, interval: view.interval || "1m" }, null);
    }
    const wanted = { symbol: view.symbol, interval: view.interval || series?.interval || "1m" };
    const time = view.candle ? timeOf(view.candle) : NaN;
    const at = Number.isNaN(time) ? null : time;
    const same = series?.symbol === wanted.symbol && series.interval === wanted.interval;
    const known = feed?.kept;
    const outside = at !== null && known && known.oldest !== null && (at < known.oldest || at > known.newest);
    if (!same || outside) await follow(wanted, at);
    if (chart && (series === wanted || same) && at !== chosen) point(at);
  }

  function overview(told) {
    learn(told);
    if (series === null) {
      viewChanged(page.view.get());
      return;
    }
    const news = lossesOf(series.symbol, series.interval);
    const seen = [told.totals.missing, ...news.map((loss) => loss.number)].join();
    if (seen === lossesSeen) return;
    lossesSeen = seen;
    const changed = news.filter((loss) => !losses.some((old) => old.number === loss.number));
    losses = news;
    if (!feed?.kept.candles.length) return;
    feed.askAgain(changed.map((loss) => ({ last: Date.parse(loss.to), first: Date.parse(loss.from), candles: loss.candles })));
    if (changed.length) draw([], true);
  }

  return { overview, viewChanged };
}

function decimalsOf(candles) {
  const places = ({ first, close }) => Math.max(...[first, close].map((price) => (String(price).split(".")[1] ?? "").length));
  return Math.min(8, candles.slice(-100).reduce((most, candle) => Math.max(most, places(candle)), 0));
}

function legend() {
  const list = make("ul", { className: "signs", "aria-label": "Legend of candles" });
  const items = Object.entries(BANDS).map(([kind, { text, letter, gap }]) => {
    const swatch = make("span", { className: `sign ${kind}`, "aria-hidden": "true" }, gap ? "" : letter);
    return make("li", {}, swatch, ` ${text}`);
  });
  list.append(...items, make("li", {}, make("span", { className: "sign forming", "aria-hidden": "true" }), " forming"));
  return list;
}
