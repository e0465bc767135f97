// Fetches the candles of one series: the newest each second, older ones on demand, and a range that
// lacks some until it is whole.

import { AgentError } from "./agent.js";
import { shifted } from "./interval.js";
import { SeriesCandles } from "./series_candles.js";

const FIRST = 500;
const MORE = 1_000;
// A gap is asked for in portions of so many.
const MEND = 500;
// Without any news, one gap is asked for again every so many seconds.
const MEND_EVERY = 15;
const RETRY_EVERY = 5;

export class CandleFeed {
  // `changed(rows, whole)`: candles came; `whole` if others than the newest are concerned.
  // `failed(error)`: the last request was refused; null once one is answered.
  constructor(page, series, { changed, failed }) {
    Object.assign(this, { page, series, changed, failed });
    this.kept = new SeriesCandles(series.interval);
    // Whether the newest candle that is kept is the newest there is.
    this.live = false;
    this.since = 0;
    this.beginsHere = false;
    this.busy = false;
    this.ticks = 0;
    this.turn = 0;
    // Ranges whose candles have changed, as the agent tells.
    this.stale = [];
    // How many gaps have to be asked for again.
    this.due = 0;
    this.stopped = false;
  }

  ask(query) {
    return this.page.agent.get("/v1/tail", { ...this.series, gaps: "listed", ...query });
  }

  // One request at a time; what is asked meanwhile is asked again by the next tick or scroll.
  async alone(work) {
    if (this.busy || this.stopped) return;
    this.busy = true;
    try {
      await work();
      if (!this.stopped) this.failed(null);
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      if (!this.stopped) this.failed(error);
    } finally {
      this.busy = false;
    }
  }

  // Fetches the newest candles, or those around an older one.
  start(around = null) {
    return this.alone(async () => {
      await this.newest();
      if (around === null || this.stopped || !this.kept.isOutside(around)) return;
      const before = this.iso(shifted(this.series.interval, around, FIRST / 2));
      const answer = await this.ask({ before, limit: FIRST });
      this.kept = new SeriesCandles(this.series.interval);
      this.live = false;
      this.take(answer, true);
    });
  }

  async newest() {
    const answer = await this.ask({ limit: FIRST });
    const [oldest] = answer.candles;
    const reached = this.kept.newest;
    const next = reached === null ? Infinity : shifted(this.series.interval, reached, 1);
    if (oldest && Date.parse(oldest.open_time) > next) this.kept = new SeriesCandles(this.series.interval);
    this.live = true;
    this.since = answer.next;
    this.take(answer, true);
  }

  older() {
    if (this.beginsHere || this.kept.oldest === null) return null;
    return this.alone(async () => {
      const before = this.kept.oldest;
      const answer = await this.ask({ before: this.iso(before), limit: MORE });
      this.beginsHere = answer.candles.length === 0;
      this.take(answer, true, { keepOldest: true });
    });
  }

  newer() {
    if (this.live || this.kept.newest === null) return null;
    return this.alone(async () => {
      const end = shifted(this.series.interval, this.kept.newest, FIRST + 1);
      const answer = await this.ask({ before: this.iso(end), limit: FIRST });
      this.take(answer, true);
      this.beginsHere = false;
      if (this.kept.newest < shifted(this.series.interval, end, -1)) await this.newest();
    });
  }

  tick() {
    this.ticks += 1;
    if (this.since === 0) return this.ticks % RETRY_EVERY === 0 ? this.start() : null;
    return this.alone(async () => {
      if (this.live) await this.follow();
      await this.mend();
    });
  }

  async follow() {
    for (;;) {
      const answer = await this.ask({ since: this.since, limit: FIRST });
      const newest = this.kept.candles.at(-1)?.open ?? 0;
      this.since = answer.next;
      const isLate = answer.candles.some((row) => Date.parse(row.open_time) < newest);
      this.take(answer, isLate || answer.missing.length > 0 || answer.absent.length > 0);
      if (answer.candles.length < FIRST || this.stopped) return;
    }
  }

  // There is news of `spans`, and of some gap among all series.
  askAgain(spans) {
    const { oldest, newest } = this.kept;
    this.stale.push(...spans.filter((span) => span.last >= oldest && span.first <= newest));
    this.due = this.kept.missing.length;
  }

  // Asks again for one range, each in its turn: candles may have come.
  async mend() {
    if (this.stopped) return null;
    if (this.stale.length) return this.again(this.stale.shift());
    const holes = this.kept.holes();
    if (holes.length) return this.again(holes[this.turn++ % holes.length]);
    const { missing } = this.kept;
    if (!missing.length || (!this.due && this.ticks % MEND_EVERY)) return null;
    this.due = Math.max(0, this.due - 1);
    return this.again(missing[this.turn++ % missing.length]);
  }

  async again({ last, candles }) {
    const before = this.iso(shifted(this.series.interval, last, 1));
    this.take(await this.ask({ before, limit: Math.min(candles, MEND) }), true, { keepOldest: true });
  }

  take(answer, whole, { keepOldest = false } = {}) {
    if (this.stopped) return;
    const spans = this.spans();
    const rows = this.kept.merge(answer);
    if (this.kept.trim(keepOldest)) {
      if (keepOldest) this.live = false;
      else this.beginsHere = false;
    }
    if (rows.length || this.spans() !== spans) this.changed(rows, whole);
  }

  spans() {
    return JSON.stringify([this.kept.missing, this.kept.absent]);
  }

  iso(open) {
    return new Date(open).toISOString();
  }
}
