// The panel of coverage: every series, day by day; a day opens its ranges of candles.

import { AgentError } from "./agent.js";
import { DAYS, rowsOf } from "./coverage_days.js";
import { showSpans } from "./day_spans.js";
import { make } from "./element.js";
import { number } from "./format.js";
import { paintDay } from "./heat_canvas.js";
import { HeatGrid } from "./heat_grid.js";
import { DAY_MS, dayOf } from "./interval.js";
import { learn } from "./losses.js";
import { onTheme, palette } from "./palette.js";
import { write } from "./table.js";

// What changes a day is mostly news in the overview; this is for what is not.
const REFRESH_MS = 300_000;
// When the number of missing candles changes from second to second.
const SOONEST_MS = 5_000;
// Of thousands of series the days are much to ask for: at most this part of the time.
const SHARE = 20;
const LIMIT = 10_000;
const USUAL_DAYS = 30;
// The agent tells of no more.
const MOST_DAYS = 400;
const RANGES = [7, USUAL_DAYS, 90, 365];
const PATH = "/v1/coverage/days";

export function open(section, page) {
  const filter = make("input", { type: "search", placeholder: "BTC, *USDC 1m", autocomplete: "off" });
  const days = make("select", {}, ...RANGES.map(option));
  const until = make("input", { type: "date" });
  const order = make("select", {},
    make("option", { value: "" }, "worst first"), make("option", { value: "name" }, "by name"));
  const flat = make("input", { type: "checkbox" });
  const opened = new Set();
  const spans = make("div", { className: "day-spans" });
  const note = make("p", { role: "status" });
  const grid = new HeatGrid({
    choose(series, date) {
      page.view.set({ symbol: series.symbol, interval: series.interval, candle: "" });
      showSpans(spans, page, series, date);
    },
    toggle(symbol) {
      if (!opened.delete(symbol)) opened.add(symbol);
      arrange();
    },
  });
  section.querySelector(".body").append(
    make("div", { className: "controls" },
      labelled("Filter", filter), labelled("Range", days), labelled("Up to", until), labelled("Order", order),
      make("label", {}, flat, " each interval")),
    grid.element,
    legend(),
    make("p", { className: "quiet" }, "Arrow keys move, Enter opens a day, space opens a symbol's intervals."),
    note,
    spans);

  let answer = null;
  let loading = null;
  let loadedAt = 0;
  let asked = "";
  let tookMs = 0;
  // What the agent told when it was asked last, and now: other than that, days have changed.
  let news = "";
  let newsAsked = "";
  let now = null;

  // The days that are looked at; null if that needs the agent's clock, which is not known yet.
  function range() {
    const view = page.view.get();
    const shown = daysOf(view);
    const last = Date.parse(view.to) || now;
    if (last === now && shown === USUAL_DAYS) return {};
    if (last === null) return null;
    const end = Date.parse(dayOf(last)) + DAY_MS;
    return { from: dayOf(end - shown * DAY_MS), to: dayOf(end) };
  }

  async function load() {
    const wanted = range();
    if (wanted === null) return;
    const query = { ...wanted, limit: LIMIT };
    page.curl(section, "GET", PATH, query);
    asked = JSON.stringify(wanted);
    loadedAt = performance.now();
    newsAsked = news;
    const own = (loading = Symbol(asked));
    try {
      let part = await page.agent.get(PATH, query);
      const { series } = part;
      while (part.next) {
        part = await page.agent.get(PATH, { ...query, after: part.next });
        series.push(...part.series);
      }
      if (own !== loading) return;
      tookMs = performance.now() - loadedAt;
      answer = { ...part, series };
      arrange();
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      if (own === loading) note.textContent = error.message;
    } finally {
      if (own === loading) loading = null;
    }
  }

  function arrange() {
    if (answer === null) return;
    const { series } = answer;
    const rows = rowsOf(series, {
      filter: filter.value, byName: order.value === "name", flat: flat.checked, open: opened,
    });
    grid.show(rows, Date.parse(answer.from), answer.days);
    const shown = new Set(rows.flatMap((row) => row.series)).size;
    write(note, series.length
      ? `${number(shown)} of ${number(series.length)} series` : "No series is recorded.");
  }

  filter.addEventListener("input", () => {
    page.view.set({ filter: filter.value }, { replace: true });
    arrange();
  });
  order.addEventListener("change", arrange);
  flat.addEventListener("change", arrange);
  days.addEventListener("change", () => page.view.set({ days: Number(days.value) === USUAL_DAYS ? "" : days.value }));
  until.addEventListener("change", () => page.view.set({ to: until.value }));

  function viewChanged(view) {
    if (document.activeElement !== filter && filter.value !== view.filter) {
      filter.value = view.filter;
      arrange();
    }
    const shown = daysOf(view);
    if (![...days.options].some((each) => each.value === `${shown}`)) days.append(option(shown));
    days.value = shown;
    until.value = view.to;
    if (JSON.stringify(range()) !== asked) load();
  }

  function overview(told) {
    learn(told);
    now = Date.parse(told.at);
    const { totals, losses } = told;
    news = [dayOf(now), totals.missing, totals.series, totals.active, losses.at(-1)?.number].join();
    const age = performance.now() - loadedAt;
    const soonest = Math.max(SOONEST_MS, SHARE * tookMs);
    if (loading === null && (!asked || age > REFRESH_MS || (news !== newsAsked && age > soonest))) load();
  }

  return { overview, viewChanged };
}

function daysOf(view) {
  const days = Math.floor(Number(view.days));
  return days >= 1 ? Math.min(MOST_DAYS, days) : USUAL_DAYS;
}

function option(days) {
  return make("option", { value: days }, `${days} days`);
}

function labelled(text, input) {
  return make("label", {}, `${text} `, input);
}

function legend() {
  const list = make("ul", { className: "signs", "aria-label": "Legend of days" });
  const paint = () => {
    const colours = palette();
    list.replaceChildren(...Object.entries(DAYS).map(([letter, text]) => {
      const canvas = make("canvas", { width: 44, height: 32, "aria-hidden": "true" });
      const brush = canvas.getContext("2d");
      brush.scale(2, 2);
      paintDay(brush, letter, 22, 16, colours);
      return make("li", {}, canvas, ` ${text}`);
    }));
  };
  paint();
  onTheme(paint);
  return list;
}
