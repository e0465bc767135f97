// The panel of coverage: every series, day by day; a day opens its ranges of candles.

import { AgentError } from "./agent.js";
import { DAYS, rowsOf, worstOf } from "./coverage_days.js";
import { showSpans } from "./day_spans.js";
import { make } from "./element.js";
import { HeatCanvas, paintDay } from "./heat_canvas.js";
import { DAY_MS, dayOf } from "./interval.js";
import { learn } from "./losses.js";
import { onTheme, palette } from "./palette.js";

const REFRESH_MS = 30_000;
const SOONEST_MS = 5_000;
const LIMIT = 10_000;
const USUAL = 30;
const RANGES = [7, 30, 90, 365];

export function open(section, page) {
  const body = section.querySelector(".body");
  const filter = make("input", { type: "search", placeholder: "BTC, *USDC 1m", autocomplete: "off" });
  const days = make("select", {}, ...RANGES.map((each) => make("option", { value: each }, `${each} days`)));
  const until = make("input", { type: "date" });
  const order = make("select", {}, make("option", { value: "" }, "worst first"), make("option", { value: "name" }, "by name"));
  const flat = make("input", { type: "checkbox" });
  const canvas = make("canvas", { "aria-hidden": "true" });
  const spoken = make("div", { className: "unseen", role: "row" });
  const field = make("div", { className: "heat-field", role: "rowgroup" }, spoken, canvas);
  const grid = make("div", { className: "heat", role: "grid", tabIndex: 0, "aria-label": "Coverage by series and day" }, field);
  const tip = make("p", { className: "heat-tip", hidden: true, "aria-hidden": "true" });
  const note = make("p", { className: "note", role: "status" });
  const spans = make("div", { className: "day-spans" });
  const keys = make("p", { className: "quiet" }, "Arrow keys move, Enter opens a day, space opens a symbol's intervals.");
  body.append(
    make("div", { className: "controls" },
      labelled("Filter", filter), labelled("Range", days), labelled("Up to", until), labelled("Order", order),
      make("label", {}, flat, " each interval")),
    make("div", { className: "heat-frame" }, grid, tip), legend(), keys, note, spans);

  const heat = new HeatCanvas(grid, field, canvas);
  const opened = new Set();
  let answer = null;
  let loading = null;
  let loadedAt = 0;
  let missing = null;
  let now = null;
  let asked = "";

  // The days that are looked at; null if that needs the agent's clock, which is not known yet.
  function range() {
    const view = page.view.get();
    const shown = daysOf(view);
    const last = Date.parse(view.to);
    if (Number.isNaN(last) && shown === USUAL) return {};
    if (Number.isNaN(last) && now === null) return null;
    const end = Date.parse(dayOf(Number.isNaN(last) ? now : last)) + DAY_MS;
    return { from: dayOf(end - shown * DAY_MS), to: dayOf(end) };
  }

  async function load() {
    const wanted = range();
    if (wanted === null) return;
    const query = { ...wanted, limit: LIMIT };
    page.curl(section, "GET", "/v1/coverage/days", query);
    asked = JSON.stringify(wanted);
    loadedAt = performance.now();
    const own = (loading = Symbol(asked));
    try {
      let part = await page.agent.get("/v1/coverage/days", query);
      const series = part.series;
      for (; part.next; series.push(...part.series)) part = await page.agent.get("/v1/coverage/days", { ...query, after: part.next });
      if (own !== loading) return;
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
    const rows = rowsOf(answer.series, { filter: filter.value, byName: order.value === "name", flat: flat.checked, open: opened });
    heat.show(rows, Date.parse(answer.from), answer.days);
    grid.setAttribute("aria-rowcount", rows.length);
    grid.setAttribute("aria-colcount", answer.days + 1);
    const of = new Set(rows.flatMap((row) => row.series));
    note.textContent = answer.series.length ? `${of.size.toLocaleString("en")} of ${answer.series.length.toLocaleString("en")} series` : "No series is recorded.";
    grid.dataset.rows = rows.length;
    const { row = 0, day = answer.days - 1 } = heat.cursor ?? {};
    if (rows.length) point(Math.min(row, rows.length - 1), Math.min(day, answer.days - 1), false);
    else spoken.replaceChildren();
  }

  // Puts the cursor on a cell, and says which one it is.
  function point(row, day, moved = true) {
    const at = { row, day };
    if (moved) heat.move(at);
    else heat.cursor = at;
    const each = heat.rows[row];
    const id = `heat-${row}-${day}`;
    spoken.setAttribute("aria-rowindex", row + 1);
    const expanded = each.group ? { "aria-expanded": opened.has(each.symbol) } : {};
    spoken.replaceChildren(
      make("span", { role: "rowheader", "aria-colindex": 1, ...expanded }, each.name),
      make("span", { role: "gridcell", "aria-colindex": day + 2, "aria-selected": "true", id }, said(each, day)));
    grid.setAttribute("aria-activedescendant", id);
  }

  function said(row, day) {
    const letter = row.days[day];
    const of = row.group && letter !== "-" ? `${row.name} ${worstOf(row, day).interval}` : row.name;
    return `${of}, ${dayOf(heat.first + day * DAY_MS)}: ${DAYS[letter]}`;
  }

  function choose({ row, day }) {
    const series = worstOf(heat.rows[row], day);
    const date = dayOf(heat.first + day * DAY_MS);
    page.view.set({ symbol: series.symbol, interval: series.interval, candle: "" });
    showSpans(spans, page, series, date);
  }

  function toggle(row) {
    const each = heat.rows[row];
    if (!each?.group) return;
    if (!opened.delete(each.symbol)) opened.add(each.symbol);
    arrange();
  }

  grid.addEventListener("click", (event) => {
    const at = heat.at(placed(event, grid));
    if (at === null) return;
    if (at.day === null) {
      point(at.row, heat.cursor?.day ?? 0, false);
      if (heat.rows[at.row].group) return toggle(at.row);
      return choose(heat.cursor);
    }
    point(at.row, at.day);
    choose(at);
  });
  grid.addEventListener("pointermove", (event) => {
    const spot = placed(event, grid);
    const at = heat.at(spot);
    tip.hidden = at === null || at.day === null;
    if (tip.hidden) return;
    tip.textContent = said(heat.rows[at.row], at.day);
    tip.style.top = `${spot.offsetY + 18}px`;
    tip.style.left = `${Math.max(0, Math.min(spot.offsetX, grid.clientWidth - tip.offsetWidth))}px`;
  });
  grid.addEventListener("pointerleave", () => (tip.hidden = true));
  grid.addEventListener("keydown", (event) => {
    if (!heat.rows.length || event.altKey || event.metaKey) return;
    const { row, day } = heat.cursor;
    const [bottom, right] = [heat.rows.length - 1, heat.days - 1];
    const to = {
      ArrowUp: [row - 1, day],
      ArrowDown: [row + 1, day],
      ArrowLeft: [row, day - 1],
      ArrowRight: [row, day + 1],
      PageUp: [row - heat.rowsInView, day],
      PageDown: [row + heat.rowsInView, day],
      Home: [event.ctrlKey ? 0 : row, 0],
      End: [event.ctrlKey ? bottom : row, right],
    }[event.key];
    if (to) point(Math.max(0, Math.min(bottom, to[0])), Math.max(0, Math.min(right, to[1])));
    else if (event.key === "Enter") choose(heat.cursor);
    else if (event.key === " ") toggle(row);
    else return;
    event.preventDefault();
  });
  filter.addEventListener("input", () => {
    page.view.set({ filter: filter.value }, { replace: true });
    arrange();
  });
  order.addEventListener("change", arrange);
  flat.addEventListener("change", arrange);
  days.addEventListener("change", () => page.view.set({ days: Number(days.value) === USUAL ? "" : days.value }));
  until.addEventListener("change", () => page.view.set({ to: until.value }));
  onTheme(() => heat.fit());

  function viewChanged(view) {
    if (document.activeElement !== filter && filter.value !== (view.filter ?? "")) {
      filter.value = view.filter ?? "";
      arrange();
    }
    const shown = daysOf(view);
    if (![...days.options].some((option) => option.value === `${shown}`)) days.append(make("option", { value: shown }, `${shown} days`));
    days.value = shown;
    until.value = view.to;
    if (JSON.stringify(range()) !== asked) load();
  }

  function overview(told) {
    learn(told);
    now = Date.parse(told.at);
    const changed = told.totals.missing !== missing;
    missing = told.totals.missing;
    const age = performance.now() - loadedAt;
    if (loading === null && (!asked || age > REFRESH_MS || (changed && age > SOONEST_MS))) load();
  }

  viewChanged(page.view.get());
  return { overview, viewChanged };
}

// The agent tells of 400 days at most.
function daysOf(view) {
  return Math.max(1, Math.min(400, Math.floor(Number(view.days)) || USUAL));
}

function labelled(text, input) {
  return make("label", {}, `${text} `, input);
}

// A pointer's place in the scroller, wherever the event's target lies.
function placed(event, scroller) {
  const box = scroller.getBoundingClientRect();
  return { offsetX: event.clientX - box.left - scroller.clientLeft, offsetY: event.clientY - box.top - scroller.clientTop };
}

function legend() {
  const list = make("ul", { className: "signs", "aria-label": "Legend of days" });
  const paint = () => {
    const colours = palette();
    list.replaceChildren(...Object.entries(DAYS).map(([letter, text]) => {
      const canvas = make("canvas", { width: 44, height: 32, className: "swatch", "aria-hidden": "true" });
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
