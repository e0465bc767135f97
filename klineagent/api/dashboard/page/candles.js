// The panel of candles: one series, live, with its gaps; a candle opens its story.

import { BANDS, bandsOf, markOf } from "./bands.js";
import { CandleFeed } from "./candle_feed.js";
import { make } from "./element.js";
import { number } from "./format.js";
import { written } from "./interval.js";
import { chartLibrary, LibraryChart } from "./library_chart.js";
import { learn, lossesOf } from "./losses.js";
import { onTheme } from "./palette.js";
import { MOST_CANDLES } from "./series_candles.js";
import { SeriesPicker, symbolNamed } from "./series_picker.js";
import { openOf } from "./story.js";
import { write } from "./table.js";

const EVERY_MS = 1_000;
const NOT_RECORDED_AGAIN_MS = 5_000;
// Nearer to an edge than so many candles, more are fetched.
const NEAR = 60;
const PAGE = 20;
const MOST_DECIMALS = 8;
// Commands ask the agent of this address unless they are told of another.
const USUAL_ORIGIN = "http://127.0.0.1:9999";
const AGENT = location.origin === USUAL_ORIGIN ? "" : ` --agent ${location.origin}`;

export function open(section, page) {
  const choose = (changes) => page.view.set({ ...series, candle: "", ...changes });
  const latest = make("button", { type: "button", hidden: true }, "To the newest candle");
  const picker = new SeriesPicker(page, choose, latest);
  const values = make("p", { className: "values" });
  const host = make("div", {
    className: "candle-chart", role: "slider", tabIndex: 0, "aria-label": "Chosen candle",
    "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0, "aria-valuetext": "none",
    "aria-describedby": "candle-keys",
  });
  const note = make("p", { role: "status" });
  const closed = make("p", { "aria-live": "polite" });
  const kept = make("p", { className: "quiet" });
  const install = make("p", { className: "quiet", hidden: true },
    "For a chart with more comfort: ", make("code", {}, "pip install 'klineagent[dashboard]'"));
  section.querySelector(".body").append(
    picker.element, values, host, legend(), note, closed,
    make("p", { className: "quiet", id: "candle-keys" },
      "Left and right choose a candle, Enter tells why it is as it is. Once the chart is chosen, the wheel zooms."),
    kept, install);

  let chart = null;
  let feed = null;
  let series = null;
  let losses = [];
  let newsSeen = "";
  let chosen = null;
  let lastClosed = null;
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
    document.getElementById("credit").hidden = library === null;
    host.dataset.chart = library === null ? "plain" : "library";
    if (library !== null) chart = new LibraryChart(library, host, hooks);
    else chart = new (await import("./plain_chart.js")).PlainChart(host, hooks);
    onTheme(() => chart.theme());
  });

  // Follows a series; `around` an older candle, or the newest ones if it is null.
  async function follow(wanted, around) {
    series = wanted;
    if (feed) feed.stopped = true;
    feed = lastClosed = null;
    clearTimeout(timer);
    closed.textContent = values.textContent = kept.textContent = "";
    // A word each second would leave no room for any other.
    closed.setAttribute("aria-live", wanted.interval.endsWith("s") ? "off" : "polite");
    note.textContent = "Asking for candles …";
    page.curl(section, "GET", "/v1/tail", { ...wanted, limit: 500, gaps: "listed" });
    const [recorded] = await Promise.all([picker.recorded(wanted.symbol), ready]);
    if (series !== wanted) return;
    picker.show(wanted, recorded ?? []);
    losses = lossesOf(wanted.symbol, wanted.interval);
    chart.show([], [], wanted);
    if (recorded && !recorded.includes(wanted.interval)) {
      notRecorded(wanted);
      timer = setTimeout(() => follow(wanted, around), NOT_RECORDED_AGAIN_MS);
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
      await own.tick();
      if (near) own[near]();
    }
    if (own === feed) timer = setTimeout(tick, EVERY_MS);
  }

  // Draws what the feed keeps; only `rows` of it are new unless the `whole` is concerned.
  function draw(rows, whole, at) {
    const { candles } = feed.kept;
    const isLast = rows.length === 1 && rows[0] === candles.at(-1);
    if (!whole && isLast) chart.update({ open: rows[0].open, candle: rows[0] });
    else {
      const decimals = decimalsOf(candles);
      chart.show(feed.kept.places(), bandsOf(feed.kept, losses), { ...series, decimals, at });
    }
    latest.hidden = feed.live;
    const missing = feed.kept.missing.reduce((sum, span) => sum + span.candles, 0);
    kept.textContent = `${number(candles.length)} candles here, of at most ${number(MOST_CANDLES)} that the page keeps`
      + `${missing ? `; ${number(missing)} missing` : ""}.`;
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
    if (error !== null) write(note, error.message);
    else write(note, feed.kept.candles.length ? "" : "No candle has come yet.");
  }

  function notRecorded({ symbol, interval }) {
    note.replaceChildren(
      `${symbol} ${interval} is not recorded. `,
      make("code", {}, `klineagent add ${symbol} --intervals ${interval}${AGENT}`), " adds it");
    const form = page.view.link({ panel: "change" });
    if (page.mayCommand) note.append(", or ", make("a", { href: form }, "Add and remove"));
    note.append(". Of a candle that is stored all the same, Why tells the prices.");
  }

  function describe(open) {
    const candle = open === null ? feed?.kept.candles.at(-1) : feed?.kept.at(open);
    if (candle) values.textContent = sentence(candle);
    else if (open !== null) values.textContent = `${written(open, series.interval)} UTC · no candle`;
  }

  function sentence(candle) {
    const mark = markOf(candle, losses);
    return [
      `${written(candle.open, series.interval)} UTC`,
      `open ${candle.first}`, `high ${candle.high}`, `low ${candle.low}`, `close ${candle.close}`,
      `volume ${candle.volume.toLocaleString("en", { maximumFractionDigits: MOST_DECIMALS })}`,
      candle.is_closed ? `source ${candle.source}${mark ? `, ${mark}` : ""}` : "forming",
    ].join(" · ");
  }

  // Puts the mark on a candle, or on none.
  function point(open) {
    chosen = open;
    chart.choose(open);
    describe(open);
    host.setAttribute("aria-valuenow", open === null ? 0 : (feed?.kept.position(open) ?? 0));
    host.setAttribute("aria-valuetext", open === null ? "none" : values.textContent);
  }

  function pick(open) {
    point(open);
    page.view.set({ ...series, candle: new Date(open).toISOString() });
  }

  host.addEventListener("keydown", (event) => {
    const places = feed?.kept.places() ?? [];
    if (!places.length) return;
    const last = places.length - 1;
    const at = chosen === null ? places.length : places.findIndex((place) => place.open >= chosen);
    const to = {
      ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - PAGE, PageDown: at + PAGE, Home: 0, End: last,
    }[event.key];
    if (to !== undefined) point(places[Math.max(0, Math.min(last, to))].open);
    else if (event.key === "Enter" && chosen !== null) {
      pick(chosen);
      page.view.show("story");
    } else return;
    event.preventDefault();
    if (to < NEAR) feed.older();
    else if (to > last - NEAR) feed.newer();
  });
  latest.addEventListener("click", () => {
    point(null);
    page.view.set({ candle: "" });
    follow(series, null);
  });

  async function viewChanged(view) {
    if (!view.symbol && series === null) {
      const symbol = await picker.first();
      if (symbol === undefined) note.textContent = "No series is recorded.";
      else if (series === null && !page.view.get().symbol) follow({ symbol, interval: view.interval || "1m" }, null);
    }
    if (!view.symbol) return;
    const wanted = { symbol: symbolNamed(view.symbol), interval: view.interval || series?.interval || "1m" };
    const at = view.candle ? (openOf(view.candle, wanted.interval) || null) : null;
    const isSame = series?.symbol === wanted.symbol && series.interval === wanted.interval;
    if (!isSame || (at !== null && feed?.kept.isOutside(at))) await follow(wanted, at);
    if (chart && (isSame || series === wanted) && at !== chosen) point(at);
  }

  function overview(told) {
    learn(told);
    if (series === null) viewChanged(page.view.get());
    if (!feed?.kept.candles.length) return;
    const news = lossesOf(series.symbol, series.interval);
    const seen = [told.totals.missing, ...news.map((loss) => loss.number)].join();
    if (seen === newsSeen) return;
    newsSeen = seen;
    const changed = news.filter((loss) => !losses.some((old) => old.number === loss.number));
    losses = news;
    feed.askAgain(changed.map((loss) => ({ ...loss, first: Date.parse(loss.from), last: Date.parse(loss.to) })));
    if (changed.length) draw([], true);
  }

  return { overview, viewChanged };
}

function decimalsOf(candles) {
  const prices = candles.slice(-100).flatMap(({ first, close }) => [first, close]);
  const decimals = prices.map((price) => (String(price).split(".")[1] ?? "").length);
  return Math.min(MOST_DECIMALS, Math.max(0, ...decimals));
}

function legend() {
  const sign = (kind, letter, text) => make("li", {},
    make("span", { className: `sign ${kind}`, "aria-hidden": "true" }, letter), ` ${text}`);
  return make("ul", { className: "signs", "aria-label": "Legend of candles" },
    ...Object.entries(BANDS).map(([kind, { text, letter = "" }]) => sign(kind, letter, text)),
    sign("forming", "", "forming"));
}
