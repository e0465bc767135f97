// The candles of one series that the page keeps, with the gaps between them. Pure.

import { lengthOf, shifted } from "./interval.js";

// About 2 MB, and more than a screen shows at a pixel a candle.
export const MOST_CANDLES = 6_000;
// A longer gap is drawn as wide as so many candles.
const MOST_DRAWN = 300;

export class SeriesCandles {
  constructor(interval) {
    Object.assign(this, { interval, candles: [], missing: [], absent: [] });
  }

  get oldest() {
    return this.edge(0, "first", Math.min);
  }

  get newest() {
    return this.edge(-1, "last", Math.max);
  }

  edge(at, side, choose) {
    const ends = [this.candles, this.missing, this.absent].map((each) => each.at(at)).filter(Boolean);
    const opens = ends.map((each) => each.open ?? each[side]);
    return opens.length ? choose(...opens) : null;
  }

  // Whether a candle is older or newer than all that is known here.
  isOutside(open) {
    return this.oldest !== null && (open < this.oldest || open > this.newest);
  }

  at(open) {
    const found = this.candles[this.position(open)];
    return found?.open === open ? found : null;
  }

  // The first candle that opens at `open` or later.
  position(open) {
    let [low, high] = [0, this.candles.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.candles[middle].open < open) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // Takes an answer of `/v1/tail`, which is the whole truth of its range. Returns the candles that
  // are new or other than they were.
  merge(answer) {
    const rows = answer.candles.map(kept);
    const changed = rows.filter((row) => (this.at(row.open)?.version ?? -1) < row.version);
    const [missing, absent] = [spans(answer.missing), spans(answer.absent)];
    const firsts = [...rows.map((row) => row.open), ...[...missing, ...absent].map((span) => span.first)];
    const lasts = [...rows.map((row) => row.open), ...[...missing, ...absent].map((span) => span.last)];
    if (firsts.length) {
      const told = { first: firsts.reduce((a, b) => Math.min(a, b)), last: lasts.reduce((a, b) => Math.max(a, b)) };
      this.missing = this.replaced(this.missing, told, missing);
      this.absent = this.replaced(this.absent, told, absent);
    }
    for (const row of changed) {
      const at = this.position(row.open);
      this.candles.splice(at, this.candles[at]?.open === row.open ? 1 : 0, row);
    }
    return changed;
  }

  // `old` spans, cut where newer ones are told.
  replaced(old, told, newer) {
    const outside = old.flatMap((span) => [
      this.cut(span, span.first, Math.min(span.last, shifted(this.interval, told.first, -1))),
      this.cut(span, Math.max(span.first, shifted(this.interval, told.last, 1)), span.last),
    ]);
    return [...outside.filter((span) => span !== null), ...newer].sort((one, other) => one.first - other.first);
  }

  cut(span, first, last) {
    if (first > last) return null;
    return { ...span, first, last, candles: this.count(first, last) };
  }

  count(first, last) {
    return Math.round((last - first) / lengthOf(this.interval)) + 1;
  }

  // Drops what is too much, at the end that is not looked at. Returns whether anything was.
  trim(keepOldest) {
    const more = this.candles.length - MOST_CANDLES;
    if (more <= 0) return false;
    if (keepOldest) this.candles.length = MOST_CANDLES;
    else this.candles.splice(0, more);
    const [first, last] = [this.candles[0].open, this.candles.at(-1).open];
    const inside = (span) => span.last >= first && span.first <= last;
    this.missing = this.missing.filter(inside);
    this.absent = this.absent.filter(inside);
    return true;
  }

  // Ranges between two candles of which nothing was told yet.
  holes() {
    const known = this.items();
    return known.slice(1).flatMap((item, at) => {
      const first = shifted(this.interval, known[at].last ?? known[at].open, 1);
      const hole = this.cut({}, first, shifted(this.interval, item.open ?? item.first, -1));
      return hole === null ? [] : [hole];
    });
  }

  items() {
    const all = [...this.candles, ...this.missing, ...this.absent];
    return all.sort((one, other) => (one.open ?? one.first) - (other.open ?? other.first));
  }

  // All places on the time axis, ascending: `candle` is null where there is none.
  places() {
    const gaps = [...this.missing, ...this.absent, ...this.holes()].flatMap((span) => this.placesOf(span));
    const stored = this.candles.map((candle) => ({ open: candle.open, candle }));
    return [...stored, ...gaps].sort((one, other) => one.open - other.open);
  }

  placesOf({ first, candles }) {
    const drawn = Math.min(candles, MOST_DRAWN);
    return Array.from({ length: drawn }, (_, place) => {
      const candle = drawn === 1 ? 0 : Math.round((place * (candles - 1)) / (drawn - 1));
      return { open: shifted(this.interval, first, candle), candle: null };
    });
  }
}

// `open` is the time at which a candle opens, `first` its first price.
function kept({ open_time, open, ...row }) {
  return { ...row, open: Date.parse(open_time), first: open };
}

function spans(told = []) {
  return told.map((span) => ({ ...span, first: Date.parse(span.from), last: Date.parse(span.to) }));
}
