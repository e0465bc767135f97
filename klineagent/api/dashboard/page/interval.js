// Open times of candles, on the exchange's UTC grids, and how they are written.

import { counted } from "./format.js";

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 };
export const DAY_MS = UNIT_MS.d;
// Of a month only roughly: `shifted` knows the calendar.
const MONTH_MS = 30 * DAY_MS;

export function lengthOf(interval) {
  return parseInt(interval, 10) * (UNIT_MS[interval.slice(-1)] ?? MONTH_MS);
}

/** The open time so many candles later, or earlier. */
export function shifted(interval, open, candles) {
  if (!interval.endsWith("M")) return open + candles * lengthOf(interval);
  const month = new Date(open);
  return Date.UTC(month.getUTCFullYear(), month.getUTCMonth() + candles, 1);
}

/** When the candle opens that has this moment in it. */
export function opening(interval, time) {
  if (interval.endsWith("M")) {
    const month = new Date(time);
    return Date.UTC(month.getUTCFullYear(), month.getUTCMonth(), 1);
  }
  // Weeks begin on Monday; 1970 began on a Thursday.
  const offset = interval.endsWith("w") ? 4 * DAY_MS : 0;
  return time - ((((time - offset) % lengthOf(interval)) + lengthOf(interval)) % lengthOf(interval));
}

export function byLength(one, other) {
  return lengthOf(one) - lengthOf(other);
}

/** "2026-12-01 02:05", with seconds where the interval has them. */
export function written(open, interval = "1m") {
  const text = new Date(open).toISOString().replace("T", " ");
  if (lengthOf(interval) >= DAY_MS) return text.slice(0, 10);
  return text.slice(0, interval.endsWith("s") ? 19 : 16);
}

export function dayOf(time) {
  return new Date(time).toISOString().slice(0, 10);
}

/** A span of candles as text: "2026-12-01 02:05 to 02:09, 5 candles". */
export function spanWritten(span, interval) {
  const [first, last] = [written(Date.parse(span.from), interval), written(Date.parse(span.to), interval)];
  if (first === last) return `${first}, 1 candle`;
  const end = last.slice(0, 10) === first.slice(0, 10) ? last.slice(11) : last;
  return `${first} to ${end}, ${counted(span.candles, "candle")}`;
}
