// What `/v1/coverage/days` tells, as rows: which to show, in which order, and how bad a day is.

import { byLength } from "./interval.js";

/** Letters of days, worst first. */
export const DAYS = {
  g: "candles missing, and the last attempt to fetch them failed",
  f: "candles missing, being fetched",
  a: "complete but for candles that do not exist, with a proof",
  h: "complete: candles were lost and fetched",
  i: "complete, from imported files",
  c: "complete",
  "-": "not recorded",
};
const ORDER = Object.keys(DAYS).join("");

/**
 * Rows of series, grouped by symbol unless `flat`: a symbol's row shows the worst of its intervals,
 * and those in `open` are followed by their intervals.
 */
export function rowsOf(series, { filter, byName, flat, open }) {
  const wanted = series.filter(matching(filter));
  const bySymbol = () => [...Map.groupBy(wanted, (each) => each.symbol).values()];
  const groups = flat ? wanted.map(alone) : bySymbol().map(grouped);
  groups.sort(byName ? inName : (one, other) => other.bad - one.bad || inName(one, other));
  return groups.flatMap((row) => (row.group && open.has(row.symbol) ? [row, ...row.series.map(alone).map(inner)] : [row]));
}

/** Of a symbol's intervals, the one whose day is worst. */
export function worstOf(row, day) {
  return row.series.reduce((worst, each) => (rank(each.days[day]) < rank(worst.days[day]) ? each : worst));
}

function alone(series) {
  const { symbol, interval, days } = series;
  return { symbol, name: `${symbol} ${interval}`, series: [series], days, bad: badness(series) };
}

function inner(row) {
  return { ...row, inner: true };
}

function grouped(series) {
  series.sort((one, other) => byLength(one.interval, other.interval));
  const days = Array.from(series[0].days, (_, day) => series.reduce(
    (worst, each) => (rank(each.days[day]) < rank(worst) ? each.days[day] : worst), "-"));
  return {
    symbol: series[0].symbol,
    name: series[0].symbol,
    series,
    days: days.join(""),
    bad: Math.max(...series.map(badness)),
    group: true,
  };
}

// Missing candles before absent ones before healed ones; within them, the number.
function badness({ missing = 0, absent = 0, healed = 0, days }) {
  if (missing) return 4e9 + missing + (days.includes("g") ? 1e9 : 0);
  if (absent) return 2e9 + absent;
  return healed ? 1e9 + healed : days.includes("-") ? 1 : 0;
}

function rank(letter) {
  return ORDER.indexOf(letter);
}

function inName(one, other) {
  return one.name < other.name ? -1 : 1;
}

// Every word must be in the symbol, match it as a pattern (*, ?), or be the interval.
function matching(filter) {
  const tests = filter.split(/[\s,]+/).filter(Boolean).map((word) => {
    const part = word.toUpperCase();
    if (!/[*?]/.test(word)) return (each) => each.interval === word || each.symbol.toUpperCase().includes(part);
    const pattern = word.replace(/[^\w*?:]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".");
    const whole = new RegExp(`^(\\w+:)?${pattern}$`, "i");
    return (each) => whole.test(each.symbol);
  });
  return (each) => tests.every((test) => test(each));
}
